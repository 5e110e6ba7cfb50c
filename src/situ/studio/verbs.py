"""What the studio does: each a call or two of a public verb on the pack that is open.

Bounded memory: a few states of the synthesis (what lies below the first edited layer), photos and Jacobians are kept.
"""

import math
import shlex
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from situ.bench.compare import compare_methods, draw_comparison
from situ.core.direction import Direction, Edit
from situ.core.discovery import as_directions, discover, held_out_latents, judge
from situ.core.errors import DirectionError, PhotoError, RegionError
from situ.core.generator import Synthesis
from situ.core.images import Images, Masks, to_pil
from situ.core.inversion import Inversion
from situ.core.jacobian import Jacobian, jacobian
from situ.core.latents import Latents, parse_layers, parse_subspace
from situ.core.progress import Progress
from situ.core.region import Brush, Part, Region
from situ.core.traversal import palette, synthesize_edits
from situ.discovery.resefa import ReSeFa, solve_region
from situ.figures.overlays import enlarge, heat_map, outline
from situ.packs.inverters import inverter_named
from situ.packs.methods import METHODS, build_method
from situ.packs.pack import Pack
from situ.packs.photos import CutPhoto, Cutting, edit_photo, invert_photos, inverted_before, reconstruction, verdict
from situ.photos.paste_back import PasteBack
from situ.studio.library import Item, Library
from situ.studio.session import Entry, Session, Work

SHOWN = 704  # pixels at least of a picture that is sent: Gradio finds no clicks in pictures that the page enlarges
STATES = 8  # of the synthesis that are kept
JACOBIANS = 2
PHOTOS = 4
JUDGED = 8  # held-out pictures that a direction's strength and score are taken from
PREVIEW = 2.0  # strength of the previews, both ways
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of the stack, in strips
FRAMES = 24  # of an animation, there and back
METHOD_SETTINGS: dict[str, dict[str, Any]] = {"resefa": {"k": 2}, "lelsd": {"k": 2, "layer_weights": {"image": 5.0}}}


