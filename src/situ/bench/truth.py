"""The truth table: what every method's edit of every part really changed, on a model whose factors are known.

None of the papers could have it: the bundled portraits come from a renderer that names every factor, so that a
predictor of factors can be trained, and says what an edit changed besides what it was asked to. All edits are at
strength 1, the same mean perceptual distance. Repeatability is the mean |cosine| between the best directions of several
searches.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch

from situ.bench.experiment import Claim, Outcome, Table, Value
from situ.bench.measures import LEAKAGE_NOTE, REGION_NOTE, leakage, metrics_of
from situ.bench.run import Bench, Run, Size, over_searches, summarised
from situ.bench.searches import Found
from situ.bench.statistics import Interval, interval_or_none, paired, verdict
from situ.core.direction import Direction
from situ.core.measurement import edited_images
from situ.figures.plots import Bars, draw_bars
from situ.packs.methods import METHODS

BATCH = 32
SLOW: dict[str, int] = {"ganalyze": 2, "styleflow": 2}  # methods with fewer searches than the others
# methods with other settings than their paper's, as rows of their own: `situ discover` gives LELSD these
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {"lelsd + image": ("lelsd", dict(METHODS["lelsd"].settings or {}))}
ROWS: dict[str, tuple[str, dict[str, object]]] = {**{name: (name, {}) for name in METHODS}, **VARIANTS}
FIGURES = {
    "inside": "share inside",
    "leakage": "leakage",
    "target_factors": "change of the part's factors",
    "other_factors": "change of all other factors",
    "mse_inside": "MSE inside",
    "mse_outside": "MSE outside",
    "identity": "identity",
    "realism": "realism",
}


def seeds_of(run: Run, method: str) -> list[int]:
    """Of the searches: fewer for methods that take minutes."""
    return run.seeds[: SLOW.get(method, len(run.seeds))]


def found_by(run: Run, row: str, part: str, seed: int) -> Found:
    """The search behind a row of the table."""
    method, settings = ROWS[row]
    return run.find(method, part, seed, settings)


def measured(run: Run, row: str, part: str, seed: int) -> dict[str, Any]:
    """One cell: each picture's figures, the mean of both signs."""
    found = found_by(run, row, part, seed)
    if not found.directions:
        return {"failed": found.failed}
    metrics = metrics_of(run.pack, run.regions[part])
    columns: dict[str, list[float]] = {}
    for start in range(0, len(run.latents), BATCH):
        some = run.latents[start : start + BATCH]
        sides: dict[str, list[list[float]]] = {}
        with torch.no_grad():
            before = run.pack.generator.synthesize(some, [layer.name for layer in run.pack.generator.layers])
        for sign in (1.0, -1.0):
            edited = edited_images(run.pack.generator, found.best, run.regions[part], some, sign, before)
            with torch.no_grad():
                for metric in metrics:
                    sides.setdefault(metric.name, []).append(metric(edited).float().tolist())
            sides.setdefault("realism", []).append(run.realism.score(summarised(run.pack, edited.after)).tolist())
        for name, rows in sides.items():
            columns[name] = columns.get(name, []) + over_searches(rows)
    if "target_factors" in columns:
        columns["leakage"] = leakage(columns["target_factors"], columns["other_factors"])
    return {"figures": columns}


def repeatability(directions: Sequence[Direction]) -> float | None:
    """Mean |cosine| over pairs of searches, in the space that they all work in; None for fewer than two."""
    lifted = [d.subspace.lift(d.vector) for d in directions]
    if len(lifted) < 2 or len({d.subspace.space.name for d in directions}) > 1:
        return None
    pairs = combinations(lifted, 2)
    return float(np.mean([abs(float(torch.cosine_similarity(a, b, dim=0))) for a, b in pairs]))


def plan(run: Run) -> dict[str, Callable[[], object]]:
    """The cells."""
    return {
        f"{row} {part} seed {seed}": partial(measured, run, row, part, seed)
        for row in ROWS
        for part in run.regions
        for seed in seeds_of(run, row)
    }


