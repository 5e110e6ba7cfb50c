"""LELSD figure 4: edits at equal perceptual distance, small and large, in both directions.

Pajouheshgar et al. 2022, section 4.2: methods that rely on the first-order expansion of the generator "perform poorly
as the editing strength α increases". The paper shows pictures of mouth and hair beside StyleSpace's. Here every picture
is moved to each distance d on both sides of 0 by every method, and what changed is measured; the claim is tested by the
paired difference to LELSD over the same pictures.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from PIL import Image

from situ.bench.experiment import Claim, Outcome, Table, Value
from situ.bench.measures import LEAKAGE_NOTE, REGION_NOTE, leakage, metrics_of
from situ.bench.run import Bench, Run, Size, over_searches
from situ.bench.statistics import interval, interval_or_none, paired, verdict
from situ.core.direction import Direction, solve_distance
from situ.core.measurement import EditedImages, edited_images
from situ.core.region import Region
from situ.core.traversal import sweep_distances
from situ.figures.overlays import enlarge, outline
from situ.figures.plots import Line, Panel, draw_panels
from situ.figures.sheets import Grid, Row, draw_grid, lay_out

METHODS = ("lelsd", "stylespace", "resefa", "lowrankgan", "random")
FIRST_ORDER = ("stylespace", "resefa", "lowrankgan")
TIMES = (0.5, 1.0, 2.0, 4.0, 8.0)  # distances, in the pack's unit distance
REACHED = 0.8  # share of edits that must reach a distance for it to be compared at
CELL = 88  # pixels of one picture of the sheet
WORDS = {
    "inside": "share of the change inside the part",
    "LS": "localisation score",
    "leakage": "leakage",
    "target_factors": "change of the part's factors",
    "other_factors": "change of all other factors",
    "identity": "identity (cosine)",
    "mse_outside": "squared change outside",
}

PUBLISHED = (
    Table(
        "published",
        "What the paper says of its figure 4",
        ("compared", "parts", "finding"),
        (
            (
                "LELSD, StyleSpace's best channel",
                "mouth, hair",
                "for higher values of d, where the linearity assumption is not valid, LELSD outperforms StyleSpace",
            ),
        ),
        "LELSD, figure 4 and section 4.2 (pictures, no figures; d in LPIPS)",
    ),
)


def measured(run: Run, method: str, part: str, seed: int, d: float) -> Mapping[str, object]:
    """One cell: each picture's figures at -d and +d, the mean of the sides that reached it; NaN where neither did."""
    found = run.find(method, part, seed)
    if not found.directions:
        return {"failed": found.failed}
    pack, region = run.pack, run.regions[part]
    direction = _started_near(found.best, d / pack.unit_distance)
    sides: dict[str, list[list[float]]] = {}
    reached: list[list[bool]] = []
    for sign in (-1, 1):
        solution = solve_distance(
            pack.generator, direction, run.latents, d, pack.distance.between, sign, tolerance=0.02
        )
        edited = edited_images(pack.generator, direction, region, run.latents, solution.alpha / direction.unit)
        with torch.no_grad():
            for name, values in _figures(run, region, edited).items():
                kept = zip(values, solution.reached, strict=True)
                sides.setdefault(name, []).append([v if r else math.nan for v, r in kept])
        reached.append(list(solution.reached))
    share = sum(sum(side) for side in reached) / (2 * len(run.latents))
    return {"reached": share, "figures": {name: over_searches(rows) for name, rows in sides.items()}}


def _started_near(direction: Direction, times: float) -> Direction:
    """The search for α starts from the unit, so a better guess for a far distance saves doublings; distances grow
    about as α², the features' squared difference."""
    return replace(direction, unit=direction.unit * math.sqrt(times))


def _figures(run: Run, region: Region, edited: EditedImages) -> dict[str, list[float]]:
    figures = {metric.name: metric(edited).float().tolist() for metric in metrics_of(run.pack, region)}
    if "target_factors" in figures:
        figures["leakage"] = leakage(figures["target_factors"], figures["other_factors"])
    return figures


def _distances(run: Run) -> list[float]:
    return [round(t * run.pack.unit_distance, 6) for t in TIMES]


