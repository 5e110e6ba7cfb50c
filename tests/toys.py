"""Toy generators whose true directions are known: a picture of tiles, each painted by its own latent coordinates."""

from collections.abc import Sequence

import torch
from torch import Tensor

from situ.core.errors import GeneratorError
from situ.core.generator import FeatureLayer, Synthesis, SynthesisState
from situ.core.latents import Latents, LatentSpace, Slice, Subspace
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings

TILES = ("top-left", "top-right", "bottom-left", "bottom-right")


class TileGenerator:
    """16 x 16 pictures of four tiles. Coordinate i of the (rotated) latent moves tile i // 3 alone, smoothly.

    The true directions of tile t are the rows 3t..3t+2 of `rotation`; a perfect method finds their span.
    Spaces: "z" and "w" (12 coordinates); the feature layer "paint" is the picture before its squashing.
    """

    def __init__(self, rotate: bool, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.rotation = torch.linalg.qr(torch.randn(12, 12, generator=rng))[0] if rotate else torch.eye(12)
        tile = torch.arange(16) // 8
        place = tile[:, None] * 2 + tile[None, :]  # (16, 16) index of the tile
        self.basis = torch.zeros(12, 3, 16, 16)
        for i in range(12):
            self.basis[i, i % 3] = (place == i // 3).float()
        self.name = f"tiles-{'rotated' if rotate else 'plain'}-{seed}"
        self.resolution = 16
        self.spaces = {"z": LatentSpace("z", (Slice("z", 12),)), "w": LatentSpace("w", (Slice("w", 12),))}
        self.layers = (FeatureLayer("paint", 16, 3, 0),)
        self.device = torch.device("cpu")

    def truth(self, tile: int) -> Tensor:
        """(3, 12): an orthonormal basis of the directions that change this tile alone."""
        return self.rotation[3 * tile : 3 * tile + 3]

    def sample(
        self,
        n: int,
        space: LatentSpace,
        rng: torch.Generator,
        truncation: float = 1.0,
        labels: Tensor | None = None,
    ) -> Latents:
        return Latents(truncation * torch.randn(n, 12, generator=rng), space)

    def convert(self, latents: Latents, space: LatentSpace) -> Latents:
        return Latents(latents.values, space)

    def first_step(self, subspace: Subspace) -> int:
        return 0

    def synthesize(
        self,
        latents: Latents,
        features: Sequence[str] = (),
        *,
        images: bool = True,
        keep: int | None = None,
        resume: SynthesisState | None = None,
    ) -> Synthesis:
        if set(features) - {"paint"}:
            raise GeneratorError(f"features are paint, got {features}")
        paint = torch.einsum("nd,di,ichw->nchw", latents.values, self.rotation.T, self.basis)
        state = SynthesisState(keep, ()) if keep is not None else None
        return Synthesis(torch.tanh(0.5 * paint), {"paint": paint} if features else {}, state)


class TileSegmenter:
    """Knows where the four tiles are."""

    name = "tile-segmenter"
    parts = TILES
    layers = ()

    def segment(self, synthesis: Synthesis) -> Tensor:
        tile = torch.arange(16) // 8
        place = tile[:, None] * 2 + tile[None, :]
        masks = torch.stack([(place == t).float() for t in range(4)])
        return masks.expand(len(synthesis.images), -1, -1, -1)


def tiny_network(seed: int = 0, resolution: int = 16) -> StyleGAN2Network:
    """An untrained StyleGAN2 with 8 numbers in Z and W, whose biases and mean are not all zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = StyleGAN2Network(StyleGAN2Settings(resolution, 8, 8, 0, 2, 128, 12))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith(("bias", "noise_strength")):
                    parameter.add_(0.2 * torch.randn_like(parameter))
            network.mapping.w_avg.normal_(std=0.3)
    return network


def tiny_stylegan2(seed: int = 0, resolution: int = 16) -> StyleGAN2:
    """The same, frozen: spaces z, w (8), w+ (6 rows of 8 at 16 px), s; features from b4.conv1 to b16.conv1."""
    return StyleGAN2(tiny_network(seed, resolution))


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """The simplest distance between pictures."""
    return (a - b).square().mean(dim=(1, 2, 3))
