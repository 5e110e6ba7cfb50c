"""Distances between pictures, from the features of a frozen network or, failing that, from the pixels.

`FeatureDistance` has the form of LPIPS (Zhang et al. 2018) without its learned channel weights: features normalised
along the channels, squared difference, mean over positions, mean over layers. It carries the name of the network whose
features it uses; it is not LPIPS.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.images import Images
from situ.core.measurement import EditedImages


@dataclass(frozen=True)
class FeatureDistance:
    """Distance between pictures in the features of `network`: 0 for equal ones, at most 4."""

    name: str  # says whose features these are
    features: Callable[[Images], Sequence[Tensor]]  # pictures -> activations (n, c, h, w)
    unit: str = "distance"
    better: Literal["higher", "lower", ""] = ""

    def between(self, a: Images, b: Images) -> Float[Tensor, " n"]:
        """Distance of each pair of pictures; differentiable."""
        return _apart(self.features(a), [_unit(q) for q in self.features(b)])

    def against(self, target: Images) -> Callable[[Images], Float[Tensor, " n"]]:
        """The distance from pictures that stay, whose features are computed once."""
        with torch.no_grad():
            kept = [_unit(q) for q in self.features(target)]
        return lambda images: _apart(self.features(images), kept)

    def summary(self, images: Images) -> Float[Tensor, "n s"]:
        """Whole pictures in a row of numbers, for statistics of many: every channel's mean and deviation."""
        layers = self.features(images)
        return torch.cat([torch.cat([r.mean(dim=(2, 3)), r.std(dim=(2, 3))], dim=1) for r in layers], dim=1)

    def __call__(self, edited: EditedImages) -> Float[Tensor, " n"]:
        return self.between(edited.before, edited.after)


def _apart(features: Sequence[Tensor], kept: Sequence[Tensor]) -> Float[Tensor, " n"]:
    """Distance of features from others, which are of unit length along the channels."""
    layers = [(_unit(p) - q).square().sum(dim=1).mean(dim=(1, 2)) for p, q in zip(features, kept, strict=True)]
    return torch.stack(layers).mean(dim=0)


def _unit(r: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    return r / (r.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()


@dataclass(frozen=True)
class PyramidDistance:
    """Mean squared difference of the pictures at three resolutions: for models without a feature network."""

    name: str = "pixel pyramid"
    unit: str = "squared intensity"
    better: Literal["higher", "lower", ""] = ""

    def between(self, a: Images, b: Images) -> Float[Tensor, " n"]:
        """Distance of each pair of pictures; differentiable."""
        difference = a - b
        levels = [difference if i == 0 else functional.avg_pool2d(difference, 2**i) for i in range(3)]
        return torch.stack([level.square().mean(dim=(1, 2, 3)) for level in levels]).mean(dim=0)

    def against(self, target: Images) -> Callable[[Images], Float[Tensor, " n"]]:
        """The distance from pictures that stay."""
        return lambda images: self.between(images, target)

    def summary(self, images: Images) -> Float[Tensor, "n s"]:
        """Whole pictures in a row of numbers, for statistics of many: an eighth of their size, flat."""
        return functional.avg_pool2d(images, max(1, images.shape[-1] // 8)).flatten(1)

    def __call__(self, edited: EditedImages) -> Float[Tensor, " n"]:
        return self.between(edited.before, edited.after)
