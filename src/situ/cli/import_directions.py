"""`situ import FILE`: take over a direction file of another project."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from situ.checkpoints.direction_files import RawDirections, read_directions
from situ.checkpoints.directions import Imported, Rows, to_directions
from situ.cli.discover import file_name
from situ.cli.options import Device, Json, Model, Seed, new_rng, open_on, regions_of, require_folder, require_truncation
from situ.cli.output import describe, emit_json, progress_bar, say, table
from situ.core.direction import Direction, calibrate
from situ.core.discovery import held_out_latents, score
from situ.core.errors import DirectionError, LatentError, RegionError
from situ.core.latents import Subspace, parse_subspace
from situ.core.region import Region
from situ.packs.pack import Pack


def import_directions(
    file: Annotated[str, typer.Argument(help='.npy, .npz, .pt, .pkl, a list of channels, or one channel like "9_409"')],
    space: Annotated[
        str | None, typer.Option("--space", help="where the numbers live: w, w+, w:4-7 (tied), s, s:conv, z")
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", help="layers that move, like 4-7, if not in --space")
    ] = None,
    row: Annotated[str | None, typer.Option("--row", help="which of several: 0,2 or 0-9 or all")] = None,
    part: Annotated[
        list[str] | None, typer.Option("--part", help="the part that it edits; measures how well it stays inside")
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option("--box", help="ROW,COLUMN,HEIGHT,WIDTH of its centre, in pixels, instead")
    ] = None,
    mask: Annotated[list[Path] | None, typer.Option("--mask", help="a picture, white inside, instead")] = None,
    region_name: Annotated[
        str | None, typer.Option("--region-name", help="what it edits, in words; nothing is measured")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="of the direction, numbered if several")] = None,
    licence: Annotated[str, typer.Option("--licence", help="of the file, written into the directions")] = "",
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for the direction files")] = Path("directions"),
    truncation: Annotated[float, typer.Option("--truncation", help="of the pictures that it is measured on")] = 0.7,
    model: Model = "portraits",
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Read a direction file of another project, calibrate it on a model, and write it as Situ's own."""
    require_truncation(truncation)
    raw = read_directions(file)
    pack = open_on(model, device)
    region = _region(pack, part, box, mask, region_name)
    imported = to_directions(
        raw,
        pack.generator,
        _subspace(space, layers, raw, pack),
        region.name if region else region_name,
        rows=_rows(row, raw),
        name=name,
        licence=licence,
    )
    require_folder(out)
    made, skipped = _calibrated(imported, region, pack, truncation, seed)
    rows: list[list[object]] = []
    files: list[dict[str, object]] = []
    for direction in made:
        path = out / f"{file_name(direction, [Path(str(entry['file'])).stem for entry in files])}.safetensors"
        direction.save(path)
        files.append({"file": str(path), **describe(direction)})
        measured = [direction.figures["LS"], direction.score] if region else []
        rows.append([direction.name, str(direction.subspace), direction.unit, *measured, str(path)])
    for words in skipped:
        say(f"left out: {words}")
    if as_json:
        found = {"file": raw.file, "kind": raw.kind, "shape": list(raw.shape), **raw.notes}
        answer = {"read": found, "assumed": imported.assumed, "left_out": skipped}
        emit_json({**answer, "generator": pack.generator.name, "directions": files})
        return
    say(f"read {raw.file}: {raw.kind}, {' x '.join(map(str, raw.shape))}")
    for words in imported.assumed:
        say(f"assumed: {words}")
    columns = ["name", "space", "raw α of strength 1", *(["LS", "region gain"] if region else []), "file"]
    table("Directions taken over", columns, rows)


def _region(
    pack: Pack, part: list[str] | None, box: list[str] | None, mask: list[Path] | None, name: str | None
) -> Region | None:
    if not part and not box and not mask:
        return None
    if name is not None:
        raise RegionError("give --region-name, or a region that can be measured (--part, --box, --mask), not both")
    regions = regions_of(pack, part, box, mask)
    if len(regions) > 1:
        raise RegionError(f"a direction has one region, got {len(regions)}: join parts with +, as in eyes+brows")
    return regions[0]


def _subspace(space: str | None, layers: str | None, raw: RawDirections, pack: Pack) -> Subspace | None:
    if space is None and layers is not None:
        stated = {text.partition(":")[0] for text in raw.subspaces}
        if len(stated) != 1:
            raise LatentError(f"--layers {layers} needs --space too: {raw.file} does not say its space")
        space = stated.pop()
    if space is None:
        return None
    if layers is not None and ":" in space:
        raise LatentError(f"the layers are said twice: --space {space} and --layers {layers}")
    return parse_subspace(space if layers is None else f"{space}:{layers}", pack.generator.spaces)


def _rows(text: str | None, raw: RawDirections) -> Rows | None:
    """ "0,2", "0-9" or "all" -> row numbers. Raises DirectionError."""
    if text is None:
        return None
    if text.strip() == "all":
        return "all"
    numbers: list[int] = []
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,7})(?:-(\d{1,7}))?\s*", item)
        last = int(match[2] or match[1]) if match else -1
        if not match or last >= raw.shape[0]:
            raise DirectionError(
                f'rows of {raw.file} run from 0 to {raw.shape[0] - 1}, written like 0,2 or 0-9 or all; got "{text}"'
            )
        numbers += [i for i in range(int(match[1]), last + 1) if i not in numbers]
    return numbers


def _calibrated(
    imported: Imported, region: Region | None, pack: Pack, truncation: float, seed: int
) -> tuple[Sequence[Direction], list[str]]:
    """The directions with their unit, and with their score where there is a region; and why some are left out."""
    generator, calibration = pack.generator, pack.calibration(truncation=truncation)
    latents = held_out_latents(generator, calibration, new_rng(seed))
    made: list[Direction] = []
    skipped: list[str] = []
    total = len(imported.directions)
    try:
        with progress_bar("calibrating") as progress, torch.no_grad():
            for i, direction in enumerate(imported.directions):
                codes = generator.convert(latents, direction.subspace.space)
                try:
                    found = calibrate(generator, direction, codes, calibration.distance, calibration.unit_distance)
                    made.append(score(generator, found, region, codes) if region else replace(found, figures={}))
                except DirectionError as error:
                    if total == 1:
                        raise
                    skipped.append(str(error))
                progress(i + 1, total)
    except KeyboardInterrupt:
        if not made:
            raise
        skipped.append(f"stopped after {len(made) + len(skipped)} of {total}")
    if not made:
        raise DirectionError(f"none of the {total} directions changes the pictures of {generator.name} enough")
    return made, skipped
