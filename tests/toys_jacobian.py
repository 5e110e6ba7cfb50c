"""A toy with a Jacobian of any size: soft spots of colour that fade, mixed by a rotation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from situ.core.errors import GeneratorError
from situ.core.generator import FeatureLayer, Synthesis, SynthesisState
from situ.core.latents import Latents, LatentSpace, Slice, Subspace


class SpotGenerator:
    """Coordinate i of the rotated latent paints one spot of random place, width and colour, `fade`^i strong.

    Spaces "z", "w" (one slice of `dim`) and "w+" (two slices of it, whose codes add up). Feature layer "paint".
    """

    def __init__(self, dim: int = 24, resolution: int = 32, fade: float = 0.9, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.rotation = torch.linalg.qr(torch.randn(dim, dim, generator=rng))[0]
        at = torch.arange(resolution) / resolution
        centre, width = torch.rand(2, dim, 1, generator=rng), 0.03 + 0.15 * torch.rand(dim, 1, 1, generator=rng)
        rows, columns = (at - centre[0])[:, :, None], (at - centre[1])[:, None, :]
        spots = torch.exp(-(rows.square() + columns.square()) / width.square())  # (dim, h, w)
        colour = torch.randn(dim, 3, 1, 1, generator=rng) * fade ** torch.arange(dim)[:, None, None, None]
        self.paint = torch.einsum("di,ichw->dchw", self.rotation, colour * spots[:, None])
        self.name, self.resolution, self.device = f"spots-{dim}-{resolution}-{seed}", resolution, torch.device("cpu")
        one = (Slice("0", dim),)
        self.spaces = {
            "z": LatentSpace("z", one),
            "w": LatentSpace("w", one),
            "w+": LatentSpace("w+", (*one, Slice("1", dim))),
        }
        self.layers = (FeatureLayer("paint", resolution, 3, 0),)

    def sample(
        self,
        n: int,
        space: LatentSpace,
        rng: torch.Generator,
        truncation: float = 1.0,
        labels: Tensor | None = None,
    ) -> Latents:
        dim = self.spaces["z"].dim
        return self.convert(Latents(truncation * torch.randn(n, dim, generator=rng), self.spaces["z"]), space)

    def convert(self, latents: Latents, space: LatentSpace) -> Latents:
        times = space.dim // latents.space.dim
        return Latents(latents.values.repeat(1, times) / times, space)

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
        codes = latents.values.unflatten(1, (-1, self.spaces["z"].dim)).sum(dim=1)
        paint = (codes @ self.paint.flatten(1)).unflatten(1, self.paint.shape[1:])
        state = SynthesisState(keep, ()) if keep is not None else None
        return Synthesis(torch.tanh(paint), {"paint": paint} if features else {}, state)
