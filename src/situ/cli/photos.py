"""`situ photos FOLDER`: the same edit on many photos."""

from pathlib import Path
from typing import Annotated

import typer

from situ.cli.options import (
    Blended,
    Device,
    Force,
    InversionMethod,
    InversionSteps,
    Json,
    Model,
    Points,
    Seed,
    cutting_of,
    new_rng,
    open_on,
    require_folder,
)
from situ.cli.output import emit_json, progress_bar, say
from situ.core.direction import Edit
from situ.core.errors import DirectionError, PhotoError, SituError
from situ.core.images import WRITTEN
from situ.packs.inverters import inverter_named
from situ.packs.photos import edit_photo, invert_photos
from situ.packs.stacks import parse_application, read_stack
from situ.photos.paste_back import PasteBack

TOGETHER = 16  # photos that are inverted in the same passes; bounds memory


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
    model: Model = "portraits",
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Edit every photo of a folder: all faces, put back; those that cannot be used are listed, the others go on."""
    if not folder.is_dir():
        raise PhotoError(f"no folder of photos at {folder}")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise PhotoError(f"no files in {folder}")
    require_folder(out)
    pack = open_on(model, device)
    texts = [item for text in apply or [] for item in (read_stack(Path(text)) if text.endswith(".json") else [text])]
    if not texts:
        raise DirectionError("nothing to apply: give --apply FILE:STRENGTH or --apply STACK.json")
    whole = Edit(tuple(parse_application(text, pack.generator) for text in texts))
    paste, done, failed = PasteBack(blend), dict[str, str](), dict[str, str]()
    with progress_bar("preparing") as progress:
        inverter = inverter_named(method, pack, steps, None, progress)
    try:
        with progress_bar(f"photos ({method})") as progress:
            for i in range(0, len(files), TOGETHER):
                some = files[i : i + TOGETHER]
                found = invert_photos(pack, some, inverter, new_rng(seed), cutting_of(None, points, None))
                failed |= {path.name: reason for path, reason in found.failed.items()}
                for k, cut in enumerate(found.photos):
                    suffix = cut.path.suffix.lower() if cut.path.suffix.lower() in WRITTEN else ".png"
                    place = out / f"{cut.path.stem}{suffix}"
                    try:
                        edited, _ = edit_photo(pack, cut, found.of(k), whole, paste, force)
                        edited.save(place)
                        done[cut.path.name] = str(place)
                    except SituError as error:
                        failed[cut.path.name] = str(error)
                progress(min(i + TOGETHER, len(files)), len(files))
    except KeyboardInterrupt:
        say(f"stopped: {len(done)} of {len(files)} photos are done and kept")
    if as_json:
        emit_json({"edited": done, "failed": failed})
    else:
        say(f"edited {len(done)} of {len(files)} photos, in {out}")
    for name, reason in failed.items():
        say(f"{name}: {reason}")
    if failed:
        raise typer.Exit(1)
