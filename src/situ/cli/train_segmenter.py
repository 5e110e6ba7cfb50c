"""`situ train-segmenter`: parts of a model from a few label maps that somebody painted."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

from situ.cli.options import Device, Json, Model, Seed, Truncation, advice, latents_of, new_rng, open_on, require_folder
from situ.cli.output import emit_json, progress_bar, say, table
from situ.core.errors import RegionError
from situ.core.images import load_image, to_bytes
from situ.core.latents import Latents
from situ.packs.pack import Pack
from situ.segmenters.linear import UNLABELLED, LinearFit, LinearSegmenter, fit_linear

MOST_COLOURS = 64  # more than anybody paints; what soft brushes and photographs have
BATCH = 16  # pictures in one pass; bounds memory


def train_segmenter(
    labels: Annotated[
        Path,
        typer.Option("--labels", help="folder of label maps seed0003.png, and names.json as {'#ff0000': 'mouth'}"),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="the file to write")] = Path("head.safetensors"),
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="how smooth the head is kept")] = 3e-4,
    pixels: Annotated[int, typer.Option("--pixels", min=1, help="most labelled pixels to learn from")] = 32768,
    truncation: Truncation = 0.7,
    model: Model = "portraits",
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Learn parts from painted pictures. Give the file to other verbs as --segmenter.

    Write pictures with `situ sample -n 4 -o FOLDER`, paint each part of them in a colour of its own with a hard brush,
    and save them as PNG under the same names in another folder. Black or transparent pixels are left open.
    """
    require_folder(out.parent)
    if out.is_dir():
        raise RegionError(f"{out} is a folder: give the file a name with -o")
    fit = LinearFit(weight_decay, pixels)
    rng = new_rng(seed)
    pack = open_on(model, device)
    painted = read_label_maps(labels, pack.generator.resolution)
    latents, _ = latents_of(pack.generator, list(painted.seeds), None, truncation, [])
    with progress_bar("linear head") as progress:
        head = fit_linear(pack.generator, latents, painted.maps, painted.names, rng=rng, fit=fit, progress=progress)
    head.save(out)
    rows = _agreement(pack, head, latents, painted)
    labelled = sum(row["pixels"] for row in rows)
    right = sum(row["pixels"] * row["agreement"] for row in rows) / labelled
    if as_json:
        emit_json(
            {
                "out": str(out),
                "generator": pack.generator.name,
                "pictures": len(latents),
                "pixels": int(labelled),
                "agreement": right,
                "parts": [
                    {"name": name, "colours": colours, **row}
                    for name, colours, row in zip(painted.names, painted.colours, rows, strict=True)
                ],
            }
        )
        return
    table(
        f"Learnt from {len(latents)} painted pictures",
        ["part", "colour", "pixels", "agreement", "overlap (IoU)"],
        [
            [name, " ".join(colours), int(row["pixels"]), f"{row['agreement']:.1%}", row["overlap"]]
            for name, colours, row in zip(painted.names, painted.colours, rows, strict=True)
        ],
    )
    learnt = f"wrote {out}: agrees with {right:.1%} of {int(labelled)} painted pixels"
    say(f"{learnt}; try: {advice(out, painted.names[-1], model)}")


@dataclass(frozen=True)
class LabelMaps:
    """What somebody painted."""

    seeds: tuple[int, ...]
    maps: Int[Tensor, "n h w"]  # index into `names`, or UNLABELLED
    names: tuple[str, ...]
    colours: tuple[tuple[str, ...], ...]  # those of each name


