"""MAGEC's Tables 1 to 3 on the bundled pack, and the error that only a renderer can tell.

The photos are held-out renders, which the generator never made and no recipe trains on. Inversions are judged by

* Table 1: distances from the photo, steps, time;
* Table 2: realism of edited pictures (k-NN in the pack's features, 1 and above is realistic) and the improved-target
  score t, under four editors: attribute steps, which supervise MAGEC, StyleFlow, GANSpace, and interpolation;
* Table 3: the edit-consistency score (eq. 4-5) under attribute steps and GANSpace;
* truth, which the paper could not have: the edited inversion against the photo rendered with that factor changed.

    python -m situ.bench.magec_tables [-n 100] [--rows 'NAME;NAME'] [-o runs/magec]

Every finished row, edit by edit, is kept in the folder, so that an interrupted run goes on.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from situ.core.direction import Edit, calibrate
from situ.core.discovery import held_out_latents
from situ.core.files import write_whole
from situ.core.images import Images
from situ.core.inversion import Inversion, Inverter, invert, load_inversion
from situ.core.latents import Latents
from situ.core.region import Box
from situ.discovery.ganspace import GANSpace
from situ.discovery.styleflow import StyleFlow
from situ.inversion.encoder import EncoderInversion
from situ.inversion.image2stylegan import Image2StyleGAN
from situ.inversion.magec import AttributeEditor
from situ.metrics.consistency import ReversibleEdit, edit_consistency, reversible
from situ.metrics.perceptual import FeatureDistance
from situ.metrics.realism import Realism, fit_realism
from situ.packs.inverters import magec_of
from situ.packs.library import open_model
from situ.packs.pack import Pack
from situ.packs.photos import attribute_edits, reconstruction
from situ.packs.portraits.renderer import ATTRIBUTES, FACTORS, attributes, render, sample_factors

PHOTOS, REAL = 5_000_101, 6_000_101  # seeds of the photos, and of the pictures that say what is real
REALS = 2000
COMPONENTS = 4  # of GANSpace
STRENGTH = 2.0  # of an edit by GANSpace
NEXT = 3  # photos that each is interpolated towards, halfway
CONSISTENT = ("attribute glasses", "GANSpace component-1")  # edits of Table 3
SLIDER = (0.5, 1.0, 1.5, 2.0, 3.0)  # strengths among which a person would find the right one
BATCH = 64


@dataclass(frozen=True)
class Photos:
    """Held-out renders and what is true of them."""

    factors: Float[Tensor, "n f"]
    images: Images
    shown: Bool[Tensor, "n a"]  # attributes, by the renderer


def held_out(n: int) -> Photos:
    """The photos, always the same."""
    factors = sample_factors(n, torch.Generator().manual_seed(PHOTOS))
    return Photos(factors, render(factors, 64).images.clamp(-1, 1), attributes(factors))


def rows_of(pack: Pack) -> dict[str, Inverter]:
    """The rows of the tables, by name."""
    assert pack.encoder is not None
    full, start = magec_of(pack), EncoderInversion(pack.encoder)
    refined = full.refining(start)
    return {
        "encoder": start,
        "encoder + MAGEC": refined,
        "encoder + MAGEC as published": refined.as_published(),
        "encoder + 40 steps": replace(refined, magec=0.0),
        "MAGEC": full,
        "MAGEC as published": full.as_published(),
        "without MAGEC": replace(full, magec=0.0),
        "without MAGEC, 300 steps": replace(full, magec=0.0, first_steps=150, second_steps=150),
        "Image2StyleGAN++": Image2StyleGAN(pack.distance),
    }


@dataclass(frozen=True)
class Editor:
    """A way to edit: names of its edits, and each on codes. Those of attributes turn each photo's own over."""

    edits: Mapping[str, Callable[[Latents], Latents]]
    attributes: bool = False


