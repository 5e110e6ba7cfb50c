"""ReSeFa table 1 and figure 5: named edits of a region, by the methods that edit regions.

Zhu et al. 2022. Table 1 has four edits (close eyes, close mouth, with lipstick, big nose) and, after each, FID, squared
change outside the region, identity and the time to find the direction. Figure 5 has the squared change inside and
outside against the strength. People chose the directions; here the pack's reader of factors does: of all that a method
found for the region, the direction and sign that move the named factor most, on pictures apart from those measured. An
edit is to be made, not tried: its strength is the one that moves the factor by the same amount with every method.

The Frechet distance is taken in the features of the pack's own embedder, and named so: it is no FID.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product

import numpy as np
import torch
from PIL import Image

from situ.bench.experiment import Claim, Outcome, Table, Value
from situ.bench.measures import REGION_NOTE
from situ.bench.run import Bench, Run, Size, embedded, over_searches, rounded
from situ.bench.searches import RANKED_ON, SELECTION, sampled
from situ.bench.statistics import Interval, interval, interval_or_none, over_pictures, paired, verdict
from situ.core.direction import Direction, Edit
from situ.core.measurement import edited_images
from situ.core.traversal import synthesize_edits
from situ.figures.overlays import enlarge, outline
from situ.figures.plots import Bars, Line, Panel, draw_bars, draw_panels
from situ.figures.sheets import Grid, Row, draw_grid, lay_out
from situ.metrics.frechet import frechet_distance
from situ.metrics.locality import ChangeInside, ChangeOutside

METHODS = ("stylespace", "lowrankgan", "resefa", "lelsd", "random")
RIVALS = ("stylespace", "lowrankgan")
BATCH = 32
SCALE = 1e4  # of squared changes, as printed
TARGET = 0.15  # of the factor's range, by which every method is to move it
TRIED = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # strengths; a method that does not get there is measured at the last
STRENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
SHOWN = 4
CELL = 88
# LELSD has as many directions as it is asked for: two of a part, so that there is a choice for it too
SETTINGS: Mapping[str, Mapping[str, object]] = {"lelsd": {"k": 2}}


@dataclass(frozen=True)
class NamedEdit:
    """An edit of table 1 as the portraits have it."""

    name: str
    part: str
    factor: str
    sign: int  # of the factor's change


EDITS = (
    NamedEdit("close eyes", "eyes", "eye_closure", 1),
    NamedEdit("close mouth", "mouth", "mouth_open", -1),
    NamedEdit("with lipstick", "mouth", "lipstick", 1),
    NamedEdit("big nose", "nose", "nose_width", 1),
)

TABLE_1 = Table(
    "published",
    "FFHQ, StyleGAN2 at 1024 px: FID (lower is better), MSE x 1e4 outside the region (lower), identity (higher)",
    ("method", *(f"{edit.name}: {figure}" for edit in EDITS for figure in ("FID", "MSE", "ID")), "seconds to find"),
    (
        ("StyleSpace", 26.32, 2.31, 0.51, 24.83, 2.43, 0.51, 57.12, 0.63, 0.84, 25.65, 0.98, 0.75, 10.0),
        ("LowRankGAN", 25.43, 5.61, 0.53, 24.91, 4.96, 0.73, 32.33, 8.44, 0.63, 25.37, 5.52, 0.56, 393.0),
        ("ReSeFa", 24.40, 2.51, 0.83, 23.35, 2.11, 0.85, 38.41, 1.53, 0.89, 24.82, 1.64, 0.85, 0.5),
    ),
    "ReSeFa, table 1",
    "The printed 0.5 s is the eigenvalue problem alone, without the Jacobian.",
)
FIGURE_5 = Table(
    "published",
    "What the paper says of its figure 5",
    ("edits", "compared", "finding"),
    (
        ("close mouth", "StyleSpace, LowRankGAN, ReSeFa", "StyleSpace changes more inside than the other two (5a)"),
        (
            "close mouth, close eyes",
            "StyleSpace, LowRankGAN, ReSeFa",
            "with ReSeFa the change in the region is large while the change in the remaining region is small, compared "
            "to the others",
        ),
    ),
    "ReSeFa, figure 5 and section 4.3 (curves, no figures)",
)


@dataclass(frozen=True)
class Chosen:
    """A direction, the sign that makes the named edit, and the strength that makes it by as much as is wanted."""

    direction: Direction
    sign: int
    strength: float = 1.0


def edits_of(run: Run) -> list[NamedEdit]:
    """Those whose part this run has."""
    return [edit for edit in EDITS if edit.part in run.regions]


def settings_of(run: Run, method: str) -> Mapping[str, object]:
    return {} if run.quick else SETTINGS.get(method, {})


def choose(run: Run, edit: NamedEdit, method: str, seed: int) -> Chosen | None:
    """The direction and sign that move the factor most; without a reader of factors, the best direction's plus."""
    found = run.find(method, edit.part, seed, settings_of(run, method))
    reader = run.pack.reader
    if not found.directions:
        return None
    if reader is None or edit.factor not in reader.factors:
        return Chosen(found.best, 1)
    column = reader.factors.index(edit.factor)

    def best() -> object:
        codes = sampled(run.pack, RANKED_ON, SELECTION)
        with torch.no_grad():
            before = run.pack.generator.synthesize(codes).images
            moves = []
            for direction in found.directions:
                for sign in (1.0, -1.0):
                    after = run.pack.generator.synthesize(direction.apply(run.pack.generator, codes, sign)).images
                    moves.append(edit.sign * float(reader.change(before, after)[:, column].mean()))
            i = int(np.argmax(moves))
            index, sign = i // 2, 1 if i % 2 == 0 else -1
            changes = [0.0]
            for strength in TRIED:
                move = found.directions[index].apply(run.pack.generator, codes, sign * strength)
                after = run.pack.generator.synthesize(move).images
                changes.append(edit.sign * float(reader.change(before, after)[:, column].mean()))
        return {"index": index, "sign": sign, "strength": _reaching(changes)}

    cell = run.cells.value(f"choice {edit.name} {method} seed {seed}", best)
    return Chosen(found.directions[cell["index"]], cell["sign"], cell["strength"])


