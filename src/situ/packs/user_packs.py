"""Packs that users make of their own models: a folder of safetensors files and one `pack.json`, no pickle among them.

    NAME/pack.json  generator.safetensors  [segmenter.safetensors | segmenter/]  [embedder.safetensors]
        [distance.safetensors]  [directions/*.safetensors]  README.md

A segmenter is a published network, a file of `situ clusters` or `situ train-segmenter`, or the folder of a transformers
model. Packs lie in the user's data folder, where every verb finds them by name.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from situ.checkpoints.frozen import KINDS, load_network, read_frozen, save_network
from situ.checkpoints.native import load_generator, save_generator
from situ.checkpoints.networks import PUBLISHED, data_folder, load_lpips
from situ.checkpoints.open import read_checkpoint
from situ.checkpoints.weights import Options
from situ.core.direction import load_direction
from situ.core.errors import FileError, ModelError, SituError
from situ.core.files import write_whole
from situ.core.generator import Generator
from situ.core.region import Segmenter
from situ.generators.style_based import Noise
from situ.metrics.perceptual import PyramidDistance
from situ.packs.pack import Pack
from situ.packs.segmenters import OWN, network_segmenter, open_segmenter, own_format
from situ.segmenters.bisenet import ORDERS

FORMAT = "situ-pack-1"
UNIT_LPIPS = 0.1  # distance of strength 1 in LPIPS, a change that is plain to see
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_COPIED = ("*.json", "*.safetensors", "*.txt")  # of a transformers model's folder: what is no program and no pickle


@dataclass(frozen=True)
class PackSources:
    """What a pack is made of."""

    generator: Path  # a checkpoint of any known format
    segmenter: Path | None = None  # a published network's file, our own segmenter file, or a transformers folder
    labels: str = "face-parsing"  # the order of BiSeNet's labels
    grouped: bool = True  # eyes, brows, lips (sky, building, water, plant) as one part each
    embedder: Path | None = None  # who or what is on a picture: ArcFace or MoCo
    lpips: str = ""  # "alex" or "vgg": measure strengths in LPIPS, whose files are in the weights folder
    licence: str = ""  # of the generator's weights
    card: str = ""  # markdown
    half: bool = False  # store weights in half precision
    noise: Noise | None = None  # None takes what the generator's file says


def packs_folder() -> Path:
    """Where the user's packs lie."""
    return data_folder() / "packs"


def installed_packs() -> dict[str, Path]:
    """The user's packs by name."""
    folder = packs_folder()
    return {each.parent.name: each.parent for each in sorted(folder.glob("*/pack.json"))} if folder.is_dir() else {}


def require_pack_name(name: str) -> str:
    """Raises ModelError for a name that could not be a folder's or be told from a path."""
    if not _NAME.fullmatch(name):
        raise ModelError(f'a pack\'s name is letters, digits, ".", "_" and "-", got "{name}"')
    return name


def create_pack(name: str, sources: PackSources, overwrite: bool = False) -> Path:
    """Make a pack of a user's files, whole or not at all: everything is read, converted and opened once more.

    Returns:
        the pack's folder.

    Raises:
        ModelError: a name that is taken or none, a file that cannot be read or is of another kind, no licence given
            or found. RegionError: a segmenter that does not fit the generator.
    """
    target = packs_folder() / require_pack_name(name)
    if target.exists() and not overwrite:
        raise ModelError(f"there is a pack {name} already ({target}): choose another name, or replace it (--overwrite)")
    with made_beside(target) as folder:
        header = _write_parts(name, sources, folder)
        text = json.dumps(header, indent=2)
        write_whole(folder / "pack.json", lambda place: place.write_text(text, encoding="utf-8"))
        card = sources.card or _card(header)
        write_whole(folder / "README.md", lambda place: place.write_text(card, encoding="utf-8"))
        open_pack(folder)  # what cannot be opened is not left there
    return target


def require_new_pack(name: str) -> Path:
    """The folder that a new pack of this name will have. Raises ModelError for a name that is taken or none."""
    target = packs_folder() / require_pack_name(name)
    if target.exists():
        raise ModelError(f"there is a pack {name} already ({target}): choose another name")
    return target


