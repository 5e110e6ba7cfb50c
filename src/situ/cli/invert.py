"""`situ invert PHOTO...`: the codes of photos, to be edited like any other."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from situ.cli.options import (
    Anew,
    CropBox,
    Device,
    Faces,
    InversionMethod,
    InversionSteps,
    Json,
    Model,
    Points,
    RayAddress,
    Seed,
    Workers,
    cutting_of,
    new_rng,
    open_on,
    require_folder,
    way_of,
)
from situ.cli.output import command_line, emit_json, finite, progress_bar, say, table, tell_failures
from situ.core.files import write_whole
from situ.core.inversion import gathered
from situ.figures.overlays import enlarge, heat_map
from situ.figures.sheets import Grid, Row, draw_grid, save_page
from situ.inversion.pivotal_tuning import PivotalTuning
from situ.packs.inverters import inverter_named
from situ.packs.pack import Pack
from situ.packs.photo_work import InvertedPhoto, PhotoInversion, Ready, inverted_names, photo_items, write_inverted
from situ.packs.photos import (
    GOOD,
    GOOD_CONSISTENCY,
    POOR,
    POOR_CONSISTENCY,
    inverted_before,
    inverted_pictures,
    trust,
)
from situ.packs.user_packs import create_tuned_pack, require_new_pack
from situ.runs.engine import run_work
from situ.runs.folder import RunFolder

CELL = 160  # pixels of a picture on the sheet
ON_SHEET = 32  # faces


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
    report: Annotated[
        bool, typer.Option("--report", help="also try edits: does each attribute come back when it is undone (ECS)?")
    ] = False,
    tune: Annotated[
        str | None,
        typer.Option("--tune", help="also tune the generator to these photos (PTI), as a new pack of this name"),
    ] = None,
    tune_steps: Annotated[
        int, typer.Option("--tune-steps", min=1, help="updates of its weights")
    ] = PivotalTuning.steps,
    seed: Seed = 0,
    workers: Workers = None,
    ray: RayAddress = None,
    anew: Anew = False,
    model: Model = "portraits",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the codes of photos: faces are looked for, cut out and inverted, all in the same passes.

    What is finished is kept: the same command goes on with what is missing, from the step where it was.
    """
    photos = list(dict.fromkeys(photos))
    new_rng(seed)  # which refuses a seed that cannot be one
    pack = open_on(model, device)
    if tune is not None:
        require_new_pack(tune)
    require_folder(out)
    cutting = cutting_of(crop, points, face)
    later = tune is not None  # a report is of the tuned generator
    work = PhotoInversion(
        model, pack.generator.name, out.absolute(), method, steps, cutting, seed, report and not later, tune
    )
    with progress_bar("preparing") as progress:
        inverter = inverter_named(method, pack, steps, None, progress)
        opened = work.on(pack, inverter)
    with progress_bar(f"inverting ({method})") as progress:
        items, way = photo_items(photos, inverted_names(photos)), way_of(workers, ray, device, opened)
        found = run_work(work, items, RunFolder(out), way, command_line(), anew=anew, progress=progress, say=say)
    results = {**found.results, **found.partial}
    rows = [
        {"photo": name, "codes": str(out / f"{face['name']}.safetensors"), **face}
        for name in map(str, photos)
        if name in results
        for face in results[name]["faces"]
    ]
    if tune is not None and rows and not found.stopped:
        pack, rows = _tuned(tune, tune_steps, pack, model, rows, seed, out, method, steps, report)
    _draw_sheet(pack, rows[:ON_SHEET], out)
    complete = not found.stopped
    result = {
        "model": pack.name,
        "method": method,
        "complete": complete,
        "distance_name": pack.distance.name,
        "faces": rows,
        "failed": found.failed,
    }
    write_whole(out / "report.json", lambda place: place.write_text(json.dumps(finite(result), indent=2)))
    if as_json:
        emit_json(result)
    else:
        _tell(pack, rows, out, tune or model)
        if report and rows:
            _tell_trust(pack, rows)
    if found.stopped:
        say("stopped early: kept the best so far; the same command goes on")
    tell_failures(found.failed)