def _reaching(changes: Sequence[float]) -> float:
    """The strength, among those tried and between them, that first moves the factor as far as is wanted."""
    steps = pairwise(zip((0.0, *TRIED), changes, strict=True))
    for (s0, c0), (s1, c1) in steps:
        if c1 >= TARGET:
            return s0 + (TARGET - c0) / (c1 - c0) * (s1 - s0)
    return TRIED[-1]


def measured(run: Run, edit: NamedEdit, method: str, seed: int) -> dict[str, object]:
    """One cell of table 1: every picture's figures after the edit."""
    chosen = choose(run, edit, method, seed)
    if chosen is None:
        return {"failed": run.find(method, edit.part, seed, settings_of(run, method)).failed}
    pack, region = run.pack, run.regions[edit.part]
    columns: dict[str, list[float]] = {"outside": [], "inside": [], "identity": [], "factor": []}
    features: list[list[float]] = []
    for start in range(0, len(run.latents), BATCH):
        some = run.latents[start : start + BATCH]
        edited = edited_images(pack.generator, chosen.direction, region, some, chosen.sign * chosen.strength)
        columns["outside"] += (SCALE * ChangeOutside()(edited)).tolist()
        columns["inside"] += (SCALE * ChangeInside()(edited)).tolist()
        if pack.reader is not None and edit.factor in pack.reader.factors:
            with torch.no_grad():
                change = pack.reader.change(edited.before, edited.after)
            columns["factor"] += (edit.sign * change[:, pack.reader.factors.index(edit.factor)]).tolist()
        if pack.embed is not None:
            before, after = (embedded(pack, images) for images in (edited.before, edited.after))
            columns["identity"] += torch.cosine_similarity(before, after).tolist()
            features += rounded(after)
    return {**columns, "features": features, "strength": chosen.strength}


def _name(edit: NamedEdit, method: str, seed: int) -> str:
    return f"{edit.name} {method} seed {seed}"


def plan_of_table(run: Run) -> dict[str, Callable[[], object]]:
    """The cells of table 1."""
    asked = list(product(edits_of(run), METHODS, run.seeds))
    return {_name(*each): partial(measured, run, *each) for each in asked}


def plan_of_figure(run: Run) -> dict[str, Callable[[], object]]:
    """The cells of figure 5."""
    asked = list(product(edits_of(run), METHODS, run.seeds))
    return {f"swept {_name(*each)}": partial(swept, run, *each) for each in asked}


