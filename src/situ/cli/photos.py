"""`situ photos FOLDER`: the same edit on many photos."""

from pathlib import Path
from typing import Annotated

import typer

from situ.cli.options import (
    Anew,
    Blended,
    Device,
    Force,
    InversionMethod,
    InversionSteps,
    Json,
    Model,
    Points,
    RayAddress,
    Seed,
    Workers,
    cutting_of,
    new_rng,
    open_on,
    require_folder,
    way_of,
)
from situ.cli.output import command_line, emit_json, progress_bar, say, tell_failures
from situ.core.direction import Edit
from situ.core.errors import DirectionError, PhotoError
from situ.packs.inverters import inverter_named
from situ.packs.photo_work import PhotoEditing, edited_names, photo_items
from situ.packs.stacks import parse_application, read_stack
from situ.runs.engine import run_work
from situ.runs.folder import RunFolder


def photos(
    folder: Annotated[Path, typer.Argument(help="folder of photos")],
    apply: Annotated[
        list[str] | None, typer.Option("--apply", help="FILE:STRENGTH, a direction, or a stack .json; repeatable")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for the edited photos")] = Path("edited"),
    method: InversionMethod = "refined",
    steps: InversionSteps = None,
    points: Points = None,
    blend: Blended = "difference",
    seed: Seed = 0,
    workers: Workers = None,
    ray: RayAddress = None,
    anew: Anew = False,
    model: Model = "portraits",
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Edit every photo of a folder: all faces, put back; those that cannot be used are listed, the others go on.

    What is finished is kept: the same command goes on with what is missing.
    """
    if not folder.is_dir():
        raise PhotoError(f"no folder of photos at {folder}")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise PhotoError(f"no files in {folder}")
    new_rng(seed)  # which refuses a seed that cannot be one
    require_folder(out)
    pack = open_on(model, device)
    texts = [item for text in apply or [] for item in (read_stack(Path(text)) if text.endswith(".json") else [text])]
    if not texts:
        raise DirectionError("nothing to apply: give --apply FILE:STRENGTH or --apply STACK.json")
    edit = Edit(tuple(parse_application(text, pack.generator) for text in texts))
    work = PhotoEditing(
        model,
        pack.generator.name,
        out.absolute(),
        edit,
        method,
        steps,
        cutting_of(None, points, None),
        blend,
        seed,
        force,
    )
    with progress_bar("preparing") as progress:
        opened = work.on(pack, inverter_named(method, pack, steps, None, progress))
    items = photo_items(files, edited_names(files))
    with progress_bar(f"photos ({method})") as progress:
        way = way_of(workers, ray, device, opened)
        found = run_work(work, items, RunFolder(out), way, command_line(), anew=anew, progress=progress, say=say)
    done = {Path(name).name: str(out / result["files"][0]) for name, result in found.results.items()}
    failed = {Path(name).name: reason for name, reason in found.failed.items()}
    if as_json:
        emit_json({"edited": done, "failed": failed, "stopped": found.stopped})
    else:
        say(f"edited {len(done)} of {len(files)} photos, in {out}")
    if found.stopped:
        say(f"stopped: what is done is kept, and the same command goes on with the other {len(files) - len(done)}")
    tell_failures(failed)
