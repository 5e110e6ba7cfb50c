"""`situ sweep`: rows are pictures, columns strengths, raw alphas or equal perceptual distances."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from situ.cli.options import (
    Class,
    ClassNames,
    Device,
    Force,
    Json,
    LatentsFile,
    Model,
    Seeds,
    Truncation,
    latents_of,
    open_on,
    parse_numbers,
    require_picture_path,
)
from situ.cli.output import emit_json, say
from situ.core import traversal
from situ.core.direction import require_generator
from situ.core.errors import DirectionError
from situ.figures.sheets import Grid, Row, draw_grid, save_page
from situ.packs.stacks import parse_application


def sweep(
    direction: Annotated[str, typer.Argument(help="a direction file (FILE, or FILE:1@LAYERS)")],
    strengths: Annotated[
        str | None, typer.Option("--strengths", help="calibrated strengths (default -2,-1,0,1,2)")
    ] = None,
    alphas: Annotated[str | None, typer.Option("--alphas", help="raw α instead")] = None,
    distances: Annotated[
        str | None,
        typer.Option("--distances", help="equal perceptual distances instead; the sign is the side"),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="the picture to write")] = Path("sweep.png"),
    seed: Seeds = None,
    latents_file: LatentsFile = None,
    truncation: Truncation = 0.7,
    model: Model = "portraits",
    class_: Class = None,
    class_names: ClassNames = None,
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Draw pictures along one direction."""
    if sum(option is not None for option in (strengths, alphas, distances)) > 1:
        raise DirectionError("give one of --strengths, --alphas and --distances")
    require_picture_path(out)
    pack = open_on(model, device, class_=class_, class_names=class_names)
    chosen, scale = parse_application(direction, pack.generator)
    require_generator(chosen, pack.generator, force)
    latents, captions = latents_of(pack.generator, seed, latents_file, truncation, [0, 1, 2, 3, 4, 5])
    result: dict[str, object] = {"out": str(out), "direction": chosen.name, "pictures": captions}
    note = ""
    if distances is not None:
        side = 1 if scale >= 0 else -1
        steps = [side * d for d in parse_numbers(distances, "a distance in --distances")]
        pictures, found, reached = traversal.sweep_distances(
            pack.generator, chosen, latents, steps, pack.distance.between, force
        )
        result |= {"distances": steps, "alpha": found.tolist(), "reached": reached}
        missed = sum(not met for row in reached for met in row)
        note = f"equal distance ({pack.distance.name})"
        if missed:
            note += f"; {missed} of {len(captions) * len(steps)} cannot be reached and show the nearest"
            say(f"{missed} distances cannot be reached along this direction: those cells show the nearest there is")
        columns = [f"d {s:g}" for s in steps]
    else:
        if alphas is not None:
            steps, chosen, word = parse_numbers(alphas, "an α in --alphas"), replace(chosen, unit=1.0), "alpha "
        else:
            steps, word = parse_numbers(strengths or "-2,-1,0,1,2", "a strength in --strengths"), ""
        pictures = traversal.sweep(pack.generator, chosen, latents, [s * scale for s in steps], force)
        columns = [f"{word}{s * scale:+g}" for s in steps]
        result |= {"alphas" if word else "strengths": [s * scale for s in steps]}
    rows = [Row(caption, row) for caption, row in zip(captions, pictures, strict=True)]
    save_page(draw_grid(Grid(rows, f"{chosen.name or chosen.region} in {chosen.subspace}", columns, note)), out)
    if as_json:
        emit_json(result)
    else:
        say(f"wrote {out}")
