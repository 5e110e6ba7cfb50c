"""What MAGEC's tables are made of: photos, the rows' methods, and the photos' codes, found once and shared by them.

Grechka et al. 2021 invert 1000 pictures of CelebA-HQ. Here the photos are held-out renders, which the generator never
made and no recipe trains on. Of other models there are none: their own pictures stand in, which every inverter finds
easier, and the tables say so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from situ.bench.run import Run, real_pictures, reference_pictures
from situ.bench.searches import clock
from situ.core.errors import InversionError
from situ.core.images import Images
from situ.core.inversion import Inversion, Inverter, invert, load_inversion, with_noise_of
from situ.core.latents import Latents
from situ.inversion.encoder import EncoderInversion
from situ.inversion.image2stylegan import Image2StyleGAN
from situ.inversion.magec import MAGEC
from situ.inversion.optimization import Optimization
from situ.packs.inverters import STEPS, inverter_named, magec_of
from situ.packs.pack import Pack
from situ.packs.portraits.renderer import attributes, sample_factors

PHOTOS = 5_000_101  # plus the bench's seed: seed of the photos
BATCH = 32
QUICK = 20  # times fewer steps of every optimisation in a quick run

ENCODER, REFINED, REFINED_PUBLISHED = "encoder", "encoder + MAGEC", "encoder + MAGEC as published"
REFINED_WITHOUT = f"encoder + {STEPS} steps"
FULL, PUBLISHED = "MAGEC", "MAGEC as published"
WITHOUT, LONGER, IMAGE2STYLEGAN = "without MAGEC", "without MAGEC, 300 steps", "Image2StyleGAN++"

WEIGHT_NOTE = (
    "The published weight of L_MAGEC, 3e-4, counts nothing when losses are means (the paper does not say): MAGEC has a "
    'hundred times that, "as published" the paper\'s number. The weight was chosen on 16 other renders.'
)


@dataclass(frozen=True)
class Photos:
    """Pictures to invert, and what is known of them."""

    images: Images
    words: str  # what they are
    shown: Bool[Tensor, "n a"] | None  # attributes, by the renderer, else by the pack's reader where it has one
    factors: Float[Tensor, "n f"] | None  # of the renderer

    def __len__(self) -> int:
        return len(self.images)


def photos_of(run: Run) -> Photos:
    """The photos of a run, always the same for one seed and number."""
    pack, n, seed = run.pack, run.size.pictures, PHOTOS + run.seed
    images = real_pictures(pack, n, seed)
    if images is not None:
        factors = sample_factors(n, torch.Generator().manual_seed(seed))
        return Photos(images, f"{n} held-out renders", attributes(factors), factors)
    images, words = reference_pictures(pack, n, seed)
    shown = None
    if pack.reader is not None:
        with torch.no_grad():
            shown = torch.cat([pack.reader.classify(some) > 0.5 for some in images.split(BATCH)]).cpu()
    return Photos(images, words, shown, None)


def methods_of(pack: Pack, quick: bool) -> dict[str, Inverter]:
    """The rows that this model can have.

    Raises:
        InversionError: a generator without W+.
    """
    if "w+" not in pack.generator.spaces:
        raise InversionError(
            f"MAGEC's tables are of codes in W+, {pack.generator.name} has {', '.join(pack.generator.spaces)}: take a "
            "StyleGAN"
        )
    rows: dict[str, Inverter] = {}
    start = EncoderInversion(pack.encoder) if pack.encoder is not None else None
    if pack.reader is not None:
        full = magec_of(pack)
        alone = replace(full, magec=0.0)
        if start is not None:
            refined = full.refining(start)
            rows |= {ENCODER: start, REFINED: refined, REFINED_PUBLISHED: refined.as_published()}
            rows[REFINED_WITHOUT] = alone.refining(start)
        rows |= {FULL: full, PUBLISHED: full.as_published(), WITHOUT: alone}
        rows[LONGER] = replace(alone, first_steps=150, second_steps=150)
    else:
        alone = Optimization(pack.distance, pack.embed)
        if start is not None:
            rows |= {ENCODER: start, REFINED_WITHOUT: replace(alone, steps=STEPS, start=start)}
        rows |= {WITHOUT: alone, LONGER: replace(alone, steps=300)}
    rows[IMAGE2STYLEGAN] = inverter_named("image2stylegan", pack)
    return {name: _short(method) for name, method in rows.items()} if quick else rows


def _short(method: Inverter) -> Inverter:
    if isinstance(method, MAGEC):
        return replace(method, first_steps=method.first_steps // QUICK, second_steps=method.second_steps // QUICK)
    if isinstance(method, Optimization):
        return replace(method, steps=method.steps // QUICK)
    if isinstance(method, Image2StyleGAN):
        return replace(method, steps=method.steps // QUICK, noise_steps=method.noise_steps // QUICK)
    return method


def inversion_notes(pack: Pack, photos: Photos) -> list[str]:
    """What differs from the paper, and which rows this model cannot have."""
    notes = [f"The photos are {photos.words}. Perceptual distances are {pack.distance.name}, not LPIPS."]
    if photos.factors is None:
        notes.append(
            "Pictures of the generator itself have codes whose pictures they are exactly, which no photo has: what is "
            "told of photos by these figures is little."
        )
    if pack.reader is not None:
        notes.append(WEIGHT_NOTE)
    else:
        notes.append(
            f"{pack.name} has no classifier of attributes: no row is with MAGEC, no edit turns an attribute over. "
            "Without it, pixels count from the first step on."
        )
    if pack.encoder is None:
        notes.append(f"{pack.name} has no encoder: no row begins at its codes.")
    if not getattr(pack.generator, "noise_layers", dict)():
        notes.append(
            "The generator makes no use of noise maps, so that Image2StyleGAN++ is its first half, on the codes."
        )
    return notes


@dataclass(frozen=True)
class Inverted:
    """Codes of the photos."""

    inversion: Inversion
    seconds: float  # a photo

    @property
    def steps(self) -> int:
        """Of the optimisation."""
        return max((len(rows) for rows in self.inversion.history.values()), default=0)


class _Counted:
    """What of the steps was done in this process: one that goes on with an earlier one's work does the rest alone."""

    def __init__(self) -> None:
        self.first = self.last = self.total = 0.0

    def __call__(self, done: int | float, total: int, message: str = "") -> None:
        self.first, self.last, self.total = self.first or done, done, total

    @property
    def share(self) -> float:
        return (self.last - self.first + 1) / self.total if self.total else 1.0


