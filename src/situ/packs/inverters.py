"""The inverters of a pack: what it has of encoder, attributes and distances decides what can be asked of it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from situ.checkpoints.networks import data_folder
from situ.core.errors import InversionError
from situ.core.inversion import Inverter
from situ.core.progress import Progress, silent
from situ.inversion.descriptors import Attributes
from situ.inversion.encoder import EncoderInversion
from situ.inversion.image2stylegan import Image2StyleGAN, NoisyGenerator
from situ.inversion.magec import MAGEC, AttributeEditor, attribute_magec, load_link, save_link
from situ.inversion.optimization import Optimization
from situ.packs.pack import Pack

LINK_SAMPLES = 2000  # described pictures that LinkNet is fitted on, once for a generator
STEPS = 40  # of a refinement: where the encoder and 200 steps of the published schedule meet


def link_path(pack: Pack) -> Path:
    """Where LinkNet and the editor of a generator are kept, once they are fitted."""
    return data_folder() / "links" / f"{pack.generator.name}.safetensors"


def magec_of(pack: Pack, progress: Progress = silent) -> MAGEC:
    """MAGEC as published, with LinkNet and editor of this pack: those that were kept, or fitted now and kept.

    Raises:
        InversionError: a pack without a classifier of attributes.
    """
    if pack.reader is None:
        raise InversionError(
            f"MAGEC needs a classifier of attributes, and {pack.name} has none: --method optimization does without"
        )
    attributes, path = Attributes(pack.reader), pack.link or link_path(pack)
    if path.exists():
        link, editor = load_link(path, pack.generator.name, pack.generator.device)
        return MAGEC(pack.distance, attributes, link, editor, pack.embed)
    rng = torch.Generator().manual_seed(0)
    made = attribute_magec(pack.generator, attributes, pack.distance, pack.embed, rng, LINK_SAMPLES, progress)
    assert isinstance(made.editor, AttributeEditor)
    if os.access(_existing(path.parent), os.W_OK):  # a machine without a place for it fits again next time
        save_link(made.link, made.editor, pack.generator.name, path)
    return made


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _encoder(pack: Pack) -> EncoderInversion:
    if pack.encoder is None:
        raise InversionError(f"{pack.name} has no encoder: --method optimization starts from the mean code")
    return EncoderInversion(pack.encoder)


def _refined(pack: Pack, steps: int | None, progress: Progress) -> Inverter:
    """The best that the pack has: encoder, then MAGEC or, without attributes, the picture's losses alone."""
    if pack.encoder is None:
        return _magec(pack, steps, progress) if pack.reader else _optimization(pack, steps, progress)
    if pack.reader:
        return magec_of(pack, progress).refining(_encoder(pack), steps or STEPS)
    return Optimization(pack.distance, pack.embed, steps=steps or STEPS, start=_encoder(pack))


def _magec(pack: Pack, steps: int | None, progress: Progress) -> Inverter:
    made = magec_of(pack, progress)
    return made if steps is None else replace(made, first_steps=steps // 2, second_steps=steps - steps // 2)


def _optimization(pack: Pack, steps: int | None, progress: Progress) -> Inverter:
    return Optimization(pack.distance, pack.embed, steps=steps or Optimization.steps)


def _image2stylegan(pack: Pack, steps: int | None, progress: Progress) -> Inverter:
    made = Image2StyleGAN(pack.distance)
    made = made if isinstance(pack.generator, NoisyGenerator) else replace(made, noise_steps=0)
    return made if steps is None else replace(made, steps=steps, noise_steps=min(steps, made.noise_steps))


INVERTERS: Mapping[str, tuple[str, Callable[[Pack, int | None, Progress], Inverter]]] = {
    "refined": ("encoder, then a few steps of MAGEC", _refined),
    "encoder": ("one pass of the encoder", lambda pack, steps, progress: _encoder(pack)),
    "magec": ("MAGEC as published, from the mean code", _magec),
    "optimization": ("the same losses without MAGEC's", _optimization),
    "image2stylegan": ("Image2StyleGAN++: 1000 steps on the codes, then 1000 on the noise maps", _image2stylegan),
}


def inverter_named(
    name: str, pack: Pack, steps: int | None = None, under_way: Path | None = None, progress: Progress = silent
) -> Inverter:
    """An inverter for a pack.

    Args:
        steps: optimisation steps, instead of the method's.
        under_way: a file that a killed run goes on from.

    Raises:
        InversionError: no such method, one that the pack cannot serve, or steps below 1.
    """
    if name not in INVERTERS:
        raise InversionError(f'methods of inversion are {", ".join(INVERTERS)}; got "{name}"')
    if steps is not None and steps < 1:
        raise InversionError(f"steps are a number from 1, got {steps}")
    made = INVERTERS[name][1](pack, steps, progress)
    return replace(made, under_way=under_way) if isinstance(made, (MAGEC, Optimization, Image2StyleGAN)) else made