def _name(method: str, part: str, seed: int, d: float) -> str:
    return f"{method} {part} seed {seed} d {d:g}"


def plan(run: Run) -> dict[str, Callable[[], object]]:
    """The cells."""
    asked = product(METHODS, run.regions, run.seeds, _distances(run))
    return {_name(*each): partial(measured, run, *each) for each in asked}


Curves = dict[tuple[str, str, float], dict[str, list[float]]]  # part, method, d -> figure -> one number a picture


def run_bench(run: Run) -> Outcome:
    """The whole figure."""
    distances, planned = _distances(run), plan(run)
    curves: Curves = {}
    shares: dict[tuple[str, str, float], float] = {}
    failed: list[str] = []
    for part in run.regions:
        for method in METHODS:
            for d in distances:
                cells = [run.cell(n, planned[n]) for n in (_name(method, part, seed, d) for seed in run.seeds)]
                usable = [cell for cell in cells if "figures" in cell]
                if not usable:
                    failed.append(f"{method} on {part}: {cells[0]['failed']}")
                    continue
                names = usable[0]["figures"]
                curves[part, method, d] = {n: over_searches([c["figures"][n] for c in usable]) for n in names}
                shares[part, method, d] = sum(c["reached"] for c in usable) / len(usable)
    return Outcome(
        tables=(_table(curves, shares), _gaps(curves, shares, list(run.regions), distances)),
        claims=_claims(curves, shares, list(run.regions), distances),
        figures={"curves": _figure(run, curves, distances)},
        sheets={"sheet": _sheet(run, distances)},
        notes=[
            f"d is the distance in {run.pack.distance.name}, not LPIPS; strength 1 is {run.pack.unit_distance:g}.",
            REGION_NOTE,
            LEAKAGE_NOTE,
            "Methods work in the space that `situ discover` gives them: LELSD, ReSeFa and random directions in the "
            "part's best-known subspace, LowRankGAN in W, StyleSpace in single channels of S. Random is one of four "
            "random directions, the most local on the pictures that directions are ranked on.",
            *sorted(set(failed)),
        ],
    )


def _table(curves: Curves, shares: Mapping[tuple[str, str, float], float]) -> Table:
    names = [name for name in WORDS if any(name in row for row in curves.values())]
    rows: list[tuple[Value, ...]] = []
    for (part, method, d), row in curves.items():
        rows.append(
            (part, method, d, shares[part, method, d], *[interval_or_none(row.get(name, [])) for name in names])
        )
    words = tuple(WORDS[name] for name in names)
    return Table("curves", "Edits at equal distance", ("part", "method", "d", "reached", *words), tuple(rows))


def _gap(curves: Curves, part: str, method: str, d: float, name: str = "inside") -> list[float]:
    """LELSD's figure less the method's, of every picture."""
    ours, theirs = curves[part, "lelsd", d].get(name, []), curves[part, method, d].get(name, [])
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def _ends(
    shares: Mapping[tuple[str, str, float], float], part: str, method: str, distances: Sequence[float]
) -> tuple[float, float] | None:
    """The smallest and the largest distance that most edits of both methods reach."""
    usable = [
        d for d in distances if min(shares.get((part, m, d), 0.0) for m in ("lelsd", method)) >= REACHED
    ]  # fmt: skip
    return (usable[0], usable[-1]) if len(usable) > 1 else None


def _gaps(
    curves: Curves, shares: Mapping[tuple[str, str, float], float], parts: Sequence[str], distances: Sequence[float]
) -> Table:
    rows: list[tuple[Value, ...]] = []
    for part in parts:
        for method in METHODS[1:]:
            ends = _ends(shares, part, method, distances)
            if ends is None:
                continue
            near, far = (_gap(curves, part, method, d) for d in ends)
            rest = [interval_or_none(_gap(curves, part, method, ends[1], name)) for name in ("leakage", "LS")]
            rows.append((part, method, *ends, interval(near), interval(far), paired(far, near), *rest))
    columns = (
        *("part", "method", "smallest d", "largest d", "gap at smallest d", "gap at largest d", "growth of the gap"),
        *("leakage at largest d, LELSD's less the method's", "localisation score at largest d, the same"),
    )
    return Table(
        "gaps",
        "LELSD's share of the change inside the part, less the other method's",
        columns,
        tuple(rows),
        note="Paired over the same pictures; 95 % bootstrap intervals. The largest d is the largest that at least "
        f"{REACHED:.0%} of the edits of both methods reach. LELSD is searched for a high localisation score, which "
        "is therefore no judge.",
    )


