"""Finding directions: the contract of the methods, and the verb that calls one and makes its results comparable."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.direction import Direction, PerceptualDistance, calibrate
from situ.core.errors import DirectionError, LatentError
from situ.core.generator import Generator
from situ.core.latents import Latents, Subspace
from situ.core.measurement import edited_images, region_gain
from situ.core.progress import Progress, silent
from situ.core.region import Region


@runtime_checkable
class Discovery(Protocol):
    """A method. A frozen dataclass: its settings are its fields."""

    def find(
        self, generator: Generator, regions: Sequence[Region], rng: torch.Generator, progress: Progress = silent
    ) -> list[list[Direction]]:
        """Directions of each region, best first, not yet calibrated. Ctrl-C returns what is found so far."""
        ...


@dataclass(frozen=True)
class Calibration:
    """What strength 1 means, and on which pictures a direction is judged."""

    distance: PerceptualDistance
    unit_distance: float  # mean perceptual distance of strength +-1
    latents: int = 32  # held-out codes
    truncation: float = 0.7


def held_out_latents(generator: Generator, calibration: Calibration, rng: torch.Generator, space: str = "z") -> Latents:
    """Codes to judge directions on, drawn apart from those of the search."""
    seed = int(torch.randint(2**31, [1], generator=rng, device=rng.device))
    own = torch.Generator().manual_seed(seed)
    return generator.sample(calibration.latents, generator.spaces[space], own, calibration.truncation)


def discover(
    generator: Generator,
    regions: Sequence[Region],
    method: Discovery,
    rng: torch.Generator,
    calibration: Calibration,
    progress: Progress = silent,
) -> list[list[Direction]]:
    """Find directions of several regions, calibrate their unit strength and score them on held-out latents.

    Returns:
        one list per region, best region gain first. `figures` of each direction holds LS and the mean squared changes
        inside and outside the region.
    """
    held_out = held_out_latents(generator, calibration, rng)
    found = method.find(generator, regions, rng, progress)
    judged = []
    for region, directions in zip(regions, found, strict=True):
        rows = [judge(generator, direction, region, held_out, calibration) for direction in directions]
        judged.append(sorted(rows, key=lambda direction: -direction.score))
    return judged


def judge(
    generator: Generator, direction: Direction, region: Region, latents: Latents, calibration: Calibration
) -> Direction:
    """The direction with its unit calibrated, and its score and figures at strength +-1 on these latents."""
    latents = generator.convert(latents, direction.subspace.space)
    direction = calibrate(generator, direction, latents, calibration.distance, calibration.unit_distance)
    runs = [edited_images(generator, direction, region, latents, sign) for sign in (1.0, -1.0)]
    scores = [run.localization for run in runs if run.localization is not None]
    figures = dict(direction.figures)
    if scores:
        figures["LS"] = float(torch.cat(scores, dim=1).mean())
    return replace(direction, score=region_gain(runs), figures=figures)


def random_directions(
    generator: Generator, subspace: Subspace, regions: Sequence[Region], n: int, rng: torch.Generator
) -> list[list[Direction]]:
    """Random unit directions of a subspace, n for every region: what any method must beat."""
    if n < 1:
        raise DirectionError(f"at least one random direction is needed, got {n}")
    vectors = torch.randn(len(regions), n, subspace.dim, generator=rng, device=rng.device)
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    return [
        [
            Direction(v, subspace, generator.name, region.name, "random", name=f"random-{i + 1}")
            for i, v in enumerate(rows)
        ]
        for region, rows in zip(regions, vectors, strict=True)
    ]


def spread(latents: Latents, subspace: Subspace) -> Float[Tensor, ""]:
    """Root mean square distance of codes from their mean within a subspace: the natural length of a step there."""
    if latents.space != subspace.space:
        raise LatentError(f"codes of {subspace.space.name} are needed, got {latents.space.name}")
    parts = latents.space.split(latents.values)
    chosen = torch.cat([parts[i] for i in (subspace.chosen[:1] if subspace.tied else subspace.chosen)], dim=1)
    return (chosen - chosen.mean(dim=0)).square().sum(dim=1).mean().sqrt()
