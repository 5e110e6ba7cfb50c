"""`situ compare`: several methods on the same pictures at the same perceptual distance, as one sheet and one table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from situ.bench.compare import Compared, compare_methods, comparison_report, draw_comparison
from situ.cli.options import (
    Boxes,
    Class,
    ClassNames,
    Device,
    Json,
    Masks,
    Model,
    Parts,
    Presets,
    Seed,
    SegmenterFile,
    Truncation,
    open_on,
    regions_of,
    require_folder,
    require_truncation,
    with_segmenter,
)
from situ.cli.output import emit_json, finite, progress_bar, say, table
from situ.core.errors import RegionError, SituError
from situ.core.files import write_whole
from situ.core.region import Region
from situ.figures.sheets import save_page
from situ.packs.methods import METHODS, build_method, method_named
from situ.packs.pack import Pack

USUAL = "lelsd,resefa,stylespace,lowrankgan,ganspace,sefa,random"


def compare(
    methods: Annotated[
        str, typer.Option("--methods", help=f"names, comma-separated, or all: {', '.join(METHODS)}")
    ] = USUAL,
    part: Parts = None,
    box: Boxes = None,
    mask: Masks = None,
    preset: Presets = None,
    segmenter: SegmenterFile = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for the sheet, the table and the directions")] = Path(
        "compared"
    ),
    distance: Annotated[
        float | None,
        typer.Option("--distance", min=0, help="perceptual distance of every edit (default: strength 1's)"),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="how many pictures")] = 32,
    seed: Seed = 0,
    truncation: Truncation = 0.7,
    model: Model = "portraits",
    class_: Class = None,
    class_names: ClassNames = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Compare methods on one region: same pictures, same perceptual distance, one sheet and one table."""
    require_truncation(truncation)
    pack = with_segmenter(open_on(model, device, class_=class_, class_names=class_names), segmenter, part)
    regions = regions_of(pack, part, box, mask, preset)
    if len(regions) > 1:
        raise RegionError(
            f"methods are compared on one region, got {', '.join(r.name for r in regions)}: join parts with +"
        )
    region = regions[0]
    d = pack.unit_distance if distance is None else distance
    if not d > 0:
        raise SituError(f"a perceptual distance to compare at is a positive number, got {d}")
    made = {name: build_method(method_named(name), {}, pack, [region]) for name in _names(methods, pack)}
    require_folder(out)
    rows, failed, latents = compare_methods(pack, region, made, d, n, seed, truncation, progress_bar)
    for row in rows:
        row.direction.save(out / f"{row.method}.safetensors")
    save_page(draw_comparison(pack, region, rows, latents, d), out / "sheet.png")
    report = comparison_report(pack, region, rows, failed, d, n)
    text = json.dumps(finite(report), indent=2, allow_nan=False)
    write_whole(out / "report.json", lambda place: place.write_text(text))
    for name, reason in failed.items():
        say(f"{name} is left out: {reason}")
    if as_json:
        emit_json(report)
    else:
        _print(region, rows, d, n)
        if len(rows) + len(failed) < len(made):
            say(f"stopped after {len(rows)} of {len(made)} methods: kept what was finished")
        say(f"look at {out / 'sheet.png'}; all figures are in {out / 'report.json'}")
    if failed:
        raise typer.Exit(1)


def _names(text: str, pack: Pack) -> list[str]:
    """Methods of a comma-separated list; "all" is every one that this model can serve."""
    if text.strip() == "all":
        return [n for n, m in METHODS.items() if pack.reader or "classifier" not in m.build.__dataclass_fields__]
    names = list(dict.fromkeys(item.strip() for item in text.split(",") if item.strip()))
    if not names:
        raise SituError(f"name at least one method: {', '.join(METHODS)}")
    for name in names:
        method_named(name)
    return names


def _print(region: Region, rows: Sequence[Compared], distance: float, n: int) -> None:
    columns = {
        "region_gain": "region gain",
        "inside": "inside",
        "LS": "LS",
        "mse_outside": "MSE outside",
        "identity": "identity",
        "target_factors": "target factors",
        "other_factors": "other factors",
    }
    shown = {key: words for key, words in columns.items() if any(key in row.figures for row in rows)}
    cells = [
        [row.method, *[row.figures.get(key, "") for key in shown], f"{row.reached:.0%}", row.seconds] for row in rows
    ]
    title = f"{region.name}: {n} pictures, each at distance {distance:g}, both ways"
    table(title, ["method", *shown.values(), "reached", "seconds to find"], cells)
