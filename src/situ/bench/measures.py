"""Every measure that a pack's networks allow, of a direction and of random ones at the same strength."""

import math
from collections.abc import Sequence

import torch

from situ.core.direction import Direction, calibrate
from situ.core.discovery import random_directions
from situ.core.latents import Latents, Subspace
from situ.core.measurement import Metric, measure
from situ.core.region import Region
from situ.metrics.attributes import FactorChange
from situ.metrics.identity import IdentitySimilarity
from situ.metrics.locality import LOCALITY
from situ.packs.pack import Pack

REGION_NOTE = "The region is what the pack's segmenter sees of the part before or after the edit (their union)."
LEAKAGE_NOTE = (
    "Leakage is the mean change of a factor that does not show in the part, over that plus the mean change of one that "
    "does: 0 is perfect, 0.5 no choice at all."
)


def metrics_of(pack: Pack, region: Region) -> list[Metric]:
    """Every metric that the pack's networks allow, for edits of a region."""
    metrics: list[Metric] = [*LOCALITY, pack.distance]
    if pack.embed:
        metrics.append(IdentitySimilarity(pack.embed))
    if pack.reader:
        parts = region.name.split("+")
        target = tuple(i for i, part in enumerate(pack.reader.parts) if part in parts)
        others = tuple(i for i in range(len(pack.reader.parts)) if i not in target)
        if target:
            metrics.append(FactorChange("target_factors", pack.reader.change, target))
        metrics.append(FactorChange("other_factors", pack.reader.change, others, better="lower"))
    return metrics


def leakage(target: Sequence[float], other: Sequence[float]) -> list[float]:
    """Of each picture, the mean change of a factor that does not show in the region, over that plus the mean change of
    one that does: 0 is perfect, 0.5 no choice at all; NaN where nothing changed.
    """
    return [o / (t + o) if t + o > 0 else math.nan for t, o in zip(target, other, strict=True)]


def measured(
    pack: Pack,
    direction: Direction,
    region: Region,
    latents: Latents,
    strength: float = 1.0,
    force: bool = False,
) -> dict[str, float]:
    """Means over pictures and both signs of every metric of a direction."""
    values = measure(pack.generator, direction, region, latents, metrics_of(pack, region), (strength, -strength), force)
    figures = {name: float(value.mean()) for name, value in values.items()}
    figures["region_gain"] = figures["mse_inside"] / max(figures["mse_outside"], 1e-12)
    return figures


def random_measured(
    pack: Pack,
    subspace: Subspace,
    region: Region,
    latents: Latents,
    n: int,
    rng: torch.Generator,
    strength: float = 1.0,
) -> dict[str, float]:
    """The same figures at the same calibrated strength, averaged over n random directions of a subspace."""
    codes = pack.generator.convert(latents, subspace.space)
    each = []
    for direction in random_directions(pack.generator, subspace, n, rng):
        one = calibrate(pack.generator, direction, codes[:16], pack.distance.between, pack.unit_distance)
        each.append(measured(pack, one, region, codes, strength))
    return {key: sum(figures[key] for figures in each) / n for key in each[0]}
