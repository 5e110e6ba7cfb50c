"""The models that can be named: bundled packs, and generator files."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from situ.checkpoints.native import load_stylegan2
from situ.core.errors import ModelError
from situ.packs.pack import Pack
from situ.packs.portraits.portraits import open_portraits

PACKS: Mapping[str, Callable[[torch.device | str], Pack]] = {"portraits": open_portraits}


def open_model(name: str, device: torch.device | str = "cpu") -> Pack:
    """Open a bundled pack by name, or a generator file by path (then without parts, and with a pixel distance).

    Raises:
        ModelError: neither a pack nor a generator file.
    """
    if name in PACKS:
        return PACKS[name](device)
    if not Path(name).exists():
        raise ModelError(f'no model "{name}": give the path of a generator file or one of {", ".join(PACKS)}')
    return Pack(Path(name).stem, load_stylegan2(name, device))
