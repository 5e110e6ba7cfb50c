"""StyleGAN3 out of weights with NVIDIA's names, and Hammer's (.pth) brought to them.

Channels, kernels and filters are read from the tensors. The sizes that layers work at follow from the resolution and a
few constants; where a file tells what its layers were built with, that is compared with what follows.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from situ.checkpoints.weights import (
    Options,
    Source,
    Weights,
    depth_of,
    first_with,
    hammer_settings,
    load_into,
    require_first,
    require_shapes,
    shapes_of,
)
from situ.core.errors import GeneratorError, ModelError
from situ.generators.stylegan3 import StyleGAN3
from situ.generators.stylegan3_network import LayerPlan, StyleGAN3Network, StyleGAN3Settings

KIND = "StyleGAN3"
CLAMP = 256.0  # of the published code, where a file does not tell
_LAYER = re.compile(r"synthesis\.L(\d{1,2})_(\d{1,5})_(\d{1,5})\.weight")
_RESOLUTIONS = tuple(16 << i for i in range(8))
# what is taken from a file's settings where it has them, as our settings call it
_SAID = ("num_critical", "first_cutoff", "first_stopband", "last_stopband_rel", "margin_size", "output_scale")


def build_stylegan3(
    weights: Mapping[str, np.ndarray],
    options: Options,
    said: Mapping[Any, Any],
    conv_clamp: float | None,
    built: Sequence[Mapping[Any, Any]] = (),
) -> StyleGAN3:
    """The generator of weights under NVIDIA's names.

    Args:
        said: settings of the synthesis network, the published defaults for those that are missing.
        built: the attributes of each layer, in order, to compare the plan with.

    Raises:
        ModelError: another architecture, or tensors that do not belong together.
    """
    names = sorted((int(m[1]), m[0]) for key in weights if (m := _LAYER.fullmatch(key)))
    if [i for i, _ in names] != list(range(len(names))) or len(names) < 3:
        raise ModelError(f"this {KIND} has the layers {[i for i, _ in names]}, expected 0, 1, 2 and so on")
    match = _LAYER.fullmatch(names[-1][1])
    assert match is not None
    settings = settings_of(
        weights, [name.removesuffix(".weight") for _, name in names], int(match[2]), said, conv_clamp
    )
    _compare(settings.plan(), built)
    network = load_into(make_network(settings, shapes_of(weights)), weights, KIND)
    return StyleGAN3(network.to(options.device))


def settings_of(
    weights: Mapping[str, np.ndarray],
    layers: Sequence[str],
    resolution: int,
    said: Mapping[Any, Any],
    conv_clamp: float | None,
) -> StyleGAN3Settings:
    """The architecture.

    Args:
        layers: the prefixes of the layers' keys, in order.
        resolution: of the pictures, in pixels.
    """
    mapping, rest = _shape(weights, "mapping.fc0.weight", 2), {key: said[key] for key in _SAID if key in said}
    c_dim = _shape(weights, "mapping.embed.weight", 2)[1] if "mapping.embed.weight" in weights else 0
    w_dim = _shape(weights, "synthesis.input.affine.weight", 2)[1]
    shapes = [_shape(weights, f"{layer}.weight", 4) for layer in layers]
    if shapes[-1][0] != 3:
        raise ModelError(f"this {KIND} draws {shapes[-1][0]} channels, expected 3 (RGB)")
    radial = weights.get(f"{layers[0]}.down_filter")
    plain: dict[str, Any] = {
        key: int(value) if key in ("num_critical", "margin_size") else float(value) for key, value in rest.items()
    }
    if not all(math.isfinite(value) for value in plain.values()):
        raise ModelError(f"settings of this {KIND} are not finite: {plain}")
    common = {
        "resolution": resolution,
        "z_dim": mapping[1] - (w_dim if c_dim else 0),
        "w_dim": w_dim,
        "c_dim": c_dim,
        "mapping_layers": depth_of(weights, "mapping.fc", ".weight"),
        "num_layers": len(layers) - 1,
        "conv_kernel": shapes[0][2],
        "use_radial_filters": radial is not None and radial.ndim == 2,
        "conv_clamp": conv_clamp,
        **plain,
    }
    channels = [shape[0] for shape in shapes[:-1]]
    cutoffs = [layer.cutoff for layer in StyleGAN3Settings(**common, channel_base=1 << 40, channel_max=1).plan()]
    return StyleGAN3Settings(**common, channel_base=_channel_base(channels, cutoffs), channel_max=max(channels))


def _shape(weights: Mapping[str, np.ndarray], key: str, axes: int) -> tuple[int, ...]:
    value = weights.get(key)
    if value is None or value.ndim != axes or 0 in value.shape:
        found = "missing" if value is None else f"of the shape {value.shape}"
        raise ModelError(f"{key} of this {KIND} is {found}, expected {axes} axes")
    return value.shape


def _channel_base(channels: Sequence[int], cutoffs: Sequence[float]) -> int:
    """The roundest number for which a layer of cutoff f has base / 2 / f channels, at most their maximum."""
    low, high, most = 1.0, math.inf, max(channels)
    for count, cutoff in zip(channels, cutoffs):
        low = max(low, (count - 0.5) * 2 * cutoff)
        if count < most:
            high = min(high, (count + 0.5) * 2 * cutoff)
    for step in (2**k for k in range(15, -1, -1)):
        base = math.ceil(low / step) * step
        if base <= high:
            return base
    raise ModelError(f"the channels {list(channels)} of this {KIND} follow no known rule")


def make_network(settings: StyleGAN3Settings, shapes: Mapping[str, tuple[int, ...]]) -> StyleGAN3Network:
    """A network for tensors of these shapes. Raises ModelError before it takes memory where they are of another."""
    w, inputs, plan = settings.w_dim, settings.z_dim, settings.plan()
    expected: dict[str, tuple[int, ...]] = {"synthesis.input.weight": (plan[0].inputs, plan[0].inputs)}
    if settings.c_dim:
        expected["mapping.embed.weight"] = (w, settings.c_dim)
        inputs += w
    for i in range(settings.mapping_layers):
        expected[f"mapping.fc{i}.weight"] = (w, w if i else inputs)
    for layer in plan:
        expected[f"synthesis.{layer.name}.weight"] = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
        expected[f"synthesis.{layer.name}.affine.weight"] = (layer.inputs, w)
    require_shapes(shapes, expected, KIND)
    return StyleGAN3Network(settings)


def _compare(plan: Sequence[LayerPlan], built: Sequence[Mapping[Any, Any]]) -> None:
    """Raises ModelError where a file's layers were built with other numbers than follow from its settings."""
    for layer, attributes in zip(plan, built):
        expected = {
            "in_sampling_rate": layer.in_rate,
            "out_sampling_rate": layer.rate,
            "in_cutoff": layer.in_cutoff,
            "out_cutoff": layer.cutoff,
            "up_factor": layer.up,
            "down_factor": layer.down,
        }
        for name, value in expected.items():
            if name in attributes and not math.isclose(float(attributes[name]), value, rel_tol=1e-6):
                raise ModelError(
                    f"{name} of {layer.name} is {float(attributes[name]):g}, and {value:g} follows from the settings: "
                    "this StyleGAN3 was built otherwise than the published ones"
                )


