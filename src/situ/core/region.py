"""Regions: anything that gives a mask. A semantic part, a box, a brushed mask."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.errors import RegionError
from situ.core.generator import Synthesis
from situ.core.images import Masks, load_image, resize


@runtime_checkable
class Region(Protocol):
    """Something that marks a region of every picture."""

    @property
    def name(self) -> str: ...

    @property
    def layers(self) -> tuple[str, ...]:
        """The generator's feature layers that the mask is made from, besides the picture."""
        ...

    def mask(self, synthesis: Synthesis) -> Masks:
        """(n, 1, h, w) in [0, 1], at any size; constant with respect to the latent unless the region says so.

        The synthesis must hold the features of `layers`.
        """
        ...


@runtime_checkable
class Segmenter(Protocol):
    """A frozen network that labels the parts of a picture, from its pixels or from the generator's features."""

    name: str
    parts: tuple[str, ...]
    layers: tuple[str, ...]  # the feature layers that it looks at; () for the picture alone

    def segment(self, synthesis: Synthesis) -> Float[Tensor, "n p h w"]:
        """Probability of every part at every pixel, at the segmenter's own size; differentiable."""
        ...


@dataclass(frozen=True)
class Part:
    """The union of one or more parts that a segmenter knows ("eyes", or "eyes" and "brows")."""

    segmenter: Segmenter
    labels: tuple[str, ...]
    soft: bool = False  # probabilities, differentiable, instead of the detached winner of each pixel

    def __post_init__(self) -> None:
        unknown = [label for label in self.labels if label not in self.segmenter.parts]
        if unknown or not self.labels:
            parts = ", ".join(self.segmenter.parts)
            raise RegionError(f'{self.segmenter.name} knows the parts {parts}; got "{"+".join(unknown)}"')

    @property
    def name(self) -> str:
        return "+".join(self.labels)

    @property
    def layers(self) -> tuple[str, ...]:
        return self.segmenter.layers

    def mask(self, synthesis: Synthesis) -> Masks:
        """See `Region.mask`. All parts of one segmenter share one segmentation of the synthesis."""
        chosen = sorted({self.segmenter.parts.index(label) for label in self.labels})
        if self.soft:
            probabilities = synthesis.once((self.segmenter, "soft"), lambda: self.segmenter.segment(synthesis))
            return probabilities[:, chosen].sum(dim=1, keepdim=True)
        winners = synthesis.once((self.segmenter, "hard"), lambda: _winners(self.segmenter, synthesis))
        return torch.isin(winners, torch.tensor(chosen, device=winners.device)).to(synthesis.images.dtype)


def _winners(segmenter: Segmenter, synthesis: Synthesis) -> Tensor:
    with torch.no_grad():
        return segmenter.segment(synthesis).argmax(dim=1, keepdim=True)


@dataclass(frozen=True)
class Box:
    """A rectangle, the same in every picture, in pixels of the picture."""

    row: int  # of the centre, as in the published lists of regions
    column: int
    height: int
    width: int
    layers = ()

    @property
    def name(self) -> str:
        return f"box[{self.row},{self.column},{self.height},{self.width}]"

    def mask(self, synthesis: Synthesis) -> Masks:
        """See `Region.mask`. Raises RegionError where the box leaves the picture."""
        images = synthesis.images
        size = images.shape[-1]
        top, left = self.require_inside(size)
        mask = images.new_zeros(1, 1, size, size)
        mask[..., top : top + self.height, left : left + self.width] = 1
        return mask.expand(len(images), -1, -1, -1)

    def require_inside(self, size: int) -> tuple[int, int]:
        """Its first row and column. Raises RegionError where it leaves a picture of size x size pixels."""
        top, left = self.row - self.height // 2, self.column - self.width // 2
        inside = top >= 0 and left >= 0 and top + self.height <= size and left + self.width <= size
        if not inside or min(self.height, self.width) < 1:
            raise RegionError(
                f"a box is the row and column of its centre, its height and width, inside {size} x {size} pixels; "
                f"got {self.name}"
            )
        return top, left


_PRESET_SIZE = 256  # pixels of the pictures that the presets are given for

# the boxes that ReSeFa publishes for aligned faces (FFHQ): row and column of the centre, height, width
PRESETS: Mapping[str, tuple[int, int, int, int]] = {
    "left_eye": (120, 95, 20, 38),
    "right_eye": (120, 159, 20, 38),
    "eyes": (120, 128, 20, 115),
    "nose": (142, 131, 40, 46),
    "mouth": (184, 127, 30, 70),
    "chin": (217, 130, 42, 110),
    "eyebrow": (126, 105, 15, 118),
}


def preset(name: str, resolution: int) -> Box:
    """A published box on aligned faces, scaled to a model's size: at least a pixel, inside the picture.

    Raises:
        RegionError: no such preset.
    """
    if name not in PRESETS:
        raise RegionError(f'presets are {", ".join(PRESETS)}; got "{name}"')
    row, column, height, width = (round(pixels * resolution / _PRESET_SIZE) for pixels in PRESETS[name])
    height, width = max(height, 1), max(width, 1)
    row = min(max(row, height // 2), resolution - height + height // 2)
    column = min(max(column, width // 2), resolution - width + width // 2)
    return Box(row, column, height, width)


@dataclass(frozen=True)
class Brush:
    """A painted mask, the same in every picture."""

    painted: Float[Tensor, "1 1 h w"]
    label: str = field(default="brush")
    layers = ()

    def __post_init__(self) -> None:
        if not (self.painted > 0.5).any():
            raise RegionError(f"the mask {self.label} is empty: paint the region white on black")

    @property
    def name(self) -> str:
        return self.label

    def mask(self, synthesis: Synthesis) -> Masks:
        """See `Region.mask`."""
        images = synthesis.images
        painted = resize(self.painted.to(images), (images.shape[-2], images.shape[-1]))
        return painted.expand(len(images), -1, -1, -1)


@dataclass(frozen=True)
class Rest:
    """Everything but a region: what a background edit may change (the published code's background mode)."""

    region: Region

    @property
    def name(self) -> str:
        return f"not {self.region.name}"

    @property
    def layers(self) -> tuple[str, ...]:
        return self.region.layers

    def mask(self, synthesis: Synthesis) -> Masks:
        """See `Region.mask`."""
        return 1 - self.region.mask(synthesis)


def load_brush(path: Path | str) -> Brush:
    """Read a mask picture, white inside and black or transparent outside.

    Raises:
        ImageError: no picture; RegionError: nothing painted.
    """
    grey = load_image(path, transparent="black").mean(dim=1, keepdim=True)
    return Brush((grey + 1) / 2, f"mask[{Path(path).stem}]")  # no name that a part could have


def parse_part(text: str, segmenter: Segmenter | None, soft: bool = False) -> Part:
    """ "eyes" or "eyes+brows" -> a Part. Raises RegionError for a part that the segmenter does not know."""
    if segmenter is None:
        raise RegionError(f'this model has no segmenter, so no part "{text}": give a box or a mask picture instead')
    return Part(segmenter, tuple(label.strip() for label in text.split("+")), soft)


def dilate(mask: Masks, pixels: int) -> Masks:
    """Grow a mask by some pixels on every side (square neighbourhood)."""
    return functional.max_pool2d(mask, 2 * pixels + 1, stride=1, padding=pixels) if pixels else mask
