"""StyleGAN1 in the five layouts that its weights went round in as state dicts; all give the same tensors.

| | recognised by | known from |
|---|---|---|
| A | g_synthesis.blocks.4x4.epi1.style_mod.lin.weight | lernapparat, GANSpace |
| B | g_style.style_layers.4x4_0.lin.weight | LELSD, GANLocalEditing |
| C | synthesis.layer0.first_layer, or mapping.dense0.fc.weight | InterFaceGAN; LinearGAN |
| D | truncation.w_avg and synthesis.layer0.apply_noise.noise | genforce, SeFa |
| E | w_avg and synthesis.layer0.noise_strength | Hammer, ReSeFa |

From 128 pixels on the kernels that double the size are stored for a transposed convolution, that is flipped on both
axes; here they are turned round once. A and B have no maps of noise, and often no mean of W. The number that is added
to variances is the original's, 1e-8, although lernapparat's heirs compute with 1e-5.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from situ.checkpoints.weights import (
    Options,
    Source,
    StateDict,
    Weights,
    depth_of,
    drawn_noise,
    hammer_settings,
    load_into,
    mean_of_w,
    require_shapes,
    shapes_of,
    state_dicts,
)
from situ.core.errors import ModelError
from situ.generators.stylegan1 import StyleGAN1
from situ.generators.stylegan1_network import StyleGAN1Network, StyleGAN1Settings

KIND = "StyleGAN1"
FUSED_FROM = 128  # pixels


def build_stylegan1(
    weights: Weights, options: Options, fused: Callable[[int], bool] = lambda resolution: resolution >= FUSED_FROM
) -> StyleGAN1:
    """The generator of weights under our names, kernels still as the originals store them.

    Args:
        weights: those of layers and `mapping`; without `mapping.w_avg` (or with zeros) the mean is taken over seeded
            codes, and maps of noise that are missing are drawn from a seed. Both are noted.
        fused: whether the kernel that doubles the size to a resolution is stored flipped.

    Raises:
        ModelError: tensors that do not belong together.
    """
    weights = dict(weights)
    settings = settings_of(weights)
    drawn = False
    for row in range(settings.num_ws):
        resolution = 4 << row // 2
        kernel = f"synthesis.layer{row}.weight"
        if row % 2 == 0 and row and fused(resolution) and kernel in weights:
            weights[kernel] = weights[kernel][..., ::-1, ::-1]
        if f"synthesis.layer{row}.noise_const" not in weights:
            weights[f"synthesis.layer{row}.noise_const"] = drawn_noise(resolution, row)
            drawn = True
    if drawn:
        options.note("the file has no maps of noise: they are drawn from a seed")
    mean = weights.get("mapping.w_avg")
    known = mean is not None and bool(mean.any())
    if not known:
        if mean is not None:
            options.note("the file's mean of W is zero")
        weights["mapping.w_avg"] = np.zeros(settings.w_dim, np.float32)
    network = load_into(make_network(settings, shapes_of(weights)), weights, KIND)
    if not known:
        network.mapping.w_avg.copy_(mean_of_w(network.mapping, settings.z_dim, settings.c_dim))
        options.note("the mean of W is taken over 10,000 seeded codes")
    return StyleGAN1(network.to(options.device), options.noise or "const", options.rng)


def make_network(settings: StyleGAN1Settings, shapes: Mapping[str, tuple[int, ...]]) -> StyleGAN1Network:
    """A network for tensors of these shapes. Raises ModelError before it takes memory where they are of another."""
    w, inputs = settings.w_dim, settings.z_dim * (2 if settings.c_dim else 1)
    expected: dict[str, tuple[int, ...]] = {}
    if settings.c_dim:
        expected["mapping.label_weight"] = (settings.c_dim, settings.z_dim)
    for i in range(settings.mapping_layers):
        expected[f"mapping.fc{i}.weight"] = (w, w if i else inputs)
    for row in range(settings.num_ws):
        r = 4 << row // 2
        o = settings.channels(r)
        if row:
            expected[f"synthesis.layer{row}.weight"] = (o, o if row % 2 else settings.channels(r // 2), 3, 3)
        expected[f"synthesis.layer{row}.affine.weight"] = (2 * o, w)
    require_shapes(shapes, expected, KIND)
    return StyleGAN1Network(settings)


def settings_of(weights: Mapping[str, np.ndarray]) -> StyleGAN1Settings:
    """The architecture, from shapes alone. Raises ModelError where they are of no StyleGAN1 that is known."""

    def shape(key: str, axes: int) -> tuple[int, ...]:
        value = weights.get(key)
        if value is None or value.ndim != axes or 0 in value.shape:
            found = "missing" if value is None else f"of the shape {value.shape}"
            raise ModelError(f"{key} of this {KIND} is {found}, expected {axes} axes")
        return value.shape

    layers = depth_of(weights, "synthesis.layer", ".bias")
    depth = depth_of(weights, "mapping.fc", ".weight")
    if not layers or layers % 2 or not depth:
        raise ModelError(f"this {KIND} has {layers} layers and {depth} of its mapping, expected two for each size")
    resolution = 4 << layers // 2 - 1
    channels = [shape(f"synthesis.layer{row}.bias", 1)[0] for row in range(0, layers, 2)]
    base, most = channels[-1] * resolution, max(channels)
    expected = [min(base // (4 << i), most) for i in range(len(channels))]
    if channels != expected:
        raise ModelError(f"this {KIND} has {channels} channels at 4, 8, ... pixels, expected {expected}")
    c_dim, z_dim = shape("mapping.label_weight", 2) if "mapping.label_weight" in weights else (0, 0)
    z_dim = z_dim or shape("mapping.fc0.weight", 2)[1]
    return StyleGAN1Settings(
        resolution=resolution,
        z_dim=z_dim,
        w_dim=shape("synthesis.layer0.affine.weight", 2)[1],
        c_dim=c_dim,
        mapping_layers=depth,
        channel_base=base,
        channel_max=most,
    )


# --- the layouts


def dialect_of(weights: Mapping[str, np.ndarray]) -> str:
    """The letter of the table above; "" for none."""
    if "g_synthesis.blocks.4x4.epi1.style_mod.lin.weight" in weights:
        return "A"
    if "g_style.style_layers.4x4_0.lin.weight" in weights:
        return "B"
    if "synthesis.layer0.first_layer" in weights or "mapping.dense0.fc.weight" in weights:
        return "C"
    if "truncation.w_avg" in weights and "synthesis.layer0.apply_noise.noise" in weights:
        return "D"
    # Hammer's StyleGAN2 differs from it in where the constant stands
    return "E" if {"w_avg", "synthesis.layer0.noise_strength", "synthesis.layer0.const"} <= weights.keys() else ""


def _first(content: Any) -> StateDict | None:
    return next((found for found in state_dicts(content) if dialect_of(found.weights)), None)


def is_stylegan1(content: Any) -> bool:
    """Whether it has a state dict of one of the five layouts."""
    return _first(content) is not None


def read_stylegan1(content: Any, options: Options) -> StyleGAN1:
    """The generator of such a state dict."""
    found = _first(content)
    if found is None:
        raise ModelError(f"expected a state dict of a {KIND}")
    found.note_the_entry(options)
    dialect = dialect_of(found.weights)
    weights = _translate_blocks(found.weights, dialect) if dialect in "AB" else _translate(found.weights, dialect)
    said = hammer_settings(content)
    return build_stylegan1(
        weights, options, fused_as(said.get("fused_scale", "auto"), said.get("fused_scale_res", FUSED_FROM))
    )


def fused_as(setting: Any, smallest: Any = FUSED_FROM) -> Callable[[int], bool]:
    """What the originals' option `fused_scale` says: "auto" from some size on, or yes or no for all."""
    if setting == "auto":
        return lambda resolution: resolution >= smallest
    return lambda resolution: bool(setting)


