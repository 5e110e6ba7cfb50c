"""`situ invert PHOTO...`: the codes of photos, to be edited like any other."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

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
from situ.core.inversion import Inversion, with_noise_of
from situ.figures.overlays import enlarge, heat_map
from situ.figures.sheets import Grid, Row, draw_grid, save_page
from situ.inversion.pivotal_tuning import PivotalTuning
from situ.packs.inverters import inverter_named
from situ.packs.pack import Pack
from situ.packs.photos import (
    GOOD,
    GOOD_CONSISTENCY,
    POOR,
    POOR_CONSISTENCY,
    InvertedPhotos,
    Trust,
    invert_photos,
    reconstruction,
    trust,
    verdict,
)
from situ.packs.user_packs import create_tuned_pack, require_new_pack

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
    model: Model = "portraits",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the codes of photos: faces are looked for, cut out and inverted, all in the same passes."""
    cutting = cutting_of(crop, points, face)
    pack = open_on(model, device)
    if tune is not None:
        require_new_pack(tune)
    require_folder(out)
    under_way = out / ".under_way.safetensors"
    if not resume:
        under_way.unlink(missing_ok=True)
    with progress_bar("preparing") as progress:
        inverter = inverter_named(method, pack, steps, under_way, progress)
    with progress_bar(f"inverting ({method})") as progress:
        found = invert_photos(pack, photos, inverter, new_rng(seed), cutting, progress)
    if tune is not None and found.inversion is not None:
        pack, found = _tuned(tune, tune_steps, pack, model, found, seed)
    judged: Trust | None = None
    if report and found.inversion is not None:
        with progress_bar("trying edits") as progress:
            judge = inverter_named(method, pack, steps, None, progress)  # of the tuned generator, where there is one
            pictures = torch.cat([cut.pictures for cut in found.photos])
            judged = trust(pack, pictures, found.inversion, judge, seed, progress)
    rows = _written(pack, found, out, judged)
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
        _tell(pack, rows, out, tune or model)
        if report:
            _tell_trust(pack, rows)
        if found.inversion is not None and not found.inversion.complete:
            say("stopped early: kept the best so far")
    for path, reason in found.failed.items():
        say(f"{path}: {reason}")
    if found.failed:
        raise typer.Exit(1)


def _tuned(
    name: str, steps: int, pack: Pack, model: str, found: InvertedPhotos, seed: int
) -> tuple[Pack, InvertedPhotos]:
    """The generator moved until the codes give the photos, kept as a new pack; the codes are then for that."""
    assert found.inversion is not None
    pictures, inversion = torch.cat([cut.pictures for cut in found.photos]), found.inversion
    with progress_bar("tuning the generator") as progress:
        generator = PivotalTuning(pack.distance, steps).tune(
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
    return tuned, replace(found, inversion=replace(inversion, generator=generator.name))


def _written(pack: Pack, found: InvertedPhotos, out: Path, judged: Trust | None) -> list[dict[str, Any]]:
    """Write codes, pictures and the sheet; returns a row for each face."""
    rows: list[dict[str, Any]] = []
    lines: list[Row] = []
    for i, cut in enumerate(found.photos):
        inversion = found.of(i)
        with torch.no_grad():
            images = with_noise_of(pack.generator, inversion).synthesize(inversion.latents).images.clamp(-1, 1)
        figures = reconstruction(pack, cut.pictures, images)
        for k in range(len(cut.crops)):
            name = f"{cut.path.stem}-{k}" if len(cut.crops) > 1 else cut.path.stem
            own: Inversion = inversion[k : k + 1]
            own.save(out / f"{name}.safetensors")
            save_image(images[k], out / f"{name}.png")
            each = {key: float(values[k]) for key, values in figures.items()}
            if judged is not None:
                tried = judged.consistency[len(rows)]
                each |= {"realism": judged.realism[len(rows)], "ecs": sum(tried.values()) / len(tried)}
            row = {"photo": str(cut.path), "face": k, "codes": str(out / f"{name}.safetensors"), **each}
            row |= {"verdict": verdict(pack, each), "crop": cut.crops[k].described()}
            rows.append(row if judged is None else {**row, "consistency": judged.consistency[len(rows)]})
            pair = torch.stack([cut.pictures[k], images[k]])
            cells = torch.cat([pair, heat_map(pair[:1], pair[1:])])
            lines.append(Row(name, enlarge(cells, CELL)))
    if lines:
        title = f"Inverted on {pack.name}"
        save_page(draw_grid(Grid(lines, title, ["photo", "inverted", "difference"], cell=CELL)), out / "sheet.png")
    return rows


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