def run_bench(run: Run) -> Outcome:
    """The whole table."""
    planned = plan(run)
    figures: dict[tuple[str, str], dict[str, list[float]]] = {}
    rows: list[tuple[Value, ...]] = []
    failed = []
    for method in ROWS:
        for part in run.regions:
            seeds = seeds_of(run, method)
            cells = [run.cell(name, planned[name]) for name in (f"{method} {part} seed {seed}" for seed in seeds)]
            usable = [cell for cell in cells if "figures" in cell]
            if not usable:
                failed.append(f"{method} on {part}: {cells[0]['failed']}")
                continue
            names = usable[0]["figures"]
            each = {name: over_searches([cell["figures"][name] for cell in usable]) for name in names}
            figures[method, part] = each
            found = [found_by(run, method, part, seed) for seed in seeds]
            same = repeatability([f.directions[0] for f in found if f.directions])
            values = [interval_or_none(each.get(name, [])) for name in FIGURES]
            rows.append((part, method, *values, same, float(np.mean([f.seconds for f in found])), len(usable)))
    rows.sort(key=lambda row: (list(run.regions).index(str(row[0])), -_mean(row[2])))
    names = ("part", "method", *FIGURES.values(), "repeatability", "seconds to find", "searches")
    known = [i for i in range(len(names)) if any(row[i] is not None for row in rows)]  # what the model can measure
    columns, rows = tuple(names[i] for i in known), [tuple(row[i] for i in known) for row in rows]
    note = (
        f"{len(run.latents)} pictures, both signs, strength 1; 95 % bootstrap intervals over pictures. {LEAKAGE_NOTE} "
        "Factors change by their own range (0 to 1); MSE of pictures in [-1, 1]. Best share inside first."
    )
    table = Table("truth", "What edits really changed", columns, tuple(rows), note=note)
    return Outcome(
        [table, _unedited(run)],
        _claims(run, figures),
        {"truth": _figure(run, table)},
        notes=[
            f"{REGION_NOTE} It is no exact mask: generated pictures have none.",
            f"Realism is R of Kynkäänniemi et al. among {run.real[1]}, in {run.pack.distance.name}: real from 1.",
            "LELSD counts the feature layers, as in its paper; in the row lelsd + image the picture counts as one more "
            "(weight 5), as in `situ discover`.",
            "StyleSpace, GANSpace and SeFa search all parts at once: their seconds are for all of them.",
            "Methods of attributes get those that show in the part; of the directions that a method hands over, the "
            "one with the best region gain on pictures apart from the measured is taken.",
            *failed,
        ],
    )


def _mean(value: Value) -> float:
    return value.mean if isinstance(value, Interval) else -1.0


def _unedited(run: Run) -> Table:
    """How realistic the pictures are before any edit."""

    def make() -> object:
        with torch.no_grad():
            parts = [run.pack.generator.synthesize(run.latents[i : i + BATCH]).images
                     for i in range(0, len(run.latents), BATCH)]  # fmt: skip
        return run.realism.score(summarised(run.pack, torch.cat(parts))).tolist()

    values = run.cell("unedited", make)
    return Table("unedited", "The same pictures, unedited", ("realism",), ((interval_or_none(values),),))


def _claims(run: Run, figures: dict[tuple[str, str], dict[str, list[float]]]) -> list[Claim]:
    """Whether every method that searches parts beats what any method must."""
    claims = []
    for method in ROWS:
        if method == "random":
            continue
        parts = [part for part in run.regions if (method, part) in figures and ("random", part) in figures]
        tests = [(p, paired(figures[method, p]["inside"], figures["random", p]["inside"])) for p in parts]
        words = "; ".join(f"{part}: {found}" for part, found in tests)
        claims.append(
            Claim(
                f"{method} keeps more of the change inside every part than random directions",
                "what any method must beat",
                verdict([found for _, found in tests]),
                f"paired difference of the share inside; {words}",
            )
        )
    return claims


def _figure(run: Run, table: Table):
    groups = []
    for part in run.regions:
        for name in ("inside", "leakage"):
            if FIGURES[name] not in table.columns:
                continue
            column = table.columns.index(FIGURES[name])
            rows = [row for row in table.rows if row[0] == part]
            kept = [(str(row[1]), value) for row in rows if isinstance(value := row[column], Interval)]
            if kept:
                groups.append(
                    Bars(part, FIGURES[name], [m for m, _ in kept], [v.mean for _, v in kept],
                         [v.low for _, v in kept], [v.high for _, v in kept],
                         {"no choice": 0.5} if name == "leakage" else {})
                )  # fmt: skip
    return draw_bars(groups, "What edits at strength 1 changed", columns=2)


BENCH = Bench(
    "truth",
    "Truth table: what edits really changed",
    "What did every method's edit change, inside the part and outside, of its factors and of all others?",
    run_bench,
    plan=plan,
    full=Size(pictures=48, searches=3, parts=("hair", "eyes", "mouth", "nose"), minutes=40),
    quick=Size(pictures=4, searches=1, parts=("mouth",), minutes=1.5),
)
