"""NVIDIA's TensorFlow pickles of StyleGAN (version 3) and StyleGAN2 (versions 4 and 5): (G, D, Gs), Gs is the average.

A network is its name, its settings, its variables as arrays and those of its components; the source text that is stored
with them is not read. Dense weights are (in, out) and kernels (3, 3, in, out).
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from situ.checkpoints.stylegan1 import KIND as STYLEGAN1
from situ.checkpoints.stylegan1 import build_stylegan1, fused_as, require_lod
from situ.checkpoints.stylegan2 import build_stylegan2
from situ.checkpoints.unpickle import Inert
from situ.checkpoints.weights import FILTER, Options, Source, Weights, as_mapping, depth_of, plain, require_built_in
from situ.core.errors import ModelError
from situ.generators.stylegan1 import StyleGAN1
from situ.generators.stylegan2 import StyleGAN2

NETWORK = "dnnlib.tflib.network.Network"
_STYLEGAN1_MARK, _STYLEGAN2_MARK = "synthesis/4x4/Const/StyleMod/weight", "synthesis/4x4/Conv/mod_weight"
# settings that the networks here have built in
_BUILT_IN: Mapping[str, object] = {
    "num_channels": 3,
    "mapping_lrmul": 0.01,
    "architecture": "skip",
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "normalize_latents": True,
    "use_styles": True,
    "const_input_layer": True,
    "use_instance_norm": True,
    "use_pixel_norm": False,
    "use_wscale": True,
}


def network_in(content: Any) -> Inert | None:
    """Gs of a file of three networks, or the only network of a file."""
    found = content if isinstance(content, (tuple, list)) else [content]
    networks = [item for item in found if isinstance(item, Inert) and item.name == NETWORK]
    return networks[-1] if networks and len(networks) == len(found) else None


def is_tensorflow(content: Any) -> bool:
    return network_in(content) is not None


def read_tensorflow(content: Any, options: Options) -> StyleGAN1 | StyleGAN2:
    """The generator Gs. Raises ModelError for older versions and other networks."""
    network = network_in(content)
    if network is None:
        raise ModelError("expected networks of TensorFlow")
    state = as_mapping(network.state)
    variables = variables_of(network)
    said = as_mapping(state.get("static_kwargs"))
    if _STYLEGAN2_MARK in variables or _STYLEGAN1_MARK in variables:
        _check_settings(said)
    if _STYLEGAN2_MARK in variables:
        clamp = said.get("conv_clamp")
        return build_stylegan2(to_stylegan2(variables), options, None if clamp is None else float(clamp))
    if _STYLEGAN1_MARK in variables:
        return build_stylegan1(to_stylegan1(variables), options, fused_as(said.get("fused_scale", "auto")))
    name, version = plain(state.get("name")), plain(state.get("version"))
    if any(key.endswith(("Output/weight", "Dense1/weight")) for key in variables):
        raise ModelError(f"its network {name} is a discriminator or a metric's, which draws no pictures: expected Gs")
    raise ModelError(
        f"its network {name} (version {version}) is neither a StyleGAN (version 3) nor a StyleGAN2 of "
        "configuration E or F (versions 4 and 5)"
    )


def variables_of(network: Inert, prefix: str = "", depth: int = 2) -> Weights:
    """The variables of a network and its components, "synthesis/4x4/Const/const". Raises ModelError."""
    state = as_mapping(network.state)
    found: Weights = {}
    pairs = state.get("variables")
    for pair in pairs if isinstance(pairs, (list, tuple)) else ():
        if isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str):
            value = np.asarray(pair[1]) if isinstance(pair[1], (np.ndarray, np.generic, float, int)) else None
            if value is not None and value.dtype != object:
                found[prefix + pair[0]] = value
    components = as_mapping(state.get("components"))
    if components and (depth < 1 or len(components) > 16):
        raise ModelError("its networks have more components than any generator has")
    for name, component in components.items():
        if isinstance(component, Inert) and isinstance(name, str) and len(name) < 100:
            found |= variables_of(component, f"{prefix}{name}/", depth - 1)
    return found


def _check_settings(said: Mapping[Any, Any]) -> None:
    require_built_in(said, _BUILT_IN)
    if said.get("resample_kernel") not in (None, FILTER, tuple(FILTER)):
        raise ModelError("its resample_kernel is not [1,3,3,1], and no other is supported")


def _kernel(value: np.ndarray) -> np.ndarray:
    return value.transpose(3, 2, 0, 1)


def _mapping(source: Source) -> Weights:
    made: Weights = {}
    for i in range(depth_of(source.weights, "mapping/Dense", "/weight")):
        made[f"mapping.fc{i}.weight"] = source.take(f"mapping/Dense{i}/weight", 2).T
        made[f"mapping.fc{i}.bias"] = source.take(f"mapping/Dense{i}/bias")
    if "dlatent_avg" in source:
        made["mapping.w_avg"] = source.take("dlatent_avg").reshape(-1)
    return made


def _resolutions(weights: Mapping[str, np.ndarray]) -> list[int]:
    """The sizes, from 4 on, that there are layers for."""
    sizes = {int(m[1]) for key in weights if (m := re.match(r"synthesis/(\d{1,5})x\1/Conv", key))}
    found = sorted(sizes)
    if not found or found != [4 << i for i in range(len(found))]:
        raise ModelError(f"its layers are of {found} pixels, expected 4, 8, 16 and so on")
    return found


def to_stylegan2(variables: Weights) -> Weights:
    """TensorFlow's names to NVIDIA's of PyTorch. Raises ModelError."""
    source = Source(variables, "StyleGAN2 of TensorFlow")
    made = _mapping(source)
    if "mapping/LabelConcat/weight" in source:
        raise ModelError("it normalises class and z together, as StyleGAN2 did before ADA, which is not supported")
    if "mapping/LabelEmbed/weight" in source:
        made["mapping.embed.weight"] = source.take("mapping/LabelEmbed/weight", 2).T
        made["mapping.embed.bias"] = source.take("mapping/LabelEmbed/bias")
    made["synthesis.b4.const"] = source.take("synthesis/4x4/Const/const", 4)[0]

    def styled(old: str, new: str, flipped: bool = False) -> None:
        kernel = source.take(f"{old}/weight", 4)
        made[f"{new}.weight"] = _kernel(kernel[::-1, ::-1] if flipped else kernel)
        made[f"{new}.bias"] = source.take(f"{old}/bias")
        made[f"{new}.affine.weight"] = source.take(f"{old}/mod_weight", 2).T
        made[f"{new}.affine.bias"] = source.take(f"{old}/mod_bias") + np.float32(1)

    def layer(old: str, new: str, noise: int, flipped: bool = False) -> None:
        styled(old, new, flipped)
        made[f"{new}.noise_const"] = source.take(f"synthesis/noise{noise}", 4)[0, 0]
        made[f"{new}.noise_strength"] = source.take(f"{old}/noise_strength").reshape(())

    for k, r in enumerate(_resolutions(variables)):
        there, here = f"synthesis/{r}x{r}", f"synthesis.b{r}"
        if r == 4:
            layer(f"{there}/Conv", f"{here}.conv1", 0)
        else:
            layer(f"{there}/Conv0_up", f"{here}.conv0", 2 * k - 1, flipped=True)
            layer(f"{there}/Conv1", f"{here}.conv1", 2 * k)
        if f"{there}/Skip/weight" in source:
            raise ModelError('its architecture is "resnet"; only "skip" is supported')
        if f"{there}/ToRGB/weight" in source:
            styled(f"{there}/ToRGB", f"{here}.torgb")
    source.drop("lod")
    source.require_all_used()
    return made


def to_stylegan1(variables: Weights) -> Weights:
    """TensorFlow's names to those of our StyleGAN1, kernels as they are. Raises ModelError."""
    source = Source(variables, f"{STYLEGAN1} of TensorFlow")
    for key in ("lod", "synthesis/lod"):
        if key in source:
            require_lod(source.take(key))
    made = _mapping(source)
    if "mapping/LabelConcat/weight" in source:
        made["mapping.label_weight"] = source.take("mapping/LabelConcat/weight", 2)
    made["synthesis.const"] = source.take("synthesis/4x4/Const/const", 4)[0]
    resolutions = _resolutions(variables)
    for row in range(2 * len(resolutions)):
        r, new = 4 << row // 2, f"synthesis.layer{row}"
        name = ("Const", "Conv")[row] if row < 2 else ("Conv0_up", "Conv1")[row % 2]
        old = f"synthesis/{r}x{r}/{name}"
        if row:
            made[f"{new}.weight"] = _kernel(source.take(f"{old}/weight", 4))
        made[f"{new}.bias"] = source.take(f"{old}/bias")
        made[f"{new}.affine.weight"] = source.take(f"{old}/StyleMod/weight", 2).T
        made[f"{new}.affine.bias"] = source.take(f"{old}/StyleMod/bias")
        made[f"{new}.noise_strength"] = source.take(f"{old}/Noise/weight").reshape(-1)
        made[f"{new}.noise_const"] = source.take(f"synthesis/noise{row}", 4)[0, 0]
    made["synthesis.torgb.weight"] = _kernel(source.take("synthesis/ToRGB_lod0/weight", 4))
    made["synthesis.torgb.bias"] = source.take("synthesis/ToRGB_lod0/bias")
    source.left -= {key for key in source.left if "/ToRGB_lod" in key or key.startswith("ToRGB_lod")}
    source.require_all_used()
    return made
