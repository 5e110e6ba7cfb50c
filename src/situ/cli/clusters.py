"""`situ clusters`: parts of a model that nobody labelled, and a sheet to name them from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from situ.cli.options import (
    Device,
    Json,
    Model,
    Seed,
    Truncation,
    advice,
    new_rng,
    open_on,
    require_folder,
    require_picture_path,
    require_truncation,
)
from situ.cli.output import emit_json, progress_bar, say, table
from situ.core.errors import RegionError
from situ.core.generator import Synthesis
from situ.core.images import Images, resize
from situ.core.region import Segmenter
from situ.figures.overlays import enlarge, spotlight
from situ.figures.sheets import Grid, Row, draw_grid, save_page
from situ.packs.pack import Pack
from situ.segmenters.clusters import ClusterSegmenter, fit_clusters, load_clusters

SHOWN = 8  # pictures on the sheet
CELL = 128  # pixels of one picture on the sheet


def clusters(
    out: Annotated[Path, typer.Option("-o", "--out", help="the clusters file to write")] = Path("clusters.safetensors"),
    layer: Annotated[
        str | None, typer.Option("--layer", help="feature layer (default: of 16 or 32 pixels on large models)")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=2, help="how many clusters")] = 8,
    n: Annotated[int, typer.Option("-n", min=1, help="pictures that are looked at")] = 64,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="also draw every cluster on some pictures, to name them from")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="CLUSTER=NAME; repeatable, one name for several joins them")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="a clusters file to name or draw, instead of making one")
    ] = None,
    truncation: Truncation = 0.7,
    model: Model = "portraits",
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find parts without labels: clusters of a feature layer. Give the file to other verbs as --segmenter."""
    require_folder(out.parent)
    if out.is_dir():
        raise RegionError(f"{out} is a folder: give the clusters file a name with -o")
    if sheet:
        require_picture_path(sheet)
    require_truncation(truncation)
    names = dict(_naming(text) for text in name or [])
    pack, rng = open_on(model, device), new_rng(seed)
    if start:
        found = load_clusters(start, pack.generator)
    else:
        with progress_bar(f"clusters of {layer or 'features'}") as progress:
            found = fit_clusters(
                pack.generator, layer, k, rng=rng, pictures=n, truncation=truncation, progress=progress
            )
    found = found.renamed(names)
    made = _pictures(pack, found, min(n, SHOWN), seed, truncation)
    look = Look.at(made, found, pack.segmenter)
    found.save(out)
    if sheet:
        title = f"Clusters of {found.layer}, {pack.name}"
        save_page(draw_grid(Grid(look.rows(made.images), title, cell=CELL)), sheet)
    if as_json:
        emit_json({"out": str(out), "generator": pack.generator.name, "layer": found.layer, "parts": look.described()})
        return
    look.tell(f"Parts by {found.layer}")
    drawn = f", look at {sheet}" if sheet else ""
    say(f"wrote {out}{drawn}; try: {advice(out, found.parts[-1], model)}")


def _naming(text: str) -> tuple[str, str]:
    cluster, equals, name = (item.strip() for item in text.partition("="))
    if not equals or not cluster or not name:
        raise RegionError(f'a cluster is named CLUSTER=NAME, such as cluster-3=mouth, got "{text}"')
    return cluster, name


def _pictures(pack: Pack, found: ClusterSegmenter, n: int, seed: int, truncation: float) -> Synthesis:
    """Some pictures of a model, apart from those that were clustered."""
    latents = pack.generator.sample(n, pack.generator.spaces["z"], new_rng(seed + 1), truncation)
    with torch.no_grad():
        return pack.generator.synthesize(latents, found.layers)


@dataclass(frozen=True)
class Look:
    """What the parts of a segmenter look like on some pictures."""

    parts: Sequence[str]
    masks: torch.Tensor  # (n, p, h, w), each pixel in one part
    known: Sequence[tuple[str, float]]  # what the model's own segmenter calls most of each part, and the overlap

    @classmethod
    def at(cls, made: Synthesis, segmenter: Segmenter, own: Segmenter | None) -> "Look":
        """Segment pictures, and compare with the model's own segmenter where it has one."""
        with torch.no_grad():
            winners = segmenter.segment(made).argmax(dim=1)
            masks = torch.stack([(winners == i).float() for i in range(len(segmenter.parts))], dim=1)
            if own is None or own.layers:  # one that looks at other features cannot be asked here
                return cls(segmenter.parts, masks, [])
            theirs = own.segment(made).argmax(dim=1)
            other = torch.stack([(theirs == i).float() for i in range(len(own.parts))], dim=1)
            other = resize(other, (masks.shape[-2], masks.shape[-1]))
        shared = torch.einsum("nphw,nqhw->pq", masks, other)
        joined = masks.sum(dim=(0, 2, 3))[:, None] + other.sum(dim=(0, 2, 3))[None] - shared
        overlap, best = (shared / joined.clamp(min=1e-9)).max(dim=1)
        return cls(segmenter.parts, masks, [(own.parts[i], float(o)) for i, o in zip(best, overlap, strict=True)])

    def described(self) -> list[dict[str, object]]:
        """Every part as JSON can hold it."""
        areas = self.masks.mean(dim=(0, 2, 3)).tolist()
        rows: list[dict[str, object]] = [{"name": p, "area": a} for p, a in zip(self.parts, areas, strict=True)]
        for row, (part, overlap) in zip(rows, self.known, strict=False):
            row |= {"most_like": part, "overlap": overlap}
        return rows

    def tell(self, title: str) -> None:
        """Print the table of the parts."""
        rows = [
            [row["name"], f"{row['area']:.1%}", row.get("most_like", ""), row.get("overlap", "")]
            for row in self.described()
        ]
        table(title, ["part", "area", "most like", "overlap (IoU)"], rows)

    def rows(self, images: Images) -> list[Row]:
        """One row of pictures for each part: the part as it is, outlined, the rest faded."""
        big = enlarge(images.clamp(-1, 1), CELL)
        drawn = []
        for i, part in enumerate(self.parts):
            mask = self.masks[:, i : i + 1]
            area = f"{float(mask.mean()):.1%} of the picture"
            drawn.append(Row(f"{part}\n{area}", spotlight(big, mask)))
        return drawn
