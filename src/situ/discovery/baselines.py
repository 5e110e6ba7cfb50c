"""Baselines: random directions, and interpolation between latents.

Random directions are what any method must beat. Interpolation is the plainest editor in Table 2 of "MAGEC" (random
interpolation between latent vectors): code w is moved towards another code v, w + t (v - w). A direction is applied to
any w alike, so v - w is replaced by its mean over w, v - mean(w); `between="pair"` takes v2 - v1 of two drawn codes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import torch

from situ.core.direction import Direction
from situ.core.discovery import as_directions, random_directions
from situ.core.errors import SituError
from situ.core.generator import Generator
from situ.core.latents import parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region

Between = Literal["mean", "pair"]


@dataclass(frozen=True)
class RandomDirections:
    """Unit directions, uniform on the sphere of a subspace."""

    space: Annotated[str, "subspace: w, w+, w+:4-7, w:4-7 (tied), s, s:conv, s:9, z"] = "w+"
    k: Annotated[int, "directions"] = 10

    def __post_init__(self) -> None:
        if self.k < 1:
            raise SituError(f"at least one random direction is needed, got k={self.k}")

    def find(
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> list[list[Direction]]:
        """See `Discovery.find`: the same directions for every region."""
        subspace = parse_subspace(self.space, generator.spaces)
        drawn = random_directions(generator, subspace, self.k, rng)
        vectors, names = torch.stack([d.vector for d in drawn]), [d.name for d in drawn]
        seed = rng.initial_seed()
        return [as_directions(self, generator, subspace, region, vectors, seed=seed, names=names) for region in regions]


@dataclass(frozen=True)
class Interpolation:
    """From one code towards another. `figures` of a direction: "distance" between the two, which as raw strength goes
    all the way, t = 1.
    """

    space: Annotated[str, "subspace: w, w+:4-7, w:4-7 (tied), s, z"] = "w"
    k: Annotated[int, "directions"] = 10
    between: Annotated[Between, "mean: from the mean code to a drawn one; pair: between two drawn ones"] = "mean"
    samples: Annotated[int, "codes that the mean is taken over"] = 10_000
    truncation: Annotated[float, "of the codes"] = 1.0

    def __post_init__(self) -> None:
        bad = {name: value for name, value in {"k": self.k, "samples": self.samples}.items() if value < 1}
        if bad:
            raise SituError(f"Interpolation settings must be positive, got {bad}")
        if self.between not in get_args(Between):
            raise SituError(f'between is one of {", ".join(get_args(Between))}, got "{self.between}"')
        if not math.isfinite(self.truncation) or self.truncation == 0:
            raise SituError(f"truncation is a number other than 0, where all codes are one, got {self.truncation}")

    def find(
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> list[list[Direction]]:
        """See `Discovery.find`: the same directions for every region, in the order of drawing."""
        subspace = parse_subspace(self.space, generator.spaces)

        def draw(n: int) -> torch.Tensor:
            with torch.no_grad():
                drawn = generator.sample(n, subspace.space, rng, self.truncation)
            return subspace.coordinates(drawn.values).cpu()

        ends = draw(self.k)
        if self.between == "pair":
            starts = draw(self.k)
        else:
            sizes = [len(part) for part in torch.arange(self.samples).split(1000)]
            starts = (sum((draw(n).double().sum(dim=0) for n in sizes), torch.zeros(1)) / self.samples).to(ends)
        vectors = ends - starts
        return [
            as_directions(
                self,
                generator,
                subspace,
                region,
                vectors,
                seed=rng.initial_seed(),
                truncation=self.truncation,
                figures=[{"distance": float(length)} for length in vectors.norm(dim=1)],
                names=[f"interpolation-{i + 1}" for i in range(self.k)],
            )
            for region in regions
        ]
