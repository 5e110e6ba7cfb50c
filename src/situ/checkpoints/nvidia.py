"""NVIDIA's pickles (stylegan2-ada-pytorch, stylegan3) and bare state dicts under their names.

A snapshot is a dictionary with `G_ema`. Every module in it is stored as a dictionary of its attributes beside the text
of its Python source, which is neither run nor read: sizes come from the tensors, and the attributes of each layer say
how it is to be run, or that it is something else.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from situ.checkpoints.stylegan2 import build_stylegan2
from situ.checkpoints.stylegan3 import CLAMP, build_stylegan3
from situ.checkpoints.unpickle import Inert
from situ.checkpoints.weights import Options, Weights, as_mapping, first_with, plain, require_first
from situ.core.errors import ModelError
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan3 import StyleGAN3

MODULE = "torch_utils.persistence._reconstruct_persistent_obj"
STYLEGAN2, STYLEGAN3 = "synthesis.b4.const", "synthesis.input.freqs"
DISCRIMINATOR = "b4.out.weight"
_DEEPEST = 16  # modules within modules
_MOST = 10_000  # modules
_LEARNING_RATE = 0.01  # of the mapping, which the network has built in

Attributes = dict[str, Mapping[str, Any]]  # of every module, by its path


def module_in(content: Any) -> tuple[str, Inert] | None:
    """The entry of a snapshot that is its best generator, or the module itself where a file is just that."""
    if _is_module(content):
        return "", content
    inside = as_mapping(content)
    return next(((name, inside[name]) for name in ("G_ema", "G") if _is_module(inside.get(name))), None)


def _is_module(value: Any) -> bool:
    return isinstance(value, Inert) and "_parameters" in _attributes(value)


def _attributes(module: Inert) -> Mapping[str, Any]:
    """What a module held, whether NVIDIA's own or one of torch's."""
    if module.name == MODULE:
        meta = as_mapping(module.arguments[0]) if len(module.arguments) == 1 else {}
        return as_mapping(meta.get("state"))
    return as_mapping(module.state)


def flatten(module: Inert) -> tuple[Weights, Attributes]:
    """A tree of modules as a state dict, and every module's attributes by its path.

    Raises:
        ModelError: modules that hold themselves, or are nested beyond reason.
    """
    weights: Weights = {}
    attributes: Attributes = {}
    for path, state in _walk(module, "", 0):
        attributes[path] = state
        left_out = state.get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            for name, value in as_mapping(state.get(kind)).items():
                if isinstance(value, np.ndarray) and name not in left_out:
                    weights[f"{path}{name}"] = value
        if len(attributes) > _MOST:
            raise ModelError(f"this network has more than {_MOST:,} modules, which no generator has")
    return weights, attributes


def _walk(module: Inert, path: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if depth > _DEEPEST:
        raise ModelError(f"modules are nested more than {_DEEPEST} deep: no generator is")
    state = _attributes(module)
    yield path, state
    for name, child in as_mapping(state.get("_modules")).items():
        if isinstance(child, Inert) and isinstance(name, str) and len(name) < 100:
            yield from _walk(child, f"{path}{name}.", depth + 1)


# --- the formats


def is_snapshot(content: Any) -> bool:
    """Whether it is a pickle with modules in it."""
    inside = as_mapping(content)
    return module_in(content) is not None or _is_module(inside.get("D"))


def read_snapshot(content: Any, options: Options) -> StyleGAN2 | StyleGAN3:
    """The generator of a pickle. Raises ModelError for a discriminator and for other networks."""
    found = module_in(content)
    if found is None:
        raise ModelError("it holds a discriminator (D) and no generator (G_ema): a discriminator draws no pictures")
    entry, module = found
    weights, attributes = flatten(module)
    if entry == "G":
        options.note('the file has no averaged weights: those of the last training step are taken ("G")')
    if STYLEGAN3 in weights:
        return _stylegan3(weights, attributes, options)
    if STYLEGAN2 in weights:
        weights = _with_one_learning_rate(weights, attributes)
        return build_stylegan2(weights, options, _conv_clamp(attributes))
    if DISCRIMINATOR in weights:
        raise ModelError("it holds a discriminator, which draws no pictures: expected the generator, G_ema")
    meta = as_mapping(module.arguments[0]) if module.arguments else {}
    kind = plain(meta.get("class_name", module.name))
    raise ModelError(f"its network is a {kind} of another kind, neither a StyleGAN2 nor a StyleGAN3")


def is_state_dict(content: Any) -> bool:
    """Whether it has a state dict of a StyleGAN2 or StyleGAN3 under NVIDIA's names."""
    return any(first_with(content, key, "mapping.fc0.weight") for key in (STYLEGAN2, STYLEGAN3))


