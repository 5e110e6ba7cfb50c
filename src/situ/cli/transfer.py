"""`situ transfer`: give a part of one picture the look that it has in another."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from situ.cli.options import (
    Boxes,
    Device,
    Json,
    LatentsFile,
    Masks,
    Model,
    Parts,
    Presets,
    Seeds,
    SegmenterFile,
    Truncation,
    latents_of,
    new_rng,
    open_on,
    regions_of,
    require_picture_path,
    with_segmenter,
)
from situ.cli.output import emit_json, progress_bar, say
from situ.core.errors import RegionError
from situ.core.images import Images, resize, save_image, sheet
from situ.core.localization import aggregate
from situ.core.measurement import EditedImages
from situ.core.transfer import Measure, PartTransfer, transfer_part
from situ.figures.overlays import heat_map
from situ.figures.sheets import Grid, Row, draw_grid, save_page
from situ.metrics.locality import InsideShare


def transfer(
    reference: Annotated[int, typer.Option("--reference", help="seed of the picture that the part is taken from")],
    part: Parts = None,
    box: Boxes = None,
    mask: Masks = None,
    preset: Presets = None,
    segmenter: SegmenterFile = None,
    strength: Annotated[float, typer.Option("--strength", help="1 takes the reference's styles, 0 none of them")] = 1.0,
    by: Annotated[
        Measure,
        typer.Option("--by", help="choose channels by the picture's response, or by activation as the paper does"),
    ] = "response",
    rho: Annotated[
        float | None,
        typer.Option("--rho", help="least share of a channel inside the part (default 0.2; 0.1 by activation)"),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", help="a layer's budget for the rest, a share of its channels (1; 0.1 by activation)"),
    ] = None,
    pictures: Annotated[
        int | None, typer.Option("-n", min=1, help="pictures to measure the channels on (default 32; 64 by activation)")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="the picture to write")] = Path("transferred.png"),
    compare: Annotated[
        bool, typer.Option("--compare", help="write before, reference, after and change side by side")
    ] = False,
    seed: Seeds = None,
    latents_file: LatentsFile = None,
    truncation: Truncation = 0.7,
    model: Model = "portraits",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Transfer a part from a reference picture (Editing in Style), channel by channel of the style space."""
    require_picture_path(out)
    settings = PartTransfer() if by == "activation" else PartTransfer.by_response()
    chosen = {"rho": rho, "epsilon": epsilon, "pictures": pictures}
    settings = replace(settings, truncation=truncation, **{k: v for k, v in chosen.items() if v is not None})
    pack = with_segmenter(open_on(model, device), segmenter, part)
    regions = regions_of(pack, part, box, mask, preset)
    if len(regions) > 1:
        raise RegionError(f"one region is transferred, got {', '.join(r.name for r in regions)}: join parts with +")
    generator, region = pack.generator, regions[0]
    latents, captions = latents_of(generator, seed, latents_file, truncation, [0])
    source, source_captions = latents_of(generator, [reference], None, truncation, [])
    with progress_bar(f"channels of {region.name}") as progress:
        moved = transfer_part(
            generator, region, latents, source, new_rng(0), settings, strength=strength, progress=progress
        )
    with torch.no_grad():
        before, after, theirs = (generator.synthesize(codes, region.layers) for codes in (latents, moved, source))
        size = (before.images.shape[-2], before.images.shape[-1])
        union = resize(aggregate(region.mask(before), region.mask(after), "union"), size)
    if not after.images.isfinite().all():
        raise RegionError("the picture leaves what numbers can hold: lower --strength")
    inside = InsideShare()(EditedImages(before.images, after.images, union)).tolist()
    distance = pack.distance.between(before.images, after.images).tolist()
    if compare:
        shown = theirs.images.expand_as(before.images)
        page = _comparison(captions, source_captions[0], region.name, before.images, shown, after.images)
        save_page(draw_grid(page), out)
    else:
        save_image(after.images[0] if len(captions) == 1 else sheet(after.images), out)
    result = {
        "out": str(out),
        "region": region.name,
        "pictures": captions,
        "reference": reference,
        "strength": strength,
        "by": by,
        "inside": inside,
        "distance": distance,
        "distance_name": pack.distance.name,
    }
    if as_json:
        emit_json(result)
    else:
        share = sum(inside) / len(inside)
        moved_by = f"moved by {sum(distance) / len(distance):.3f} ({pack.distance.name})"
        say(f"wrote {out}: {share:.0%} of the change lies inside {region.name}; {moved_by}")


def _comparison(
    captions: list[str], reference: str, region: str, before: Images, theirs: Images, after: Images
) -> Grid:
    cells = torch.stack([before, theirs, after, heat_map(before, after)], dim=1)
    rows = [Row(caption, cells[i]) for i, caption in enumerate(captions)]
    title = f"{region} of {reference}"
    return Grid(rows, title, ["before", "reference", "after", "change"], cell=max(128, before.shape[-1]))
