"""StyleGAN2 of genforce and of Hammer (.pth): two dialects that have the same names of layers and mean other things.

genforce stores the kernels that double the size flipped and the biases of styles without their 1; Hammer does neither.
Read as the other, a file gives wrong pictures without any error, so the dialect is told by the names of the filters.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from situ.checkpoints.stylegan2 import build_stylegan2
from situ.checkpoints.weights import (
    Options,
    Source,
    Weights,
    depth_of,
    first_with,
    hammer_settings,
    require_first,
)
from situ.core.errors import ModelError
from situ.generators.stylegan2 import StyleGAN2

_KEYS = ("synthesis.early_layer.const", "synthesis.layer0.style.weight", "mapping.dense0.weight")
GENFORCE, HAMMER = "truncation.w_avg", "w_avg"


def is_genforce(content: Any) -> bool:
    return first_with(content, *_KEYS, GENFORCE) is not None


def is_hammer(content: Any) -> bool:
    return first_with(content, *_KEYS, HAMMER) is not None


def read_genforce(content: Any, options: Options) -> StyleGAN2:
    """The generator `generator_smooth` of genforce's dialect."""
    found = require_first(content, *_KEYS, GENFORCE)
    found.note_the_entry(options)
    return build_stylegan2(translate(found.weights, "genforce"), options)


def read_hammer(content: Any, options: Options) -> StyleGAN2:
    """The generator `generator_smooth` of Hammer's dialect, with the clamp that its settings state."""
    found = require_first(content, *_KEYS, HAMMER)
    found.note_the_entry(options)
    said = hammer_settings(content)
    weights = translate(found.weights, "Hammer")
    if said.get("normalize_embedding_latent") and "mapping.embed.weight" in weights:
        raise ModelError("it normalises class and z together, as StyleGAN2 did before ADA, which is not supported")
    clamp = said.get("conv_clamp")
    if not said:
        options.note("the file does not say whether activations are clamped: they are not")
    return build_stylegan2(weights, options, None if clamp is None else float(clamp))


def translate(weights: Mapping[str, np.ndarray], dialect: str) -> Weights:
    """Their names to NVIDIA's. Raises ModelError for a mixture of the dialects."""
    genforce = dialect == "genforce"
    own, other = (".filter.kernel", ".filter") if genforce else (".filter", ".filter.kernel")
    if any(key.endswith(other) for key in weights) or (genforce and HAMMER in weights):
        raise ModelError(
            "its names are partly genforce's and partly Hammer's, whose weights mean different things: convert it again"
        )
    source = Source(weights, f"StyleGAN2 of {dialect}")
    made: Weights = {"mapping.w_avg": source.take(GENFORCE if genforce else HAMMER).reshape(-1)}
    for i in range(depth_of(weights, "mapping.dense", ".weight")):
        made |= source.take_under(f"mapping.dense{i}", f"mapping.fc{i}")
    if "mapping.label_weight" in source:
        raise ModelError("it normalises class and z together, as StyleGAN2 did before ADA, which is not supported")
    label = "mapping.LabelEmbed" if genforce else "mapping.embedding"
    if f"{label}.weight" in source:
        made |= source.take_under(label, "mapping.embed")
    made["synthesis.b4.const"] = source.take("synthesis.early_layer.const", 4)[0]
    for k in range(depth_of(weights, "synthesis.output", ".bias")):
        block = f"synthesis.b{4 << k}"
        if k:
            made |= _layer(source, f"synthesis.layer{2 * k - 1}", f"{block}.conv0", genforce, flipped=genforce)
        made |= _layer(source, f"synthesis.layer{2 * k}", f"{block}.conv1", genforce)
        made |= _styled(source, f"synthesis.output{k}", f"{block}.torgb", genforce)
    source.check_filters(own, ".upsample.kernel")
    source.require_all_used()
    return made


def _layer(source: Source, old: str, new: str, shifted: bool, flipped: bool = False) -> Weights:
    made = _styled(source, old, new, shifted)
    if flipped:
        made[f"{new}.weight"] = made[f"{new}.weight"][..., ::-1, ::-1]
    made[f"{new}.noise_const"] = source.take(f"{old}.noise", 4)[0, 0]
    made[f"{new}.noise_strength"] = source.take(f"{old}.noise_strength").reshape(())
    return made


def _styled(source: Source, old: str, new: str, shifted: bool) -> Weights:
    """Weight, bias and style; biases of styles stored without their 1 are given it."""
    made = {**source.take_under(old, new), **source.take_under(f"{old}.style", f"{new}.affine")}
    if shifted:
        made[f"{new}.affine.bias"] = made[f"{new}.affine.bias"] + np.float32(1)
    return made