def read_state_dict(content: Any, options: Options) -> StyleGAN2 | StyleGAN3:
    """The generator of such a state dict, which says nothing about clamping."""
    if (found := first_with(content, STYLEGAN3, "mapping.fc0.weight")) is not None:
        found.note_the_entry(options)
        options.note("a state dict does not say how it was built: the published settings are taken")
        return build_stylegan3(found.weights, options, {}, CLAMP)
    found = require_first(content, STYLEGAN2, "mapping.fc0.weight")
    found.note_the_entry(options)
    options.note("a state dict does not say whether activations are clamped: they are not")
    return build_stylegan2(found.weights, options)


def _stylegan3(weights: Weights, attributes: Attributes, options: Options) -> StyleGAN3:
    """What the layers were built with is taken from their attributes, and from the arguments of the synthesis."""
    synthesis = attributes.get("synthesis.", {})
    said = {**as_mapping(synthesis.get("_init_kwargs")), **synthesis}
    layers = [attributes[path] for path in sorted(attributes, key=_layer_number) if _layer_number(path) >= 0]
    weights = _with_one_learning_rate(weights, attributes)
    return build_stylegan3(weights, options, said, _conv_clamp(attributes), layers)


def _layer_number(path: str) -> int:
    found = re.fullmatch(r"synthesis\.L(\d{1,2})_\d+_\d+\.", path)
    return int(found[1]) if found else -1


def _conv_clamp(attributes: Attributes) -> float | None:
    """The one clamp of all layers. Raises ModelError for layers that would run otherwise than ours."""
    clamps: set[Any] = set()
    for path, state in attributes.items():
        if "conv_clamp" in state:
            clamps.add(None if state["conv_clamp"] is None else float(state["conv_clamp"]))
        if state.get("architecture", "skip") != "skip":
            raise ModelError(f'its architecture is "{plain(state["architecture"])}"; only "skip" is supported')
        styled = ".b" in path and ".conv" in path and not path.endswith("affine.")
        wanted = {"activation": "lrelu"} if styled or path.startswith("mapping.fc") else {}
        for name, value in wanted.items():
            if state.get(name, value) != value:
                raise ModelError(f"{path}{name} is {plain(state[name])}, and only {value} is supported")
        gain = state.get("act_gain") if styled else None
        if gain is not None and not math.isclose(float(gain), 2**0.5, rel_tol=1e-3):
            raise ModelError(f"{path}act_gain is {gain}, and only the square root of 2 is supported")
    if len(clamps) > 1:
        raise ModelError(f"its layers are clamped differently ({sorted(map(str, clamps))}), which is not supported")
    return clamps.pop() if clamps else None


def _with_one_learning_rate(weights: Weights, attributes: Attributes) -> Weights:
    """The mapping's stored weights hold its learning rate multiplier; another one than 0.01 is worked into them."""
    changed = dict(weights)
    for path, state in attributes.items():
        if path.startswith("mapping.fc") and "bias_gain" in state:
            rate = float(state["bias_gain"])
            if not math.isfinite(rate):
                raise ModelError(f"{path}bias_gain is {rate}")
            if not math.isclose(rate, _LEARNING_RATE, rel_tol=1e-6):
                for name in ("weight", "bias"):
                    if f"{path}{name}" in weights:
                        changed[f"{path}{name}"] = weights[f"{path}{name}"] * np.float32(rate / _LEARNING_RATE)
    return changed
