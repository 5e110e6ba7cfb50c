"""Toys for style channels, low-rank directions and flows: dead and leaking coordinates, known attributes."""

import torch
from torch import Tensor
from torch.nn import functional

from situ.core.generator import Synthesis
from toys import TILES, TileGenerator


class LeakyTileGenerator(TileGenerator):
    """The tiles, with coordinates that change nothing (`dead`) and some paint of each sprinkled on the other tiles.

    With a leak the picture changes outside a tile in all 12 directions, by some `leak` in the tile's own three.
    """

    def __init__(self, rotate: bool, leak: float = 0.0, dead: tuple[int, ...] = ()) -> None:
        super().__init__(rotate)
        colours = self.basis.amax(dim=(2, 3), keepdim=True)  # (12, 3, 1, 1)
        drops = torch.randn(12, 1, 16, 16, generator=torch.Generator().manual_seed(5))
        self.basis = self.basis + leak * drops * (colours - self.basis)
        self.basis[list(dead)] = 0
        self.name = f"leaky-{leak}-{dead}-{self.name}"


class BlinkingSegmenter:
    """The four tiles, the last of which shows only where the first is bright (else it is part of the third)."""

    name = "blinking-segmenter"
    parts = TILES
    layers = ()

    def segment(self, synthesis: Synthesis) -> Tensor:
        tile = torch.arange(16) // 8
        place = tile[:, None] * 2 + tile[None, :]
        labels = place.expand(len(synthesis.images), -1, -1).clone()
        dark = synthesis.images[:, :, :8, :8].mean(dim=(1, 2, 3)) < 0
        labels[dark[:, None, None] & (labels == 3)] = 2
        return functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()


class BrightnessClassifier:
    """How bright each tile is: probability 1/2 at grey, and logit 6 times the mean of the tile in [-1, 1].

    On a `TileGenerator` the attribute of tile t grows fastest along the mean of the rows 3t..3t+2 of its rotation.
    """

    attributes = TILES

    def classify(self, images: Tensor) -> Tensor:
        means = functional.avg_pool2d(images.mean(dim=1, keepdim=True), images.shape[-1] // 2).flatten(1)
        return torch.sigmoid(6 * means)

    @staticmethod
    def truth(generator: TileGenerator, tile: int) -> Tensor:
        """(12,): the unit direction along which the tile brightens fastest where it is grey."""
        return generator.truth(tile).sum(dim=0) / 3**0.5


class ConstantClassifier(BrightnessClassifier):
    """Knows a second attribute that never varies."""

    attributes = ("bright", "square")

    def classify(self, images: Tensor) -> Tensor:
        bright = super().classify(images)[:, :1]
        return torch.cat([bright, torch.ones_like(bright)], dim=1)