def run_table(run: Run) -> Outcome:
    """The whole table."""
    planned = plan_of_table(run)
    rows: list[tuple[Value, ...]] = []
    claims_on: dict[tuple[str, str], dict[str, list[float]]] = {}
    features: dict[tuple[str, str], torch.Tensor] = {}
    real = run.reference
    failed = []
    for edit in edits_of(run):
        for method in METHODS:
            cells = [run.cell(name, planned[name]) for name in (_name(edit, method, s) for s in run.seeds)]
            usable = [cell for cell in cells if "outside" in cell]
            if not usable:
                failed.append(f"{edit.name} by {method}: {cells[0]['failed']}")
                continue
            names = [name for name in ("outside", "inside", "identity", "factor") if usable[0][name]]
            figures = {name: over_searches([cell[name] for cell in usable]) for name in names}
            claims_on[edit.name, method] = figures
            if usable[0]["features"]:
                # searches one after another: row i of each is picture i
                features[edit.name, method] = torch.tensor([cell["features"] for cell in usable])
            distance = _frechet(features.get((edit.name, method)), real)
            strength = float(np.mean([cell["strength"] for cell in usable]))
            each = [interval_or_none(figures.get(name, [])) for name in ("outside", "identity", "inside", "factor")]
            rows.append((edit.name, method, distance, *each, strength))
    columns = (
        *("edit", "method", "Frechet distance (embedder)", "MSE x 1e4 outside", "identity", "MSE x 1e4 inside"),
        *("change of the factor", "strength"),
    )
    note = (
        f"{len(run.latents)} pictures, {len(run.seeds)} searches each; every edit at the strength that moves its "
        f"factor by {TARGET:g} of its range on pictures of their own, at most {TRIED[-1]:g}. 95 % bootstrap intervals "
        "over pictures; squared changes of pictures in [-1, 1]."
    )
    table = Table("edits", "Named edits of a region", columns, tuple(rows), note=note)
    tables = [table, _speeds(run)]
    if run.pack.embed is not None:
        tables.append(_unedited(run, real))
    return Outcome(
        tables,
        _table_claims(run, claims_on, features, real),
        {"edits": _table_figure(run, table)},
        {"sheet": _sheet(run)},
        [
            f"The Frechet distance is to {run.real[1]}, in the features of the pack's own embedder: no FID.",
            REGION_NOTE,
            "Of the directions that a method found for the part, the one and the sign that move the named factor most "
            "are taken, on pictures apart from those measured.",
            *failed,
        ],
    )


def _frechet(features: torch.Tensor | None, real: torch.Tensor | None) -> Interval | None:
    """Mean over the searches of the distance of each one's pictures to the real ones, (s, n, f) and (m, f)."""
    if features is None or real is None:
        return None
    return over_pictures(features.shape[1], lambda numbers: _mean_distance(features, real, numbers))


def _mean_distance(features: torch.Tensor, real: torch.Tensor, numbers: np.ndarray) -> float:
    chosen = torch.from_numpy(numbers)
    return float(np.mean([frechet_distance(search[chosen], real) for search in features]))


def _unedited(run: Run, real: torch.Tensor | None) -> Table:
    """What the generator's own pictures score: no edit of them can be expected to do better."""

    def make() -> object:
        with torch.no_grad():
            parts = [run.pack.generator.synthesize(run.latents[i : i + BATCH]).images
                     for i in range(0, len(run.latents), BATCH)]  # fmt: skip
        return rounded(embedded(run.pack, torch.cat(parts)))

    features = torch.tensor(run.cell("unedited", make))[None]
    return Table(
        "unedited", "The same pictures, unedited", ("Frechet distance (embedder)",), ((_frechet(features, real),),)
    )


def _table_claims(
    run: Run,
    figures: Mapping[tuple[str, str], Mapping[str, list[float]]],
    features: Mapping[tuple[str, str], torch.Tensor],
    real: torch.Tensor | None,
) -> list[Claim]:
    source = "ReSeFa, section 4.3 and table 1"
    claims = []
    for rival in RIVALS:
        names = [e.name for e in edits_of(run) if (e.name, rival) in figures and (e.name, "resefa") in figures]
        if not names:
            continue
        pairs = [(name, figures[name, "resefa"], figures[name, rival]) for name in names]
        tests = {
            f"ReSeFa keeps identity better than {rival} in every edit": [
                (n, paired(a["identity"], b["identity"])) for n, a, b in pairs if "identity" in a
            ],
            f"ReSeFa changes less outside the region than {rival} in every edit": [
                (n, paired(b["outside"], a["outside"])) for n, a, b in pairs
            ],
        }
        if real is not None:
            tests[f"ReSeFa's pictures are nearer to real ones than {rival}'s in every edit"] = [
                (n, _nearer(features[n, "resefa"], features[n, rival], real)) for n in names
            ]
        for text, rows in tests.items():
            words = "; ".join(f"{name}: {found}" for name, found in rows)
            claims.append(Claim(text, source, verdict([i for _, i in rows]), f"paired difference, ReSeFa better where "
                                f"above 0; {words}"))  # fmt: skip
    return [*claims, *_speed_claims(run, source)]