def _tuned(
    name: str,
    tune_steps: int,
    pack: Pack,
    model: str,
    rows: Sequence[dict[str, Any]],
    seed: int,
    out: Path,
    method: str,
    steps: int | None,
    report: bool,
) -> tuple[Pack, list[dict[str, Any]]]:
    """The generator moved until the codes give the photos, kept as a new pack; codes and pictures are then for that."""
    faces = [inverted_before(pack, Path(row["photo"]), Path(row["codes"])) for row in rows]
    pictures = torch.cat([cut.pictures for cut, _ in faces])
    inversion = gathered([each for _, each in faces])
    with progress_bar("tuning the generator") as progress:
        generator = PivotalTuning(pack.distance, tune_steps).tune(
            pack.generator,  # pyright: ignore[reportArgumentType]  (anything but a StyleGAN2 is refused)
            pictures,
            inversion.latents,
            new_rng(seed),
            progress,
            inversion.noise,
        )
    folder = create_tuned_pack(name, pack, model, generator)
    say(f"tuned the generator: the pack {name}, in {folder}; directions of {pack.name} apply with --force")
    tuned = replace(pack, name=name, generator=generator, link=None)
    inversion, judged = replace(inversion, generator=generator.name), None
    if report:
        with progress_bar("trying edits") as progress:
            judge = inverter_named(method, tuned, steps, None, progress)
            judged = trust(tuned, pictures, inversion, judge, seed, progress)
    told = []
    for i, (row, (cut, _)) in enumerate(zip(rows, faces, strict=True)):
        one = slice(i, i + 1)
        photo = InvertedPhoto(Ready(cut.path, cut.crops, cut.pictures), inversion[one], judged[one] if judged else None)
        (face,) = write_inverted(tuned, photo, out, row["name"])
        told.append({**row, **face, "face": row["face"]})
    return tuned, told


def _draw_sheet(pack: Pack, rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Each face, its inversion, and where they differ."""
    lines: list[Row] = []
    for row in rows:
        cut, inversion = inverted_before(pack, Path(row["photo"]), Path(row["codes"]))
        pair = torch.cat([cut.pictures.clamp(-1, 1), inverted_pictures(pack, inversion)])
        lines.append(Row(row["name"], enlarge(torch.cat([pair, heat_map(pair[:1], pair[1:])]), CELL)))
    if lines:
        title = f"Inverted on {pack.name}"
        save_page(draw_grid(Grid(lines, title, ["photo", "inverted", "difference"], cell=CELL)), out / "sheet.png")


def _tell(pack: Pack, rows: Sequence[dict[str, Any]], out: Path, model: str) -> None:
    columns = [key for key in ("mse", "perceptual", "identity") if rows and key in rows[0]]
    if rows:
        cells = [[row["codes"], *[row[key] for key in columns], row["verdict"]] for row in rows]
        table("Inverted", ["codes", *columns, "verdict"], cells)
        say(
            f"look at {out / 'sheet.png'}; try: situ edit --model {model} --photo {rows[0]['photo']} "
            f"--latents {rows[0]['codes']} --apply DIRECTION:1 -o edited.png"
        )


def _tell_trust(pack: Pack, rows: Sequence[dict[str, Any]]) -> None:
    """Realism and edit consistency, and what all figures mean."""
    worst = [sorted(row["consistency"].items(), key=lambda item: -item[1])[:3] for row in rows]
    cells = [
        [row["codes"], row["realism"], row["ecs"], ", ".join(f"{name} {score:.2f}" for name, score in three)]
        for row, three in zip(rows, worst, strict=True)
    ]
    table("Edited and undone", ["codes", "realism", "ECS", "worst (all in report.json)"], cells)
    say(
        f"mse: mean squared difference of pixels in [-1, 1]. perceptual: {pack.distance.name}; "
        f"{pack.unit_distance:g} is an edit of strength 1. identity: cosine, 1 is the same face.\n"
        "realism: from 1 on the inverted picture lies among the model's own. ECS: each attribute is turned over, the "
        "picture inverted anew and the edit undone; 0 comes back exactly, 1 is as far off as the edit moved.\n"
        f"good: within {GOOD[0]:g} strengths, identity from {GOOD[1]:g}, ECS to {GOOD_CONSISTENCY:g}; poor: from "
        f"{POOR[0]:g} strengths, identity to {POOR[1]:g}, or ECS from {POOR_CONSISTENCY:g}; fair: between."
    )
