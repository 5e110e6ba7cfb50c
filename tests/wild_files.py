"""Small files in exactly the layouts that generators are published in, with weights from a seed.

`published` cases hold the names and shapes of a published class's state dict and some pixels of its pictures with the
weights that `drawn` gives them. Pickles are written through stand-ins that are called as the published classes are.
"""

import io
import json
import pickle
import re
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drawn_weights import draw_weights, sampled_pixels
from situ.core.generator import Generator
from situ.core.latents import Latents
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings

GOLDEN = Path(__file__).parent / "golden"
PUBLISHED: dict[str, dict[str, Any]] = json.loads((GOLDEN / "checkpoints_published.json").read_text())
FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
TINY = StyleGAN2Settings(resolution=8, z_dim=8, w_dim=8, mapping_layers=2, channel_base=48, channel_max=6)


# --- published state dicts


def drawn(case: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights that the published class was run with: drawn in alphabetical order of their names."""
    rng = torch.Generator().manual_seed(case["seed"])
    made = {}
    for key, shape in sorted(case["shapes"].items()):
        if key in case["fixed"]:
            given = case["fixed"][key]
            made[key] = torch.zeros(shape) if given is None else torch.tensor(given, dtype=torch.float32)
            continue
        values = torch.randn(shape, generator=rng)
        if re.search(r"(mapping\.(fc|dense)\d|style\.\d)", key):
            values = values * 100  # they act with a hundredth of their value
        made[key] = values.square() + 0.5 if key.endswith("magnitude_ema") else values
    return made


def draws_as_published(generator: Generator, case: Mapping[str, Any]) -> bool:
    """Whether its pictures are those of the published class, to 1e-4 of their largest value."""
    z = torch.randn(2, case["z_dim"], generator=torch.Generator().manual_seed(100 + case["seed"]))
    labels = torch.eye(case["c_dim"])[[2, 0]] if case["c_dim"] else None
    pictures = generator.synthesize(Latents(z, generator.spaces["z"], labels, truncation=0.7)).images
    difference = (sampled_pixels(pictures) - torch.tensor(case["pixels"])).abs().max().item()
    return difference <= 1e-4 * case["largest"]


def network(settings: StyleGAN2Settings = TINY, seed: int = 0) -> StyleGAN2Network:
    made = StyleGAN2Network(settings)
    draw_weights(made, seed)
    return made


def weights_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


# --- pickles


@contextmanager
def _called(names: Mapping[str, object]) -> Iterator[None]:
    """Let objects be pickled under "module.name"."""
    before = dict(sys.modules)
    try:
        for full, thing in names.items():
            module, _, name = full.rpartition(".")
            parts = module.split(".")
            for i in range(len(parts)):
                part = ".".join(parts[: i + 1])
                sys.modules.setdefault(part, types.ModuleType(part))
            setattr(sys.modules[module], name, thing)
            vars(thing)  # a class or a function
            thing.__module__, thing.__qualname__, thing.__name__ = module, name, name  # pyright: ignore
        yield
    finally:
        for key in set(sys.modules) - set(before):
            del sys.modules[key]


def _rebuild(meta: object) -> None:
    raise AssertionError("nothing calls this")


class Module:
    """A module as NVIDIA's `persistence` pickles it."""

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.class_name, self.state = class_name, state

    def __reduce__(self) -> tuple[Any, ...]:
        text = "import os\nraise RuntimeError('module source is never run')"
        meta = {"type": "class", "version": 6, "module_src": text, "class_name": self.class_name, "state": self.state}
        return _rebuild, (meta,)


class EasyDict(dict):
    """Called dnnlib.util.EasyDict."""


class Network:
    """Called dnnlib.tflib.network.Network."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class Namespace:
    """Called argparse.Namespace."""


NAMES: Mapping[str, object] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _rebuild,
    "dnnlib.util.EasyDict": EasyDict,
    "dnnlib.tflib.network.Network": Network,
}


def pickled(content: object, protocol: int = 4) -> bytes:
    with _called(NAMES):
        return pickle.dumps(content, protocol)


def torch_file(content: object, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    with _called(NAMES):
        torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


# --- NVIDIA

_BUFFERS = ("w_avg", "noise_const", "resample_filter", "freqs", "phases", "transform", "magnitude_ema", "_filter")


def nvidia_module(
    weights: Mapping[str, Any], attributes: Mapping[str, Mapping[str, Any]] | None = None, name: str = "Generator"
) -> Module:
    """A tree of modules for a state dict.

    Args:
        attributes: what modules also hold, by the end of their path ("conv0"); "" is every one's.
    """
    attributes = attributes or {}

    def build(tensors: Mapping[str, Any], path: str) -> Module:
        state: dict[str, Any] = {
            "training": False,
            "_parameters": OrderedDict(),
            "_buffers": OrderedDict(),
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": OrderedDict(),
            "_modules": OrderedDict(),
            "_init_args": (),
            "_init_kwargs": EasyDict(),
        }
        for key in dict.fromkeys(key.partition(".")[0] for key in tensors):
            if key in tensors:
                buffer = key.endswith(_BUFFERS)
                value = tensors[key]
                if isinstance(value, Tensor) and not buffer:
                    value = torch.nn.Parameter(value, requires_grad=False)
                state["_buffers" if buffer else "_parameters"][key] = value
            else:
                inner = {k.removeprefix(f"{key}."): v for k, v in tensors.items() if k.startswith(f"{key}.")}
                state["_modules"][key] = build(inner, f"{path}.{key}")
        for end, more in attributes.items():
            if path.endswith(end):
                state.update(more)
        return Module(name if not path else path.rpartition(".")[2], state)

    return build(weights, "")


def nvidia_attributes(clamp: float | None = None, **torgb: Any) -> dict[str, dict[str, Any]]:
    """What the layers of NVIDIA's StyleGAN2 say of themselves."""
    layer = {"activation": "lrelu", "conv_clamp": clamp, "act_gain": np.sqrt(2), "use_noise": True}
    dense = {"activation": "lrelu", "bias_gain": 0.01}
    blocks = {f".b{4 << i}": {"architecture": "skip", "use_fp16": np.bool_(False)} for i in range(9)}
    fc = {f".fc{i}": dense for i in range(9)}
    return {".conv0": layer, ".conv1": layer, ".torgb": {"conv_clamp": clamp, **torgb}, **blocks, **fc}


def nvidia_weights(made: StyleGAN2Network) -> dict[str, Tensor]:
    """With the filters that the published files have."""
    weights = weights_of(made)
    for key in list(weights):
        if key.endswith(".noise_const"):
            weights[key.replace("noise_const", "resample_filter")] = FIR.clone()
    return weights


def snapshot(made: StyleGAN2Network, entry: str = "G_ema", protocol: int = 4, **others: Any) -> bytes:
    module = nvidia_module(nvidia_weights(made), nvidia_attributes(made.settings.conv_clamp))
    content = {"training_set_kwargs": EasyDict(path="x"), **others, entry: module, "augment_pipe": None}
    return pickled(content, protocol)


DISCRIMINATOR = {"b4.conv.weight": torch.zeros(2, 3, 3, 3), "b4.out.weight": torch.zeros(1, 2)}


# --- TensorFlow


def tensorflow_network(variables: Mapping[str, np.ndarray], version: int, **static_kwargs: Any) -> Network:
    """A network with the components that the names of the variables say."""
    own = [(key, value) for key, value in variables.items() if not key.startswith(("mapping/", "synthesis/"))]
    components = EasyDict()
    for name in ("mapping", "synthesis"):
        inner = {k.removeprefix(f"{name}/"): v for k, v in variables.items() if k.startswith(f"{name}/")}
        if inner:
            components[name] = tensorflow_network(inner, version)
    return Network(
        {
            "version": version,
            "name": "Gs",
            "static_kwargs": EasyDict(static_kwargs),
            "components": components,
            "build_module_src": "raise RuntimeError('module source is never run')",
            "build_func_name": "G_main",
            "variables": own,
        }
    )


def to_tensorflow(weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """NVIDIA's names of StyleGAN2 to those of TensorFlow."""
    made: dict[str, np.ndarray] = {"lod": np.zeros((), np.float32), "dlatent_avg": weights["mapping.w_avg"].numpy()}
    for key, value in weights.items():
        array = value.numpy()
        if m := re.fullmatch(r"mapping\.(fc(\d+)|embed)\.(weight|bias)", key):
            name = "LabelEmbed" if m[1] == "embed" else f"Dense{m[2]}"
            made[f"mapping/{name}/{m[3]}"] = array.T.copy()
        elif key == "synthesis.b4.const":
            made["synthesis/4x4/Const/const"] = array[None]
        elif m := re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(.*)", key):
            r, layer = int(m[1]), m[2]
            name = {"torgb": "ToRGB", "conv0": "Conv0_up", "conv1": "Conv" if r == 4 else "Conv1"}[layer]
            where = f"synthesis/{r}x{r}/{name}"
            if m[3] == "weight":
                array = array.transpose(2, 3, 1, 0)
                made[f"{where}/weight"] = (array[::-1, ::-1] if layer == "conv0" else array).copy()
            elif m[3] == "affine.weight":
                made[f"{where}/mod_weight"] = array.T.copy()
            elif m[3] == "affine.bias":
                made[f"{where}/mod_bias"] = array - 1
            elif m[3] == "noise_const":
                made[f"synthesis/noise{int(np.log2(r)) * 2 - (5 if layer == 'conv0' else 4)}"] = array[None, None]
            else:
                made[f"{where}/{m[3]}"] = array
    return made


def stylegan1_to_tensorflow(weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """genforce's names of StyleGAN1 to those of TensorFlow; both store kernels in the same orientation."""
    made: dict[str, np.ndarray] = {"lod": np.array(0, np.float32)}
    last = max(int(m[1]) for key in weights if (m := re.match(r"synthesis\.layer(\d+)", key)))
    for key, value in weights.items():
        array = value.numpy()
        if key == "truncation.w_avg":
            made["dlatent_avg"] = array
        elif key == "mapping.label_weight":
            made["mapping/LabelConcat/weight"] = array
        elif m := re.fullmatch(r"mapping\.dense(\d+)\.(weight|bias)", key):
            made[f"mapping/Dense{m[1]}/{m[2]}"] = array.T.copy()
        elif m := re.fullmatch(r"synthesis\.layer(\d+)\.(.*)", key):
            row = int(m[1])
            r = 4 << row // 2
            name = ("Const", "Conv")[row] if row < 2 else ("Conv0_up", "Conv1")[row % 2]
            where = f"synthesis/{r}x{r}/{name}"
            if m[2] == "apply_noise.noise":
                made[f"synthesis/noise{row}"] = array
            elif m[2] == "weight":
                made[f"{where}/weight"] = array.transpose(2, 3, 1, 0).copy()
            elif m[2] == "style.weight":
                made[f"{where}/StyleMod/weight"] = array.T.copy()
            elif m[2] in ("const", "bias", "style.bias", "apply_noise.weight"):
                there = {"style.bias": "StyleMod/bias", "apply_noise.weight": "Noise/weight"}.get(m[2], m[2])
                made[f"{where}/{there}"] = array
        elif m := re.fullmatch(r"synthesis\.output(\d+)\.(weight|bias)", key):
            there = f"synthesis/ToRGB_lod{last // 2 - int(m[1])}/{m[2]}"
            made[there] = array.transpose(2, 3, 1, 0).copy() if m[2] == "weight" else array
    return made


# --- rosinality


def to_rosinality(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """NVIDIA's names to those of rosinality's generator; the mean of W stands beside the state dict there."""
    made: dict[str, Tensor] = {}
    for key, value in weights.items():
        if m := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", key):
            made[f"style.{int(m[1]) + 1}.{m[2]}"] = value
        elif key == "synthesis.b4.const":
            made["input.input"] = value[None]
        elif m := re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(.*)", key):
            k = int(m[1]).bit_length() - 4
            if m[2] == "torgb":
                old = "to_rgb1" if k < 0 else f"to_rgbs.{k}"
            else:
                old = "conv1" if k < 0 else f"convs.{2 * k + int(m[2] == 'conv1')}"
            noise = 0 if k < 0 else 2 * k + 1 + int(m[2] == "conv1")
            if m[3] == "weight":
                made[f"{old}.conv.weight"] = value[None]
            elif m[3].startswith("affine."):
                made[f"{old}.conv.modulation.{m[3].removeprefix('affine.')}"] = value
            elif m[3] == "noise_const":
                made[f"noises.noise_{noise}"] = value[None, None]
            elif m[3] == "noise_strength":
                made[f"{old}.noise.weight"] = value.reshape(1)
            elif m[2] == "torgb":
                made[f"{old}.bias"] = value.reshape(1, -1, 1, 1)
            else:
                made[f"{old}.activate.bias"] = value
            if m[2] == "conv0" and m[3] == "weight":
                made[f"{old}.conv.blur.kernel"] = 4 * FIR
            if m[2] == "torgb" and k >= 0 and m[3] == "weight":
                made[f"{old}.upsample.kernel"] = 4 * FIR
    return made


def pictures_of(generator: Generator, seed: int = 3, classes: int = 0, truncation: float = 0.7) -> Tensor:
    """Two pictures."""
    z = torch.randn(2, generator.spaces["z"].dim, generator=torch.Generator().manual_seed(seed))
    labels = torch.eye(classes)[[0, classes - 1]] if classes else None
    return generator.synthesize(Latents(z, generator.spaces["z"], labels, truncation)).images


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def samples() -> dict[str, bytes]:
    """One small file of every layout, by the name of its format; of some formats several ("hammer 2")."""
    weights = weights_of(network())
    average = tensorflow_network(to_tensorflow(weights), 4)
    names = {
        "genforce": "genforce2-c0",
        "hammer": "hammer-2-c0",
        "hammer-stylegan3": "hammer-3t-c0",
        "stylegan1": "interfacegan-16",
        "stylegan1 2": "lelsd-16",
        "stylegan1 3": "genforce1-16-c0",
        "stylegan1 4": "hammer-1-c0",
    }
    decoder = {f"decoder.{key}": value for key, value in to_rosinality(weights).items()}
    return {
        "nvidia": snapshot(network()),
        "nvidia 2": (GOLDEN / "checkpoints_nvidia_8px.pkl").read_bytes(),
        "nvidia 3": (GOLDEN / "checkpoints_nvidia_stylegan3_16px.pkl").read_bytes(),
        "nvidia-tensorflow": pickled((average, average, average)),
        "nvidia-state-dict": torch_file(weights),
        "rosinality": torch_file({"g_ema": to_rosinality(weights), "latent_avg": weights["mapping.w_avg"]}),
        "rosinality 2": torch_file({"g_ema": to_rosinality(weights)}, legacy=True),
        "encoder4editing": torch_file({"state_dict": decoder, "latent_avg": weights["mapping.w_avg"]}),
        **{name: torch_file({"generator_smooth": drawn(PUBLISHED[case])}) for name, case in names.items()},
    }
