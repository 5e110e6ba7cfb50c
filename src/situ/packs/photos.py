"""A photo through a pack: its faces cut out, inverted, edited, and put back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.direction import Edit
from situ.core.errors import InversionError, PhotoError, SituError
from situ.core.images import Images
from situ.core.inversion import Inversion, Inverter, invert, load_inversion, with_noise_of
from situ.core.latents import Latents
from situ.core.progress import Progress, silent
from situ.core.traversal import synthesize_edits
from situ.inversion.magec import AttributeEditor
from situ.metrics.consistency import ReversibleEdit, edit_consistency
from situ.metrics.realism import fit_realism
from situ.packs.inverters import magec_of
from situ.packs.pack import FactorReader, Pack
from situ.photos.align import Crop, box_crop, extract, face_crops
from situ.photos.landmarks import LandmarkFinder
from situ.photos.paste_back import PasteBack
from situ.photos.read import Photo, read_photo

# perceptual distance over strength 1's, and cosine of identity: better than both is trusted, worse than either is not
GOOD, POOR = (3.0, 0.9), (8.0, 0.6)
# mean edit-consistency score: 1 is as far off as the edit itself moved (MAGEC section 4.2)
GOOD_CONSISTENCY, POOR_CONSISTENCY = 0.5, 1.0
OWN_PICTURES = 1000  # of the model, among which an inverted picture is to lie
TOGETHER = 32  # pictures in one pass; bounds memory


@dataclass(frozen=True)
class Cutting:
    """Which parts of photos are meant."""

    box: tuple[int, int, int, int] | None = None  # row and column of the centre, height, width; no face is looked for
    finder: LandmarkFinder | None = None  # None: the pack's own
    faces: Sequence[int] | None = None  # numbers of the faces wanted; None: all


@dataclass(frozen=True)
class CutPhoto:
    """A photo and its crops, the pictures that are inverted."""

    path: Path
    photo: Photo
    crops: tuple[Crop, ...]
    pictures: Float[Tensor, "n 3 s s"]


@dataclass(frozen=True)
class InvertedPhotos:
    """Photos with the codes of their crops, and those that could not be used."""

    photos: tuple[CutPhoto, ...]
    inversion: Inversion | None  # of all crops in order; None where no photo could be used
    failed: dict[Path, str] = field(default_factory=dict)

    def of(self, index: int) -> Inversion:
        """The codes of one photo's crops."""
        assert self.inversion is not None
        first = sum(len(each.crops) for each in self.photos[:index])
        return self.inversion[first : first + len(self.photos[index].crops)]


