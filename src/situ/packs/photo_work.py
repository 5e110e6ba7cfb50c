"""Photos as the items of a run: many of them inverted, or edited and put back."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.direction import Edit, require_generator
from situ.core.images import WRITTEN, Images, save_image
from situ.core.inversion import Inversion, Inverter, invert
from situ.core.progress import Progress, silent
from situ.packs.inverters import inverter_named
from situ.packs.library import open_model
from situ.packs.pack import Pack
from situ.packs.photos import (
    CutPhoto,
    Cutting,
    Trust,
    cut_photo,
    edit_photo,
    inverted_pictures,
    reconstruction,
    require_attributes,
    trust,
    verdict,
)
from situ.photos.align import Crop
from situ.photos.paste_back import Blend, PasteBack
from situ.photos.read import read_photo
from situ.runs.folder import RunFolder
from situ.runs.work import Item

TOGETHER = 16  # photos that are inverted in the same passes; bounds memory


def photo_items(paths: Sequence[Path], names: Sequence[str]) -> list[Item]:
    """Photos by their paths, and what their results are called. One that was changed since is another."""
    items = []
    for path, name in zip(paths, names, strict=True):
        try:
            there = path.stat()
            stamp = {"bytes": there.st_size, "changed": there.st_mtime_ns}
        except OSError:  # reading it fails, and says why
            stamp = {}
        items.append(Item(str(path), {"path": str(path.absolute()), "name": name, **stamp}))
    return items


def inverted_names(paths: Sequence[Path]) -> list[str]:
    """What the codes of photos are called: as the photos are, numbered where several have one name."""
    names: list[str] = []
    for path in paths:
        candidates = (path.stem, *(f"{path.stem}_{i}" for i in range(2, len(paths) + 1)))
        names.append(next(name for name in candidates if name not in names))
    return names


def edited_names(paths: Sequence[Path]) -> list[str]:
    """What the edited photos of a folder are called: as they are, as far as their format can be written."""
    plain = [f"{p.stem}{p.suffix.lower() if p.suffix.lower() in WRITTEN else '.png'}" for p in paths]
    often = Counter(plain)
    return [name if often[name] == 1 else f"{path.name}.png" for name, path in zip(plain, paths, strict=True)]


@dataclass(frozen=True)
class PhotoInversion:
    """How photos are inverted, all in the passes of their batch."""

    model: str  # a pack's name, or a generator file
    generator: str  # its name, weights and all
    out: Path
    method: str = "refined"  # see `situ.packs.inverters`
    steps: int | None = None  # None: the method's
    cutting: Cutting = field(default_factory=Cutting)
    seed: int = 0
    report: bool = False  # also try edits (`trust`)
    tune: str | None = None  # the pack that these inversions are for, when the generator is tuned to them
    together: int = TOGETHER

    kind = "invert"
    keeps_partial = True

    def settings(self) -> Mapping[str, Any]:
        """See `Work.settings`."""
        return {**shared_settings(self), "report": self.report, "tune": self.tune}

    def open(self, device: str) -> "OpenedInversion":
        """See `Work.open`."""
        pack = open_model(self.model, device)
        return self.on(pack, inverter_named(self.method, pack, self.steps))

    def on(self, pack: Pack, inverter: Inverter) -> "OpenedInversion":
        """The same on a pack that is open already.

        Raises:
            InversionError: a report is asked of a pack that has no attributes to try.
        """
        if self.report:
            require_attributes(pack)
        return OpenedInversion(self, pack, inverter)


@dataclass(frozen=True)
class PhotoEditing:
    """How photos are edited: inverted, edited, and put back."""

    model: str
    generator: str
    out: Path
    edit: Edit
    method: str = "refined"
    steps: int | None = None
    cutting: Cutting = field(default_factory=Cutting)
    blend: Blend = "difference"
    seed: int = 0
    force: bool = False  # apply directions of other weights
    together: int = TOGETHER

    kind = "photos"
    keeps_partial = False

    def settings(self) -> Mapping[str, Any]:
        """See `Work.settings`."""
        edits = [f"{d.name} ({d.key[:12]}, {d.subspace}, {d.unit:g}) x {strength:g}" for d, strength in self.edit.terms]
        return {**shared_settings(self), "edits": edits, "blend": self.blend}

    def open(self, device: str) -> "OpenedEditing":
        """See `Work.open`."""
        pack = open_model(self.model, device)
        return self.on(pack, inverter_named(self.method, pack, self.steps))

    def on(self, pack: Pack, inverter: Inverter) -> "OpenedEditing":
        """The same on a pack that is open already.

        Raises:
            DirectionError: directions that do not fit it.
        """
        for direction, _ in self.edit.terms:
            require_generator(direction, pack.generator, self.force)
        return OpenedEditing(self, pack, inverter)


def shared_settings(work: PhotoInversion | PhotoEditing) -> dict[str, Any]:
    """What inverting and editing have in common."""
    names = ("model", "generator", "method", "steps", "seed")
    return {**{name: getattr(work, name) for name in names}, "cutting": str(work.cutting)}


@dataclass(frozen=True)
class Ready:
    """The crops of a photo; the photo itself is read again when it is written, as sixteen would fill the memory."""

    path: Path
    crops: tuple[Crop, ...]
    pictures: Float[Tensor, "n 3 s s"]

    def photo(self) -> CutPhoto:
        return CutPhoto(self.path, read_photo(self.path), self.crops, self.pictures)


@dataclass(frozen=True)
class _Opened:
    """What both have in common: photos are cut, and inverted together."""

    work: Any
    pack: Pack
    inverter: Inverter

    def prepare(self, item: Item) -> Ready:
        """See `Opened.prepare`."""
        cut = cut_photo(self.pack, Path(item.given["path"]), self.work.cutting)
        return Ready(cut.path, cut.crops, cut.pictures)

    def inverted(self, photos: Sequence[Ready], progress: Progress) -> Inversion:
        """The codes of all crops, in order."""
        pictures, rng = pictures_of(photos), torch.Generator().manual_seed(self.work.seed)
        found = invert(self.pack.generator, pictures, self._resuming(pictures), rng, progress)
        about = [{"photo": each.path.name, "crop": crop.described()} for each in photos for crop in each.crops]
        return replace(found, about=tuple(about))

    def _resuming(self, pictures: Images) -> Inverter:
        """The inverter, going on from the steps that a killed run has done for these pictures."""
        if not hasattr(self.inverter, "under_way"):
            return self.inverter
        key = hashlib.sha256(pictures.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
        place = RunFolder(self.work.out).place / "under_way" / f"{key}.safetensors"
        return replace(self.inverter, under_way=place)  # pyright: ignore


def pictures_of(photos: Sequence[Ready]) -> Float[Tensor, "n 3 s s"]:
    return torch.cat([each.pictures for each in photos])


def places_of(photos: Sequence[Ready]) -> list[slice]:
    """Where each photo's crops lie among all."""
    ends = list(accumulate(len(each.crops) for each in photos))
    return [slice(end - len(each.crops), end) for each, end in zip(photos, ends, strict=True)]