def _translate_blocks(weights: Mapping[str, np.ndarray], dialect: str) -> Weights:
    """A and B, whose layers stand in blocks."""
    source = Source(weights, f"{KIND} ({dialect})")
    made: Weights = {}
    for i in range(depth_of(weights, "g_mapping.dense", ".weight")):
        made |= source.take_under(f"g_mapping.dense{i}", f"mapping.fc{i}")
    if "truncation.avg_latent" in source:
        made["mapping.w_avg"] = source.take("truncation.avg_latent").reshape(-1)
    blocks = 0
    while f"g_synthesis.blocks.{4 << blocks}x{4 << blocks}.conv1.weight" in weights or (
        blocks == 0 and "g_synthesis.blocks.4x4.conv.weight" in weights
    ):
        blocks += 1
    for j in range(blocks):
        side = f"{4 << j}x{4 << j}"
        block = f"g_synthesis.blocks.{side}"
        for half in (0, 1):
            new = f"synthesis.layer{2 * j + half}"
            style = (
                f"{block}.epi{half + 1}.style_mod.lin" if dialect == "A" else f"g_style.style_layers.{side}_{half}.lin"
            )
            if j == 0 and half == 0:
                made["synthesis.const"] = source.take(f"{block}.const", 4)[0]
                made[f"{new}.bias"] = source.take(f"{block}.bias")
            else:
                name = "conv" if j == 0 else ("conv0_up", "conv1")[half]
                made |= source.take_under(f"{block}.{name}", new)
            made |= source.take_under(style, f"{new}.affine")
            made[f"{new}.noise_strength"] = source.take(f"{block}.epi{half + 1}.top_epi.noise.weight")
            if f"{block}.epi{half + 1}.top_epi.noise.noise" in source:
                made[f"{new}.noise_const"] = source.take(f"{block}.epi{half + 1}.top_epi.noise.noise", 4)[0, 0]
    made |= source.take_under("g_synthesis.torgb", "synthesis.torgb")
    source.drop("intermediate.kernel")
    source.require_all_used()
    return made