# --- Hammer

_HAMMER = ("synthesis.early_layer.frequency", "synthesis.layer0.conv.weight", "mapping.dense0.weight")


def is_hammer_stylegan3(content: Any) -> bool:
    """Whether it has a state dict of a StyleGAN3 of Hammer."""
    return first_with(content, *_HAMMER) is not None


def read_hammer_stylegan3(content: Any, options: Options) -> StyleGAN3:
    """The generator `generator_smooth`; the resolution is the settings', or the only one that fits the filters."""
    found = require_first(content, *_HAMMER)
    found.note_the_entry(options)
    said = hammer_settings(content)
    weights = _translate(found.weights)
    if said.get("normalize_embedding_latent") and "mapping.embed.weight" in weights:
        raise ModelError("it normalises class and z together, which is not supported")
    layers = [f"synthesis.layer{i}" for i in range(depth_of(weights, "synthesis.layer", ".weight"))]
    clamp = said.get("conv_clamp", CLAMP)
    clamp = None if clamp is None else float(clamp)
    if "resolution" in said:
        plan = settings_of(weights, layers, int(said["resolution"]), said, clamp).plan()
    else:
        plan = _plan_of_filters(weights, layers, said, clamp)
    made: Weights = {}
    for key, value in weights.items():
        match = re.fullmatch(r"synthesis\.layer(\d{1,2})\.(.*)", key)
        made[f"synthesis.{plan[int(match[1])].name}.{match[2]}" if match else key] = value
    return build_stylegan3(made, options, said, clamp)


def _plan_of_filters(
    weights: Mapping[str, np.ndarray], layers: Sequence[str], said: Mapping[Any, Any], clamp: float | None
) -> tuple[LayerPlan, ...]:
    """The plan of the one resolution that fits the channels and the lengths of the filters."""

    def taps(key: str) -> int:
        return len(weights[key]) if key in weights else 1

    found = [(taps(f"{layer}.up_filter"), taps(f"{layer}.down_filter")) for layer in layers]
    fitting: dict[int, tuple[LayerPlan, ...]] = {}
    for resolution in _RESOLUTIONS:
        try:
            plan = settings_of(weights, layers, resolution, said, clamp).plan()
        except (ModelError, GeneratorError):
            continue
        if [(layer.up_taps, layer.down_taps) for layer in plan] == found:
            fitting[resolution] = plan
    if len(fitting) != 1:
        raise ModelError(
            f"the file does not say its resolution, and its filters fit {list(fitting) or 'none'}: expected a file "
            "with model_kwargs_init, as Hammer writes it"
        )
    return next(iter(fitting.values()))


def _translate(weights: Mapping[str, np.ndarray]) -> Weights:
    """Hammer's names to NVIDIA's, but for the layers, whose names need the sizes that they work at."""
    source = Source(weights, f"{KIND} of Hammer")
    made: Weights = {"mapping.w_avg": source.take("w_avg").reshape(-1)}
    for i in range(depth_of(weights, "mapping.dense", ".weight")):
        made |= source.take_under(f"mapping.dense{i}", f"mapping.fc{i}")
    if "mapping.embedding.weight" in source:
        made |= source.take_under("mapping.embedding", "mapping.embed")
    early = "synthesis.early_layer"
    made |= source.take_under(early, "synthesis.input", ("weight", "transform", "affine.weight", "affine.bias"))
    made["synthesis.input.freqs"] = source.take(f"{early}.frequency")
    made["synthesis.input.phases"] = source.take(f"{early}.phase")
    for i in range(depth_of(weights, "synthesis.layer", ".conv.weight")):
        layer = f"synthesis.layer{i}"
        made |= source.take_under(layer, layer, ("magnitude_ema",))
        made[f"{layer}.weight"] = source.take(f"{layer}.conv.weight")
        made |= source.take_under(f"{layer}.conv.style", f"{layer}.affine")
        made[f"{layer}.bias"] = source.take(f"{layer}.filter.bias")
        for name in ("up_filter", "down_filter"):
            if f"{layer}.filter.{name}" in source:
                made[f"{layer}.{name}"] = source.take(f"{layer}.filter.{name}")
    source.drop(f"{early}.grid")
    source.require_all_used()
    return made
