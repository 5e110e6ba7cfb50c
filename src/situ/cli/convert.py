"""`situ convert IN OUT`: a generator of any known format into Situ's own."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from situ.checkpoints.native import save_generator
from situ.checkpoints.open import read_checkpoint
from situ.cli.options import Json, require_folder
from situ.cli.output import emit_json, say
from situ.core.errors import FileError


def convert(
    file: Annotated[Path, typer.Argument(help="a checkpoint of any known format, told by its content")],
    out: Annotated[Path, typer.Argument(help="the generator file to write, .safetensors")],
    half: Annotated[
        bool, typer.Option("--half", help="store half precision: half the size, pictures nearly the same")
    ] = False,
    licence: Annotated[str | None, typer.Option("--licence", help="of the weights, written into the file")] = None,
    as_json: Json = False,
) -> None:
    """Read a generator that another project wrote, without running anything in it, and write it as Situ's own."""
    if out.suffix.lower() != ".safetensors":
        raise FileError(f"generator files end in .safetensors, got {out}")
    require_folder(out.parent)
    opened = read_checkpoint(file)
    stated = opened.licence if licence is None else licence
    save_generator(opened.generator, out, torch.float16 if half else torch.float32, stated)
    # what was written is what counts: rounding changes the name, which directions are stamped with
    generator = read_checkpoint(out).generator if half else opened.generator
    if as_json:
        emit_json(
            {
                "read": str(file),
                "format": opened.format.name,
                "notes": list(opened.notes),
                "file": str(out),
                "generator": generator.name,
                "resolution": generator.resolution,
                "spaces": {name: space.dim for name, space in generator.spaces.items()},
                "licence": stated,
                "bytes": out.stat().st_size,
            }
        )
        return
    say(f"read {file}: {opened.format.what}")
    for note in opened.notes:
        say(f"note: {note}")
    say(f"wrote {out}: {generator.name}, {out.stat().st_size / 2**20:,.1f} MiB")