def editors_of(pack: Pack, shown: Bool[Tensor, "n a"]) -> dict[str, Editor]:
    """The editors of Table 2."""
    assert pack.reader is not None
    editor = magec_of(pack).editor
    assert isinstance(editor, AttributeEditor)
    names = pack.reader.attributes
    flow = StyleFlow(pack.reader).fit(pack.generator, torch.Generator().manual_seed(0))

    def flowed(latents: Latents, attribute: str, column: int) -> Latents:
        out = [flow.edit(latents, attribute, target).values for target in (0.0, 1.0)]
        return latents.with_values(torch.where(shown[:, column, None].to(out[0].device), out[0], out[1]))

    def halfway(latents: Latents, by: int) -> Latents:
        return latents.with_values((latents.values + latents.values.roll(by, dims=0)) / 2)

    return {
        "attributes": Editor(
            {a: partial(editor.turned, attribute=i, present=shown[:, i]) for i, a in enumerate(names)}, True
        ),
        "StyleFlow": Editor({a: partial(flowed, attribute=a, column=i) for i, a in enumerate(names)}, True),
        "GANSpace": Editor({name: edit.apply for name, edit in ganspace_edits(pack).items()}),
        "interpolation": Editor({f"half {by}": partial(halfway, by=by) for by in range(1, NEXT + 1)}),
    }


def ganspace_edits(pack: Pack) -> dict[str, ReversibleEdit]:
    """Both ways along the first components, at one perceptual strength."""
    rng = torch.Generator().manual_seed(0)
    everywhere = Box(32, 32, 62, 62)  # a region, for a method that asks for none
    (components,) = GANSpace(k=COMPONENTS, space="w").find(pack.generator, [everywhere], rng)
    codes = held_out_latents(pack.generator, pack.calibration(), rng)
    edits = {}
    for direction in components:
        starts = pack.generator.convert(codes, direction.subspace.space)
        unit = calibrate(pack.generator, direction, starts, pack.distance.between, pack.unit_distance)
        for sign, word in ((1, ""), (-1, " back")):
            edits[f"{direction.name}{word}"] = reversible(pack.generator, Edit(((unit, 1.0),)), sign * STRENGTH)
    return edits


def consistency_edits(pack: Pack) -> dict[str, ReversibleEdit]:
    """The edits of Table 3: attributes that are added, and GANSpace's."""
    found = {f"GANSpace {name}": edit for name, edit in ganspace_edits(pack).items()}
    found |= {f"attribute {name}": edit for name, edit in attribute_edits(pack).items()}
    return {name: found[name] for name in CONSISTENT}


def in_batches(made: Callable[[Latents], Images], latents: Latents) -> Images:
    return torch.cat([made(latents[i : i + BATCH]) for i in range(0, len(latents), BATCH)])


def pictures(pack: Pack, latents: Latents) -> Images:
    """In [-1, 1]."""
    with torch.no_grad():
        return in_batches(lambda some: pack.generator.synthesize(some).images.clamp(-1, 1), latents)


def realism_of(pack: Pack) -> Realism:
    """What renders are like, in the pack's features of whole pictures.

    (Features that tell people apart would not do: noise has 0.86 there, and renders have 1.04.)
    """
    real = render(sample_factors(REALS, torch.Generator().manual_seed(REAL)), 64).images.clamp(-1, 1)
    with torch.no_grad():
        return fit_realism(torch.cat([summary_of(pack)(some) for some in real.split(BATCH)]))


def summary_of(pack: Pack) -> Callable[[Images], Float[Tensor, "n s"]]:
    """The features that realism is judged in."""
    assert isinstance(pack.distance, FeatureDistance)
    return pack.distance.summary


