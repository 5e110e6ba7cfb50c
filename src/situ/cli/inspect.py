"""`situ inspect MODEL`: everything that an edit can name on a model. `situ inspect FILE` tells of a direction too."""

from pathlib import Path
from typing import Annotated

import typer

from situ.checkpoints.native import is_safetensors
from situ.cli.options import Device, Json, open_on
from situ.cli.output import console, describe, emit_json, table
from situ.core.direction import Direction, load_direction
from situ.core.errors import DirectionError
from situ.packs.library import PACKS


def inspect(
    model: Annotated[
        str, typer.Argument(help="a pack, a checkpoint of any known format, or a direction file")
    ] = "portraits",
    device: Device = "cpu",
    card: Annotated[bool, typer.Option("--card", help="print the model card instead")] = False,
    as_json: Json = False,
) -> None:
    """Show a model's spaces, layers, parts and licence, or what is written in a direction file."""
    if Path(model).is_file() and is_safetensors(model):
        try:
            _show_direction(load_direction(model), as_json)
            return
        except DirectionError as error:
            if "holds something else" not in str(error):
                raise
    pack = open_on(model, device)
    if card:
        typer.echo(pack.card or f"the model {pack.name} has no card")
        return
    generator = pack.generator
    description = {
        "name": pack.name,
        "generator": generator.name,
        "resolution": generator.resolution,
        "device": str(generator.device),
        "spaces": [
            {
                "name": s.name,
                "dim": s.dim,
                "slices": [{"name": p.name, "size": p.size, "kind": p.kind} for p in s.slices],
            }
            for s in generator.spaces.values()
        ],
        "layers": [{"name": f.name, "resolution": f.resolution, "channels": f.channels} for f in generator.layers],
        "parts": list(pack.segmenter.parts) if pack.segmenter else [],
        "attributes": list(pack.reader.attributes) if pack.reader else [],
        "distance": pack.distance.name,
        "unit_distance": pack.unit_distance,
        "best_subspaces": dict(pack.best_subspaces),
        "licence": pack.licence,
        "card": pack.card,
    }
    if as_json:
        emit_json(description)
        return
    console.print(f"[bold]{pack.name}[/bold]: {generator.name}, {generator.resolution} px, on {generator.device}")
    console.print(f"licence: {pack.licence or 'not stated'}")
    if pack.name not in PACKS and pack.card:
        console.print(pack.card, markup=False)
    rows = [
        [s.name, s.dim, len(s.slices), " ".join(f"{i}:{p.name}" for i, p in enumerate(s.slices))]
        for s in generator.spaces.values()
    ]
    table(
        "Spaces (write w+:4-7 for some layers of W+, w:4-7 for one W vector on them, s:conv, s:9)",
        ["space", "numbers", "slices", "slices by index"],
        rows,
    )
    table(
        "Feature layers",
        ["layer", "pixels", "channels"],
        [[f.name, f.resolution, f.channels] for f in generator.layers],
    )
    console.print(f"parts: {', '.join(description['parts']) or 'none (give a box or a mask)'}")
    console.print(f"strength 1 = {pack.unit_distance} of the distance '{pack.distance.name}'")


def _show_direction(direction: Direction, as_json: bool) -> None:
    description = describe(direction)
    if as_json:
        emit_json(description)
        return
    table(
        f"Direction {direction.name}",
        ["", "value"],
        [[k, v] for k, v in description.items() if k != "figures"],
    )
    table("Figures at strength 1", ["figure", "value"], [[k, v] for k, v in direction.figures.items()])