def create_tuned_pack(name: str, base: Pack, model: str, generator: Generator) -> Path:
    """A pack of a generator that was tuned to some photos; all else is its base's, which must stay where it is.

    Args:
        model: what the base is opened by: a name, a folder or a file.

    Returns:
        the pack's folder.

    Raises:
        ModelError: a name that is taken or none.
    """
    target = require_new_pack(name)
    licence = base.licence or "as its base"
    header = {
        "format": FORMAT,
        "name": name,
        "generator": generator.name,
        "base": str(Path(model).resolve()) if Path(model).exists() else model,
        "read_as": f"{base.generator.name}, tuned to photos",
        "notes": [],
        "licence": licence,
        "licences": {"generator": licence},
    }
    with made_beside(target) as folder:
        save_generator(generator, folder / "generator.safetensors", torch.float32, licence)
        for file, text in (("pack.json", json.dumps(header, indent=2)), ("README.md", _card(header))):
            (folder / file).write_text(text, encoding="utf-8")
        open_pack(folder)
    return target


def base_of(folder: Path) -> str:
    """The pack whose networks a tuned pack uses; none for any other pack."""
    return str(read_header(folder).get("base", ""))


def with_networks_of(base: Pack, tuned: Pack) -> Pack:
    """A tuned pack with the networks of its base. What was fitted on the base's generator (LinkNet) is not its own."""
    return replace(
        base,
        name=tuned.name,
        generator=tuned.generator,
        licence=tuned.licence,
        card=tuned.card,
        link=None,
        directions=None,
    )


@contextmanager
def made_beside(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target, which takes its place when all went well. Raises FileError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise FileError(f"cannot write {target}: {error.strerror or error}") from None
    try:
        yield folder
        folder.chmod(0o755)
        old = folder.with_name(f"{folder.name}.old")
        if target.exists():
            target.rename(old)
        folder.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise FileError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_parts(name: str, sources: PackSources, folder: Path) -> dict[str, Any]:
    """All files but `pack.json`; returns what stands in that."""
    opened = read_checkpoint(sources.generator, Options(noise=sources.noise))
    licence = sources.licence or opened.licence
    if not licence:
        raise ModelError(
            f"say under which licence the weights in {sources.generator} may be used (--licence NAME): whoever opens "
            "or shares the pack will want to know"
        )
    dtype = torch.float16 if sources.half else torch.float32
    save_generator(opened.generator, folder / "generator.safetensors", dtype, licence)
    # in half precision the weights are others, and so is their name
    generator = load_generator(folder / "generator.safetensors")[0]
    header: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "generator": generator.name,
        "read_as": opened.format.what,
        "notes": list(opened.notes),
        "licence": licence,
        "licences": {"generator": licence},
    }
    if sources.segmenter:
        header["segmenter"] = _write_segmenter(sources, generator, folder)
        header["licences"]["segmenter"] = _licence_of(header["segmenter"]["kind"])
    if sources.embedder:
        kind, network = read_frozen(sources.embedder, "embedder")
        save_network(kind, network, folder / "embedder.safetensors", dtype)
        header["embedder"] = {"kind": kind}
        header["licences"]["embedder"] = _licence_of(kind)
    if sources.lpips:
        if sources.lpips not in ("alex", "vgg"):
            raise ModelError(f'LPIPS stands on alex or vgg, got "{sources.lpips}"')
        save_network("lpips", load_lpips(sources.lpips), folder / "distance.safetensors", dtype)
        header["distance"] = {"kind": "lpips", "unit": UNIT_LPIPS}
        header["licences"]["distance"] = _licence_of(f"lpips-{sources.lpips}")
    return header


def _licence_of(kind: str) -> str:
    return PUBLISHED[kind].licence if kind in PUBLISHED else "as its source states"


def _write_segmenter(sources: PackSources, generator: Generator, folder: Path) -> dict[str, Any]:
    path = sources.segmenter
    assert path is not None
    if path.is_dir():
        place = folder / "segmenter"
        place.mkdir()
        for pattern in _COPIED:
            for each in path.glob(pattern):
                shutil.copyfile(each, place / each.name)
        return {"kind": "transformers"}
    if own_format(path):
        open_segmenter(path, generator)  # made on this generator?
        shutil.copyfile(path, folder / "segmenter.safetensors")
        return {"kind": own_format(path)}
    kind, network = read_frozen(path, "segmenter")
    if kind == "bisenet" and sources.labels not in ORDERS:
        raise ModelError(f'orders of face labels are {", ".join(ORDERS)}; got "{sources.labels}"')
    save_network(kind, network, folder / "segmenter.safetensors", torch.float16 if sources.half else torch.float32)
    return {"kind": kind, "labels": sources.labels, "grouped": sources.grouped}


