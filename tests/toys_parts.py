"""A toy generator with styles whose parts are known: which feature means which half, which channel paints which."""

from collections.abc import Sequence

import torch
from torch import Tensor

from situ.core.errors import GeneratorError, LatentError
from situ.core.generator import FeatureLayer, Synthesis, SynthesisState
from situ.core.latents import Latents, LatentSpace, Slice, Subspace

HALVES = ("left", "right")
HUES = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 3.0]])  # what the features of each half point to
OWNERS = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])  # of the painting channels, in each half


class HalvesGenerator:
    """16 x 16 pictures of two halves, painted by four channels: two of the left, one of the right, one of both.

    Features: "hue" (4 px; of one direction in each half, whatever the picture) and "base" (8 px, 4 channels, zero on
    the average). Spaces "z" and "s"; the styles "hue" scale a constant, "base" the hue, "mix" the base, and only "mix"
    changes the picture: x = 0.1 sum_c s_c base_c in colour c.
    """

    name = "halves"
    resolution = 16
    device = torch.device("cpu")
    layers = (FeatureLayer("hue", 4, 3, 0), FeatureLayer("base", 8, 4, 1))

    def __init__(self) -> None:
        self.spaces = {
            "z": LatentSpace("z", (Slice("z", 10),)),
            "s": LatentSpace("s", (Slice("hue", 3), Slice("base", 3), Slice("mix", 4))),
        }
        sign = 1.0 - 2.0 * ((torch.arange(8)[:, None] + torch.arange(8)[None, :]) % 2)  # a checkerboard
        side = torch.stack([(torch.arange(8) < 4).float(), (torch.arange(8) >= 4).float()])
        masks = torch.stack([side[0], side[0], side[1], torch.ones(8)])
        self.base = sign * masks[:, None, :]  # (4, 8, 8)
        self.colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])

    def sample(
        self, n: int, space: LatentSpace, rng: torch.Generator, truncation: float = 1.0, labels: Tensor | None = None
    ) -> Latents:
        z = torch.randn(n, 10, generator=rng)
        return self.convert(Latents(truncation * z, self.spaces["z"]), space)

    def convert(self, latents: Latents, space: LatentSpace) -> Latents:
        if latents.space.name == "s" and space.name == "z":
            raise LatentError("latents go z -> s")
        values = latents.values if latents.space == space else 1 + latents.values
        return Latents(values, space)

    def first_step(self, subspace: Subspace) -> int:
        return subspace.chosen[0] if subspace.space.name == "s" else 0

    def synthesize(
        self,
        latents: Latents,
        features: Sequence[str] = (),
        *,
        images: bool = True,
        keep: int | None = None,
        resume: SynthesisState | None = None,
    ) -> Synthesis:
        if set(features) - {"hue", "base"}:
            raise GeneratorError(f"features are hue and base, got {features}")
        styles = self.convert(latents, self.spaces["s"]).values
        n = len(styles)
        half = (torch.arange(4) >= 2).long()
        hue = HUES[half].T[None, :, None, :].expand(n, 3, 4, 4) * (1 + styles[:, :1].square())[:, :, None, None]
        base = self.base.expand(n, -1, -1, -1)
        small = 0.1 * torch.einsum("nc,chw,cr->nrhw", styles[:, 6:], self.base, self.colours)
        found = {"hue": hue, "base": base}
        pictures = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) if images else None
        return Synthesis(pictures, {name: found[name] for name in features})


class HalvesSegmenter:
    """Knows the halves."""

    name = "halves-segmenter"
    parts = HALVES
    layers = ()

    def segment(self, synthesis: Synthesis) -> Tensor:
        columns = torch.arange(16) >= 8
        return torch.stack([~columns, columns]).float()[None, :, None, :].expand(len(synthesis.images), -1, 16, -1)
