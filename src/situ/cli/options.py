"""What the verbs share: their common options, and how texts from the command line become objects."""

import math
import shlex
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from situ.checkpoints.native import format_of, is_safetensors
from situ.cli.output import say
from situ.core.classes import read_class_names
from situ.core.devices import usable_device
from situ.core.direction import Direction
from situ.core.errors import (
    FileError,
    GeneratorError,
    LatentError,
    PhotoError,
    RegionError,
    SituError,
)
from situ.core.generator import Generator
from situ.core.images import WRITTEN, resize
from situ.core.inversion import INVERSION_FILE, load_inversion
from situ.core.latents import Latents, load_latents
from situ.core.region import PRESETS, Box, Brush, Part, Region, Rest, load_brush, parse_part, preset
from situ.packs.inverters import INVERTERS
from situ.packs.library import PACKS, open_model
from situ.packs.pack import Pack
from situ.packs.photos import Cutting
from situ.packs.segmenters import open_segmenter
from situ.packs.stacks import parse_number
from situ.photos.landmarks import PointsFile
from situ.photos.paste_back import Blend
from situ.runs.engine import InProcess, Way
from situ.runs.ray_workers import RayWorkers
from situ.runs.work import Opened

Model = Annotated[str, typer.Option("--model", "-m", help=f"a pack ({', '.join(PACKS)}, or yours) or a generator file")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps; auto takes the fastest there is")]
Class = Annotated[str | None, typer.Option("--class", help="of a conditional model, by number or name (else drawn)")]
ClassNames = Annotated[Path | None, typer.Option("--class-names", help="a text with the name of a class a line")]
Seed = Annotated[int, typer.Option("--seed", help="seed of the random numbers")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", help="seed of a picture; may be given several times")]
LatentsFile = Annotated[
    Path | None, typer.Option("--latents", help="a latents file, or an inverted photo, instead of seeds")
]
Truncation = Annotated[float, typer.Option("--truncation", help="0 the mean picture ... 1 full variety")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable results on standard output")]
Parts = Annotated[list[str] | None, typer.Option("--part", help="a part, or several joined (eyes+brows); repeatable")]
Boxes = Annotated[list[str] | None, typer.Option("--box", help="ROW,COLUMN,HEIGHT,WIDTH of its centre, in pixels")]
Masks = Annotated[list[Path] | None, typer.Option("--mask", help="a picture, white inside the region")]
Presets = Annotated[
    list[str] | None, typer.Option("--preset", help=f"a box on aligned faces: {', '.join(PRESETS)}; repeatable")
]
SegmenterFile = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        help="whose parts --part names instead of the model's own: clusters, a linear head, the weights of BiSeNet or "
        "a DeepLab, the folder of a transformers model; with CLIPSeg, --part is any words",
    ),
]
CropBox = Annotated[
    str | None,
    typer.Option("--crop", help="ROW,COLUMN,HEIGHT,WIDTH of a square, by its centre, instead of faces"),
]
Points = Annotated[Path | None, typer.Option("--points", help="the faces' 5 or 68 points, .json or .pts")]
Faces = Annotated[list[int] | None, typer.Option("--face", help="number of a face, from 0; repeatable (default: all)")]
InversionMethod = Annotated[str, typer.Option("--method", help=f"how photos are inverted: {', '.join(INVERTERS)}")]
InversionSteps = Annotated[int | None, typer.Option("--steps", min=1, help="optimisation steps, not the method's")]
Blended = Annotated[Blend, typer.Option("--blend", help="how an edit is put back: difference, replace or poisson")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="processes of this machine (extra `cluster`)")]
RayAddress = Annotated[
    str | None, typer.Option("--ray", help="address of a Ray cluster, or auto; --workers says how many of its workers")
]
Anew = Annotated[bool, typer.Option("--anew", help="forget what an earlier run has finished in the folder")]
Force = Annotated[bool, typer.Option("--force", help="apply directions of other weights, where the shapes agree")]


