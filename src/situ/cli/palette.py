"""`situ palette`: one picture under all combinations of two directions (LELSD figure 3)."""

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
from situ.figures.sheets import Grid, Row, draw_grid, save_page
from situ.packs.stacks import parse_application


def palette(
    across: Annotated[str, typer.Argument(help="the direction along the columns (FILE, or FILE:STRENGTH per step)")],
    down: Annotated[str, typer.Argument(help="the direction along the rows")],
    strengths: Annotated[str, typer.Option("--strengths", help="steps in both directions")] = "-2,-1,0,1,2",
    out: Annotated[Path, typer.Option("-o", "--out", help="the picture to write")] = Path("palette.png"),
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
    """Draw a two-dimensional palette: the first direction along the columns, the second along the rows."""
    require_picture_path(out)
    pack = open_on(model, device, class_=class_, class_names=class_names)
    steps = parse_numbers(strengths, "a strength in --strengths")
    (a, a_scale), (b, b_scale) = (
        parse_application(across, pack.generator),
        parse_application(down, pack.generator),
    )
    latents, captions = latents_of(pack.generator, seed, latents_file, truncation, [0])
    pictures = traversal.palette(pack.generator, a, b, latents, steps, force, (a_scale, b_scale))
    names = (a.name or a.region, b.name or b.region)
    rows = [Row(f"{s * b_scale:+g}", row) for s, row in zip(steps, pictures, strict=True)]
    columns = [f"{s * a_scale:+g}" for s in steps]
    save_page(
        draw_grid(
            Grid(
                rows,
                f"{names[0]} and {names[1]}",
                columns,
                f"{captions[0]}; {names[0]} across, {names[1]} down",
            )
        ),
        out,
    )
    if as_json:
        emit_json(
            {
                "out": str(out),
                "across": names[0],
                "down": names[1],
                "strengths": steps,
                "picture": captions[0],
            }
        )
    else:
        say(f"wrote {out}")
