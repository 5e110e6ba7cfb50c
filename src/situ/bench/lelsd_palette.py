"""LELSD figure 3: two directions of one part, and their combinations.

Pajouheshgar et al. 2022, section 4.1: the regulariser R makes the directions of one part "mutually perpendicular, and
carry distinct semantics", and combining them linearly "gives limitless image editing possibilities". Measured: the
cosine between two directions of hair with R and without it, how alike what they change is, and whether combinations
stay inside the part as single edits do.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from PIL import Image

from situ.bench.experiment import Claim, Outcome, Table, Value
from situ.bench.measures import REGION_NOTE
from situ.bench.run import Bench, Run, Size, over_searches
from situ.bench.statistics import interval, interval_or_none, paired, verdict
from situ.core.direction import Direction, Edit
from situ.core.errors import SituError
from situ.core.measurement import edited_images
from situ.core.traversal import palette
from situ.figures.overlays import enlarge
from situ.figures.plots import Bars, draw_bars
from situ.figures.sheets import Grid, Row, draw_grid
from situ.metrics.locality import InsideShare

WITH, WITHOUT = "with R", "without R"
WEIGHTS = {WITH: 1.0, WITHOUT: 0.0}  # c of eq. 3
STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
ALLOWED = 0.05  # how much less of the change of a combination may lie inside than of the worse single edit
CELL = 112

PUBLISHED = (
    Table(
        "published",
        "What the paper says of its figure 3",
        ("part", "finding"),
        (
            ("hair", "the regulariser makes the directions mutually perpendicular, and carry distinct semantics"),
            ("hair", "linearly combining different directions gives limitless image editing possibilities"),
        ),
        "LELSD, figure 3 and section 4.1 (pictures, no figures)",
    ),
)


def pair(run: Run, part: str, words: str, seed: int) -> Sequence[Direction]:
    """Two directions of a part, with a weight of R.

    Raises:
        SituError: there are not two that change the pictures.
    """
    found = run.find("lelsd", part, seed, {"k": 2, "correlation": WEIGHTS[words]})
    if len(found.directions) < 2:
        raise SituError(found.failed or f"LELSD found fewer than two directions of {part} that change the pictures")
    return found.directions[:2]


def measured(run: Run, part: str, words: str, seed: int) -> dict[str, Any]:
    """One cell: how alike the two are, and how local each alone and both together."""
    a, b = pair(run, part, words, seed)
    region = run.regions[part]
    cosine = abs(float(torch.cosine_similarity(a.subspace.lift(a.vector), b.subspace.lift(b.vector), dim=0)))
    row: dict[str, Any] = {"cosine": cosine}
    changes = []
    for name, edit in (("first", Edit(((a, 1.0),))), ("second", Edit(((b, 1.0),)))):
        edited = edited_images(run.pack.generator, edit, region, run.latents)
        row[name] = InsideShare()(edited).tolist()
        if run.pack.reader is not None:
            with torch.no_grad():
                changes.append(run.pack.reader.change(edited.before, edited.after))
    both = []
    for signs in ((1.0, 1.0), (1.0, -1.0)):
        edited = edited_images(run.pack.generator, Edit(((a, signs[0]), (b, signs[1]))), region, run.latents)
        both.append(InsideShare()(edited).tolist())
    row["both"] = over_searches(both)
    if changes:
        row["alike"] = torch.cosine_similarity(changes[0], changes[1]).abs().tolist()
    return row


def plan(run: Run) -> dict[str, Callable[[], object]]:
    """The cells."""
    (part,) = run.regions
    asked = product(WEIGHTS, run.seeds)
    return {f"{words} seed {seed}": partial(measured, run, part, words, seed) for words, seed in asked}


def run_bench(run: Run) -> Outcome:
    """The whole figure."""
    (part,), planned = run.regions, plan(run)
    cells = {
        words: [run.cell(name, planned[name]) for name in (f"{words} seed {seed}" for seed in run.seeds)]
        for words in WEIGHTS
    }
    rows: list[tuple[Value, ...]] = []
    for words, each in cells.items():
        cosines = interval([cell["cosine"] for cell in each])
        sides = [interval(over_searches([cell[name] for cell in each])) for name in ("first", "second", "both")]
        alike = interval_or_none(over_searches([c["alike"] for c in each])) if "alike" in each[0] else None
        rows.append((words, cosines, alike, *sides))
    columns = (
        *("directions", "|cosine| between the two", "|cosine| between what they change (factors)"),
        *("share inside, first", "share inside, second", "share inside, both together"),
    )
    note = (
        f"{part}, {len(run.seeds)} searches (the unit of the first interval), {len(run.latents)} pictures (of the "
        "others), strength 1 each."
    )
    return Outcome(
        [Table("pairs", f"Two directions of {part}", columns, tuple(rows), note=note)],
        _claims(cells),
        {"pairs": _figure(cells)},
        {"palette": _sheet(run, part)},
        [REGION_NOTE],
    )


def _claims(cells: dict[str, list[dict[str, Any]]]) -> list[Claim]:
    source = "LELSD, section 4.1"
    cosines = paired(*([cell["cosine"] for cell in cells[words]] for words in (WITHOUT, WITH)))
    claims = [
        Claim(
            "The regulariser makes directions of one part more perpendicular",
            source,
            verdict([cosines]),
            f"fall of the |cosine| with R, paired over searches: {cosines}",
        )
    ]
    if "alike" in cells[WITH][0]:
        alike = paired(*(over_searches([cell["alike"] for cell in cells[words]]) for words in (WITHOUT, WITH)))
        claims.append(
            Claim(
                "With the regulariser the directions carry distinct semantics",
                source,
                verdict([alike]),
                f"fall of the |cosine| between the factors that they change, paired over pictures: {alike}",
            )
        )
    single = [over_searches([cell[name] for cell in cells[WITH]]) for name in ("first", "second")]
    worse = [min(a, b) - ALLOWED for a, b in zip(*single, strict=True)]
    kept = paired(over_searches([cell["both"] for cell in cells[WITH]]), worse)
    claims.append(
        Claim(
            "Combined directions edit the part as locally as each alone",
            "LELSD, figure 3",
            verdict([kept]),
            f"share inside of both together, less that of the worse alone, plus {ALLOWED:g}: {kept}",
        )
    )
    return claims


def _figure(cells: dict[str, list[dict[str, Any]]]):
    groups = [
        Bars(
            "How alike two directions are",
            "|cosine|",
            [f"{words}, seed {i}" for words in cells for i in range(len(cells[words]))],
            [cell["cosine"] for words in cells for cell in cells[words]],
        )
    ]
    labels = ("first", "second", "both")
    points = [interval(over_searches([cell[name] for cell in cells[WITH]])) for name in labels]
    groups.append(
        Bars("Share of the change inside", "share", labels, [p.mean for p in points], [p.low for p in points],
             [p.high for p in points])
    )  # fmt: skip
    return draw_bars(groups, "Two directions of one part")


def _sheet(run: Run, part: str) -> Image.Image:
    """The palette of the first picture."""
    across, down = pair(run, part, WITH, run.seed)
    pictures = palette(run.pack.generator, across, down, run.latents[:1], STEPS)
    lines = [Row(_signed(s), enlarge(row, CELL)) for s, row in zip(STEPS, pictures, strict=True)]
    note = "first direction along the columns, second along the rows"
    return draw_grid(Grid(lines, f"Palette of {part}", [_signed(s) for s in STEPS], note, CELL))


def _signed(strength: float) -> str:
    return f"{strength:+g}" if strength else "0"


BENCH = Bench(
    "lelsd-fig3",
    "LELSD figure 3: two directions of one part",
    "Are several directions of one part distinct, and can they be combined?",
    run_bench,
    plan=plan,
    full=Size(pictures=32, searches=5, parts=("hair",), minutes=4),
    quick=Size(pictures=4, searches=2, parts=("hair",), minutes=1),
    published=PUBLISHED,
)
