"""`situ measure`: what a direction changes, inside its region and outside, beside random directions."""

from typing import Annotated

import typer

from situ.bench.measures import measured, random_measured
from situ.cli.options import (
    Boxes,
    Class,
    ClassNames,
    Device,
    Force,
    Json,
    Masks,
    Model,
    Parts,
    Presets,
    Seed,
    SegmenterFile,
    Truncation,
    new_rng,
    open_on,
    region_of,
    regions_of,
    require_truncation,
    with_segmenter,
)
from situ.cli.output import emit_json, table
from situ.core.direction import require_generator
from situ.core.errors import RegionError
from situ.packs.stacks import parse_application


def measure_direction(
    directions: Annotated[list[str], typer.Argument(help="direction files (FILE, or FILE:STRENGTH)")],
    part: Parts = None,
    box: Boxes = None,
    mask: Masks = None,
    preset: Presets = None,
    segmenter: SegmenterFile = None,
    n: Annotated[int, typer.Option("-n", min=1, help="how many pictures")] = 64,
    random: Annotated[int, typer.Option("--random", min=0, help="random directions to compare with")] = 4,
    seed: Seed = 1000,
    truncation: Truncation = 0.7,
    model: Model = "portraits",
    class_: Class = None,
    class_names: ClassNames = None,
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Measure directions at their strength, both ways, on pictures that they were not found on.

    The region is each direction's own, unless --part, --preset, --box or --mask names another.
    """
    require_truncation(truncation)
    pack = with_segmenter(open_on(model, device, class_=class_, class_names=class_names), segmenter, part)
    chosen = regions_of(pack, part, box, mask, preset) if part or box or mask or preset else []
    if len(chosen) > 1:
        raise RegionError(
            f"directions are measured on one region, got {', '.join(r.name for r in chosen)}: join parts with +"
        )
    rows = []
    for text in directions:
        direction, strength = parse_application(text, pack.generator)
        require_generator(direction, pack.generator, force)
        region = chosen[0] if chosen else region_of(direction, pack)
        rng = new_rng(seed)
        latents = pack.generator.sample(n, direction.subspace.space, rng, truncation)
        rows.append((direction.name or text, measured(pack, direction, region, latents, strength, force)))
        if random:
            rows.append(
                (
                    f"random in {direction.subspace}",
                    random_measured(pack, direction.subspace, region, latents, random, rng, strength),
                )
            )
    if as_json:
        emit_json([{"name": name, "n": n, "figures": figures} for name, figures in rows])
        return
    keys = list(dict.fromkeys(key for _, figures in rows for key in figures))
    cells = [[key, *[figures.get(key, "") for _, figures in rows]] for key in keys]
    table(f"Change at the given strength, both ways, {n} pictures", ["", *[name for name, _ in rows]], cells)
