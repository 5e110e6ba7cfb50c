"""Weights drawn from a seed for the frozen networks: the same numbers for the same names and shapes anywhere."""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from situ.networks.arcface import ArcFace
from situ.networks.bisenet import BiSeNet, BiSeNetSettings
from situ.networks.deeplab_v2 import DeepLabV2, DeepLabV2Settings
from situ.networks.deeplab_v3 import DeepLabV3, DeepLabV3Settings
from situ.networks.inception import Inception
from situ.networks.lpips import LPIPS, Trunk
from situ.networks.moco import MoCo
from situ.networks.resnet import ResNetSettings

GOLDEN = Path(__file__).parent / "golden"

# a sixteenth of the published channels
NARROW = (4, 8, 16, 32)
NARROW_BISENET = BiSeNetSettings(ResNetSettings((2, 2, 2, 2), NARROW, 4, bottleneck=False), 8, 16, 4, 16, 19)
NARROW_DEEPLAB_V2 = DeepLabV2Settings((3, 4, 23, 3), 4, NARROW)
NARROW_RESNET = ResNetSettings((3, 4, 6, 3), NARROW, 4)
NARROW_DEEPLAB_V3 = DeepLabV3Settings(
    ResNetSettings((3, 4, 23, 3), NARROW, 4, dilated=(False, False, True, True)), 16, 21
)


def seeded(shapes: Mapping[str, Tensor], gain: float = 2.0) -> dict[str, Tensor]:
    """A tensor for every name, of the shape given; the picture is still felt after many layers.

    Args:
        gain: by which a convolution raises the mean square, which ReLU halves.
    """
    drawn = {}
    for key, like in shapes.items():
        rng = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        if key.endswith("num_batches_tracked"):
            drawn[key] = torch.tensor(1)
        elif key.endswith("running_var"):
            drawn[key] = 0.5 + torch.rand(like.shape, generator=rng)
        elif like.ndim > 1:
            fan_in = like[0].numel()
            drawn[key] = torch.randn(like.shape, generator=rng) * (gain / fan_in) ** 0.5
        elif key.endswith("weight"):
            drawn[key] = 0.9 + 0.2 * torch.rand(like.shape, generator=rng)
        else:
            drawn[key] = 0.05 * torch.randn(like.shape, generator=rng)
    return drawn


def pictures(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth coloured noise in [-1, 1], with some pixels at the ends."""
    rng = torch.Generator().manual_seed(1000 + seed)
    coarse = torch.randn(n, 3, 6, 6, generator=rng)
    fine = torch.randn(n, 3, height, width, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return (0.7 * smooth + 0.2 * fine).clamp(-1, 1)


def sample(x: Tensor, count: int = 24) -> list[float]:
    """Some numbers of a tensor, evenly spread."""
    flat = x.detach().double().flatten()
    return flat[torch.linspace(0, len(flat) - 1, min(count, len(flat))).long()].tolist()


def golden(name: str) -> dict[str, list[float]]:
    return json.loads((GOLDEN / f"networks_{name}.json").read_text())


def require_golden(x: Tensor, expected: list[float]) -> None:
    """Numbers of the published implementation on the same weights, to 1e-4 of the largest."""
    wanted = torch.tensor(expected, dtype=torch.float64)
    found = torch.tensor(sample(x, len(expected)), dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
    assert wanted.std() > 1e-3 * wanted.abs().max()  # the numbers tell something


def shapes_of(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Names and shapes of a network's weights, without the weights."""
    with torch.device("meta"):
        return build().state_dict()


def narrow_arcface() -> dict[str, Tensor]:
    """Weights of an identity network."""
    widths = [width for width, count in zip(NARROW, (3, 4, 14, 3), strict=True) for _ in range(count)]
    return seeded(shapes_of(lambda: ArcFace(4, widths, widths, 112, 32)), gain=1.0)


def narrow_bisenet() -> dict[str, Tensor]:
    return seeded(shapes_of(lambda: BiSeNet(NARROW_BISENET)), gain=1.0)


def narrow_lpips(trunk: Trunk) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of a trunk and of its heads, which are never negative."""
    channels = {"alex": (4, 12, 24, 16, 16), "vgg": (4, 4, 8, 8, 16, 16, 16, 32, 32, 32, 32, 32, 32)}[trunk]
    drawn = seeded(shapes_of(lambda: LPIPS(trunk, channels)))
    heads = {key: value.abs() for key, value in drawn.items() if key.startswith("lin")}
    return {key: value for key, value in drawn.items() if key not in heads}, heads


def narrow_deeplab_v2(depths: tuple[int, ...] = (3, 4, 23, 3)) -> dict[str, Tensor]:
    return seeded(shapes_of(lambda: DeepLabV2(replace(NARROW_DEEPLAB_V2, depths=depths))), gain=1.0)


def narrow_deeplab_v3(depths: tuple[int, ...] = (3, 4, 23, 3)) -> dict[str, Tensor]:
    settings = replace(NARROW_DEEPLAB_V3, resnet=replace(NARROW_DEEPLAB_V3.resnet, depths=depths))
    return seeded(shapes_of(lambda: DeepLabV3(settings)), gain=1.0)


def narrow_inception() -> dict[str, Tensor]:
    full = shapes_of(Inception)
    widths = {key[: -len(".conv.weight")]: len(w) // 16 for key, w in full.items() if key.endswith(".conv.weight")}
    return seeded(shapes_of(lambda: Inception(widths, 63)))


def narrow_moco() -> dict[str, Tensor]:
    """Weights of the trunk, under a plain residual network's names."""
    return seeded(shapes_of(lambda: MoCo(NARROW_RESNET).trunk), gain=1.0)
