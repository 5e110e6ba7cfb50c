"""The main job from end to end: find directions of parts, edit with them, and show that only those parts changed."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image

from situ.bench.measures import measured, random_measured
from situ.core.direction import Direction, Edit
from situ.core.discovery import discover
from situ.core.files import write_whole
from situ.core.latents import Latents
from situ.core.measurement import edited_images
from situ.core.progress import Progress
from situ.core.region import Part, parse_part
from situ.core.traversal import palette, synthesize_edits
from situ.discovery.lelsd import LELSD
from situ.figures.overlays import enlarge, heat_map, outline
from situ.figures.sheets import Grid, Row, draw_grid, lay_out, save_page
from situ.metrics.attributes import factor_changes
from situ.packs.pack import Pack

STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)

# what the report holds each part's best direction against, on held-out pictures at strength 1
LS_AT_LEAST = {"hair": 0.75}
LS_TIMES_RANDOM = {"eyes": 8.0, "mouth": 8.0}
INSIDE_AT_LEAST = {"hair": 0.95, "eyes": 0.75, "mouth": 0.75}


@dataclass(frozen=True)
class Demo:
    """What the demo does; the defaults are what `situ demo` runs."""

    parts: tuple[tuple[str, int], ...] = (("hair", 1), ("eyes", 1), ("mouth", 2))  # part, directions
    pictures: int = 3  # rows of each direction's grid
    measured_on: int = 64  # held-out pictures behind every figure
    random: int = 4  # random directions to compare with
    truncation: float = 0.7
    method: LELSD = field(default_factory=lambda: LELSD(layer_weights={"image": 5.0}))


def run_demo(
    pack: Pack, out: Path, seed: int, demo: Demo, bar: Callable[[str], AbstractContextManager[Progress]]
) -> dict[str, object]:
    """Run it and write `sheet.png`, the direction files and `report.json` into a folder. Returns the report."""
    started = time.monotonic()
    rng = torch.Generator().manual_seed(seed)
    directions = _discover(pack, demo, rng, bar)
    seconds = time.monotonic() - started
    held_out = pack.generator.sample(demo.measured_on, pack.generator.spaces["z"], rng, demo.truncation)
    rows: list[dict] = []
    chance: dict[tuple[str, str], dict[str, float]] = {}  # random directions of a subspace, measured on a part
    with bar("measuring") as progress:
        for i, direction in enumerate(directions):
            part = parse_part(direction.region, pack.segmenter)
            direction.save(out / f"{direction.name}.safetensors")
            key = (str(direction.subspace), direction.region)
            if key not in chance:
                chance[key] = random_measured(pack, direction.subspace, part, held_out, demo.random, rng)
            rows.append(_row(pack, direction, part, held_out, chance[key]))
            progress(i + 1, len(directions), direction.name)
    report: dict[str, object] = {
        "generator": pack.generator.name,
        "seed": seed,
        "truncation": demo.truncation,
        "pictures": demo.measured_on,
        "distance": pack.distance.name,
        "unit_distance": pack.unit_distance,
        "seconds_to_find": seconds,
        "directions": rows,
        "targets": _targets(rows),
    }
    save_page(_sheet(pack, directions, rows, held_out, demo), out / "sheet.png")
    report["seconds"] = time.monotonic() - started
    write_whole(out / "report.json", lambda place: place.write_text(json.dumps(report, indent=2)))
    return report


def _discover(
    pack: Pack, demo: Demo, rng: torch.Generator, bar: Callable[[str], AbstractContextManager[Progress]]
) -> list[Direction]:
    found: list[Direction] = []
    jobs: dict[tuple[str, int], list[str]] = {}  # parts of one subspace and count share their pictures
    for part, k in demo.parts:
        jobs.setdefault((pack.best_subspaces.get(part, "w+"), k), []).append(part)
    for (space, k), parts in jobs.items():
        method = replace(demo.method, space=space, k=k, truncation=demo.truncation)
        regions = [parse_part(part, pack.segmenter) for part in parts]
        with bar(f"LELSD in {space}: {', '.join(parts)}") as progress:
            calibration = pack.calibration(truncation=demo.truncation)
            for directions in discover(pack.generator, regions, method, rng, calibration, progress, random=0):
                found += directions
    order = [part for part, _ in demo.parts]
    return sorted(found, key=lambda direction: order.index(direction.region))


def _row(pack: Pack, direction: Direction, part: Part, latents: Latents, chance: dict[str, float]) -> dict[str, object]:
    row: dict[str, object] = {
        "name": direction.name,
        "region": direction.region,
        "file": f"{direction.name}.safetensors",
        "subspace": str(direction.subspace),
        "raw_alpha_per_unit": direction.unit,
        "figures": measured(pack, direction, part, latents),
        "random": chance,
    }
    if pack.reader:
        with torch.no_grad():
            edited = edited_images(pack.generator, direction, part, latents)
        changes = factor_changes(pack.reader.change, pack.reader.factors, edited)
        row["factor_changes"] = dict(sorted(changes.items(), key=lambda item: -abs(item[1])))
    return row


def _targets(rows: list[dict]) -> list[dict[str, object]]:
    """Each target beside what was reached by the part's best direction, and what random directions reach."""
    checks = []
    for part in dict.fromkeys(row["region"] for row in rows):
        own = [row for row in rows if row["region"] == part]
        best = max(own, key=lambda row: row["figures"]["inside"])
        for figure, bound in (("LS", LS_AT_LEAST.get(part)), ("inside", INSIDE_AT_LEAST.get(part))):
            if bound is not None:
                value, chance = best["figures"][figure], best["random"][figure]
                checks.append(
                    {
                        "part": part,
                        "figure": figure,
                        "wanted": bound,
                        "reached": value,
                        "random": chance,
                        "met": value >= bound,
                    }
                )
        if part in LS_TIMES_RANDOM:
            value, chance = best["figures"]["LS"], best["random"]["LS"]
            wanted = LS_TIMES_RANDOM[part]
            checks.append(
                {
                    "part": part,
                    "figure": "LS / random LS",
                    "wanted": wanted,
                    "reached": value / chance,
                    "random": 1.0,
                    "met": value >= wanted * chance,
                }
            )
    return checks