def open_on(
    model: str,
    device: str,
    low_precision: bool = False,
    class_: str | None = None,
    class_names: Path | None = None,
) -> Pack:
    """Open a model on a device, to draw pictures of one class where one is given.

    Raises:
        ModelError: no such model or device. GeneratorError: a class that the model does not have.
    """
    pack = open_model(model, told_device(device), low_precision)
    if class_ is not None or class_names is not None:
        _choose_class(pack.generator, class_, class_names)
    return pack


def told_device(device: str) -> str:
    """See `usable_device`; with a word about it where an accelerator that was asked for is not there."""
    usable = usable_device(device)
    if device not in ("auto", usable):
        say(f"there is no {device} on this machine: working on the CPU")
    return usable


def _choose_class(generator: Any, class_: str | None, class_names: Path | None) -> None:
    """Names and the usual class of a conditional generator."""
    if not hasattr(generator, "one_hot"):
        raise GeneratorError(f"{generator.name} has no classes: leave --class out")
    if class_names is not None:
        generator.names = read_class_names(class_names)
    if class_ is not None:
        generator.usual_labels = generator.one_hot(class_)


def new_rng(seed: int) -> torch.Generator:
    """A generator of random numbers. Raises SituError for a seed that cannot be one."""
    if not 0 <= seed < 2**63:
        raise SituError(f"a seed is a whole number from 0, got {seed}")
    return torch.Generator().manual_seed(seed)


def latents_of(
    generator: Generator, seeds: list[int] | None, file: Path | None, truncation: float, default: list[int]
) -> tuple[Latents, list[str]]:
    """The latents to work on, from a file or one per seed, and their captions."""
    if file and seeds:
        raise LatentError("give --latents or --seed, not both")
    if file:
        latents = _latents_in(file, generator.name)
        latents = generator.convert(latents.with_values(latents.values.float().to(generator.device)), latents.space)
        return latents, [f"{file.stem} {i}" for i in range(len(latents))]
    require_truncation(truncation)
    chosen = seeds or default
    rows = [generator.sample(1, generator.spaces["z"], new_rng(seed), truncation) for seed in chosen]
    values = torch.cat([row.values for row in rows])
    labels = None if rows[0].labels is None else torch.cat([row.labels for row in rows if row.labels is not None])
    return Latents(values, rows[0].space, labels, rows[0].truncation), [f"seed {seed}" for seed in chosen]


def _latents_in(file: Path, generator: str) -> Latents:
    """Of a latents file, or of an inversion."""
    if file.is_file() and is_safetensors(file) and format_of(file) == INVERSION_FILE.format:
        found = load_inversion(file, generator)
        if found.noise:
            say(f"{file} has noise maps of its own, which are left out here: --photo puts them in")
        return found.latents
    return load_latents(file, generator)


def require_truncation(truncation: float) -> float:
    """Raises LatentError for a truncation that shows no pictures of the model."""
    if not math.isfinite(truncation) or not -2 <= truncation <= 2:
        raise LatentError(
            f"truncation is a number from -2 to 2, 0 the mean picture and 1 full variety, got {truncation}"
        )
    return truncation


def regions_of(
    pack: Pack,
    parts: list[str] | None,
    boxes: list[str] | None,
    masks: list[Path] | None,
    presets: list[str] | None = None,
) -> list[Region]:
    """The regions asked for. Raises RegionError where there is none, or one does not fit, is empty or everything."""
    resolution = pack.generator.resolution
    regions: list[Region] = [parse_part(text, pack.segmenter) for text in parts or []]
    regions += [preset(name, resolution) for name in presets or []]
    regions += [parse_box(text, resolution) for text in boxes or []]
    regions += [_brush_of(path, resolution) for path in masks or []]
    if not regions:
        known = f" (parts: {', '.join(pack.segmenter.parts)})" if pack.segmenter else ""
        raise RegionError(
            f"say which region: --part NAME, --box ROW,COLUMN,HEIGHT,WIDTH, --mask PICTURE or --preset NAME{known}"
        )
    return regions


def _brush_of(path: Path, resolution: int) -> Brush:
    """A mask picture that marks some of a model's picture and leaves some. Says where it had to be resized."""
    brush = load_brush(path)
    height, width = brush.painted.shape[-2:]
    size = f"{resolution} x {resolution} pixels"
    if (height, width) != (resolution, resolution):
        bent = "" if height == width else ", which changes its proportions"
        say(f"the mask {path} is {width} x {height} pixels: resized to the model's {size}{bent}")
    inside = resize(brush.painted, resolution) > 0.5
    if not inside.any():
        raise RegionError(f"the mask {path} is empty at {size}: paint a larger region")
    if inside.all():
        raise RegionError(f"the mask {path} is the whole picture, so nothing outside is kept: leave some of it black")
    return brush


