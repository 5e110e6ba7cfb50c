"""`situ sample`: pictures of a model."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from situ.cli.options import (
    Class,
    ClassNames,
    Device,
    Json,
    Model,
    Seed,
    Truncation,
    latents_of,
    open_on,
    require_folder,
    require_picture_path,
)
from situ.cli.output import emit_json, say
from situ.core.images import save_image
from situ.core.latents import save_latents
from situ.figures.sheets import Grid, Row, draw_grid, save_page


def sample(
    out: Annotated[Path, typer.Option("-o", "--out", help="a picture file for one sheet, or a folder")] = Path(
        "samples.png"
    ),
    n: Annotated[int, typer.Option("-n", min=1, help="how many pictures")] = 16,
    model: Model = "portraits",
    class_: Class = None,
    class_names: ClassNames = None,
    device: Device = "auto",
    seed: Seed = 0,
    truncation: Truncation = 0.7,
    latents_file: Annotated[Path | None, typer.Option("--latents", help="also write the codes to this file")] = None,
    as_json: Json = False,
) -> None:
    """Draw pictures, one per seed from --seed upwards, as a sheet or into a folder."""
    as_sheet = bool(out.suffix)
    require_picture_path(out) if as_sheet else require_folder(out)
    if latents_file:
        require_folder(latents_file.parent)
    pack = open_on(model, device, class_=class_, class_names=class_names)
    seeds = list(range(seed, seed + n))
    latents, captions = latents_of(pack.generator, seeds, None, truncation, seeds)
    with torch.no_grad():
        images = torch.cat([pack.generator.synthesize(latents[i : i + 32]).images for i in range(0, n, 32)])
    if as_sheet:
        columns = min(8, n)
        rows = [Row(f"{captions[i]}", images[i : i + columns]) for i in range(0, n, columns)]
        save_page(
            draw_grid(Grid(rows, f"{pack.name}, truncation {truncation}", [f"+{i}" for i in range(columns)])),
            out,
        )
    else:
        for number, image in zip(seeds, images, strict=True):
            save_image(image, out / f"seed{number:04d}.png")
    if latents_file:
        save_latents(latents, latents_file, pack.generator.name)
    if as_json:
        emit_json({"out": str(out), "seeds": seeds, "truncation": truncation, "generator": pack.generator.name})
    else:
        say(f"wrote {out}")
