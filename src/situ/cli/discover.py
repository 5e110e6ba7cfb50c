"""`situ discover METHOD`: find directions of regions and write one file for each.

The options of a method are its documented fields; what all methods share comes after them.
"""

import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from situ.cli.discover_many import discover_many
from situ.cli.methods import options_of, settings_of
from situ.cli.options import (
    Boxes,
    Class,
    ClassNames,
    Device,
    Json,
    Masks,
    Model,
    Parts,
    Presets,
    Seed,
    SegmenterFile,
    latents_of,
    new_rng,
    open_on,
    regions_of,
    require_folder,
    require_truncation,
    with_segmenter,
)
from situ.cli.output import describe, emit_json, progress_bar, say, table
from situ.core.devices import usable_device
from situ.core.direction import Direction
from situ.core.discovery import Discovery, discover
from situ.core.errors import SituError
from situ.core.ranks import joined_ranks, own_rank, started_by_torchrun
from situ.core.region import Rest
from situ.discovery.lelsd import LELSD
from situ.discovery.resefa import ReSeFa
from situ.packs.methods import METHODS, NamedMethod, build_method, common_subspace

discover_app = typer.Typer(help="Find directions that change one region.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("-o", "--out", help="folder for the direction files")]
Background = Annotated[bool, typer.Option("--background", help="change everything but the region")]
LowPrecision = Annotated[bool, typer.Option("--low-precision", help="bfloat16 where most time goes")]
RandomCount = Annotated[int, typer.Option("--random", min=0, help="random directions to compare with")]
Pictures = Annotated[
    list[int] | None, typer.Option("--picture", help="seed of a picture to work on, as for `situ sample`; repeatable")
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="optimisation steps, instead of --samples")]
Start = Annotated[Literal["first_order", "resefa", "random"], typer.Option("--start", help="where the search begins")]
AsCoded = Annotated[bool, typer.Option("--as-coded", help="as the published code does it")]
AsPublished = Annotated[bool, typer.Option("--as-published", help="the paper's settings")]

SHARED: tuple[tuple[str, Any, object], ...] = (
    ("out", Out, Path("directions")),
    ("part", Parts, None),
    ("box", Boxes, None),
    ("mask", Masks, None),
    ("preset", Presets, None),
    ("segmenter", SegmenterFile, None),
    ("background", Background, False),
    ("random", RandomCount, 4),
    ("low_precision", LowPrecision, False),
    ("model", Model, "portraits"),
    ("class_", Class, None),
    ("class_names", ClassNames, None),
    ("device", Device, "auto"),
    ("seed", Seed, 0),
    ("as_json", Json, False),
)


def _parameters(method: NamedMethod) -> list[Parameter]:
    """The options of one method's verb."""
    own: list[tuple[str, Any, object]] = []
    if method.build is LELSD:
        own += [("steps", Steps, None), ("start", Start, "first_order"), ("as_published", AsPublished, False)]
    if hasattr(method.build, "as_coded"):
        own.append(("as_coded", AsCoded, False))
    if any(each.name == "latents" for each in fields(method.build)):
        own.append(("picture", Pictures, None))
    rest = [Parameter(n, Parameter.KEYWORD_ONLY, default=d, annotation=a) for n, a, d in (*own, *SHARED)]
    return options_of(method) + rest


def _verb(name: str, method: NamedMethod) -> Callable[..., None]:
    """The plain function behind `situ discover NAME`."""

    def verb(**given: Any) -> None:
        run_discovery(name, method, given)

    parameters = _parameters(method)
    verb.__signature__ = Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    verb.__annotations__ = {p.name: p.annotation for p in parameters}
    verb.__name__, verb.__doc__ = name, method.words
    return verb


def run_discovery(name: str, method: NamedMethod, given: dict[str, Any]) -> None:
    """Find, judge and write directions, and tell what was found; of several processes, the first alone does."""
    if started_by_torchrun() and method.build is not LELSD:
        raise SituError(f"{name} has no samples that processes could share: leave torchrun out")
    with joined_ranks(usable_device(given["device"])):
        _run(name, method, given)


