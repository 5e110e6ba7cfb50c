"""The editors of MAGEC's tables 2 and 3: attribute steps, which supervise MAGEC, StyleFlow, GANSpace, interpolation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from situ.bench.magec_inversions import Photos
from situ.bench.run import Run
from situ.bench.searches import QUICK
from situ.core.direction import Edit, calibrate
from situ.core.discovery import held_out_latents
from situ.core.errors import DirectionError
from situ.core.latents import Latents
from situ.core.region import Box
from situ.discovery.ganspace import GANSpace
from situ.discovery.styleflow import FittedStyleFlow, StyleFlow
from situ.inversion.magec import AttributeEditor
from situ.metrics.consistency import ReversibleEdit, reversible
from situ.packs.inverters import magec_of
from situ.packs.pack import Pack

COMPONENTS = 4  # of GANSpace
STRENGTH = 2.0  # of an edit by GANSpace
NEXT = 3  # photos that each is interpolated towards, halfway
ATTRIBUTES, STYLEFLOW, GANSPACE, INTERPOLATION = "attributes", "StyleFlow", "GANSpace", "interpolation"


@dataclass(frozen=True)
class Editor:
    """A way to edit: names of its edits, and each on the codes of all photos. Those of attributes turn each photo's own
    over, in the order of the reader's."""

    edits: Mapping[str, Callable[[Latents], Latents]]
    attributes: bool = False


def attribute_editor(pack: Pack) -> AttributeEditor:
    """The steps that MAGEC is supervised with."""
    editor = magec_of(pack).editor
    assert isinstance(editor, AttributeEditor)  # what LinkNet's file keeps
    return editor


def editors_of(run: Run, photos: Photos) -> dict[str, Callable[[], Editor]]:
    """The editors that this model can have, each made when it is asked for."""
    makers: dict[str, Callable[[], Editor]] = {}
    if run.pack.reader is not None and photos.shown is not None:
        makers[ATTRIBUTES] = partial(_by_attributes, run.pack, photos.shown)
        makers[STYLEFLOW] = partial(_by_styleflow, run, photos.shown)
    makers[GANSPACE] = lambda: Editor({name: edit.apply for name, edit in ganspace_edits(run).items()})
    makers[INTERPOLATION] = lambda: Editor({f"half {by}": partial(_halfway, by=by) for by in range(1, NEXT + 1)})
    return {name: cache(make) for name, make in makers.items()}


def _by_attributes(pack: Pack, shown: Bool[Tensor, "n a"]) -> Editor:
    assert pack.reader is not None
    turned = attribute_editor(pack).turned
    names = pack.reader.attributes
    return Editor({a: partial(turned, attribute=i, present=shown[:, i]) for i, a in enumerate(names)}, attributes=True)


def _by_styleflow(run: Run, shown: Bool[Tensor, "n a"]) -> Editor:
    """Each attribute brought to probability 0 where it shows, else to 1."""
    reader = run.pack.reader
    assert reader is not None
    settings: Mapping[str, Any] = QUICK["styleflow"] if run.quick else {}
    method = replace(StyleFlow(reader), **settings)
    run.say("training StyleFlow")
    flow = method.fit(run.pack.generator, torch.Generator().manual_seed(0))
    names = reader.attributes
    return Editor({a: partial(_flowed, flow=flow, attribute=a, shown=shown[:, i]) for i, a in enumerate(names)}, True)


def _flowed(latents: Latents, flow: FittedStyleFlow, attribute: str, shown: Bool[Tensor, " n"]) -> Latents:
    values = latents.values.clone()
    for rows, target in ((shown, 0.0), (~shown, 1.0)):
        chosen = rows.nonzero().flatten().to(values.device)
        if len(chosen):
            labels = None if latents.labels is None else latents.labels[chosen]
            some = replace(latents, values=latents.values[chosen], labels=labels)
            values[chosen] = flow.edit(some, attribute, target).values
    return latents.with_values(values)


def _halfway(latents: Latents, by: int) -> Latents:
    return latents.with_values((latents.values + latents.values.roll(by, dims=0)) / 2)


def ganspace_edits(run: Run) -> dict[str, ReversibleEdit]:
    """Both ways along the first components, at one perceptual strength; those that hardly change pictures are left
    out."""
    pack = run.pack
    rng, middle = torch.Generator().manual_seed(0), pack.generator.resolution // 2
    everywhere = Box(middle, middle, 2 * middle - 2, 2 * middle - 2)  # a region, for a method that asks for none
    settings: Mapping[str, Any] = {**(QUICK["ganspace"] if run.quick else {}), "k": COMPONENTS}
    method = replace(GANSpace(space="w"), **settings)
    (components,) = method.find(pack.generator, [everywhere], rng)
    codes = held_out_latents(pack.generator, pack.calibration(), rng)
    edits = {}
    for direction in components:
        starts = pack.generator.convert(codes, direction.subspace.space)
        try:
            unit = calibrate(pack.generator, direction, starts, pack.distance.between, pack.unit_distance)
        except DirectionError:
            continue
        for sign, word in ((1, ""), (-1, " back")):
            edits[f"{direction.name}{word}"] = reversible(pack.generator, Edit(((unit, 1.0),)), sign * STRENGTH)
    return edits