def with_segmenter(pack: Pack, place: str | None, parts: list[str] | None = None) -> Pack:
    """The pack with another segmenter in place of its own (itself for none).

    Args:
        place: see `situ.packs.segmenters.open_segmenter`.
        parts: what --part names; the words to look for, where the segmenter goes by words.

    Raises:
        RegionError, ModelError: no segmenter, a damaged one, or one that was made on another generator.
    """
    if place is None:
        return pack
    words = list(dict.fromkeys(label for text in parts or [] for label in text.split("+")))
    return replace(pack, segmenter=open_segmenter(place, pack.generator, words))


def advice(segmenter: Path, part: str, model: str) -> str:
    """The command that a segmenter file is made for."""
    words = ["--segmenter", str(segmenter), "--part", part, *(["--model", model] if model != "portraits" else [])]
    return f"situ discover lelsd {shlex.join(words)}"


def parse_box(text: str, resolution: int) -> Box:
    """ "30,32,8,20" -> a Box, checked against the picture's size."""
    try:
        row, column, height, width = (int(item) for item in text.strip("box[] ").split(","))
    except ValueError:
        raise RegionError(f'a box is written ROW,COLUMN,HEIGHT,WIDTH in pixels of its centre, got "{text}"') from None
    box = Box(row, column, height, width)
    box.require_inside(resolution)
    if min(height, width) == resolution:
        raise RegionError(f"{box.name} is the whole picture, so nothing outside is kept: make it smaller")
    return box


def region_of(direction: Direction, pack: Pack) -> Region:
    """The region that a direction was found for, on this model."""
    if direction.region.startswith("not "):
        return Rest(region_of(replace(direction, region=direction.region.removeprefix("not ")), pack))
    if direction.region.startswith("box["):
        return parse_box(direction.region, pack.generator.resolution)
    segmenter = pack.segmenter
    if segmenter is None or any(label not in segmenter.parts for label in direction.region.split("+")):
        raise RegionError(
            f'the direction {direction.name} was found for "{direction.region}", which cannot be made again from its '
            "name: say which region with --part (and --segmenter), --preset, --box or --mask"
        )
    return Part(segmenter, tuple(direction.region.split("+")))


def cutting_of(crop: str | None, points: Path | None, faces: list[int] | None) -> Cutting:
    """Which parts of photos are meant. Raises PhotoError where two options say it."""
    if crop is None:
        return Cutting(None, PointsFile(points) if points else None, faces)
    if points or faces:
        raise PhotoError("--crop says where to look, so --points and --face have no say: give one or the other")
    try:
        row, column, height, width = (int(item) for item in crop.split(","))
    except ValueError:
        raise PhotoError(f'a crop is written ROW,COLUMN,HEIGHT,WIDTH in pixels of the photo, got "{crop}"') from None
    return Cutting((row, column, height, width))


def way_of(workers: int | None, address: str | None, device: str, opened: Opened | None = None) -> Way:
    """Where the items of a run are done: in this process (the work is open already), or on Ray's workers."""
    if workers is None and address is None:
        return InProcess(device, opened)
    return RayWorkers(device, workers, address)


def parse_numbers(text: str, what: str) -> list[float]:
    """ "-2,-1,0" -> numbers."""
    return [parse_number(item.strip(), what) for item in text.split(",")]


def require_folder(path: Path) -> Path:
    """Make an output folder and prove that it can be written. Raises FileError before any work is done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise FileError(
            f"cannot write to the folder {path}: {error.strerror or error}; choose another with -o"
        ) from None
    return path


def require_picture_path(path: Path) -> Path:
    """Check before any work is done that a picture can be written there."""
    if path.suffix.lower() not in WRITTEN:
        raise FileError(f"pictures are written as .png, .jpg or .webp, got {path}")
    require_folder(path.parent)
    return path
