"""LELSD figure 5: one edit after another, on photos.

Pajouheshgar et al. 2022, section 4.3: photos are inverted with e4e and edited part by part "by simply adding up the
discovered latent space directions"; "the semantics of the edits are consistent across different images, and each edit
only changes the desired part without affecting previous changes". The paper shows pictures. Here each sentence is a
number, beside that of random directions: the share of every step's change inside its part, how much of an edit's change
of its own factors the later edits leave, and how alike the changes of factors are between photos.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from PIL import Image

from situ.bench.experiment import Claim, Outcome, Table, Value
from situ.bench.run import HELD_OUT, Bench, Run, Size, over_searches, real_pictures
from situ.bench.searches import sampled
from situ.bench.statistics import Interval, interval, interval_or_none, paired, verdict
from situ.core.direction import Edit
from situ.core.generator import Synthesis
from situ.core.images import Images
from situ.core.inversion import invert
from situ.core.latents import Latents
from situ.core.localization import aggregate
from situ.core.measurement import EditedImages
from situ.core.region import Region
from situ.core.traversal import synthesize_edits
from situ.figures.overlays import enlarge
from situ.figures.plots import Bars, draw_bars
from situ.figures.sheets import Grid, Row, draw_grid
from situ.inversion.encoder import EncoderInversion
from situ.metrics.locality import InsideShare

METHODS = ("lelsd", "random")
STRENGTH = 1.5  # of every edit
PHOTOS = HELD_OUT + 500_000  # seed of the photos, plus the bench's: none of them is among the reference
LEFT = (0.8, 1.2)  # share of an edit's change of its factors that must be there at the end
SHOWN = 5
CELL = 100

PUBLISHED = (
    Table(
        "published",
        "What the paper says of its figure 5",
        ("pictures", "finding"),
        (
            ("real photos, inverted by e4e", "the semantics of the edits are consistent across different images"),
            ("real photos, inverted by e4e", "each edit only changes the desired part"),
            ("real photos, inverted by e4e", "without affecting previous changes"),
        ),
        "LELSD, figure 5 and section 4.3 (pictures, no figures)",
    ),
)


def photos(run: Run) -> tuple[Images | None, Latents, str]:
    """Photos, their codes and what they are: held-out renders, inverted by the encoder; or the generator's own."""
    images = real_pictures(run.pack, run.size.pictures, PHOTOS + run.seed)
    if images is None or run.pack.encoder is None:
        return None, sampled(run.pack, run.size.pictures, PHOTOS + run.seed), "the generator's own pictures"
    rng = torch.Generator().manual_seed(run.seed)
    codes = invert(run.pack.generator, images, EncoderInversion(run.pack.encoder), rng).latents
    return images, codes, "held-out renders, inverted by the encoder"


def steps_of(run: Run, method: str, seed: int) -> list[Edit]:
    """No edit, the first, the first and second, and so on."""
    edits = [Edit()]
    for part in run.regions:
        edits.append(edits[-1] + Edit(((run.find(method, part, seed).best, STRENGTH),)))
    return edits


def measured(run: Run, method: str, seed: int) -> dict[str, Any]:
    """One cell: for every part, each photo's figures."""
    _, codes, _ = photos(run)
    pictures = synthesize_edits(run.pack.generator, codes, steps_of(run, method, seed)).clamp(-1, 1)
    cell: dict[str, Any] = {}
    with torch.no_grad():
        for i, (part, region) in enumerate(run.regions.items()):
            before, after = pictures[:, i], pictures[:, i + 1]
            cell[part] = {"inside": InsideShare()(_edited(run, region, before, after)).tolist()}
            reader = run.pack.reader
            if reader is None:
                continue
            change = reader.change(before, after)  # of this step
            total = reader.change(pictures[:, 0], pictures[:, -1])  # of all
            own = [j for j, each in enumerate(reader.parts) if each == part]
            cell[part]["alike"] = _alike(change)
            if own:
                size = change[:, own].square().sum(dim=1)
                kept = (total[:, own] * change[:, own]).sum(dim=1) / size
                cell[part]["kept"] = torch.where(size > 1e-4, kept, torch.nan).tolist()  # nothing changed: no share
    return cell


def _edited(run: Run, region: Region, before: Images, after: Images) -> EditedImages:
    """Pictures of codes that are not asked for again: the region is what the segmenter sees in the pictures."""
    masks = [region.mask(Synthesis(images)) for images in (before, after)]
    return EditedImages(before, after, aggregate(masks[0], masks[1], "union"))


def _alike(change: torch.Tensor) -> list[float]:
    """Cosine of each photo's changes of all factors with the mean of the other photos'."""
    others = (change.sum(dim=0) - change) / (len(change) - 1)
    return torch.cosine_similarity(change, others).tolist()


def plan(run: Run) -> dict[str, Callable[[], object]]:
    """The cells."""
    asked = product(METHODS, run.seeds)
    return {f"{method} seed {seed}": partial(measured, run, method, seed) for method, seed in asked}