def editability(
    pack: Pack, latents: Latents, shown: Bool[Tensor, "n a"], editors: Mapping[str, Editor], real: Realism
) -> dict[str, dict[str, list[float]]]:
    """Table 2: under each editor, every photo's mean realism and mean t over the edits."""
    assert pack.reader is not None
    classify, summary = pack.reader.classify, summary_of(pack)
    wanted = 1 - 2 * shown.float()  # which way each probability is to go
    found: dict[str, dict[str, list[float]]] = {}
    with torch.no_grad():
        before = torch.cat([classify(some) for some in pictures(pack, latents).split(BATCH)])
        for name, editor in editors.items():
            realism, rise = [], []
            for i, edit in enumerate(editor.edits.values()):
                images = pictures(pack, edit(latents)).split(BATCH)
                realism.append(torch.cat([real.score(summary(some)) for some in images]))
                if editor.attributes:
                    after = torch.cat([classify(some) for some in images])
                    rise.append(wanted[:, i] * (after - before)[:, i])
            found[name] = {"realism": torch.stack(realism).mean(dim=0).tolist()}
            if rise:
                found[name]["t"] = torch.stack(rise).mean(dim=0).tolist()
    return found


@dataclass(frozen=True)
class Truth:
    """A photo's factor behind an attribute, on the other side of its threshold."""

    attribute: str
    images: Images


def true_edits(photos: Photos) -> Iterator[Truth]:
    """The photos rendered again, each attribute in turn brought to the mean of the other side."""
    names = [factor.name for factor in FACTORS]
    usual = sample_factors(10_000, torch.Generator().manual_seed(REAL))
    sides = attributes(usual)
    for i, attribute in enumerate(ATTRIBUTES):
        column = names.index(attribute.factor)
        on, off = usual[sides[:, i], column].mean(), usual[~sides[:, i], column].mean()
        changed = photos.factors.clone()
        changed[:, column] = torch.where(photos.shown[:, i], off, on)
        yield Truth(attribute.name, render(changed, 64).images.clamp(-1, 1))


def truth_errors(
    pack: Pack, latents: Latents, photos: Photos, editor: AttributeEditor, truths: Sequence[Truth]
) -> dict[str, list[float]]:
    """How near edited inversions come to the true renders, each photo's mean over attributes.

    "mse" is at the best strength of a slider, for each edit; "unedited" leaves the inversion as it is. "cosine" is
    between the change of the edit (strength 1) and the true change, in pixels.
    """
    before = pictures(pack, latents)
    unedited, best, cosine = [], [], []
    for i, truth in enumerate(truths):
        moves = {s: pictures(pack, editor.turned(latents, i, photos.shown[:, i], s)) for s in SLIDER}
        errors = torch.stack([_mse(images, truth.images) for images in moves.values()])
        unedited.append(_mse(before, truth.images))
        best.append(torch.minimum(errors.amin(dim=0), unedited[-1]))  # a slider can be left alone
        cosine.append(
            torch.cosine_similarity((moves[1.0] - before).flatten(1), (truth.images - photos.images).flatten(1))
        )
    each = {"mse": best, "unedited": unedited, "cosine": cosine}
    return {name: torch.stack(rows).mean(dim=0).tolist() for name, rows in each.items()}


def _mse(a: Images, b: Images) -> Float[Tensor, " n"]:
    return (a - b).square().mean(dim=(1, 2, 3))


def consistency(pack: Pack, found: Inversion, method: Inverter, edit: ReversibleEdit, eligible: Bool[Tensor, " n"]):
    """Table 3: every photo's ecs under one edit; NaN for those that show the attribute already."""

    def project(images: Images) -> Inversion:
        return invert(pack.generator, images, method, torch.Generator().manual_seed(0))

    return (
        edit_consistency(
            pack.generator, found, project, {"": edit}, pack.distance.between, eligible=eligible[:, None], batch=BATCH
        )
        .scores[:, 0]
        .tolist()
    )