def read_label_maps(folder: Path, resolution: int) -> LabelMaps:
    """Read the label maps of a folder, resized to a model's pictures without mixing colours.

    Raises:
        RegionError: no label maps, names that stand for no picture, no square, or colours that make no classes.
        ImageError: a file that is no picture.
    """
    files = sorted(folder.glob("*.png")) if folder.is_dir() else []
    if not files:
        raise RegionError(
            f"no label maps in {folder}: expected a folder with PNG pictures seed0003.png, painted over those of "
            "`situ sample -n N -o FOLDER`"
        )
    seeds = [_seed_of(file) for file in files]
    if len(set(seeds)) < len(seeds):
        raise RegionError(f"two label maps of one picture in {folder}: {', '.join(file.name for file in files)}")
    codes = torch.stack([_codes(file, resolution) for file in files])
    names = _read_names(folder / "names.json")
    counts = dict(zip(*(each.tolist() for each in codes.unique(return_counts=True)), strict=True))
    if not names:
        counts.pop(0, None)  # black
        if len(counts) > MOST_COLOURS:
            raise RegionError(
                f"the label maps hold {len(counts)} colours, at most {MOST_COLOURS} are told apart: paint with a hard "
                "brush without smoothing, or list the colours that count in names.json"
            )
        names = {code: _hex(code) for code in counts}
    else:
        left = {code: count for code, count in counts.items() if code not in names and code}
        if left:
            some = ", ".join(_hex(code) for code in list(left)[:3]) + (", ..." if len(left) > 3 else "")
            say(f"{sum(left.values())} pixels have colours that names.json does not name ({some}): left open")
    found = {code: name for code, name in names.items() if code in counts}
    parts = tuple(dict.fromkeys(found.values()))
    if len(parts) < 2:
        got = f"only {parts[0]}" if parts else "none"
        raise RegionError(f"a segmenter tells two or more parts apart, the label maps have {got}: paint more colours")
    maps = torch.full_like(codes, UNLABELLED)
    for code, name in found.items():
        maps[codes == code] = parts.index(name)
    colours = tuple(tuple(_hex(code) for code, name in found.items() if name == part) for part in parts)
    return LabelMaps(tuple(seeds), maps, parts, colours)


def _seed_of(file: Path) -> int:
    match = re.fullmatch(r"seed(\d{1,18})", file.stem)
    if not match:
        raise RegionError(
            f"{file} stands for no picture: label maps are called like the pictures of `situ sample -n N -o FOLDER`, "
            "seed0003.png for seed 3"
        )
    return int(match[1])


def _codes(file: Path, resolution: int) -> Int[Tensor, "h w"]:
    """The colour of every pixel as one number, 0xRRGGBB, at the model's size."""
    pixels = to_bytes(load_image(file, transparent="black")).long()
    codes = (pixels[:, 0] << 16) + (pixels[:, 1] << 8) + pixels[:, 2]
    height, width = codes.shape[-2:]
    if height != width:
        raise RegionError(f"{file} is {width} x {height} pixels, the model's pictures are square ({resolution} px)")
    if height != resolution:
        say(f"{file} is {width} x {height} pixels: resized to the model's {resolution} x {resolution}")
        # numbers up to 2^24 are exact in single precision
        codes = functional.interpolate(codes[:, None].float(), (resolution, resolution), mode="nearest-exact")[:, 0]
    return codes[0].long()


def _read_names(file: Path) -> dict[int, str]:
    """names.json: colour -> name; nothing where there is no such file."""
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, Mapping) or not content:
            raise ValueError("no colours")
        names = {}
        for colour, name in content.items():
            if not re.fullmatch(r"#?[0-9a-fA-F]{6}", colour) or not isinstance(name, str) or not name.strip():
                raise ValueError(f'"{colour}": {json.dumps(name)}')
            names[int(colour.removeprefix("#"), 16)] = name.strip()
        return names
    except (OSError, ValueError, RecursionError) as error:
        raise RegionError(
            f'{file} cannot be read ({error}): expected colours and names like {{"#ff0000": "mouth"}}'
        ) from None


def _hex(code: int) -> str:
    return f"#{code:06x}"


def _agreement(pack: Pack, head: LinearSegmenter, latents: Latents, painted: LabelMaps) -> Sequence[dict[str, float]]:
    """For every part its labelled pixels, the share of them that the head gives it, and the overlap (IoU)."""
    parts = len(painted.names)
    table = torch.zeros(parts, parts)  # painted, answered
    for i in range(0, len(latents), BATCH):
        with torch.no_grad():
            made = pack.generator.synthesize(latents[i : i + BATCH], head.layers)
            winners = head.segment(made).argmax(dim=1, keepdim=True).float()
        size = (painted.maps.shape[-2], painted.maps.shape[-1])
        answered = functional.interpolate(winners, size, mode="nearest-exact")[:, 0].long().cpu()
        maps = painted.maps[i : i + BATCH]
        seen = maps != UNLABELLED
        pairs = maps[seen] * parts + answered[seen]
        table += pairs.bincount(minlength=parts * parts).reshape(parts, parts)
    rows = []
    for p in range(parts):
        mine, given, both = float(table[p].sum()), float(table[:, p].sum()), float(table[p, p])
        rows.append({"pixels": mine, "agreement": both / mine, "overlap": both / (mine + given - both)})
    return rows