def _translate(weights: Mapping[str, np.ndarray], dialect: str) -> Weights:
    """C, D and E, whose layers are numbered."""
    source = Source(weights, f"{KIND} ({dialect})")
    made: Weights = {}
    numbered = dialect == "C"
    for i in range(depth_of(weights, "mapping.dense", ".wscale.bias" if numbered else ".weight")):
        old = f"mapping.dense{i}"
        if numbered:
            linear = "linear" if f"{old}.linear.weight" in source else "fc"
            made[f"mapping.fc{i}.weight"] = source.take(f"{old}.{linear}.weight")
            made[f"mapping.fc{i}.bias"] = source.take(f"{old}.wscale.bias")
        else:
            made |= source.take_under(old, f"mapping.fc{i}")
    for key in ("mapping.label_weight", "mapping.embedding"):
        if key in source:
            made["mapping.label_weight"] = source.take(key, 2)
    mean = "w_avg" if dialect == "E" else "truncation.w_avg"
    if mean in source:
        made["mapping.w_avg"] = source.take(mean).reshape(-1)
    rows = sorted(int(m[1]) for key in weights if (m := re.fullmatch(r"synthesis\.layer(\d{1,2})\..*bias", key)))
    for row in dict.fromkeys(rows):
        made |= _numbered_layer(source, row, dialect)
    first = next((k for k in ("synthesis.layer0.first_layer", "synthesis.layer0.const") if k in source), None)
    if first is None:
        raise ModelError(f"synthesis.layer0.const is missing from this {KIND}")
    made["synthesis.const"] = source.take(first, 4)[0]
    last = len(set(rows)) // 2 - 1
    made["synthesis.torgb.weight"] = source.take(f"synthesis.output{last}.{'conv.' if numbered else ''}weight")
    made["synthesis.torgb.bias"] = source.take(f"synthesis.output{last}.bias")
    _require_last_level(source)
    source.drop("blur.kernel", ".filter", "truncation.truncation")
    source.left -= {key for key in source.left if key.startswith("synthesis.output")}  # of lower levels of detail
    source.require_all_used()
    return made


def _numbered_layer(source: Source, row: int, dialect: str) -> Weights:
    old, new = f"synthesis.layer{row}", f"synthesis.layer{row}"
    epilogue = f"{old}.epilogue" if dialect == "C" else old
    made = {f"{new}.bias": source.take(f"{epilogue}.bias")}
    if row:
        key = f"{old}.conv.weight" if f"{old}.conv.weight" in source else f"{old}.weight"
        kernel = source.take(key, 4)
        if dialect == "C" and key == f"{old}.weight" and kernel.shape[:2] == (3, 3):  # as TensorFlow stores it
            kernel = kernel.transpose(3, 2, 0, 1)
        made[f"{new}.weight"] = kernel
    if dialect == "C":
        dense = f"{epilogue}.style_mod.dense"
        linear = "linear" if f"{dense}.linear.weight" in source else "fc"
        made[f"{new}.affine.weight"] = source.take(f"{dense}.{linear}.weight")
        made[f"{new}.affine.bias"] = source.take(f"{dense}.wscale.bias")
    else:
        made |= source.take_under(f"{old}.style", f"{new}.affine")
    noise = old if dialect == "E" else f"{epilogue}.apply_noise"
    strength = source.take(f"{noise}.noise_strength" if dialect == "E" else f"{noise}.weight")
    made[f"{new}.noise_strength"] = strength.reshape(-1)
    made[f"{new}.noise_const"] = source.take(f"{noise}.noise", 4)[0, 0]
    return made


def _require_last_level(source: Source) -> None:
    """Raises ModelError for a generator that is still growing: its pictures mix two levels of detail."""
    for key in ("synthesis.lod", "lod"):
        if key in source:
            require_lod(source.take(key))


def require_lod(lod: Any) -> None:
    value = float(np.asarray(lod, np.float64).reshape(-1)[0]) if np.size(lod) == 1 else float("nan")
    if value != 0:
        raise ModelError(
            f"this {KIND} stands at level of detail {value:g}, expected 0: its training was not finished, and its "
            "pictures would be mixed of two sizes"
        )
