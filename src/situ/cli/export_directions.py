"""`situ export DIRECTION...`: write directions for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from situ.checkpoints.direction_files import write_directions
from situ.cli.options import Json
from situ.cli.output import describe, emit_json, say
from situ.core.direction import load_direction


def export_directions(
    directions: Annotated[list[Path], typer.Argument(help="direction files, one row each")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help=".npy, with a .json beside it that says what the rows are, or .npz")
    ] = Path("directions.npy"),
    full: Annotated[
        bool, typer.Option("--full", help="vectors over all layers of their space, zero on those that do not move")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write directions as plain numbers, (directions, numbers), that NumPy and every other project can read."""
    loaded = [load_direction(path) for path in directions]
    files = write_directions(loaded, out, full)
    numbers = loaded[0].subspace.space.dim if full else loaded[0].subspace.dim
    if as_json:
        rows = [describe(direction) for direction in loaded]
        emit_json({"files": [str(path) for path in files], "shape": [len(loaded), numbers], "directions": rows})
        return
    say(f"wrote {' and '.join(map(str, files))}: {len(loaded)} x {numbers} numbers, row 0 is {loaded[0].name}")
