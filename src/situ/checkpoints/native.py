"""Situ's own generator files: safetensors with the architecture's settings in the header."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from situ.core.errors import ModelError, SituError
from situ.core.files import write_whole
from situ.generators.stylegan2 import Noise, StyleGAN2, StyleGAN2Network, StyleGAN2Settings

FORMAT = "situ-stylegan2-1"


def save_stylegan2(
    network: StyleGAN2Network,
    path: Path | str,
    dtype: torch.dtype = torch.float32,
    noise: Literal["const", "none"] = "const",
    licence: str = "",
) -> None:
    """Write a generator, whole or not at all.

    Args:
        dtype: of the stored weights; torch.float16 halves the file.
        noise: the noise that the generator was trained with, used unless another is asked for.
    """
    header = {"format": FORMAT, "settings": asdict(network.settings), "noise": noise, "licence": licence}
    tensors = {key: value.detach().cpu().to(dtype).contiguous() for key, value in network.state_dict().items()}
    write_whole(path, lambda place: save_file(tensors, place, {"situ": json.dumps(header)}))


def load_stylegan2(
    path: Path | str, device: torch.device | str = "cpu", noise: Noise | None = None, low_precision: bool = False
) -> StyleGAN2:
    """Read a generator.

    Args:
        noise: None takes what the file says.
        low_precision: compute the upper three resolutions in bfloat16.

    Raises:
        ModelError: missing, something else, or damaged.
    """
    expected = f"expected a generator file ({FORMAT}, .safetensors)"
    if not Path(path).is_file():
        raise ModelError(f"no model at {path}: {expected}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("situ", "{}"))
            if header.get("format") != FORMAT:
                raise ModelError(f"{path} holds something else ({header.get('format', 'no format')}): {expected}")
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (no mapping)
        network = StyleGAN2Network(StyleGAN2Settings(**header["settings"]))
        network.load_state_dict(tensors)
        lowered = 3 if low_precision else 0
        return StyleGAN2(
            network.to(device),
            noise or header["noise"],
            low_precision=torch.bfloat16,
            low_precision_resolutions=lowered,
        )
    except ModelError:
        raise
    except (
        SafetensorError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        SituError,
    ) as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}: {error}): {expected}") from None