class Kept:
    """A folder of results, one JSON for each name, written whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str, suffix: str) -> Path:
        return self.folder / f"{''.join(c if c.isalnum() else '_' for c in name)}{suffix}"

    def value(self, name: str, make: Callable[[], object]) -> object:
        path = self.path(name, ".json")
        if not path.exists():
            text = json.dumps(make())
            write_whole(path, lambda place: place.write_text(text))
        return json.loads(path.read_text())


def inverted(pack: Pack, name: str, method: Inverter, photos: Photos, kept: Kept) -> Inversion:
    """The codes of the photos, and in a note beside them how long they took."""
    n = len(photos.images)
    codes = kept.path(f"{name} {n}", ".safetensors")
    if not codes.exists():
        if hasattr(method, "under_way"):
            method = replace(method, under_way=kept.path(f"{name} {n} under way", ".safetensors"))  # pyright: ignore
        started = time.process_time()
        found = invert(pack.generator, photos.images, method, torch.Generator().manual_seed(0))
        kept.value(f"{name} {n} seconds", lambda: (time.process_time() - started) / n)
        found.save(codes)
    return load_inversion(codes, pack.generator.name)


def run(n: int, names: Sequence[str], folder: Path, say: Callable[[str], None], consistent: bool = True) -> None:
    """Make what is missing: all inversions first, then their edits, then what needs new inversions."""
    pack, kept, photos = open_model("portraits"), Kept(folder), held_out(n)
    rows = {name: method for name, method in rows_of(pack).items() if not names or name in names}
    found = {}
    for name, method in rows.items():
        found[name] = inverted(pack, name, method, photos, kept)
        say(f"{name}: inverted")
    editor, real, truths = magec_of(pack).editor, realism_of(pack), list(true_edits(photos))
    assert isinstance(editor, AttributeEditor)
    editors = editors_of(pack, photos.shown)
    for name, inversion in found.items():
        latents = inversion.latents

        def judged(latents: Latents = latents) -> object:
            own = pictures(pack, latents)
            return {
                "reconstruction": {k: v.tolist() for k, v in reconstruction(pack, photos.images, own).items()},
                "edits": editability(pack, latents, photos.shown, editors, real),
                "truth": truth_errors(pack, latents, photos, editor, truths),
            }

        kept.value(f"{name} {n} judged", judged)
        say(f"{name}: judged")
    if not consistent:
        return
    assert pack.reader is not None
    for edit_name, edit in consistency_edits(pack).items():
        attribute = edit_name.removeprefix("attribute ")
        known = attribute in pack.reader.attributes
        eligible = ~photos.shown[:, pack.reader.attributes.index(attribute)] if known else torch.ones(n).bool()
        for name, method in rows.items():
            kept.value(
                f"{name} {n} ecs {edit_name}",
                lambda name=name, method=method, edit=edit, eligible=eligible: consistency(
                    pack, found[name], method, edit, eligible
                ),
            )
            say(f"{name}: ecs {edit_name}")


@dataclass(frozen=True)
class Judged:
    """What the folder of a run knows of one row; every list has a number for each photo."""

    seconds: float
    reconstruction: Mapping[str, list[float]]
    edits: Mapping[str, Mapping[str, list[float]]]
    truth: Mapping[str, list[float]]
    consistency: Mapping[str, list[float]]  # of the edits that were inverted anew


def finished(folder: Path, n: int, names: Sequence[str]) -> dict[str, Judged]:
    """The rows of a run that are there."""
    kept, found = Kept(folder), {}
    for name in names:
        if kept.path(f"{name} {n} judged", ".json").exists():
            consistency = {
                edit: json.loads(path.read_text())
                for edit in CONSISTENT
                if (path := kept.path(f"{name} {n} ecs {edit}", ".json")).exists()
            }
            judged = json.loads(kept.path(f"{name} {n} judged", ".json").read_text())
            seconds = json.loads(kept.path(f"{name} {n} seconds", ".json").read_text())
            found[name] = Judged(seconds, **judged, consistency=consistency)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="MAGEC's tables on held-out renders.")
    parser.add_argument("-n", type=int, default=100, help="photos")
    parser.add_argument("--rows", default="", help="divided by semicolons; all by default")
    parser.add_argument("--no-consistency", action="store_true", help="leave Table 3, which inverts anew, out")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/magec"))
    arguments = parser.parse_args()
    names = [name.strip() for name in arguments.rows.split(";") if name.strip()]
    run(arguments.n, names, arguments.out, lambda text: print(text, flush=True), not arguments.no_consistency)


if __name__ == "__main__":
    main()
