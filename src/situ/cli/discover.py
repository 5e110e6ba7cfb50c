"""`situ discover METHOD`: find directions of regions and write one file for each."""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from situ.cli.options import (
    Device,
    Json,
    Model,
    Seed,
    new_rng,
    open_on,
    parse_number,
    regions_of,
    require_folder,
    require_truncation,
)
from situ.cli.output import describe, emit_json, progress_bar, say, table
from situ.core.direction import Direction
from situ.core.discovery import discover
from situ.core.region import Rest
from situ.discovery.lelsd import LELSD

discover_app = typer.Typer(help="Find directions that change one region.", no_args_is_help=True)


@discover_app.callback()
def methods() -> None:
    """Find directions that change one region."""


@discover_app.command()
def lelsd(
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for the direction files")] = Path("directions"),
    part: Annotated[
        list[str] | None, typer.Option("--part", help="a part, or several joined (eyes+brows); repeatable")
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option("--box", help="ROW,COLUMN,HEIGHT,WIDTH of its centre, in pixels")
    ] = None,
    mask: Annotated[list[Path] | None, typer.Option("--mask", help="a picture, white inside the region")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="directions per region")] = 1,
    space: Annotated[str | None, typer.Option("--space", help="w, w+, w+:4-7, w:4-7 (tied), s, s:conv, s:9, z")] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="optimisation steps")] = 200,
    batch: Annotated[int, typer.Option("--batch", min=1, help="latents per step")] = 4,
    lr: Annotated[
        float | None, typer.Option("--lr", min=0, help="learning rate (default 1e-2; 1e-3 in the paper and --as-coded)")
    ] = None,
    correlation: Annotated[
        float, typer.Option("--correlation", min=0, help="weight that keeps k directions apart")
    ] = 1.0,
    distance: Annotated[str, typer.Option("--distance", help="l2, l1 or cosine between features")] = "l2",
    aggregation: Annotated[
        str, typer.Option("--aggregation", help="average, union or intersection of the masks")
    ] = "average",
    background: Annotated[bool, typer.Option("--background", help="change everything but the region")] = False,
    image_weight: Annotated[
        float | None,
        typer.Option("--image-weight", min=0, help="weight of the pixels (default 5; 0 in the paper and --as-coded)"),
    ] = None,
    layer_weight: Annotated[
        list[str] | None, typer.Option("--layer-weight", help="LAYER=WEIGHT in the score; repeatable")
    ] = None,
    truncation: Annotated[float, typer.Option("--truncation", help="of the latents that are searched")] = 0.7,
    as_coded: Annotated[
        bool, typer.Option("--as-coded", help="strengths, norm and correlation as the published notebook has them")
    ] = False,
    low_precision: Annotated[bool, typer.Option("--low-precision", help="bfloat16 where most time goes")] = False,
    model: Model = "portraits",
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """LELSD: directions optimised so that the change of every feature layer falls inside the region."""
    require_folder(out)
    require_truncation(truncation)
    pack = open_on(model, device, low_precision)
    regions = regions_of(pack, part, box, mask)
    chosen = space or _common(pack.best_subspaces, [region.name for region in regions])
    if background:
        regions = [Rest(region) for region in regions]
    image = (0.0 if as_coded else 5.0) if image_weight is None else image_weight
    settings = {
        "space": chosen,
        "k": k,
        "samples": steps * batch,
        "batch": batch,
        "lr": (1e-3 if as_coded else 1e-2) if lr is None else lr,
        "correlation": (5.0 if as_coded else 1.0) if correlation is None else correlation,
        "distance": distance,
        "aggregation": aggregation,
        "layer_weights": {"image": image, **dict(_weight(text) for text in layer_weight or [])},
        "truncation": truncation,
    }
    method = LELSD.as_coded(**settings) if as_coded else LELSD(**settings)  # pyright: ignore[reportArgumentType]
    rng, calibration = new_rng(seed), pack.calibration(truncation=truncation)
    with progress_bar(f"LELSD in {chosen}") as progress:
        found = discover(pack.generator, regions, method, rng, calibration, progress)
    rows: list[list[object]] = []
    files: list[dict[str, object]] = []
    for direction in (direction for directions in found for direction in directions):
        file = out / f"{file_name(direction, [Path(str(row['file'])).stem for row in files])}.safetensors"
        direction = replace(direction, licence=pack.licence)
        direction.save(file)
        files.append({"file": str(file), **describe(direction)})
        f = {"LS": math.nan, "random_LS": math.nan, "random_gain": math.nan, **direction.figures}
        cells = [f["LS"], f["random_LS"], direction.score, f["random_gain"], str(file)]
        rows.append([direction.name, str(direction.subspace), *cells])
    done = min(int(d.figures["steps"]) for directions in found for d in directions)
    if done < steps:
        say(f"stopped after {done} of {steps} steps: kept what was found")
    if as_json:
        emit_json(
            {"stopped": done < steps, "generator": pack.generator.name, "method": str(method), "directions": files}
        )
        return
    table(
        "Directions, on held-out pictures at strength 1",
        ["name", "space", "LS", "of random", "region gain", "of random", "file"],
        rows,
    )
    on = "" if model == "portraits" else f" --model {shlex.quote(model)}"
    say(f"try: situ sweep {shlex.quote(str(files[0]['file']))}{on} --seed 3 -o sweep.png")


def file_name(direction: Direction, taken: Sequence[str]) -> str:
    """A direction's name, safe as a file name and unlike those already taken."""
    name = re.sub(r"[^A-Za-z0-9_+-]+", "_", direction.name).strip("_") or "direction"
    names = (name, *(f"{name}-{i}" for i in range(2, len(taken) + 2)))
    return next(candidate for candidate in names if candidate not in taken)


def _common(best: Mapping[str, str], names: Sequence[str]) -> str:
    """The best-known subspace, where all regions share one; W+ otherwise."""
    known = {best.get(name, "w+") for name in names}
    return known.pop() if len(known) == 1 else "w+"


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    return name, parse_number(number, f'the weight in "{text}"')
