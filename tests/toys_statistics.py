"""Toys for the statistical and spectral methods: known covariance, known style weights, known attributes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from situ.core.errors import LatentError
from situ.core.generator import Synthesis, SynthesisState
from situ.core.latents import Latents, LatentSpace, Slice, Subspace
from toys import TILES, TileGenerator, tiny_stylegan2


class StyledTileGenerator(TileGenerator):
    """The tiles behind a mapping and styles: z -> w = m + R^T diag(sigma) z, s = b + diag(gain) R w, R the rotation.

    W has the principal axes R and the standard deviations `sigma`; the style weights diag(gain) R have the right
    singular vectors R and the singular values `gain`, in another order. Each of these axes paints one tile.
    """

    def __init__(self, rotate: bool, seed: int = 0) -> None:
        super().__init__(rotate, seed)
        rng = torch.Generator().manual_seed(seed + 1)
        self.sigma = (1.5 - 0.1 * torch.arange(12.0))[torch.randperm(12, generator=rng)]
        self.gain = (0.5 + 0.1 * torch.arange(12.0))[torch.randperm(12, generator=rng)]
        self.mean, self.bias = torch.randn(12, generator=rng), 0.3 * torch.randn(12, generator=rng)
        self.name = f"styled-{self.name}"
        kinds = ["conv"] * 3 + ["rgb"]
        slices = tuple(Slice(tile, 3, kind) for tile, kind in zip(TILES, kinds, strict=True))
        self.spaces = {**self.spaces, "s": LatentSpace("s", slices)}

    def sample(
        self,
        n: int,
        space: LatentSpace,
        rng: torch.Generator,
        truncation: float = 1.0,
        labels: Tensor | None = None,
    ) -> Latents:
        z = torch.randn(n, 12, generator=rng)
        return self.convert(Latents(z, self.spaces["z"], truncation=truncation), space)

    def convert(self, latents: Latents, space: LatentSpace) -> Latents:
        order = list(self.spaces)
        first, last = order.index(latents.space.name), order.index(space.name)
        if first > last:
            raise LatentError(f"latents go z -> w -> s, not {latents.space.name} -> {space.name}")
        values = latents.values
        for name in order[first + 1 : last + 1]:
            if name == "w":
                values = self.mean + latents.truncation * (values * self.sigma) @ self.rotation
            else:
                values = self.bias + values @ self.rotation.T * self.gain
        return Latents(values, space)

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
        styles = self.convert(latents, self.spaces["s"]).values
        unrotated = Latents(styles @ self.rotation, self.spaces["w"])  # the parent's picture of R x is that of s
        return super().synthesize(unrotated, features, images=images, keep=keep, resume=resume)


class TileBrightness:
    """A classifier of tiles: is the tile brighter than grey? Its true direction is the sum of the tile's three.

    Args:
        gain: how steep; large ones saturate at 0 and 1.
        offset: above 1 no tile is bright, below -1 every one.
    """

    attributes = TILES

    def __init__(self, gain: float = 4.0, offset: float = 0.0) -> None:
        self.gain, self.offset = gain, offset

    def classify(self, images: Tensor) -> Tensor:
        tiles = images.mean(dim=1).unfold(1, 8, 8).unfold(2, 8, 8).mean(dim=(3, 4))  # (n, 2, 2)
        return (self.gain * (tiles.flatten(1) - self.offset)).sigmoid()


class MixedAttributes(TileBrightness):
    """The first attribute is seen with half of each of the others: its normal is no tile's own."""

    def classify(self, images: Tensor) -> Tensor:
        logits = super().classify(images).logit()
        return torch.cat([logits[:, :1] + 0.5 * logits[:, 1:].sum(dim=1, keepdim=True), logits[:, 1:]], dim=1).sigmoid()


def brighter(generator: TileGenerator, tile: int) -> Tensor:
    """(12,): the unit direction that brightens a tile most."""
    return generator.truth(tile).sum(dim=0) / 3**0.5


__all__ = ["MixedAttributes", "StyledTileGenerator", "TileBrightness", "brighter", "tiny_stylegan2"]
