"""StyleGAN2 out of weights with NVIDIA's names: every size is read from the tensors, and every tensor is checked."""

import re
from collections.abc import Mapping

import numpy as np
import torch

from situ.checkpoints.weights import (
    Options,
    Weights,
    check_filter,
    depth_of,
    drawn_noise,
    load_into,
    mean_of_w,
    require_shapes,
    shapes_of,
    shown,
)
from situ.core.errors import ModelError
from situ.generators.style_based import Noise
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings

KIND = "StyleGAN2"


def build_stylegan2(
    weights: Mapping[str, np.ndarray], options: Options, conv_clamp: float | None = None, noise: Noise = "const"
) -> StyleGAN2:
    """The generator of weights under NVIDIA's names.

    Args:
        weights: filters may be among them, and are compared with the one that is built in. Without `mapping.w_avg` the
            mean is taken over seeded codes; maps of noise that are missing are drawn from a seed. Both are noted.
        noise: that the generator was trained with.

    Raises:
        ModelError: another architecture, or tensors that do not belong together.
    """
    weights = _without_filters(weights)
    settings = settings_of(weights, conv_clamp)
    noise = _complete_noise(weights, settings, options, noise)
    mean = "mapping.w_avg" in weights
    if not mean:
        weights["mapping.w_avg"] = np.zeros(settings.w_dim, np.float32)
    network = load_into(make_network(settings, shapes_of(weights)), weights, KIND)
    if not mean:
        network.mapping.w_avg.copy_(mean_of_w(network.mapping, settings.z_dim, settings.c_dim))
        options.note("the file has no mean of W: it is taken over 10,000 seeded codes")
    return StyleGAN2(
        network.to(options.device),
        options.noise or noise,
        options.rng,
        low_precision=torch.bfloat16,
        low_precision_resolutions=min(3, len(settings.resolutions)) if options.low_precision else 0,
    )


def make_network(settings: StyleGAN2Settings, shapes: Mapping[str, tuple[int, ...]]) -> StyleGAN2Network:
    """A network for tensors of these shapes. Raises ModelError before it takes memory where they are of another."""
    w, inputs = settings.w_dim, settings.z_dim
    expected: dict[str, tuple[int, ...]] = {}
    if settings.c_dim:
        expected["mapping.embed.weight"] = (w, settings.c_dim)
        inputs += w
    for i in range(settings.mapping_layers):
        expected[f"mapping.fc{i}.weight"] = (w, w if i else inputs)
    for r in settings.resolutions:
        i, o = settings.channels(r // 2), settings.channels(r)
        if r > 4:
            expected[f"synthesis.b{r}.conv0.weight"] = (o, i, 3, 3)
            expected[f"synthesis.b{r}.conv0.affine.weight"] = (i, w)
        expected[f"synthesis.b{r}.conv1.weight"] = (o, o, 3, 3)
        expected[f"synthesis.b{r}.conv1.affine.weight"] = (o, w)
        expected[f"synthesis.b{r}.torgb.affine.weight"] = (o, w)
    require_shapes(shapes, expected, KIND)
    return StyleGAN2Network(settings)


def settings_of(weights: Mapping[str, np.ndarray], conv_clamp: float | None = None) -> StyleGAN2Settings:
    """The architecture, from shapes alone. Raises ModelError where they are of no StyleGAN2 that is known."""
    resolutions = sorted(
        int(found[1]) for key in weights if (found := re.fullmatch(r"synthesis\.b(\d{1,5})\.conv1\.weight", key))
    )
    if not resolutions or resolutions != [4 << i for i in range(len(resolutions))]:
        raise ModelError(f"this {KIND} has blocks of {resolutions} pixels, expected 4, 8, 16 and so on")
    if any(".skip." in key for key in weights):
        raise ModelError(f'this {KIND} has the architecture "resnet"; only "skip" is supported')
    if "synthesis.b4.torgb.weight" not in weights and len(resolutions) > 1:
        raise ModelError(f'this {KIND} has the architecture "orig"; only "skip" is supported')

    def size(key: str, axis: int, axes: int) -> int:
        value = weights.get(key)
        if value is None:
            raise ModelError(f"this {KIND} lacks {key}: the file is incomplete")
        if value.ndim != axes or 0 in value.shape:
            raise ModelError(f"{key} of this {KIND} has the shape {value.shape}, expected {axes} axes")
        return value.shape[axis]

    colours = size(f"synthesis.b{resolutions[-1]}.torgb.weight", 0, 4)
    if colours != 3:
        raise ModelError(f"this {KIND} draws {colours} channels, expected 3 (RGB)")
    w_dim = size("synthesis.b4.conv1.affine.weight", 1, 2)
    depth = depth_of(weights, "mapping.fc", ".weight")
    c_dim = size("mapping.embed.weight", 1, 2) if "mapping.embed.weight" in weights else 0
    if not depth:
        raise ModelError(f"this {KIND} has no mapping network (mapping.fc0.weight): the file is incomplete")
    z_dim = size("mapping.fc0.weight", 1, 2) - (size("mapping.embed.weight", 0, 2) if c_dim else 0)
    if z_dim < 1:
        raise ModelError(f"the mapping of this {KIND} takes {z_dim} numbers of z, expected at least 1")
    channels = [size(f"synthesis.b{r}.conv1.weight", 0, 4) for r in resolutions]
    base, most = channels[-1] * resolutions[-1], max(channels)
    by_rule = [min(base // r, most) for r in resolutions] == channels
    return StyleGAN2Settings(
        resolution=resolutions[-1],
        z_dim=z_dim,
        w_dim=w_dim,
        c_dim=c_dim,
        mapping_layers=depth,
        channel_base=base,
        channel_max=most,
        conv_clamp=conv_clamp,
        widths=() if by_rule else tuple(channels),
    )


def _without_filters(weights: Mapping[str, np.ndarray]) -> Weights:
    for key in [key for key in weights if key.endswith(".resample_filter")]:
        check_filter(key, weights[key])
    return {key: value for key, value in weights.items() if not key.endswith(".resample_filter")}


def _complete_noise(weights: Weights, settings: StyleGAN2Settings, options: Options, noise: Noise) -> Noise:
    """Fill in maps of noise that a file does not have; without their strengths it was trained without noise."""
    layers = [f"synthesis.b{r}.{name}" for r in settings.resolutions for name in ("conv0", "conv1")][1:]
    strengths = [name for name in layers if f"{name}.noise_strength" in weights]
    maps = [name for name in layers if f"{name}.noise_const" in weights]
    if strengths and len(strengths) < len(layers):
        raise ModelError(f"only some layers of this {KIND} have noise ({shown(strengths)}): the file is incomplete")
    if not strengths:
        noise = "none"
        options.note("the generator has no noise")
    for i, name in enumerate(layers):
        resolution = 4 << (i + 1) // 2
        if not strengths:
            weights[f"{name}.noise_strength"] = np.zeros((), np.float32)
        if not maps:
            weights[f"{name}.noise_const"] = drawn_noise(resolution, i)
    if strengths and not maps:
        options.note("the file has no maps of noise: they are drawn from a seed")
    return noise
