"""`situ edit`: apply directions to pictures."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from situ.cli.options import (
    Blended,
    Class,
    ClassNames,
    CropBox,
    Device,
    Faces,
    Force,
    InversionMethod,
    InversionSteps,
    Json,
    LatentsFile,
    Model,
    Points,
    Seeds,
    Truncation,
    cutting_of,
    latents_of,
    new_rng,
    open_on,
    require_folder,
    require_picture_path,
)
from situ.cli.output import emit_json, progress_bar, say
from situ.core.direction import Edit
from situ.core.errors import DirectionError, PhotoError
from situ.core.files import write_whole
from situ.core.images import save_image, sheet
from situ.core.inversion import Inversion
from situ.core.traversal import synthesize_edits
from situ.figures.overlays import enlarge, heat_map
from situ.figures.sheets import Grid, Row, draw_grid, save_page
from situ.packs.inverters import inverter_named
from situ.packs.pack import Pack
from situ.packs.photos import CutPhoto, Cutting, edit_photo, invert_photos, inverted_before
from situ.packs.stacks import parse_application, read_stack, stack_text
from situ.photos.paste_back import PasteBack


def edit(
    apply: Annotated[
        list[str] | None,
        typer.Option("--apply", help="FILE:STRENGTH, or FILE:STRENGTH@LAYERS; repeatable, in order"),
    ] = None,
    stack: Annotated[
        Path | None, typer.Option("--stack", help="a stack saved with --save-stack, applied first")
    ] = None,
    save_stack: Annotated[Path | None, typer.Option("--save-stack", help="write the whole stack as JSON")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="the picture to write")] = Path("edited.png"),
    compare: Annotated[bool, typer.Option("--compare", help="write before, after and difference side by side")] = False,
    photo: Annotated[
        Path | None, typer.Option("--photo", help="edit this photo: inverted (or by --latents), edited, put back")
    ] = None,
    crop: CropBox = None,
    points: Points = None,
    face: Faces = None,
    method: InversionMethod = "refined",
    steps: InversionSteps = None,
    blend: Blended = "difference",
    seed: Seeds = None,
    latents_file: LatentsFile = None,
    truncation: Truncation = 0.7,
    model: Model = "portraits",
    class_: Class = None,
    class_names: ClassNames = None,
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Apply one direction or a stack of them to a picture (or to several: they become one sheet)."""
    require_picture_path(out)
    if save_stack:
        require_folder(save_stack.parent)
    pack = open_on(model, device, class_=class_, class_names=class_names)
    texts = [*(read_stack(stack) if stack else []), *(apply or [])]
    if not texts:
        raise DirectionError("nothing to apply: give --apply FILE:STRENGTH or --stack FILE")
    whole = Edit(tuple(parse_application(text, pack.generator) for text in texts))
    if photo is not None:
        if latents_file:
            cut, inversion = inverted_before(pack, photo, latents_file)
        else:
            cut, inversion = _inverted(pack, photo, cutting_of(crop, points, face), method, steps)
        edited, pictures = edit_photo(pack, cut, inversion, whole, PasteBack(blend), force)
        if compare:
            _compare_photo(cut, pictures, out)
        else:
            edited.save(out)
        _tell_photo(pack, cut, pictures, out, as_json)
        return
    latents, captions = latents_of(pack.generator, seed, latents_file, truncation, [0])
    pictures = synthesize_edits(pack.generator, latents, [Edit(), whole], force)
    before, after = pictures[:, 0], pictures[:, 1]
    distance = pack.distance.between(before, after).tolist()
    if compare:
        cells = torch.stack([before, after, heat_map(before, after)], dim=1)
        rows = [Row(caption, cells[i]) for i, caption in enumerate(captions)]
        save_page(
            draw_grid(Grid(rows, "", ["before", "after", "change"], cell=max(128, pack.generator.resolution))),
            out,
        )
    else:
        save_image(after[0] if len(after) == 1 else sheet(after), out)
    if save_stack:
        write_whole(
            save_stack,
            lambda place: place.write_text(stack_text(texts, save_stack.parent)),
        )
    result = {
        "out": str(out),
        "apply": [
            {"direction": d.name, "region": d.region, "subspace": str(d.subspace), "strength": s}
            for d, s in whole.terms
        ],
        "pictures": captions,
        "distance": distance,
        "distance_name": pack.distance.name,
    }
    if as_json:
        emit_json(result)
    else:
        moved = f"moved by {sum(distance) / len(distance):.3f} ({pack.distance.name})"
        say(f"wrote {out}: {moved}; strength 1 of a direction is {pack.unit_distance}")


def _inverted(pack: Pack, path: Path, cutting: Cutting, method: str, steps: int | None) -> tuple[CutPhoto, Inversion]:
    """Cut and invert one photo. Raises PhotoError where it cannot be used."""
    with progress_bar("preparing") as progress:
        inverter = inverter_named(method, pack, steps, None, progress)
    with progress_bar(f"inverting ({method})") as progress:
        found = invert_photos(pack, [path], inverter, new_rng(0), cutting, progress)
    if found.inversion is None:
        raise PhotoError(f"{path}: {found.failed[path]}")
    return found.photos[0], found.inversion


def _compare_photo(cut: CutPhoto, pictures: Tensor, out: Path) -> None:
    shown = torch.cat([cut.pictures.to(pictures)[:, None], pictures], dim=1)
    rows = [Row(f"face {k}", enlarge(each, 192)) for k, each in enumerate(shown)]
    save_page(draw_grid(Grid(rows, cut.path.name, ["photo", "inverted", "edited"], cell=192)), out)


def _tell_photo(pack: Pack, cut: CutPhoto, pictures: Tensor, out: Path, as_json: bool) -> None:
    distance = pack.distance.between(pictures[:, 0], pictures[:, 1]).tolist()
    crops = [crop.described() for crop in cut.crops]
    if as_json:
        emit_json({"photo": str(cut.path), "out": str(out), "distance": distance, "crops": crops})
    else:
        say(f"wrote {out}: {len(crops)} edited, moved by {sum(distance) / len(distance):.3f} ({pack.distance.name})")