def _run(name: str, method: NamedMethod, given: dict[str, Any]) -> None:
    require_folder(given["out"])
    truncation = require_truncation(given.get("truncation") or 0.7)
    pack = with_segmenter(
        open_on(given["model"], given["device"], given["low_precision"], given["class_"], given["class_names"]),
        given["segmenter"],
        given["part"],
    )
    regions = regions_of(pack, given["part"], given["box"], given["mask"], given["preset"])
    settings = settings_of(method, given)
    if given.get("steps"):
        settings["samples"] = given["steps"] * int(given["batch"])
    if given.get("start", "first_order") != "first_order":
        settings["start"] = given["start"]
    pictures = given.get("picture")
    latents = latents_of(pack.generator, pictures, None, truncation, [])[0] if pictures else None
    if given["background"]:
        regions = [Rest(region) for region in regions]
    if settings.get("start") == "resefa":
        space = settings.get("space") or common_subspace(pack, regions)
        settings["start"] = ReSeFa(space=str(space), k=int(given["k"]), truncation=truncation)
    made = build_method(method, settings, pack, regions, latents, _preset(method, settings, given))
    rng, calibration = new_rng(given["seed"]), pack.calibration(truncation=truncation)
    with progress_bar(f"{type(made).__name__} in {getattr(made, 'space', '')}") as progress:
        found = discover(pack.generator, regions, made, rng, calibration, progress, given["random"])
    if own_rank():
        return
    _tell(name, made, [replace(d, licence=pack.licence) for rows in found for d in rows], given, pack.generator.name)


def _preset(method: NamedMethod, settings: dict[str, object], given: dict[str, Any]) -> Callable[..., Discovery] | None:
    """The constructor that `--as-coded` or `--as-published` asks for; settings left at their default give way to it."""
    chosen = next((word for word in ("as_coded", "as_published") if given.get(word)), None)
    if chosen is None:
        return None
    usual = settings_of(method, {p.name: p.default for p in options_of(method)})
    for key in [key for key, value in settings.items() if usual.get(key) == value]:
        del settings[key]
    return getattr(method.build, chosen)


def _tell(name: str, made: Discovery, directions: Sequence[Direction], given: dict[str, Any], generator: str) -> None:
    """Write the files and print the table or the JSON."""
    files: list[dict[str, object]] = []
    rows: list[list[object]] = []
    for direction in directions:
        file = given["out"] / f"{file_name(direction, [Path(str(row['file'])).stem for row in files])}.safetensors"
        direction.save(file)
        files.append({"file": str(file), **describe(direction)})
        f = {"LS": math.nan, "random_LS": math.nan, "random_gain": math.nan, **direction.figures}
        cells = [f["LS"], f["random_LS"], direction.score, f["random_gain"], str(file)]
        rows.append([direction.name, str(direction.subspace), *cells])
    stopped = False
    if isinstance(made, LELSD):
        done = min(int(d.figures["steps"]) for d in directions)
        stopped = done < made.steps and not any(d.figures.get("stopped_early") for d in directions)
        if stopped:
            say(f"stopped after {done} of {made.steps} steps: kept what was found")
    if given["as_json"]:
        emit_json({"stopped": stopped, "generator": generator, "method": str(made), "directions": files})
        return
    table(
        "Directions, on held-out pictures at strength 1",
        ["name", "space", "LS", "of random", "region gain", "of random", "file"],
        rows,
    )
    on = "" if given["model"] == "portraits" else f" --model {shlex.quote(given['model'])}"
    say(f"try: situ sweep {shlex.quote(str(files[0]['file']))}{on} --seed 3 -o sweep.png")


def file_name(direction: Direction, taken: Sequence[str]) -> str:
    """A direction's name, safe as a file name and unlike those already taken."""
    name = re.sub(r"[^A-Za-z0-9_+-]+", "_", direction.name).strip("_") or "direction"
    names = (name, *(f"{name}-{i}" for i in range(2, len(taken) + 2)))
    return next(candidate for candidate in names if candidate not in taken)


@discover_app.callback()
def methods() -> None:
    """Find directions that change one region."""


discover_app.command(name="many")(discover_many)
for _name, _method in METHODS.items():
    discover_app.command(name=_name)(_verb(_name, _method))