def cut_photo(pack: Pack, path: Path, cutting: Cutting) -> CutPhoto:
    """Read a photo and cut out what is meant.

    Raises:
        PhotoError, ImageError: no photo, no such face, a pack that finds none.
    """
    photo, size = read_photo(path), pack.generator.resolution
    image = photo.over().to(pack.generator.device)
    if cutting.box is not None:
        crops = [box_crop(image, *cutting.box, size)]
    elif photo.size == (size, size) and cutting.finder is None and cutting.faces is None:
        crops = [box_crop(image, size // 2, size // 2, size, size, size)]  # of the generator's size: cut out already
    else:
        finder = cutting.finder or pack.landmarks
        if finder is None:
            raise PhotoError(
                f"{pack.name} finds no faces: give their points (--points FILE), or a box (--crop "
                "row,column,height,width)"
            )
        crops = face_crops(image, finder, size, cutting.faces, pack.framing)
    pictures = torch.cat([extract(image, crop).clamp(-1, 1) for crop in crops])
    return CutPhoto(path, photo, tuple(crops), pictures)


def invert_photos(
    pack: Pack,
    paths: Sequence[Path],
    inverter: Inverter,
    rng: torch.Generator,
    cutting: Cutting | None = None,
    progress: Progress = silent,
) -> InvertedPhotos:
    """Cut and invert photos, whose crops share the passes. One that cannot be used leaves its reason, and the others go
    on."""
    cut: list[CutPhoto] = []
    failed: dict[Path, str] = {}
    for path in paths:
        try:
            cut.append(cut_photo(pack, path, cutting or Cutting()))
        except SituError as error:
            failed[path] = str(error)
    if not cut:
        return InvertedPhotos((), None, failed)
    found = invert(pack.generator, torch.cat([each.pictures for each in cut]), inverter, rng, progress)
    about = [{"photo": each.path.name, "crop": crop.described()} for each in cut for crop in each.crops]
    return InvertedPhotos(tuple(cut), replace(found, about=tuple(about)), failed)


def edit_photo(
    pack: Pack, cut: CutPhoto, inversion: Inversion, edit: Edit, paste: PasteBack, force: bool = False
) -> tuple[Photo, Float[Tensor, "n 2 3 s s"]]:
    """Edit all crops of a photo and put them back.

    Returns:
        the photo, and of each crop its inversion before and after the edit.
    """
    each = [inversion[k : k + 1] for k in range(len(inversion))]
    pictures = torch.cat(
        [synthesize_edits(with_noise_of(pack.generator, one), one.latents, [Edit(), edit], force) for one in each]
    ).clamp(-1, 1)
    image: Images = cut.photo.image
    for crop, (before, after) in zip(cut.crops, pictures.cpu(), strict=True):
        image = paste(image, crop, before[None], after[None])
    return cut.photo.with_image(image), pictures


def inverted_before(pack: Pack, path: Path, codes: Path) -> tuple[CutPhoto, Inversion]:
    """A photo with codes that `situ invert` wrote for it.

    Raises:
        InversionError: codes of another generator, or that do not say where in the photo they belong.
    """
    inversion = load_inversion(codes, pack.generator.name)
    places = [each["crop"] for each in inversion.about if each.get("crop")]
    if len(places) != len(inversion):
        raise InversionError(f"{codes} does not say where in the photo its codes belong: invert the photo again")
    photo = read_photo(path)
    crops = tuple(Crop.from_described(place) for place in places)
    pictures = torch.cat([extract(photo.over().to(pack.generator.device), crop) for crop in crops])
    moved = inversion.latents.with_values(inversion.latents.values.to(pack.generator.device))
    return CutPhoto(path, photo, crops, pictures), replace(inversion, latents=moved)


def inverted_pictures(pack: Pack, inversion: Inversion) -> Images:
    """The pictures of codes, with the noise maps that came with them, in [-1, 1]."""
    with torch.no_grad():
        return with_noise_of(pack.generator, inversion).synthesize(inversion.latents).images.clamp(-1, 1)


def reconstruction(pack: Pack, photos: Images, images: Images) -> dict[str, Float[Tensor, " n"]]:
    """How near inverted pictures are to their photos: mse, perceptual, and identity where the pack knows faces."""
    with torch.no_grad():
        figures = {
            "mse": (images - photos).square().mean(dim=(1, 2, 3)),
            "perceptual": pack.distance.between(images, photos),
        }
        if pack.embed is not None:
            figures["identity"] = (pack.embed(images) * pack.embed(photos)).sum(dim=1)
    return figures


WITHOUT = "without "  # before the name of an attribute: the edit that takes it away


def attribute_edits(pack: Pack, progress: Progress = silent) -> dict[str, ReversibleEdit]:
    """Each attribute added, and each taken away, by the editor that MAGEC is supervised with.

    Raises:
        InversionError: a pack without a classifier of attributes.
    """
    editor = magec_of(pack, progress).editor
    assert isinstance(editor, AttributeEditor)  # what LinkNet's file keeps
    assert pack.reader is not None

    def moved(latents: Latents, i: int, present: bool, strength: float) -> Latents:
        return editor.turned(latents, i, torch.full([len(latents)], present, device=latents.values.device), strength)

    return {
        f"{WITHOUT if present else ''}{name}": ReversibleEdit(
            partial(moved, i=i, present=present, strength=1.0), partial(moved, i=i, present=present, strength=-1.0)
        )
        for present in (False, True)
        for i, name in enumerate(pack.reader.attributes)
    }


@dataclass(frozen=True)
class Trust:
    """What is known of inversions before anything is edited, beyond their reconstruction."""

    realism: tuple[float, ...]  # R of each inverted picture among 1000 of the model's own: from 1 on it is one of them
    consistency: tuple[dict[str, float], ...]  # of each, attribute turned over -> ecs: 0 perfect, above 1 useless

    def __getitem__(self, index: slice) -> "Trust":
        return Trust(self.realism[index], self.consistency[index])


def require_attributes(pack: Pack) -> FactorReader:
    """Raises InversionError for a pack that knows no attributes."""
    if pack.reader is None:
        raise InversionError(f"edit consistency turns attributes over, and {pack.name} has no classifier of them")
    return pack.reader


def trust(
    pack: Pack, photos: Images, inversion: Inversion, inverter: Inverter, seed: int, progress: Progress = silent
) -> Trust:
    """Whether inversions lie among the pictures of their model, and whether they come back from edits.

    Every attribute is turned over from what the photo shows and the edited picture is inverted anew: as many inversions
    as there are attributes, for each photo.

    Raises:
        InversionError: a pack without a classifier of attributes.
    """
    edits, generator, reader = attribute_edits(pack), pack.generator, require_attributes(pack)
    with torch.no_grad():
        shown = reader.classify(photos) > 0.5
        images = inverted_pictures(pack, inversion)
        rng = torch.Generator().manual_seed(seed)
        own = generator.sample(OWN_PICTURES, generator.spaces["z"], rng, 1.0)
        parts = [own[i : i + TOGETHER] for i in range(0, OWN_PICTURES, TOGETHER)]
        real = torch.cat([pack.distance.summary(generator.synthesize(part).images.clamp(-1, 1)) for part in parts])
        realism = fit_realism(real).score(pack.distance.summary(images))
    found = edit_consistency(
        generator,
        inversion,
        lambda some: invert(generator, some, inverter, torch.Generator().manual_seed(seed)),
        edits,
        pack.distance.between,
        eligible=torch.cat([~shown, shown], dim=1),
        batch=TOGETHER,
        progress=progress,
    )
    rows = [
        {name: float(score) for name, score in zip(found.attributes, row, strict=True) if score.isfinite()}
        for row in found.scores
    ]
    return Trust(tuple(realism.tolist()), tuple(rows))


def verdict(pack: Pack, figures: Mapping[str, float]) -> str:
    """How far to trust an inversion, in words: of its "perceptual" distance, "identity" and, where they are known, the
    mean "ecs" of its edits."""
    far, who, back = figures["perceptual"] / pack.unit_distance, figures.get("identity", 1.0), figures.get("ecs", 0.0)
    if back >= POOR_CONSISTENCY:
        return "poor: edits do not come back, the codes lie where the model makes no pictures"
    if far <= GOOD[0] and who >= GOOD[1] and back <= GOOD_CONSISTENCY:
        return "good: edits will be of this photo"
    if far >= POOR[0] or who <= POOR[1]:
        return "poor: the model cannot make this photo, and edits will be of another"
    return "fair: compare the inverted picture with the photo before trusting an edit"
