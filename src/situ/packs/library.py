"""The models that can be named: bundled packs, the user's packs, and files of generators."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from situ.checkpoints.encoder4editing import read_encoder_checkpoint
from situ.checkpoints.open import read_checkpoint, read_content
from situ.checkpoints.weights import Options
from situ.core.errors import ModelError
from situ.packs.pack import Pack
from situ.packs.portraits.portraits import open_portraits
from situ.packs.user_packs import base_of, installed_packs, open_pack, with_networks_of

PACKS: Mapping[str, Callable[[torch.device | str, bool], Pack]] = {"portraits": open_portraits}


def open_model(name: str, device: torch.device | str = "cpu", low_precision: bool = False) -> Pack:
    """Open a bundled pack or one of the user's by name, the folder of a pack, or a file of any known format (then
    without parts, with a pixel distance).

    Args:
        low_precision: bfloat16 where most of the time goes; about twice as fast on processors that have it, and
            a search under small strengths sees some rounding noise.

    Raises:
        ModelError: neither a pack nor a generator file.
    """
    if name in PACKS:
        return PACKS[name](device, low_precision)
    place = place_of(name)
    if (place / "pack.json").is_file():
        pack, base = open_pack(place, device, low_precision), base_of(place)
        return with_networks_of(open_model(base, device, low_precision), pack) if base else pack
    opened = read_checkpoint(name, Options(device, low_precision=low_precision))
    foreign = opened.format.name != "situ"
    notes, encoder = list(opened.notes), None
    if opened.format.name == "encoder4editing":
        options = Options(device)
        try:
            encoder = read_encoder_checkpoint(read_content(Path(name)), options).encoder
            notes = options.notes
        except ModelError as error:  # the generator is of use without it
            notes.append(f"its encoder is not read: {error}")
    card = "\n".join([f"Read as {opened.format.what}.", *(f"- {note}" for note in notes)]) if foreign else ""
    return Pack(Path(name).stem, opened.generator, encoder=encoder, licence=opened.licence, card=card)


def place_of(name: str) -> Path:
    """The folder of a user's pack, or the file of a generator.

    Raises:
        ModelError: neither.
    """
    installed = installed_packs()
    place = installed.get(name, Path(name))
    if not place.exists():
        known = ", ".join([*PACKS, *installed])
        raise ModelError(f'no model "{name}": give the path of a generator file or one of {known}')
    return place


def files_of_model(name: str) -> list[Path]:
    """The files that a model is read from; none of a bundled pack, which changes with Situ alone.

    Raises:
        ModelError: neither a pack nor a generator file.
    """
    if name in PACKS:
        return []
    place = place_of(name)
    return sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