def _nearer(ours: torch.Tensor, theirs: torch.Tensor, real: torch.Tensor) -> Interval:
    """How much nearer, over the same resampled pictures."""

    def difference(numbers: np.ndarray) -> float:
        return _mean_distance(theirs, real, numbers) - _mean_distance(ours, real, numbers)

    return over_pictures(ours.shape[1], difference)


# the space that each method's own paper works in
AS_PUBLISHED: Mapping[str, Mapping[str, object]] = {
    "stylespace": {},
    "lowrankgan": {"space": "w", "k": 1},
    "resefa": {"space": "w", "k": 1},
}


def _seconds(run: Run, method: str) -> tuple[float, float]:
    """Mean seconds to find directions of a part in the method's published space, and without the Jacobian."""
    parts = dict.fromkeys(edit.part for edit in edits_of(run))
    found = [run.find(method, part, seed, AS_PUBLISHED[method]) for part in parts for seed in run.seeds]
    seconds = float(np.mean([each.seconds for each in found]))
    return seconds, seconds - float(np.mean([each.derivative for each in found]))


def _speeds(run: Run) -> Table:
    rows = tuple((method, *_seconds(run, method)) for method in AS_PUBLISHED)
    return Table(
        "speed",
        "Seconds to find the directions of a part",
        ("method", "all of it", "without the Jacobian"),
        rows,
        note="In the space of each method's paper: StyleSpace in single channels of S (all parts at once, 16 pictures "
        "where the paper asks 1000), the others in W.",
    )


def _speed_claims(run: Run, source: str) -> list[Claim]:
    """Fastest, with the Jacobian and without."""
    each = {method: _seconds(run, method) for method in AS_PUBLISHED}
    claims = []
    for i, words in enumerate(("the Jacobian included", "the Jacobian not counted")):
        means = {method: pair[i] for method, pair in each.items()}
        known = all(np.isfinite(value) for value in means.values())
        fastest = all(means["resefa"] < means[rival] for rival in RIVALS) if known else None
        test = "mean seconds: " + ", ".join(f"{method} {value:.2f}" for method, value in means.items())
        claims.append(Claim(f"ReSeFa finds directions fastest, {words}", source, fastest, test))
    return claims


def _table_figure(run: Run, table: Table):
    groups = []
    for column in (2, 3, 4, 6):
        for edit in edits_of(run):
            rows = [row for row in table.rows if row[0] == edit.name]
            kept = [(str(row[1]), value) for row in rows if isinstance(value := row[column], Interval)]
            if kept:
                groups.append(
                    Bars(edit.name, table.columns[column], [m for m, _ in kept], [v.mean for _, v in kept],
                         [v.low for _, v in kept], [v.high for _, v in kept])
                )  # fmt: skip
    return draw_bars(groups, f"Named edits that move their factor by {TARGET:g}", columns=max(2, len(edits_of(run))))


def _sheet(run: Run) -> Image.Image:
    """The first pictures, before and after every edit."""
    some = run.latents[:SHOWN]
    grids = []
    for edit in edits_of(run):
        region = run.regions[edit.part]
        with torch.no_grad():
            seen = run.pack.generator.synthesize(some, region.layers)
        lines = [Row("original", outline(enlarge(seen.images, CELL), region.mask(seen)))]
        for method in METHODS:
            chosen = choose(run, edit, method, run.seed)
            if chosen is not None:
                move = Edit(((chosen.direction, chosen.sign * chosen.strength),))
                lines.append(Row(method, enlarge(synthesize_edits(run.pack.generator, some, [move])[:, 0], CELL)))
        grids.append(draw_grid(Grid(lines, edit.name, (), "", CELL)))
    pages = [grids[i : i + 2] for i in range(0, len(grids), 2)]
    return lay_out(
        pages,
        "Named edits",
        "the first of the measured pictures",
    )


def swept(run: Run, edit: NamedEdit, method: str, seed: int) -> dict[str, object]:
    """One curve of figure 5: each picture's squared change inside and outside at every strength."""
    chosen = choose(run, edit, method, seed)
    if chosen is None:
        return {"failed": run.find(method, edit.part, seed, settings_of(run, method)).failed}
    region = run.regions[edit.part]
    inside, outside = [], []
    for strength in STRENGTHS:
        edited = edited_images(run.pack.generator, chosen.direction, region, run.latents, chosen.sign * strength)
        inside.append((SCALE * ChangeInside()(edited)).tolist())
        outside.append((SCALE * ChangeOutside()(edited)).tolist())
    return {"inside": inside, "outside": outside}


