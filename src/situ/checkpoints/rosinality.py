"""rosinality's StyleGAN2 (.pt): converted or trained weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from situ.checkpoints.stylegan2 import build_stylegan2
from situ.checkpoints.weights import Options, Source, Weights, as_mapping, depth_of, first_with, require_first
from situ.core.errors import ModelError
from situ.generators.stylegan2 import StyleGAN2

KEYS = ("input.input", "conv1.conv.weight", "style.1.weight")
DISCRIMINATOR = "final_conv.0.weight"
_KIND = "StyleGAN2 of rosinality"


def is_rosinality(content: Any) -> bool:
    return first_with(content, *KEYS) is not None


def read_rosinality(content: Any, options: Options) -> StyleGAN2:
    """The generator `g_ema`; training checkpoints lack the mean of W, which is then made from seeded codes."""
    found = require_first(content, *KEYS)
    found.note_the_entry(options)
    return build_stylegan2(translate(found.weights, as_mapping(content).get("latent_avg"), options), options)


# --- the names


def translate(weights: Mapping[str, np.ndarray], mean: Any, options: Options) -> Weights:
    """Their names to NVIDIA's. No kernel is flipped and no bias of a style is shifted.

    Args:
        mean: `latent_avg`, (w), (1, w) or one row a layer; None or zeros is no mean.
    """
    source = Source(weights, _KIND)
    made: Weights = {}
    for i in range(_mapping_depth(weights)):
        made |= source.take_under(f"style.{i + 1}", f"mapping.fc{i}")
    blocks = depth_of(weights, "to_rgbs.", ".bias")
    made["synthesis.b4.const"] = source.take("input.input", 4)[0]
    made |= _styled(source, "conv1", "synthesis.b4.conv1", 0)
    made |= _to_rgb(source, "to_rgb1", "synthesis.b4.torgb")
    for k in range(blocks):
        block = f"synthesis.b{8 << k}"
        made |= _styled(source, f"convs.{2 * k}", f"{block}.conv0", 2 * k + 1)
        made |= _styled(source, f"convs.{2 * k + 1}", f"{block}.conv1", 2 * k + 2)
        made |= _to_rgb(source, f"to_rgbs.{k}", f"{block}.torgb")
    if isinstance(mean, np.ndarray) and mean.size and mean.any():
        rows = mean.reshape(-1, mean.shape[-1])
        if not np.allclose(rows, rows[:1], atol=1e-4):
            options.note("the mean of W differs between layers: the first layer's is taken for all")
        made["mapping.w_avg"] = rows[0]
    elif isinstance(mean, np.ndarray):
        options.note("the file's mean of W is zero")
    source.check_filters(".blur.kernel", ".upsample.kernel")
    source.require_all_used()
    return made


def _mapping_depth(weights: Mapping[str, np.ndarray]) -> int:
    """Layers are counted from 1: the first of the sequence normalises."""
    depth = 0
    while f"style.{depth + 1}.weight" in weights:
        depth += 1
    return depth


def _styled(source: Source, old: str, new: str, noise: int) -> Weights:
    made = {
        f"{new}.weight": source.take(f"{old}.conv.weight", 5)[0],
        f"{new}.bias": source.take(f"{old}.activate.bias"),
        **source.take_under(f"{old}.conv.modulation", f"{new}.affine"),
    }
    strength = source.take(f"{old}.noise.weight")
    if strength.size != 1:
        raise ModelError(f"{old}.noise.weight has the shape {strength.shape}, expected one number")
    made[f"{new}.noise_strength"] = strength.reshape(())
    if f"noises.noise_{noise}" in source:  # older versions of the project did not keep them
        made[f"{new}.noise_const"] = source.take(f"noises.noise_{noise}", 4)[0, 0]
    return made


def _to_rgb(source: Source, old: str, new: str) -> Weights:
    return {
        f"{new}.weight": source.take(f"{old}.conv.weight", 5)[0],
        f"{new}.bias": source.take(f"{old}.bias").reshape(-1),
        **source.take_under(f"{old}.conv.modulation", f"{new}.affine"),
    }
