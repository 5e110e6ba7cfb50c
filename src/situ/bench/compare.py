"""Methods side by side: the same pictures, each moved by the same perceptual distance (LELSD section 4.2, fig. 4).

Directions of different methods have no common length, so every picture is edited to a distance d on both sides of the
unedited one, each method with its own α. Differences between methods then are what changed, not how much.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from PIL import Image

from situ.bench.measures import metrics_of
from situ.core.direction import Direction, solve_distance
from situ.core.discovery import Discovery, discover
from situ.core.errors import SituError
from situ.core.latents import Latents
from situ.core.measurement import EditedImages, edited_images
from situ.core.progress import Progress, silent
from situ.core.region import Region
from situ.figures.overlays import enlarge, outline
from situ.figures.sheets import Grid, Row, draw_grid
from situ.packs.pack import Pack

CELL = 112  # pixels of one picture on the sheet
SHOWN = 4  # pictures on the sheet


@dataclass(frozen=True)
class Compared:
    """One method's best direction of the region, and what it did to the common pictures."""

    method: str
    direction: Direction
    seconds: float  # to find it, its measuring not counted
    figures: Mapping[str, float]  # means over pictures and both sides
    reached: float  # share of pictures and sides where the distance was reached
    edited: torch.Tensor  # (shown, 2, 3, h, w) at -d and +d


def compare_methods(
    pack: Pack,
    region: Region,
    methods: Mapping[str, Discovery],
    distance: float,
    pictures: int,
    seed: int,
    truncation: float,
    bar: Callable[[str], AbstractContextManager[Progress]],
) -> tuple[list[Compared], dict[str, str], Latents]:
    """Find each method's best direction of a region and edit the same held-out pictures with it.

    A method that cannot do it leaves its reason and the others go on; Ctrl-C keeps what is finished.

    Returns:
        one entry per method, best region gain first; the reasons of those that failed; the codes of the pictures.

    Raises:
        SituError: no method could do it.
    """
    rng = torch.Generator().manual_seed(seed)
    held_out = pack.generator.sample(pictures, pack.generator.spaces["z"], rng, truncation)
    rows: list[Compared] = []
    failed: dict[str, str] = {}
    try:
        for name, method in methods.items():
            own = torch.Generator().manual_seed(seed)
            with bar(name) as progress:
                try:
                    rows.append(_compared(pack, region, name, method, distance, held_out, truncation, own, progress))
                except SituError as error:
                    failed[name] = str(error)
    except KeyboardInterrupt:
        if not rows:
            raise
    if not rows:
        raise SituError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))
    return sorted(rows, key=lambda row: -row.figures["region_gain"]), failed, held_out


def _compared(
    pack: Pack,
    region: Region,
    name: str,
    method: Discovery,
    distance: float,
    held_out: Latents,
    truncation: float,
    rng: torch.Generator,
    progress: Progress,
) -> Compared:
    timed = _Timed(method)
    ((direction, *_),) = discover(
        pack.generator, [region], timed, rng, pack.calibration(truncation=truncation), progress, random=0
    )
    if not math.isfinite(direction.score):
        raise SituError(f"it found no direction of {region.name} that changes the pictures")
    runs: list[EditedImages] = []
    reached: list[bool] = []
    for sign in (-1, 1):
        solution = solve_distance(pack.generator, direction, held_out, distance, pack.distance.between, sign)
        strength = solution.alpha / direction.unit
        runs.append(edited_images(pack.generator, direction, region, held_out, strength))
        reached += solution.reached
    figures = {
        metric.name: float(torch.stack([metric(run).float() for run in runs]).mean())
        for metric in metrics_of(pack, region)
    }
    figures["region_gain"] = figures["mse_inside"] / max(figures["mse_outside"], 1e-12)
    shown = torch.stack([run.after[:SHOWN] for run in runs], dim=1)
    return Compared(name, direction, timed.seconds, figures, sum(reached) / len(reached), shown)


class _Timed:
    """A method that knows how long it took."""

    def __init__(self, method: Discovery) -> None:
        self.method, self.seconds = method, 0.0

    def find(
        self, generator: object, regions: Sequence[Region], rng: torch.Generator, progress: Progress = silent
    ) -> list[list[Direction]]:
        started = time.monotonic()
        try:
            return self.method.find(generator, regions, rng, progress)  # pyright: ignore[reportArgumentType]
        finally:
            self.seconds = time.monotonic() - started


def draw_comparison(
    pack: Pack, region: Region, rows: Sequence[Compared], latents: Latents, distance: float
) -> Image.Image:
    """The sheet: originals with the region's outline, then a row a method, each picture at -d and +d."""
    some = latents[: min(SHOWN, len(latents))]
    with torch.no_grad():
        seen = pack.generator.synthesize(some, region.layers)
        marked = outline(enlarge(seen.images, CELL), region.mask(seen))
    lines = [Row("original", marked.repeat_interleave(2, dim=0))]
    for row in rows:
        words = f"{row.method}\ngain {row.figures['region_gain']:.1f}, inside {row.figures['inside']:.0%}"
        lines.append(Row(words, enlarge(row.edited.flatten(0, 1), CELL)))
    columns = [f"{sign}{distance:g}" for _ in range(len(some)) for sign in "-+"]
    note = f"every edit at distance {distance:g} ({pack.distance.name}); the best direction of each method"
    return draw_grid(Grid(lines, f"{region.name}: methods compared", columns, note, CELL))


def comparison_report(
    pack: Pack, region: Region, rows: Sequence[Compared], failed: Mapping[str, str], distance: float, pictures: int
) -> dict[str, object]:
    """Everything measured, as JSON can hold it."""
    return {
        "generator": pack.generator.name,
        "region": region.name,
        "pictures": pictures,
        "distance": distance,
        "distance_name": pack.distance.name,
        "methods": [
            {
                "method": row.method,
                "direction": row.direction.name,
                "subspace": str(row.direction.subspace),
                "found_by": row.direction.found_by,
                "seconds": row.seconds,
                "reached": row.reached,
                "figures": dict(row.figures),
            }
            for row in rows
        ],
        "failed": dict(failed),
    }
