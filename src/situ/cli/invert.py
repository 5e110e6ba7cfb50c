"""`situ invert PHOTO...`: the codes of photos, to be edited like any other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from situ.cli.options import (
    CropBox,
    Device,
    Faces,
    InversionMethod,
    InversionSteps,
    Json,
    Model,
    Points,
    Seed,
    cutting_of,
    new_rng,
    open_on,
    require_folder,
)
from situ.cli.output import emit_json, finite, progress_bar, say, table
from situ.core.files import write_whole
from situ.core.images import save_image
from situ.core.inversion import Inversion
from situ.figures.overlays import enlarge, heat_map
from situ.figures.sheets import Grid, Row, draw_grid, save_page
from situ.packs.inverters import inverter_named
from situ.packs.pack import Pack
from situ.packs.photos import GOOD, POOR, InvertedPhotos, invert_photos, reconstruction, verdict

CELL = 160  # pixels of a picture on the sheet


def invert(
    photos: Annotated[list[Path], typer.Argument(help="photos")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="folder for codes, pictures, sheet.png and report.json")
    ] = Path("inverted"),
    method: InversionMethod = "refined",
    steps: InversionSteps = None,
    crop: CropBox = None,
    points: Points = None,
    face: Faces = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on from where a killed run was")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="say in words how far each inversion can be trusted")
    ] = False,
    seed: Seed = 0,
    model: Model = "portraits",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the codes of photos: faces are looked for, cut out and inverted, all in the same passes."""
    cutting = cutting_of(crop, points, face)
    pack = open_on(model, device)
    require_folder(out)
    under_way = out / ".under_way.safetensors"
    if not resume:
        under_way.unlink(missing_ok=True)
    with progress_bar("preparing") as progress:
        inverter = inverter_named(method, pack, steps, under_way, progress)
    with progress_bar(f"inverting ({method})") as progress:
        found = invert_photos(pack, photos, inverter, new_rng(seed), cutting, progress)
    rows = _written(pack, found, out)
    result = {
        "model": pack.name,
        "method": method,
        "complete": found.inversion is None or found.inversion.complete,
        "distance_name": pack.distance.name,
        "faces": rows,
        "failed": {str(path): reason for path, reason in found.failed.items()},
    }
    write_whole(out / "report.json", lambda place: place.write_text(json.dumps(finite(result), indent=2)))
    if as_json:
        emit_json(result)
    else:
        _tell(pack, rows, out, report)
        if found.inversion is not None and not found.inversion.complete:
            say("stopped early: kept the best so far")
    for path, reason in found.failed.items():
        say(f"{path}: {reason}")
    if found.failed:
        raise typer.Exit(1)


def _written(pack: Pack, found: InvertedPhotos, out: Path) -> list[dict[str, object]]:
    """Write codes, pictures and the sheet; returns a row for each face."""
    rows: list[dict[str, object]] = []
    lines: list[Row] = []
    for i, cut in enumerate(found.photos):
        inversion = found.of(i)
        with torch.no_grad():
            images = pack.generator.synthesize(inversion.latents).images.clamp(-1, 1)
        figures = reconstruction(pack, cut.pictures, images)
        for k in range(len(cut.crops)):
            name = f"{cut.path.stem}-{k}" if len(cut.crops) > 1 else cut.path.stem
            own: Inversion = inversion[k : k + 1]
            own.save(out / f"{name}.safetensors")
            save_image(images[k], out / f"{name}.png")
            each = {key: float(values[k]) for key, values in figures.items()}
            rows.append({"photo": str(cut.path), "face": k, "codes": str(out / f"{name}.safetensors"), **each,
                         "verdict": verdict(pack, each), "crop": cut.crops[k].described()})  # fmt: skip
            pair = torch.stack([cut.pictures[k], images[k]])
            cells = torch.cat([pair, heat_map(pair[:1], pair[1:])])
            lines.append(Row(name, enlarge(cells, CELL)))
    if lines:
        title = f"Inverted on {pack.name}"
        save_page(draw_grid(Grid(lines, title, ["photo", "inverted", "difference"], cell=CELL)), out / "sheet.png")
    return rows


def _tell(pack: Pack, rows: Sequence[dict[str, object]], out: Path, report: bool) -> None:
    columns = [key for key in ("mse", "perceptual", "identity") if rows and key in rows[0]]
    if rows:
        cells = [[row["codes"], *[row[key] for key in columns], row["verdict"]] for row in rows]
        table("Inverted", ["codes", *columns, "verdict"], cells)
        say(
            f"look at {out / 'sheet.png'}; try: situ edit --photo {rows[0]['photo']} --latents {rows[0]['codes']} "
            "--apply DIRECTION:1 -o edited.png"
        )
    if report:
        say(
            f"mse: mean squared difference of pixels in [-1, 1]. perceptual: {pack.distance.name}; "
            f"{pack.unit_distance:g} is an edit of strength 1. identity: cosine, 1 is the same face.\n"
            f"good: within {GOOD[0]:g} strengths and identity from {GOOD[1]:g}; poor: from {POOR[0]:g} strengths, or "
            f"identity up to {POOR[1]:g}; fair: between."
        )