def _sheet(pack: Pack, directions: list[Direction], rows: list[dict], latents: Latents, demo: Demo) -> Image.Image:
    """The contact sheet: a grid per direction, a strip of sequential edits, a palette."""
    some = latents[: demo.pictures]
    grids = [
        draw_grid(direction_grid(pack, direction, row, some)) for direction, row in zip(directions, rows, strict=True)
    ]
    others = latents[demo.pictures : 2 * demo.pictures]
    grids.append(draw_grid(_sequence(pack, directions, others)))
    pair = _pair(directions)
    if pair:
        grids.append(draw_grid(_palette(pack, *pair, latents[2 * demo.pictures : 2 * demo.pictures + 1])))
    note = (
        f"{pack.generator.name}, held-out pictures at truncation {demo.truncation}; strength 1 moves a picture by "
        f"{pack.unit_distance} ({pack.distance.name})"
    )
    return lay_out([grids[i : i + 2] for i in range(0, len(grids), 2)], "Edit one part, leave the rest alone", note)


def direction_grid(pack: Pack, direction: Direction, row: dict, latents: Latents) -> Grid:
    part = parse_part(direction.region, pack.segmenter)
    pictures = synthesize_edits(pack.generator, latents, [Edit(((direction, s),)) for s in STRENGTHS])
    edited = edited_images(pack.generator, direction, part, latents, 2.0)
    heat = outline(enlarge(heat_map(edited.before, edited.after), 112), edited.mask)
    marked = outline(enlarge(edited.before, 112), edited.mask)
    lines = []
    for i in range(len(latents)):
        cells = torch.cat([marked[i : i + 1], enlarge(pictures[i], 112), heat[i : i + 1]])
        lines.append(Row("", cells))
    figures, chance = row["figures"], row["random"]
    note = (
        f"{direction.subspace}   LS {figures['LS']:.2f} (random {chance['LS']:.2f})   change inside the part "
        f"{figures['inside']:.0%} (random {chance['inside']:.0%})"
    )
    return Grid(
        lines,
        direction.name,
        ["region", *[f"{s:+g}" if s else "original" for s in STRENGTHS], "change at +2"],
        note,
    )


def _sequence(pack: Pack, directions: list[Direction], latents: Latents) -> Grid:
    """Edits one after the other, each on top of the ones before."""
    edits, captions = [Edit()], ["original"]
    for i, direction in enumerate(directions):
        strength = 1.5 if i % 2 == 0 else -1.5
        edits.append(edits[-1] + Edit(((direction, strength),)))
        captions.append(f"{direction.name} {strength:+g}")
    pictures = synthesize_edits(pack.generator, latents, edits)
    return Grid([Row("", row) for row in pictures], "One edit after another", captions)


def _pair(directions: list[Direction]) -> tuple[Direction, Direction] | None:
    """Two directions of one part, for the palette."""
    for a in directions:
        for b in directions:
            if a is not b and a.region == b.region:
                return a, b
    return None


def _palette(pack: Pack, across: Direction, down: Direction, latents: Latents) -> Grid:
    pictures = palette(pack.generator, across, down, latents, STRENGTHS)
    rows = [Row(f"{s:+g}", row) for s, row in zip(STRENGTHS, pictures, strict=True)]
    note = f"{across.name} along the columns, {down.name} along the rows"
    return Grid(rows, f"Palette of the {across.region}", [f"{s:+g}" for s in STRENGTHS], note, cell=88)