Curves = dict[tuple[str, str], dict[str, list[list[float]]]]  # edit, method -> side -> strength -> pictures


def run_figure(run: Run) -> Outcome:
    """The whole figure."""
    curves: Curves = {}
    planned = plan_of_figure(run)
    failed = []
    for edit in edits_of(run):
        for method in METHODS:
            cells = [run.cell(n, planned[n]) for n in (f"swept {_name(edit, method, s)}" for s in run.seeds)]
            usable = [cell for cell in cells if "inside" in cell]
            if not usable:
                failed.append(f"{edit.name} by {method}: {cells[0]['failed']}")
                continue
            curves[edit.name, method] = {
                side: [over_searches(rows) for rows in zip(*(cell[side] for cell in usable), strict=True)]
                for side in ("inside", "outside")
            }
    rows: list[tuple[Value, ...]] = []
    for (edit, method), sides in curves.items():
        for i, strength in enumerate(STRENGTHS):
            rows.append((edit, method, strength, interval(sides["inside"][i]), interval(sides["outside"][i])))
    columns = ("edit", "method", "strength", "MSE x 1e4 inside", "MSE x 1e4 outside")
    return Outcome(
        [Table("curves", "Squared change against strength", columns, tuple(rows))],
        _figure_claims(run, curves),
        {"curves": _curves(run, curves)},
        notes=[
            "α is in units of strength: 1 moves the pictures by the same mean perceptual distance with every method, "
            "where raw α means another thing in every space.",
            REGION_NOTE,
            *failed,
        ],
    )


def _figure_claims(run: Run, curves: Curves) -> list[Claim]:
    claims = []
    for rival in RIVALS:
        tests = []
        for edit in edits_of(run):
            if (edit.name, rival) in curves and (edit.name, "resefa") in curves:
                ours, theirs = (_log_ratios(curves[edit.name, method]) for method in ("resefa", rival))
                tests.append((edit.name, paired(ours, theirs)))
        words = "; ".join(f"{name}: {found}" for name, found in tests)
        claims.append(
            Claim(
                f"ReSeFa changes more inside for what it changes outside than {rival}, at every strength",
                "ReSeFa, figure 5 and section 4.3",
                verdict([found for _, found in tests]),
                f"paired difference of the least log(MSE inside / MSE outside) over strengths; {words}",
            )
        )
    return claims


def _log_ratios(sides: Mapping[str, Sequence[Sequence[float]]]) -> list[float]:
    """Of each picture, the least over strengths of log(inside / outside)."""
    inside, outside = (np.maximum(np.array(sides[side]), 1e-9) for side in ("inside", "outside"))
    return np.log(inside / outside).min(axis=0).tolist()


def _curves(run: Run, curves: Curves):
    panels = []
    for edit in edits_of(run):
        for side in ("inside", "outside"):
            lines = []
            for method in METHODS:
                if (edit.name, method) in curves:
                    points = [interval(row) for row in curves[edit.name, method][side]]
                    lines.append(
                        Line(method, STRENGTHS, [p.mean for p in points], [p.low for p in points],
                             [p.high for p in points], method == "random")
                    )  # fmt: skip
            panels.append(Panel(f"{edit.name}, {side}", "strength α", f"MSE x 1e4 {side}", lines))
    return draw_panels(panels, "Squared change against strength")


TABLE_BENCH = Bench(
    "resefa-table1",
    "ReSeFa table 1: named edits of a region",
    "Does ReSeFa edit a region with less change elsewhere, and find it faster?",
    run_table,
    plan=plan_of_table,
    full=Size(pictures=300, searches=2, parts=("eyes", "mouth", "nose"), minutes=10),
    quick=Size(pictures=16, searches=1, parts=("eyes",), minutes=1),
    published=(TABLE_1,),
)
FIGURE_BENCH = Bench(
    "resefa-fig5",
    "ReSeFa figure 5: change inside and outside against strength",
    "Does the change inside grow while that outside stays small?",
    run_figure,
    plan=plan_of_figure,
    full=Size(pictures=64, searches=2, parts=("eyes", "mouth"), minutes=5),
    quick=Size(pictures=4, searches=1, parts=("eyes",), minutes=1),
    published=(FIGURE_5,),
)
