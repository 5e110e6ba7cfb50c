"""What the studio does: each a call or two of a public verb on the pack that is open.

Bounded memory: a few states of the synthesis (what lies below the first edited layer), photos and Jacobians are kept.
"""

import hashlib
import math
import shlex
import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from situ.core.direction import Direction, Edit
from situ.core.discovery import as_directions, discover, held_out_latents, judge
from situ.core.errors import DirectionError, PhotoError, RegionError
from situ.core.generator import Synthesis
from situ.core.images import Images, sheet, to_pil
from situ.core.inversion import Inversion
from situ.core.jacobian import Jacobian, jacobian
from situ.core.latents import Latents, parse_layers, parse_subspace
from situ.core.progress import Progress
from situ.core.region import Region
from situ.core.traversal import synthesize_edits
from situ.discovery.resefa import ReSeFa, solve_region
from situ.figures.overlays import enlarge, heat_map, outline, spotlight
from situ.packs.inverters import inverter_named
from situ.packs.methods import METHODS, build_method
from situ.packs.pack import Pack
from situ.packs.photos import CutPhoto, Cutting, edit_photo, invert_photos, inverted_before, reconstruction, verdict
from situ.photos.paste_back import PasteBack
from situ.studio.cards import THUMB, Card, data_address, small
from situ.studio.comparison import METHOD_SETTINGS, compared
from situ.studio.kept import Kept
from situ.studio.library import Item, Library
from situ.studio.regions import Regions
from situ.studio.session import Entry, Session, Work

SHOWN = 704  # pixels at least of a picture that is sent, so that browsers need not enlarge it
JUDGED = 8  # held-out pictures that a direction's strength and score are taken from
PREVIEW = 2.0  # strength of the previews, both ways
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of the stack, in strips
FRAMES = 24  # of an animation, there and back
STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # of a palette
SLOW = 0.15  # seconds for a picture above which none is made while a slider is dragged

# what is kept in memory, of all people together: the most of each, and bytes
MEMORY: Mapping[str, tuple[int, int]] = {
    "states": (8, 2**29),  # of the synthesis below the first edited layer
    "pairs": (24, 2**27),  # pictures before and after
    "jacobians": (2, 2**30),
    "photos": (4, 2**28),
    "maps": (16, 2**25),  # which part is where
    "previews": (1000, 2**25),  # of the library, as they are sent
}

_Terms = frozenset[tuple[str, float]]  # an edit: the keys of its directions and their strengths


def _face_file(photo: str, face: int) -> str:
    """Name of the file with the code of one face of a photo."""
    return f"{photo}-face-{face}.safetensors"


def _parted(terms: _Terms, keys: set[str]) -> tuple[dict[str, float], _Terms]:
    """The strengths of some directions of an edit, and the rest of it."""
    return {k: s for k, s in terms if k in keys}, frozenset((k, s) for k, s in terms if k not in keys)


