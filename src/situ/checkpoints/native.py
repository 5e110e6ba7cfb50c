"""Situ's own generator files: safetensors with the architecture's settings in the header."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from situ.core.containers import Container
from situ.core.errors import ModelError
from situ.generators.style_based import Noise
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings

GENERATOR_FILE = Container("situ-stylegan2-1", "generator file", "", ModelError)


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
    header = {"settings": asdict(network.settings), "noise": noise, "licence": licence}
    GENERATOR_FILE.write(path, header, {key: value.to(dtype) for key, value in network.state_dict().items()})


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

    def build(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> StyleGAN2:
        network = StyleGAN2Network(StyleGAN2Settings(**header["settings"]))
        network.load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
        lowered = 3 if low_precision else 0
        return StyleGAN2(
            network.to(device),
            noise or header["noise"],
            low_precision=torch.bfloat16,
            low_precision_resolutions=lowered,
        )

    return GENERATOR_FILE.read(path, build)