def run_bench(run: Run) -> Outcome:
    """The whole figure."""
    planned = plan(run)
    figures: dict[str, dict[str, dict[str, list[float]]]] = {}
    for method in METHODS:
        cells = [run.cell(name, planned[name]) for name in (f"{method} seed {seed}" for seed in run.seeds)]
        figures[method] = {
            part: {name: over_searches([cell[part][name] for cell in cells]) for name in cells[0][part]}
            for part in run.regions
        }
    rows: list[tuple[Value, ...]] = []
    for i, part in enumerate(run.regions):
        for method in METHODS:
            row = figures[method][part]
            values = [interval_or_none(row.get(name, [])) for name in ("inside", "kept", "alike")]
            rows.append((i + 1, part, method, *values))
    columns = (
        *("step", "part", "method", "share of the step's change inside the part"),
        *("of the change of the part's factors, left at the end", "cosine of changes of factors between photos"),
    )
    words = photos(run)[2]
    note = f"{run.size.pictures} photos ({words}), {len(run.seeds)} searches; every edit at strength {STRENGTH:g}."
    parts = list(run.regions)
    return Outcome(
        [Table("steps", "One edit after another", columns, tuple(rows), note=note)],
        _claims(figures, parts),
        {"steps": _figure(figures, parts)},
        {"sheet": _sheet(run)},
        [
            "The region is what the pack's segmenter sees of the part before or after the step.",
            "What is left: projection of the change after all edits on the edit's own, of the factors that show in the "
            "part; 1 is all of it. Photos whose factors an edit did not move are left out.",
        ],
    )


def _claims(figures: dict[str, dict[str, dict[str, list[float]]]], parts: Sequence[str]) -> list[Claim]:
    source = "LELSD, section 4.3"
    ours, random = figures["lelsd"], figures["random"]
    inside = [(part, paired(ours[part]["inside"], random[part]["inside"])) for part in parts]
    claims = [
        Claim(
            "Each edit changes the desired part more than chance does",
            source,
            verdict([found for _, found in inside]),
            f"paired difference of the share inside to random directions; {_words(inside)}",
        )
    ]
    mostly = [(part, interval([value - 0.5 for value in ours[part]["inside"]])) for part in parts]
    claims.append(
        Claim(
            "Each edit only changes the desired part: most of its change lies inside",
            source,
            verdict([found for _, found in mostly]),
            f"share inside less one half; {_words(mostly)}",
        )
    )
    if "alike" not in ours[parts[0]]:
        return claims
    kept = [(part, found) for part in parts[:-1] if (found := interval_or_none(ours[part].get("kept", [])))]
    low, high = LEFT
    within = all(low <= found.low and found.high <= high for _, found in kept)
    outside = any(found.high < low or found.low > high for _, found in kept)
    claims.append(
        Claim(
            "Later edits leave the changes of earlier ones alone",
            source,
            (True if within else False if outside else None) if kept else None,
            f"share of the change that is left, the whole interval within {low:g} to {high:g}; {_words(kept)}",
        )
    )
    alike = [(part, paired(ours[part]["alike"], random[part]["alike"])) for part in parts]
    claims.append(
        Claim(
            "The semantics of edits are as consistent between photos as those of random directions, or more",
            source,
            verdict([Interval(f.mean, f.low + 0.05, f.high + 0.05, f.n) for _, f in alike]),
            f"paired difference of the cosine to random directions, above -0.05; {_words(alike)}",
        )
    )
    return claims


def _words(tests: Sequence[tuple[str, Interval]]) -> str:
    return "; ".join(f"{part}: {found}" for part, found in tests)


def _figure(figures: dict[str, dict[str, dict[str, list[float]]]], parts: Sequence[str]):
    titles = {
        "inside": "share of a step's change inside",
        "kept": "of an edit's change, left at the end",
        "alike": "cosine of changes between photos",
    }
    groups = []
    for name, words in titles.items():
        labels, points = [], []
        for part in parts:
            for method in METHODS:
                found = interval_or_none(figures[method][part].get(name, []))
                if found:
                    labels.append(f"{part}, {method}")
                    points.append(found)
        if points:
            groups.append(
                Bars(words, name, labels, [p.mean for p in points], [p.low for p in points], [p.high for p in points])
            )
    return draw_bars(groups, "One edit after another", columns=3)


def _sheet(run: Run) -> Image.Image:
    """The first photos, their inversions, and each step."""
    images, codes, words = photos(run)
    some = codes[:SHOWN]
    pictures = synthesize_edits(run.pack.generator, some, steps_of(run, "lelsd", run.seed))
    captions = ["inverted" if images is not None else "original"]
    captions += [f"{part} {STRENGTH:+g}" for part in run.regions]
    lines = []
    for i in range(len(some)):
        row = pictures[i] if images is None else torch.cat([images[i : i + 1], pictures[i]])
        lines.append(Row("", enlarge(row, CELL)))
    columns = captions if images is None else ["photo", *captions]
    return draw_grid(Grid(lines, "One edit after another", columns, f"each on top of the ones before; {words}", CELL))


BENCH = Bench(
    "lelsd-fig5",
    "LELSD figure 5: one edit after another, on photos",
    "Does each edit change its part alone, and leave the earlier edits there?",
    run_bench,
    plan=plan,
    full=Size(pictures=64, searches=2, parts=("hair", "eyes", "mouth"), minutes=3),
    quick=Size(pictures=6, searches=1, parts=("hair", "mouth"), minutes=1),
    published=PUBLISHED,
)
