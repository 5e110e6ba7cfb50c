"""`situ discover many`: every method on every part of every model, with every seed."""

from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from situ.cli.methods import documented
from situ.cli.options import Anew, Device, Json, RayAddress, Workers, new_rng, require_folder, told_device, way_of
from situ.cli.output import command_line, emit_json, progress_bar, say, table, tell_failures
from situ.core.errors import SituError
from situ.packs.methods import METHODS, method_named
from situ.packs.search_work import DirectionSearches, search_items
from situ.runs.engine import run_work
from situ.runs.folder import RunFolder


def discover_many(
    part: Annotated[list[str], typer.Option("--part", help="a part, or several joined (eyes+brows); repeatable")],
    method: Annotated[list[str] | None, typer.Option("--method", help=f"{', '.join(METHODS)}; repeatable")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="a model; repeatable")] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="of a search; repeatable")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="METHOD.NAME=VALUE, a setting of a method; repeatable")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for the direction files")] = Path("searches"),
    random: Annotated[int, typer.Option("--random", min=0, help="random directions to compare with")] = 4,
    workers: Workers = None,
    ray: RayAddress = None,
    anew: Anew = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Many searches: every method on every part of every model, with every seed.

    What is finished is kept: the same command goes on with what is missing.
    """
    seeds = list(dict.fromkeys(seed or [0]))
    for each in seeds:
        new_rng(each)  # which refuses a seed that cannot be one
    models, methods, parts = (list(dict.fromkeys(t)) for t in (model or ["portraits"], method or ["lelsd"], part))
    items = search_items(models, methods, parts, seeds)
    require_folder(out)
    work = DirectionSearches(out.absolute(), _settings(set_ or []), random)
    device = device if workers or ray else told_device(device)
    with progress_bar("searches") as progress:
        way = way_of(workers, ray, device)
        found = run_work(work, items, RunFolder(out), way, command_line(), anew=anew, progress=progress, say=say)
    if as_json:
        emit_json({"searches": found.results, "failed": found.failed, "stopped": found.stopped})
    else:
        rows = [
            [name, best.get("LS", ""), best.get("random_LS", ""), best["region_gain"], str(out / best["file"])]
            for name, result in found.results.items()
            for best in result["directions"][:1]
        ]
        table("Searches, the best direction of each", ["search", "LS", "of random", "region gain", "file"], rows)
    if found.stopped:
        say(f"stopped: {len(found.results)} of {len(items)} searches are kept, and the same command goes on")
    tell_failures(found.failed)


def _settings(texts: list[str]) -> dict[str, dict[str, object]]:
    """ "lelsd.samples=400" -> the setting as the method's field is typed."""
    found: dict[str, dict[str, object]] = {}
    for text in texts:
        left, equals, value = text.partition("=")
        method, dot, name = left.partition(".")
        if not (equals and dot):
            raise SituError(f'a setting is written METHOD.NAME=VALUE (lelsd.samples=400), got "{text}"')
        known = documented(method_named(method).build)
        if name not in known:
            raise SituError(f'settings of {method} are {", ".join(known)}; got "{name}"')
        found.setdefault(method, {})[name] = _typed(value, known[name][0], text)
    return found


def _typed(value: str, kind: Any, text: str) -> object:
    """A value as a field of this kind holds it."""
    kinds = [each for each in get_args(kind) or (kind,) if each is not type(None)]
    if get_origin(kind) is tuple:
        return tuple(_typed(each.strip(), kinds[0], text) for each in value.split(","))
    if bool in kinds:
        if value not in ("true", "false"):
            raise SituError(f'true or false is expected in "{text}"')
        return value == "true"
    for number in (int, float):
        if number in kinds:
            try:
                return number(value)
            except ValueError:
                if number is float or float not in kinds:
                    raise SituError(f'a number is expected in "{text}"') from None
    if not any(each is str or isinstance(each, str) for each in kinds):
        raise SituError(f'"{text}" cannot be set here: `situ discover METHOD` can')
    return value