class Studio:
    """A pack with a library, and people at work on it."""

    def __init__(self, pack: Pack, model: str, workspace: Path, words: str | None = None) -> None:
        """
        Args:
            words: the place of a segmenter that goes by words: see `Regions`.
        """
        self.pack, self.model, self.workspace = pack, model, workspace
        self.library = Library(workspace / "directions", pack.generator.name, pack.directions)
        self.regions = Regions(pack, workspace, words)
        self._states: Kept[tuple[str, int], Synthesis] = Kept(*MEMORY["states"])
        self._pairs: Kept[tuple[str, _Terms], Images] = Kept(*MEMORY["pairs"])
        self._jacobians: Kept[tuple[str, str], Jacobian] = Kept(*MEMORY["jacobians"])
        self._photos: Kept[str, tuple[CutPhoto, Inversion]] = Kept(*MEMORY["photos"])
        self._maps: Kept[tuple[str, _Terms], tuple[Tensor, tuple[str, ...]]] = Kept(*MEMORY["maps"])
        self._previews: Kept[tuple[str, str], str] = Kept(*MEMORY["previews"])
        self._items: dict[str, Direction] = {}
        self._took: deque[float] = deque(maxlen=5)  # seconds of the last pictures

    # pictures

    def latents(self, session: Session, work: Work) -> Latents:
        """The code of a work's picture, unedited."""
        if work.photo:
            return self.photo(session, work)[1].latents
        rng = torch.Generator().manual_seed(work.seed)
        return self.pack.generator.sample(1, self.pack.generator.spaces["z"], rng, work.truncation)

    def edit(self, work: Work) -> Edit:
        """The stack, as far as it is switched on and its directions are in the library."""
        wanted = [entry for entry in work.stack if entry.on and entry.strength and self.has(entry)]
        return Edit(tuple((self.direction(entry), entry.strength) for entry in wanted))

    def has(self, entry: Entry) -> bool:
        """Whether an entry's direction is still in the library."""
        try:
            self.direction(replace(entry, layers=""))
        except DirectionError:
            return False
        return True

    def direction(self, entry: Entry) -> Direction:
        """An entry's direction, on its layers."""
        if entry.direction not in self._items:
            self._items[entry.direction] = self.library.item(entry.direction).direction
        direction = self._items[entry.direction]
        if not entry.layers.strip():
            return direction
        spaces = self.pack.generator.spaces
        wide = spaces.get(f"{direction.subspace.space.name}+", direction.subspace.space)
        space = wide if len(direction.subspace.space.slices) == 1 else direction.subspace.space
        return direction.on_layers(parse_layers(entry.layers.strip(), space), spaces)

    def forget(self) -> None:
        """After the library has changed."""
        self._items.clear()

    def pictures(self, session: Session, work: Work) -> Images:
        """(2, 3, R, R): before and after. Layers below the first edited one are those of the last picture."""
        edit = self.edit(work)
        return self._pairs.once(self._key(session, work, edit), lambda: self._synthesized(session, work, edit))

    def _synthesized(self, session: Session, work: Work, edit: Edit) -> Images:
        generator, latents = self.pack.generator, self.latents(session, work)
        first = min((generator.first_step(d.subspace) for d, _ in edit.terms), default=0)
        with torch.no_grad():
            started = time.monotonic()
            known = (self._name(session, work), first) in self._states
            before = self._kept(self._name(session, work), latents, first)
            started = time.monotonic() if edit.terms else started
            after = generator.synthesize(edit.apply(generator, latents), resume=before.state) if edit.terms else before
            if not after.images.isfinite().all():
                raise DirectionError("the edited picture leaves what numbers can hold: lower the strength")
            pair = torch.cat([before.images, after.images]).clamp(-1, 1)
        if edit.terms or not known:
            self._took.append(time.monotonic() - started)
        return pair

    @property
    def slow(self) -> bool:
        """Whether a picture takes longer than a person who drags a slider should wait."""
        return bool(self._took) and statistics.median(self._took) > SLOW

    def blended(self, session: Session, work: Work, moved: Sequence[int]) -> Images:
        """(2, 3, R, R): before, and a guess at after without the generator: the pictures made before at other positions
        of the same sliders, weighted by the inverse square of their distance.

        Args:
            moved: numbers of the edits whose sliders are dragged.
        """
        name, terms = self._key(session, work, self.edit(work))
        moving = {self.direction(work.stack[i]).key for i in moved if self.has(work.stack[i])}
        at, rest = _parted(terms, moving)
        weights, pairs = [], []
        for (other, positions), pair in self._pairs.items():
            there, others = _parted(positions, moving)
            if other == name and others == rest:
                weights.append(1 / (1e-6 + sum((at.get(key, 0.0) - there.get(key, 0.0)) ** 2 for key in moving)))
                pairs.append(pair)
        if not pairs:
            return self.pictures(session, work)
        share = torch.tensor(weights) / sum(weights)
        return torch.einsum("k,kpchw->pchw", share.to(pairs[0]), torch.stack(pairs))

    def _key(self, session: Session, work: Work, edit: Edit) -> tuple[str, _Terms]:
        """Of a picture and what is done to it."""
        return self._name(session, work), frozenset((d.key, strength) for d, strength in edit.simplified().terms)

    def _name(self, session: Session, work: Work) -> str:
        """Of a picture, for what is kept of it."""
        own = f"{session.folder.name} {work.photo} {work.face}" if work.photo else f"{work.seed} {work.truncation}"
        return f"picture {own}"

    def picture_name(self, session: Session) -> str:
        """Another for every picture, whatever is done to it."""
        return self._name(session, session.now)

    def _kept(self, name: str, latents: Latents, first: int) -> Synthesis:
        """The unedited picture and the state before a step, computed once for each."""
        return self._states.once((name, first), lambda: self.pack.generator.synthesize(latents, keep=first))

    def shown(self, images: Images) -> list[Image.Image]:
        """As they are sent to the page."""
        pictures = [to_pil(image) for image in images.clamp(-1, 1).cpu()]
        size = max(SHOWN, images.shape[-1])
        return [picture.resize((size, size), Image.Resampling.BICUBIC) for picture in pictures]

    def difference(self, pair: Images) -> Image.Image:
        """Where the edit changed the picture."""
        return self.shown(heat_map(pair[:1], pair[1:]))[0]

    def outlined(self, session: Session, work: Work, region: Region) -> Image.Image:
        """The edge of a region, which is that of the unedited picture, on the edited one."""
        with torch.no_grad():
            mask = region.mask(self.pack.generator.synthesize(self.latents(session, work), region.layers))
        return self.shown(outline(enlarge(self.pictures(session, work)[1:], SHOWN), mask))[0]

    def gallery(self, seeds: Sequence[int], truncation: float) -> list[Card]:
        """Pictures to choose from."""

        def card(seed: int) -> str:
            work = Work(seed, truncation)
            with torch.no_grad():
                image = self.pack.generator.synthesize(self.latents(Session(self.workspace), work)).images
            return data_address(to_pil(small(image.clamp(-1, 1))[0].cpu()))

        return [
            {"name": str(s), "src": self._previews.once((f"{s} {truncation}", ""), lambda s=s: card(s)), "note": ""}
            for s in seeds
        ]

    # regions

    def region(self, session: Session, name: str) -> Region:
        """A region by its name. Raises RegionError."""
        return self.regions.region(name, session.folder)

    def part_map(
        self, session: Session, work: Work, clusters: int | None = None
    ) -> tuple[Int[Tensor, "h w"], Sequence[str]]:
        """Which part is at each place of the edited picture, at the segmenter's size, and the parts' names.

        Args:
            clusters: tell so many clusters instead of the model's own parts.

        Raises:
            RegionError: a model without parts.
        """
        segmenter = self.pack.segmenter if clusters is None else self.regions.clusters(clusters)
        if segmenter is None:
            raise RegionError("this model has no parts: box or paint the place, or find clusters")
        edit = self.edit(work)

        def told() -> tuple[Tensor, tuple[str, ...]]:
            with torch.no_grad():
                if segmenter.layers:
                    edited = edit.apply(self.pack.generator, self.latents(session, work))
                    seen = self.pack.generator.synthesize(edited, segmenter.layers)
                else:
                    seen = Synthesis(self.pictures(session, work)[1:])
                winners = segmenter.segment(seen).argmax(dim=1)[0]
            of = f" of {clusters}" if clusters else ""
            return winners.cpu(), tuple(f"{part}{of}" for part in segmenter.parts)

        name, terms = self._key(session, work, edit)
        return self._maps.once((f"{name} {clusters}", terms), told)

    def part_at(self, session: Session, work: Work, row: float, column: float, clusters: int | None = None) -> str:
        """The part at a point, given in shares of the picture's height and width. Raises RegionError without parts."""
        winners, parts = self.part_map(session, work, clusters)
        height, width = winners.shape
        cell = winners[min(max(int(row * height), 0), height - 1), min(max(int(column * width), 0), width - 1)]
        return parts[int(cell)]

    def cluster_sheet(self, session: Session, work: Work, k: int) -> list[Card]:
        """Every cluster, outlined in the current picture. Raises RegionError where they were not found before."""
        winners, parts = self.part_map(session, work, k)
        picture = enlarge(self.pictures(session, work)[1:], THUMB)
        masks = torch.stack([(winners == i).float() for i in range(len(parts))])[:, None].to(picture)
        marked = small(spotlight(picture.expand(len(parts), -1, -1, -1), masks)).clamp(-1, 1).cpu()
        notes = [f"{share:.0%} of the picture" for share in masks.mean(dim=(1, 2, 3)).tolist()]
        rows = zip(parts, marked, notes, strict=True)
        return [{"name": part, "src": data_address(to_pil(image)), "note": note} for part, image, note in rows]

    # directions

    def previews(self, session: Session, work: Work, items: Sequence[Item], most: int | None = None) -> list[Card]:
        """Each direction on the current picture, both ways, side by side.

        Args:
            most: make those of the first ones alone; the others are left blank where they were not made before.
        """
        name = self._name(session, work)
        missing = [item for item in items[:most] if (name, item.direction.key) not in self._previews]
        edits = [Edit(((item.direction, s * PREVIEW),)) for item in missing for s in (-1, 1)]
        if edits:
            images = synthesize_edits(self.pack.generator, self.latents(session, work), edits)[0].clamp(-1, 1)
            for item, (less, more) in zip(missing, small(images).unflatten(0, (-1, 2)), strict=True):
                strip = data_address(to_pil(torch.cat([less, more], dim=2).cpu()))
                self._previews.put((name, item.direction.key), strip)
        found = [self._previews.get((name, item.direction.key)) or "" for item in items]
        return [
            {"name": item.name, "src": src, "note": item.described()} for item, src in zip(items, found, strict=True)
        ]

    def find(self, session: Session, work: Work, region: Region, method: str, progress: Progress) -> list[str]:
        """Directions of a region, kept in the library; those of ReSeFa are solved on the current picture.

        Returns:
            their names, best first.
        """
        generator, rng = self.pack.generator, torch.Generator().manual_seed(0)
        calibration = self.pack.calibration(latents=JUDGED)
        if method == "resefa":
            raw = self._solved(session, work, region, progress)
            held_out = held_out_latents(generator, calibration, rng)
            found = [judge(generator, direction, region, held_out, calibration) for direction in raw]
        else:
            made = build_method(METHODS[method], METHOD_SETTINGS[method], self.pack, [region])
            (found,) = discover(generator, [region], made, rng, calibration, progress, random=0)
        names = [self.library.add(replace(d, licence=self.pack.licence), f"{region.name}-{method}") for d in found]
        self.forget()
        return names

    def _solved(self, session: Session, work: Work, region: Region, progress: Progress) -> list[Direction]:
        """ReSeFa on the Jacobian of the current picture, which is kept for the next region."""
        generator, method = self.pack.generator, ReSeFa(k=METHOD_SETTINGS["resefa"]["k"])
        latents = self.latents(session, work)
        # one vector for all layers, so that the codes of photos (W+) and of seeds (W) are alike; few columns, too
        best = self.pack.best_subspaces.get(region.name, "w").replace("w+", "w")
        every = f"w:0-{len(generator.spaces['w+'].slices) - 1}" if best == "w" else best
        subspace = parse_subspace(every, generator.spaces)
        key = (self._name(session, work), str(subspace))
        solved = self._jacobians.once(
            key, lambda: jacobian(generator, latents, subspace, method.layout, progress=progress)
        )
        with torch.no_grad():
            mask = region.mask(generator.synthesize(latents, region.layers))
        gains, vectors = solve_region(solved, mask, method.layout, method.k, method.tau, region.name)
        figures = [{"lambda": float(gain)} for gain in gains]
        return as_directions(method, generator, subspace, region, vectors.float(), seed=work.seed, figures=figures)

    # photos

    def invert(self, session: Session, path: Path, method: str, progress: Progress) -> tuple[str, int, str]:
        """A photo, copied into the session's folder and inverted there.

        Returns:
            its file name there, the number of faces, and how far to trust them.

        Raises:
            PhotoError: it cannot be used.
        """
        session.folder.mkdir(parents=True, exist_ok=True)
        inverter = inverter_named(method, self.pack, None, None, progress)
        found = invert_photos(self.pack, [path], inverter, torch.Generator().manual_seed(0), Cutting(), progress)
        if found.inversion is None:
            raise PhotoError(next(iter(found.failed.values())))
        cut = found.photos[0]
        count = sum(1 for _ in session.folder.glob("photo-*.png"))
        name = f"photo-{count + 1}.png"
        cut.photo.save(session.folder / name)
        found.inversion.save(session.folder / f"{name}.safetensors")
        if len(found.inversion) > 1:  # of each face alone, for the command line
            for face in range(len(found.inversion)):
                found.inversion[face : face + 1].save(session.folder / _face_file(name, face))
        with torch.no_grad():
            images = self.pack.generator.synthesize(found.inversion.latents).images.clamp(-1, 1)
        figures = reconstruction(self.pack, cut.pictures, images)
        words = [verdict(self.pack, {k: float(v[i]) for k, v in figures.items()}) for i in range(len(images))]
        return name, len(images), "; ".join(words)

    def photo(self, session: Session, work: Work) -> tuple[CutPhoto, Inversion]:
        """A photo of the session, with the crop and the code of the chosen face alone.

        Raises:
            PhotoError: no such face. InversionError: its files are gone.
        """
        key = str(session.folder / work.photo)
        cut, inversion = self._photos.once(
            key, lambda: inverted_before(self.pack, Path(key), Path(f"{key}.safetensors"))
        )
        if work.face >= len(inversion):
            raise PhotoError(f"the photo has {len(inversion)} faces, numbered from 0; got {work.face}")
        one = slice(work.face, work.face + 1)
        return replace(cut, crops=cut.crops[one], pictures=cut.pictures[one]), inversion[one]

    # what is taken away

    def strip(self, session: Session, work: Work) -> list[Image.Image]:
        """The stack at growing shares, from none to all and half as much again."""
        latents, whole = self.latents(session, work), self.edit(work)
        edits = [whole * share for share in SHARES]
        return self.shown(synthesize_edits(self.pack.generator, latents, edits)[0])

    def frames(self, session: Session, work: Work) -> list[Image.Image]:
        """An animation from the picture to its edit and back."""
        latents, whole = self.latents(session, work), self.edit(work)
        shares = [0.5 - 0.5 * math.cos(2 * math.pi * i / FRAMES) for i in range(FRAMES)]
        return self.shown(synthesize_edits(self.pack.generator, latents, [whole * share for share in shares])[0])

    def compare(self, region: Region, names: Sequence[str], seed: int, progress: Progress) -> tuple[Image.Image, str]:
        """See `comparison.compared`."""
        return compared(self.pack, self.library, region, names, seed, progress)

    def palette(
        self, session: Session, work: Work, chosen: Sequence[int] = (), steps: Sequence[float] = STEPS
    ) -> Image.Image:
        """Two edits against each other: the first along the columns, the second down the rows; the others stay.

        Args:
            chosen: their numbers in the stack; the first two that are on by default.

        Raises:
            DirectionError: there are fewer than two.
        """
        numbers = list(chosen) or [i for i, e in enumerate(work.stack) if e.on and self.has(e)][:2]
        if len(numbers) < 2:
            raise DirectionError("a palette is of two edits: add another to the stack")
        across, down = (self.direction(work.stack[i]) for i in numbers)
        rest = self.edit(replace(work, stack=tuple(e for i, e in enumerate(work.stack) if i not in numbers)))
        edits = [rest + Edit(((across, a), (down, b))) for b in steps for a in steps]
        pictures = synthesize_edits(self.pack.generator, self.latents(session, work), edits)[0].clamp(-1, 1)
        return to_pil(sheet(pictures, len(steps), gap=0).cpu())

    def palette_key(self, session: Session, work: Work, chosen: tuple[int, int]) -> str:
        """Of a palette: of the picture and of all but the strengths of two edits."""
        rest = tuple(replace(e, strength=0.0, on=True) if i in chosen else e for i, e in enumerate(work.stack))
        words = f"{self._name(session, work)} {chosen} {rest}"
        return hashlib.sha256(words.encode()).hexdigest()[:16]

    def kept_palette(self, session: Session, work: Work, chosen: tuple[int, int]) -> str | None:
        """The palette of two edits as it was made before."""
        return self._previews.get(("palette", self.palette_key(session, work, chosen)))

    def palette_picture(self, session: Session, work: Work, chosen: tuple[int, int], reach: float) -> str:
        """Two edits against each other, five steps each from -reach to reach, as an address."""
        steps = [reach * step for step in (-1.0, -0.5, 0.0, 0.5, 1.0)]
        key = ("palette", self.palette_key(session, work, chosen))
        return self._previews.once(key, lambda: data_address(self.palette(session, work, chosen, steps)))

    def finished(self, session: Session, work: Work) -> Image.Image:
        """The edited picture; of a photo the whole of it, with the edit put back."""
        if not work.photo:
            return to_pil(self.pictures(session, work)[1].cpu())
        cut, inversion = self.photo(session, work)
        edited, _ = edit_photo(self.pack, cut, inversion, self.edit(work), PasteBack())
        return to_pil(edited.image[0].cpu())

    def command(self, session: Session, work: Work) -> str:
        """The command line that makes the same picture."""
        words = ["situ", "edit", "--model", self.model]
        if work.photo:
            place = session.folder / work.photo
            alone = session.folder / _face_file(work.photo, work.face)
            codes = alone if alone.is_file() else f"{place}.safetensors"
            words += ["--photo", str(place), "--latents", str(codes)]
        else:
            words += ["--seed", str(work.seed), "--truncation", f"{work.truncation:g}"]
        for entry in work.stack:
            if entry.on and entry.strength and self.has(entry):
                layers = f"@{entry.layers.strip()}" if entry.layers.strip() else ""
                words += ["--apply", f"{self.library.item(entry.direction).path}:{entry.strength:g}{layers}"]
        return shlex.join([*words, "-o", "edited.png"])