def inverted(run: Run, name: str, method: Inverter, photos: Photos) -> Inverted:
    """The photos' codes by a method; kept, and where they are half done, gone on with."""
    cells, generator = run.shared("inversions"), run.pack.generator
    label = f"{name} {len(photos)} photos seed {run.seed}"
    path, resumed = cells.path(label, ".safetensors"), isinstance(method, (MAGEC, Optimization, Image2StyleGAN))

    def make() -> object:
        run.say(label)
        own, counted, tick = method, _Counted(), clock(run.pack)
        if isinstance(method, (MAGEC, Optimization, Image2StyleGAN)):
            own = replace(method, under_way=cells.path(f"{label} under way", ".safetensors"))
        started = tick()
        found = complete(invert(generator, photos.images, own, torch.Generator().manual_seed(0), counted))
        seconds = (tick() - started) / (counted.share if resumed else 1.0)
        found.save(path)
        return {"file": path.name, "seconds": seconds / len(photos)}

    cell: Mapping[str, float] = cells.value(label, make)
    found = load_inversion(path, generator.name)
    codes = found.latents.with_values(found.latents.values.to(generator.device))
    return Inverted(replace(found, latents=codes), cell["seconds"])


def complete(found: Inversion) -> Inversion:
    """An inversion that was not cut short: what Ctrl-C leaves is no measurement."""
    if not found.complete:
        raise KeyboardInterrupt
    return found


def pictures(pack: Pack, found: Inversion, latents: Latents | None = None) -> Images:
    """The pictures of an inversion, or of its codes edited, in [-1, 1], with the noise maps that it found."""
    whole = found if latents is None else replace(found, latents=latents)
    made = []
    with torch.no_grad():
        for i in range(0, len(whole), BATCH):
            some = whole[i : i + BATCH]
            made.append(with_noise_of(pack.generator, some).synthesize(some.latents).images.clamp(-1, 1))
    return torch.cat(made)