@dataclass(frozen=True)
class InvertedPhoto:
    """What came of one photo."""

    ready: Ready
    inversion: Inversion
    trust: Trust | None = None


class OpenedInversion(_Opened):
    """Inverts photos of one pack."""

    def compute(self, prepared: Sequence[Ready], progress: Progress = silent) -> list[InvertedPhoto]:
        """See `Opened.compute`."""
        found, tried = self.inverted(prepared, progress), None
        if self.work.report and found.complete:
            pictures = pictures_of(prepared)
            tried = trust(self.pack, pictures, found, self.inverter, self.work.seed, progress)
        return [
            InvertedPhoto(photo, found[place], tried[place] if tried else None)
            for photo, place in zip(prepared, places_of(prepared), strict=True)
        ]

    def write(self, item: Item, computed: InvertedPhoto) -> Mapping[str, Any]:
        """See `Opened.write`."""
        rows = write_inverted(self.pack, computed, self.work.out, item.given["name"])
        files = [file for row in rows for file in (f"{row['name']}.safetensors", f"{row['name']}.png")]
        return {"files": files, "faces": rows, "complete": computed.inversion.complete}


def write_inverted(pack: Pack, photo: InvertedPhoto, out: Path, stem: str) -> list[dict[str, Any]]:
    """Write the codes and pictures of a photo's faces; returns what is known of each."""
    ready, inversion = photo.ready, photo.inversion
    images = inverted_pictures(pack, inversion)
    figures = reconstruction(pack, ready.pictures, images)
    rows = []
    for k in range(len(ready.crops)):
        name = f"{stem}-{k}" if len(ready.crops) > 1 else stem
        inversion[k : k + 1].save(out / f"{name}.safetensors")
        save_image(images[k], out / f"{name}.png")
        each = {key: float(values[k]) for key, values in figures.items()}
        tried = photo.trust.consistency[k] if photo.trust else None
        if photo.trust and tried:
            each |= {"realism": photo.trust.realism[k], "ecs": sum(tried.values()) / len(tried)}
        row = {"name": name, "face": k, **each, "verdict": verdict(pack, each), "crop": ready.crops[k].described()}
        rows.append(row if tried is None else {**row, "consistency": tried})
    return rows


class OpenedEditing(_Opened):
    """Edits photos of one pack."""

    def compute(self, prepared: Sequence[Ready], progress: Progress = silent) -> list[InvertedPhoto]:
        """See `Opened.compute`."""
        found = self.inverted(prepared, progress)
        return [InvertedPhoto(each, found[place]) for each, place in zip(prepared, places_of(prepared), strict=True)]

    def write(self, item: Item, computed: InvertedPhoto) -> Mapping[str, Any]:
        """See `Opened.write`."""
        paste, name = PasteBack(self.work.blend), item.given["name"]
        photo = computed.ready.photo()
        edited, _ = edit_photo(self.pack, photo, computed.inversion, self.work.edit, paste, self.work.force)
        edited.save(self.work.out / name)
        return {"files": [name], "faces": len(photo.crops)}