def _claims(
    curves: Curves, shares: Mapping[tuple[str, str, float], float], parts: Sequence[str], distances: Sequence[float]
) -> list[Claim]:
    claims = []
    source = "LELSD, section 4.2"
    for method in FIRST_ORDER:
        better, growing, words, grown = [], [], [], []
        for part in parts:
            ends = _ends(shares, part, method, distances)
            if ends is None:
                continue
            near, far = (_gap(curves, part, method, d) for d in ends)
            better.append(interval(far))
            growing.append(paired(far, near))
            words.append(f"{part} at d {ends[1]:g}: {better[-1]}")
            grown.append(f"{part} from d {ends[0]:g} to {ends[1]:g}: {growing[-1]}")
        text = f"At a high d LELSD keeps more of the change inside the part than {method}"
        claims.append(
            Claim(text, source, verdict(better), f"paired difference of the share inside; {'; '.join(words)}")
        )
        text = f"{method} falls behind LELSD as d grows"
        claims.append(Claim(text, source, verdict(growing), f"growth of that difference; {'; '.join(grown)}"))
    return claims


def _figure(run: Run, curves: Curves, distances: Sequence[float]):
    names = [n for n in ("inside", "LS", "leakage") if any(n in row for row in curves.values())]
    panels = []
    for part in run.regions:
        for name in names:
            lines = []
            for method in METHODS:
                points = [
                    (d, interval_or_none(curves[part, method, d][name]))
                    for d in distances
                    if (part, method, d) in curves
                ]
                kept = [(d, i) for d, i in points if i is not None]
                if kept:
                    lines.append(
                        Line(method, [d for d, _ in kept], [i.mean for _, i in kept], [i.low for _, i in kept],
                             [i.high for _, i in kept], method == "random")
                    )  # fmt: skip
            panels.append(Panel(part, f"distance d ({run.pack.distance.name})", WORDS[name], lines, log_x=True))
    return draw_panels(panels, "Edits at equal perceptual distance", columns=len(names))


def _sheet(run: Run, distances: Sequence[float]) -> Image.Image:
    """The first picture, edited by every method to every distance on both sides."""
    signed = [-d for d in reversed(distances)] + [0.0, *distances]
    grids = []
    for part, region in run.regions.items():
        with torch.no_grad():
            seen = run.pack.generator.synthesize(run.latents[:1], region.layers)
        lines = []
        for method in METHODS:
            found = run.find(method, part, run.seed)
            if not found.directions:
                continue
            pictures, _, reached = sweep_distances(
                run.pack.generator, found.best, run.latents[:1], signed, run.pack.distance.between
            )
            row = enlarge(pictures[0], CELL)
            row[len(distances)] = outline(row[len(distances) : len(distances) + 1], region.mask(seen))[0]
            missed = sum(not met for met in reached[0])
            lines.append(Row(method + (f"\n{missed} not reached" if missed else ""), row))
        columns = [f"{d:+g}" if d else "original" for d in signed]
        grids.append([draw_grid(Grid(lines, part, columns, "", CELL))])
    note = f"the first of the measured pictures, moved to each distance d ({run.pack.distance.name}) on both sides"
    return lay_out(grids, "Edits at equal perceptual distance", note)


BENCH = Bench(
    "lelsd-fig4",
    "LELSD figure 4: edits at equal distance",
    "Do first-order methods fall behind LELSD as edits grow?",
    run_bench,
    plan=plan,
    full=Size(pictures=32, searches=2, parts=("mouth", "hair"), minutes=20),
    quick=Size(pictures=3, searches=1, parts=("mouth",), minutes=1.5),
    published=PUBLISHED,
)
