"""Finding directions: the contract of the methods, and the verb that calls one and makes its results comparable."""

import math
from collections.abc import Mapping, Sequence
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
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
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


def held_out_latents(generator: Generator, calibration: Calibration, rng: torch.Generator) -> Latents:
    """Codes to judge directions on, drawn apart from those of the search."""
    seed = int(torch.randint(2**31, [1], generator=rng, device=rng.device))
    own = torch.Generator().manual_seed(seed)
    return generator.sample(calibration.latents, generator.spaces["z"], own, calibration.truncation)


def discover(
    generator: Generator,
    regions: Sequence[Region],
    method: Discovery,
    rng: torch.Generator,
    calibration: Calibration,
    progress: Progress = silent,
    random: int = 4,
) -> list[list[Direction]]:
    """Find directions of several regions, calibrate their unit strength and score them on held-out latents.

    Args:
        random: random directions of the same subspace that LS is compared with; 0 for no comparison.

    Returns:
        one list per region, best region gain first. `figures` of each direction holds its "LS", and "random_LS" and
        "random_gain", the means over random directions. Ctrl-C leaves what is not yet measured without figures.
    """
    held_out = held_out_latents(generator, calibration, rng)
    found = method.find(generator, regions, rng, progress)
    judged = [list(directions) for directions in found]  # what is not measured stays as it was found
    baselines: dict[str, list[dict[str, float]]] = {}
    try:
        for i, region in enumerate(regions):
            for j, direction in enumerate(judged[i]):
                try:
                    judged[i][j] = judge(generator, direction, region, held_out, calibration)
                except DirectionError:  # it hardly changes the picture
                    continue
                if not random:
                    continue
                key = str(direction.subspace)
                if key not in baselines:
                    try:
                        baselines[key] = random_baseline(
                            generator, direction.subspace, regions, held_out, calibration, random, rng
                        )
                    except DirectionError:  # random directions hardly change the pictures: nothing to compare with
                        baselines[key] = [{"random_LS": math.nan, "random_gain": math.nan}] * len(regions)
                judged[i][j] = replace(judged[i][j], figures={**judged[i][j].figures, **baselines[key][i]})
    except KeyboardInterrupt:
        pass  # no time to measure the rest: all that was found is kept
    return [sorted(rows, key=lambda d: -d.score if math.isfinite(d.score) else math.inf) for rows in judged]


def judge(
    generator: Generator, direction: Direction, region: Region, latents: Latents, calibration: Calibration
) -> Direction:
    """The direction with its unit calibrated, and its score and figures at strength +-1 on these latents."""
    codes = generator.convert(latents, direction.subspace.space)
    direction = calibrate(generator, direction, codes, calibration.distance, calibration.unit_distance)
    return score(generator, direction, region, codes)


def score(generator: Generator, direction: Direction, region: Region, latents: Latents) -> Direction:
    """A calibrated direction with its region gain, and with LS among its figures, at strength +-1 on these latents."""
    with torch.no_grad():
        before = generator.synthesize(latents, [layer.name for layer in generator.layers])
    runs = [edited_images(generator, direction, region, latents, sign, before) for sign in (1.0, -1.0)]
    scores = [run.localization for run in runs if run.localization is not None]
    figures = dict(direction.figures)
    figures["LS"] = float(torch.cat(scores, dim=1).mean()) if scores else math.nan
    return replace(direction, score=region_gain(runs), figures=figures)


def random_directions(generator: Generator, subspace: Subspace, n: int, rng: torch.Generator) -> list[Direction]:
    """Random unit directions of a subspace: what any method must beat."""
    if n < 1:
        raise DirectionError(f"at least one random direction is needed, got {n}")
    vectors = torch.randn(n, subspace.dim, generator=rng, device=rng.device)
    vectors = (vectors / vectors.norm(dim=-1, keepdim=True)).cpu()
    return [
        Direction(v, subspace, generator.name, "everything", "random", name=f"random-{i + 1}")
        for i, v in enumerate(vectors)
    ]


def random_baseline(
    generator: Generator,
    subspace: Subspace,
    regions: Sequence[Region],
    latents: Latents,
    calibration: Calibration,
    n: int,
    rng: torch.Generator,
) -> list[dict[str, float]]:
    """Mean LS and region gain of n random directions at their calibrated strength, for every region."""
    codes = generator.convert(latents, subspace.space)
    calibrated = [
        calibrate(generator, direction, codes, calibration.distance, calibration.unit_distance)
        for direction in random_directions(generator, subspace, n, rng)
    ]
    rows = []
    for region in regions:
        scored = [score(generator, direction, region, codes) for direction in calibrated]
        rows.append(
            {
                "random_LS": sum(d.figures["LS"] for d in scored) / n,
                "random_gain": sum(d.score for d in scored) / n,
            }
        )
    return rows


def described(method: object) -> str:
    """A method and its settings in a line; what is no plain value (pictures, a classifier) by its type alone."""

    def word(value: object) -> str:
        if isinstance(value, (str, int, float, tuple, Mapping, type(None))):
            return repr(value)
        return described(value) if isinstance(value, Discovery) else f"<{type(value).__name__}>"

    settings = {name: word(value) for name, value in vars(method).items()}
    return f"{type(method).__name__}({', '.join(f'{name}={value}' for name, value in settings.items())})"


def as_directions(
    method: object,
    generator: Generator,
    subspace: Subspace,
    region: Region,
    vectors: Float[Tensor, "k d"],
    *,
    seed: int | None,
    truncation: float = 1.0,
    figures: Sequence[Mapping[str, float]] = (),
    names: Sequence[str] = (),
) -> list[Direction]:
    """Vectors of a subspace as unit directions of a region that a method found, best first.

    Args:
        method: a frozen dataclass; it and its settings are written into the directions.
        figures: what the method knows of each vector; nothing by default.
        names: one each; by default the region's name, numbered where there are several.
    """
    unit = (vectors / vectors.norm(dim=-1, keepdim=True)).detach().cpu()
    numbered = [region.name if len(unit) == 1 else f"{region.name}-{i + 1}" for i in range(len(unit))]
    return [
        Direction(
            vector=vector,
            subspace=subspace,
            generator=generator.name,
            region=region.name,
            found_by=described(method),
            figures=dict(figures[i]) if figures else {},
            name=(names or numbered)[i],
            seed=seed,
            truncation=truncation,
        )
        for i, vector in enumerate(unit)
    ]


def spread(latents: Latents, subspace: Subspace) -> Float[Tensor, ""]:
    """Root mean square distance of codes from their mean within a subspace: the natural length of a step there."""
    if latents.space != subspace.space:
        raise LatentError(f"codes of {subspace.space.name} are needed, got {latents.space.name}")
    parts = latents.space.split(latents.values)
    chosen = torch.cat([parts[i] for i in (subspace.chosen[:1] if subspace.tied else subspace.chosen)], dim=1)
    return (chosen - chosen.mean(dim=0)).square().sum(dim=1).mean().sqrt()