class Studio:
    """A pack with a library, and people at work on it."""

    def __init__(self, pack: Pack, model: str, workspace: Path) -> None:
        self.pack, self.model, self.workspace = pack, model, workspace
        self.library = Library(workspace / "directions", pack.generator.name, pack.directions)
        self._states: OrderedDict[tuple[str, int], Synthesis] = OrderedDict()
        self._jacobians: OrderedDict[tuple[str, str], Jacobian] = OrderedDict()
        self._photos: OrderedDict[str, tuple[CutPhoto, Inversion]] = OrderedDict()
        self._items: dict[str, Direction] = {}

    # pictures

    def latents(self, session: Session, work: Work) -> Latents:
        """The code of a work's picture, unedited."""
        if work.photo:
            return self.photo(session, work)[1].latents
        rng = torch.Generator().manual_seed(work.seed)
        return self.pack.generator.sample(1, self.pack.generator.spaces["z"], rng, work.truncation)

    def edit(self, work: Work) -> Edit:
        """The stack, as far as it is switched on. Raises DirectionError for directions that are gone."""
        return Edit(tuple((self.direction(e), e.strength) for e in work.stack if e.on and e.strength))

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
        generator, edit = self.pack.generator, self.edit(work)
        latents = self.latents(session, work)
        first = min((generator.first_step(d.subspace) for d, _ in edit.terms), default=0)
        with torch.no_grad():
            before = self._kept(self._name(session, work), latents, first)
            after = generator.synthesize(edit.apply(generator, latents), resume=before.state) if edit.terms else before
        if not after.images.isfinite().all():
            raise DirectionError("the edited picture leaves what numbers can hold: lower the strength")
        return torch.cat([before.images, after.images]).clamp(-1, 1)

    def _name(self, session: Session, work: Work) -> str:
        """Of a picture, for what is kept of it."""
        own = f"{session.folder.name} {work.photo} {work.face}" if work.photo else f"{work.seed} {work.truncation}"
        return f"picture {own}"

    def _kept(self, name: str, latents: Latents, first: int) -> Synthesis:
        """The unedited picture and the state before a step, computed once for each."""
        key = (name, first)
        if key not in self._states:
            self._states[key] = self.pack.generator.synthesize(latents, keep=first)
            while len(self._states) > STATES:
                self._states.popitem(last=False)
        self._states.move_to_end(key)
        return self._states[key]

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

    def gallery(self, seeds: Sequence[int], truncation: float) -> list[tuple[Image.Image, str]]:
        """Pictures to choose from."""
        rows = [self.latents(Session(self.workspace), Work(seed, truncation)) for seed in seeds]
        with torch.no_grad():
            images = torch.cat([self.pack.generator.synthesize(row).images for row in rows])
        return [(to_pil(image.clamp(-1, 1)), str(seed)) for image, seed in zip(images.cpu(), seeds, strict=True)]

    # regions

    def part_at(self, image: Images, row: float, column: float) -> str:
        """The part at a point, given in shares of the picture's height and width. Raises RegionError without parts."""
        if self.pack.segmenter is None:
            raise RegionError("this model has no parts: paint the region with the brush")
        with torch.no_grad():
            winners = self.pack.segmenter.segment(Synthesis(image)).argmax(dim=1)[0]
        height, width = winners.shape
        cell = winners[min(int(row * height), height - 1), min(int(column * width), width - 1)]
        return self.pack.segmenter.parts[int(cell)]

    def region(self, part: str, painted: Masks | None) -> Region:
        """A region by its name. Raises RegionError."""
        if part == "brush":
            if painted is None:
                raise RegionError("nothing is painted yet: paint over the place to edit")
            return Brush(painted)
        if self.pack.segmenter is None or not part:
            raise RegionError("choose a part, click one in the picture, or paint one")
        return Part(self.pack.segmenter, tuple(part.split("+")))

    # directions

    def previews(self, session: Session, work: Work, items: Sequence[Item]) -> list[tuple[Image.Image, str]]:
        """Each direction on the current picture, both ways, side by side."""
        if not items:
            return []
        latents = self.latents(session, work)
        edits = [Edit(((item.direction, s * PREVIEW),)) for item in items for s in (-1, 1)]
        images = synthesize_edits(self.pack.generator, latents, edits)[0].clamp(-1, 1)
        pairs = images.unflatten(0, (-1, 2))
        return [(to_pil(torch.cat([a, b], dim=2).cpu()), item.name) for item, (a, b) in zip(items, pairs, strict=True)]

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
        if key not in self._jacobians:
            self._jacobians[key] = jacobian(generator, latents, subspace, method.layout, progress=progress)
            while len(self._jacobians) > JACOBIANS:
                self._jacobians.popitem(last=False)
        with torch.no_grad():
            mask = region.mask(generator.synthesize(latents, region.layers))
        gains, vectors = solve_region(self._jacobians[key], mask, method.layout, method.k, method.tau, region.name)
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
        if key not in self._photos:
            self._photos[key] = inverted_before(self.pack, Path(key), Path(f"{key}.safetensors"))
            while len(self._photos) > PHOTOS:
                self._photos.popitem(last=False)
        cut, inversion = self._photos[key]
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

    def compare(self, region: Region, methods: Sequence[str], seed: int, progress: Progress) -> Image.Image:
        """Two methods or more on the same pictures, each edited by the same perceptual distance."""
        made = {m: build_method(METHODS[m], METHOD_SETTINGS.get(m, {}), self.pack, [region]) for m in methods}
        rows, _, latents = compare_methods(
            self.pack, region, made, self.pack.unit_distance, 8, seed, 0.7, lambda name: nullcontext(progress)
        )
        return draw_comparison(self.pack, region, rows, latents, self.pack.unit_distance)

    def palette(self, session: Session, work: Work) -> Image.Image:
        """The first two edits against each other. Raises DirectionError where there are fewer."""
        chosen = [e for e in work.stack if e.on][:2]
        if len(chosen) < 2:
            raise DirectionError("a palette is of two edits: add another to the stack")
        across, down = (self.direction(entry) for entry in chosen)
        latents = self.latents(session, work)
        steps = (-2.0, -1.0, 0.0, 1.0, 2.0)
        grid = palette(self.pack.generator, across, down, latents, steps).clamp(-1, 1)
        rows = [torch.cat(list(row), dim=2) for row in grid]
        return to_pil(torch.cat(rows, dim=1).cpu())

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
            words += ["--photo", str(place), "--latents", f"{place}.safetensors"]
        else:
            words += ["--seed", str(work.seed), "--truncation", f"{work.truncation:g}"]
        for entry in work.stack:
            if entry.on and entry.strength:
                layers = f"@{entry.layers.strip()}" if entry.layers.strip() else ""
                words += ["--apply", f"{self.library.item(entry.direction).path}:{entry.strength:g}{layers}"]
        return shlex.join([*words, "-o", "edited.png"])