def _card(header: Mapping[str, Any]) -> str:
    """A card for whoever meets the pack elsewhere."""
    parts = [f"- {what}: {licence}" for what, licence in header["licences"].items()]
    notes = [f"- {note}" for note in header["notes"]]
    return "\n".join(
        [
            "---",
            "tags: [situ, local-editing]",
            "---",
            f"# {header['name']}",
            "",
            f"A pack for local editing: the generator {header['generator']}, read from {header['read_as']}.",
            "",
            "Licences:",
            "",
            *parts,
            *(["", "About the generator's file:", "", *notes] if notes else []),
            "",
        ]
    )


def read_header(folder: Path) -> dict[str, Any]:
    """`pack.json` of a pack. Raises ModelError where it is missing, damaged or something else."""
    path = folder / "pack.json"
    if not path.is_file():
        raise ModelError(f"{folder} is no pack: expected a pack.json in it, as `situ pack create` writes it")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        if header["format"] != FORMAT:
            raise ModelError(f'{path} is of the format "{header["format"]}", expected {FORMAT}: make the pack again')
        if not isinstance(header["name"], str) or not isinstance(header["licences"], dict):
            raise ValueError("a name and licences")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}: {error}): make the pack again") from None
    return header


def open_pack(folder: Path, device: torch.device | str = "cpu", low_precision: bool = False) -> Pack:
    """Open a pack of a folder; every network is frozen and on `device`.

    Raises:
        ModelError: no pack, or a damaged one.
    """
    header = read_header(folder)
    generator, licence = load_generator(folder / "generator.safetensors", Options(device, low_precision=low_precision))
    embedder = _network(folder, header, "embedder", device)
    distance = _network(folder, header, "distance", device)
    card = folder / "README.md"
    return Pack(
        name=header["name"],
        generator=generator,
        segmenter=_open_segmenter(folder, header, generator, device),
        embed=embedder.embed if embedder else None,  # pyright: ignore[reportArgumentType]
        distance=distance or PyramidDistance(),  # pyright: ignore[reportArgumentType]
        unit_distance=header["distance"]["unit"] if distance else Pack.unit_distance,
        directions=folder / "directions",
        licence=header.get("licence") or licence,
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
    )


def _network(folder: Path, header: Mapping[str, Any], serves: str, device: torch.device | str) -> nn.Module | None:
    if serves not in header:
        return None
    kind, network = load_network(folder / f"{serves}.safetensors")
    if KINDS[kind].serves != serves:
        raise ModelError(f"{folder / serves}.safetensors holds {KINDS[kind].what}, which is no {serves}")
    return network.to(device).eval().requires_grad_(False)


def _open_segmenter(
    folder: Path, header: Mapping[str, Any], generator: Generator, device: torch.device | str
) -> Segmenter | None:
    told = header.get("segmenter")
    if told is None:
        return None
    place = folder / "segmenter"
    if told["kind"] == "transformers":
        return open_segmenter(place, generator, device=device)
    if told["kind"] in OWN:
        return open_segmenter(place.with_suffix(".safetensors"), generator)
    network = _network(folder, header, "segmenter", device)
    assert network is not None
    return network_segmenter(told["kind"], network, told["labels"], told["grouped"], generator.resolution)


def directions_of(folder: Path) -> list[Path]:
    """The direction files that a pack or a shared folder holds, those that can be read."""
    found = []
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("directions/*.safetensors")]):
        try:
            load_direction(path)
        except SituError:
            continue
        found.append(path)
    return found


def require_pack(name: str) -> Path:
    """The folder of one of the user's packs. Raises ModelError for any other name."""
    packs = installed_packs()
    if name not in packs:
        known = ", ".join(packs) or "none yet"
        raise ModelError(f'no pack "{name}" in {packs_folder()} (there are: {known}): make one with `situ pack create`')
    return packs[name]
