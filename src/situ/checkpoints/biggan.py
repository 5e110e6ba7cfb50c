"""BigGAN checkpoints of other projects: state dicts of the Hugging Face port and of ajbrock's BigGAN-PyTorch.

Formats are told by their keys and sizes are read from their tensors. Spectral normalisation, which both keep beside the
raw weights, is worked into the weights once; every condition is laid out as (z, class), and the first layer as (row,
column, channel). `state_dict()` and `settings` of the network that results are all that needs to be kept of a model.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.checkpoints.foreign import parse_json
from situ.core.errors import FileError, GeneratorError, ModelError
from situ.generators.biggan import BigGAN
from situ.generators.biggan_deep_network import BigGANDeepNetwork, BigGANDeepSettings
from situ.generators.biggan_network import BigGANNetwork, BigGANSettings, BlockStack

HUGGINGFACE_WEIGHTS, HUGGINGFACE_CONFIG = "pytorch_model.bin", "config.json"
_HUGGINGFACE, _AJBROCK = "pytorch-pretrained-BigGAN", "BigGAN-PyTorch"
# the values of the class that a config is read into, for what a config leaves out
_HUGGINGFACE_DEFAULTS = {
    "output_dim": 128,
    "z_dim": 128,
    "class_embed_dim": 128,
    "channel_width": 128,
    "num_classes": 1000,
    "attention_layer_position": 8,
    "eps": 1e-4,
    "n_stats": 51,
    "layers": [
        *([False, 16, 16], [True, 16, 16], [False, 16, 16], [True, 16, 8], [False, 8, 8]),
        *([True, 8, 4], [False, 4, 4], [True, 4, 2], [False, 2, 2], [True, 2, 1]),
    ],
}
_START = 4  # pixels on a side of what the Hugging Face port's first layer gives
_OUTPUT_NORM_EPS = 1e-5  # of BigGAN-PyTorch's last batch norm, which its options leave alone


# --- the Hugging Face port


def is_huggingface_biggan(content: object) -> bool:
    """Whether a file's content is a state dict of pytorch-pretrained-BigGAN."""
    return _has(content, "embeddings.weight", "generator.gen_z.weight_orig", "generator.conv_to_rgb.weight_orig")


def huggingface_biggan_weights(folder: Path | str) -> Path | None:
    """The weights in a folder that pytorch-pretrained-BigGAN could load from; None for any other folder."""
    weights, config = Path(folder) / HUGGINGFACE_WEIGHTS, Path(folder) / HUGGINGFACE_CONFIG
    return weights if weights.is_file() and config.is_file() else None


def read_huggingface_biggan(content: Mapping[str, Any], path: Path | str, names: Sequence[str] = ()) -> BigGAN:
    """The generator of a state dict, with the config that lies beside it.

    Args:
        content: of the file, as `read_foreign` gives it.
        path: of the file. The config is "config.json" beside it, or called as the file is, with "config.json" for
            "pytorch_model.bin" ("biggan-deep-128-config.json").
        names: of the classes.

    Raises:
        ModelError: there is no config, or it and the tensors do not fit.
    """
    path = Path(path)
    beside = [path.with_name(HUGGINGFACE_CONFIG)]
    if path.name.endswith(HUGGINGFACE_WEIGHTS):
        beside.insert(0, path.with_name(path.name.removesuffix(HUGGINGFACE_WEIGHTS) + HUGGINGFACE_CONFIG))
    config = next((place for place in beside if place.is_file()), None)
    if config is None:
        places = " or ".join(dict.fromkeys(place.name for place in beside))
        raise ModelError(
            f"{path} is a BigGAN of {_HUGGINGFACE}, whose config is a file of its own: put {places} beside it"
        )
    try:
        settings = parse_json(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, FileError) as error:
        raise ModelError(f"the config {config} cannot be read: {error}") from None
    if not isinstance(settings, dict):
        raise ModelError(f"the config {config} is a dictionary of settings, got {type(settings).__name__}")
    return build_huggingface_biggan(content, settings, names)


def build_huggingface_biggan(
    content: Mapping[str, Any], config: Mapping[str, Any], names: Sequence[str] = ()
) -> BigGAN:
    """The generator of a state dict and its config.

    Raises:
        ModelError: a tensor is missing, left over or of a wrong shape, or the config does not match the tensors.
    """
    source = _Source(content, _HUGGINGFACE)
    with _one_model(source):
        settings = _huggingface_settings(source, {**_HUGGINGFACE_DEFAULTS, **config})
        tensors = _huggingface_tensors(source, settings)
        source.require_all_used()
        with torch.device("meta"):
            network = BigGANDeepNetwork(settings)
        network = _load(network, tensors)
    return BigGAN(network, names)


def _huggingface_settings(source: "_Source", config: Mapping[str, Any]) -> BigGANDeepSettings:
    """The settings that config and tensors agree on."""
    layers, width = config["layers"], int(config["channel_width"])
    attention = int(config["attention_layer_position"])
    inputs, outputs = ([int(layer[i]) for layer in layers] for i in (1, 2))
    if inputs[1:] != outputs[:-1]:
        raise ModelError(f"every layer of a config takes the channels that the one before it gives, got {layers}")
    settings = BigGANDeepSettings(
        z_dim=int(config["z_dim"]),
        classes=int(config["num_classes"]),
        embedding_dim=int(config["z_dim"]),
        channels=[width * multiple for multiple in (inputs[0], *outputs)],
        ups=[bool(layer[0]) for layer in layers],
        attention=(attention,) if 0 <= attention < len(layers) else (),
        norm_eps=float(config["eps"]),
        output_norm_eps=float(config["eps"]),
        statistics=int(config["n_stats"]),
        start=_START,
    )
    found: dict[str, object] = {}
    found["z_dim"], found["num_classes"] = source.shape("embeddings.weight", 2)
    found["n_stats"], found["channel_width"] = source.shape("generator.bn.running_means", 2)
    numbers = source.numbers("generator.layers.")
    positions = [i for i in numbers if f"generator.layers.{i}.gamma" in source]
    found["len(layers)"] = len(numbers) - len(positions)
    if positions or settings.attention:  # a position after the last layer means none
        found["attention_layer_position"] = positions[0] if len(positions) == 1 else positions
    found["output_dim"] = settings.resolution
    said = {**config, "len(layers)": len(layers)}
    wrong = [f"{key} is {said[key]}, the tensors have {found[key]}" for key in found if said[key] != found[key]]
    if wrong:
        raise ModelError(f"config and weights are not of one model: {'; '.join(wrong)}")
    return settings


def _huggingface_tensors(source: "_Source", settings: BigGANDeepSettings) -> dict[str, Tensor]:
    """The state dict of our network."""

    def normalised(key: str) -> Tensor:
        """A weight over its largest singular value, as the two stored vectors tell it."""
        weight, u = source.take(f"{key}.weight_orig"), source.take(f"{key}.weight_u")
        matrix = weight.flatten(1)
        v = source.take(f"{key}.weight_v") if f"{key}.weight_v" in source else functional.normalize(u @ matrix, dim=0)
        return weight / _nonzero(u @ (matrix @ v), f"{key}.weight_orig")

    made = {
        "embedding.weight": source.take("embeddings.weight").T,
        "linear.weight": normalised("generator.gen_z"),
        "linear.bias": source.take("generator.gen_z.bias"),
        "output_norm.gain": source.take("generator.bn.weight"),
        "output_norm.offset": source.take("generator.bn.bias"),
        "output_norm.means": source.take("generator.bn.running_means"),
        "output_norm.variances": source.take("generator.bn.running_vars"),
        # of as many channels as go in, three are shown
        "output.weight": normalised("generator.conv_to_rgb")[:3],
        "output.bias": source.take("generator.conv_to_rgb.bias")[:3],
    }
    for i in range(len(settings.ups)):
        there = f"generator.layers.{i + sum(position <= i for position in settings.attention)}"
        for j in range(4):
            norm, conv = f"block{i}.norm{j + 1}", f"block{i}.conv{j + 1}"
            made[f"{norm}.gain.weight"] = normalised(f"{there}.bn_{j}.scale")
            made[f"{norm}.offset.weight"] = normalised(f"{there}.bn_{j}.offset")
            made[f"{norm}.means"] = source.take(f"{there}.bn_{j}.running_means")
            made[f"{norm}.variances"] = source.take(f"{there}.bn_{j}.running_vars")
            made[f"{conv}.weight"] = normalised(f"{there}.conv_{j}")
            made[f"{conv}.bias"] = source.take(f"{there}.conv_{j}.bias")
    for i in settings.attention:
        there = f"generator.layers.{i}"
        made[f"attention{i}.gamma"] = source.take(f"{there}.gamma").reshape(())
        for ours, theirs in (("theta", "theta"), ("phi", "phi"), ("g", "g"), ("o", "o_conv")):
            made[f"attention{i}.{ours}.weight"] = normalised(f"{there}.snconv1x1_{theirs}")
    return made


# --- ajbrock's BigGAN-PyTorch


def is_ajbrock_biggan(content: object) -> bool:
    """Whether a file's content is a state dict of a generator of BigGAN-PyTorch, BigGAN-deep or not."""
    return _has(
        content, "linear.weight", "blocks.0.0.conv1.weight", "blocks.0.0.bn1.gain.weight", "output_layer.0.gain"
    )


def read_ajbrock_biggan(content: Mapping[str, Any], path: Path | str, names: Sequence[str] = ()) -> BigGAN:
    """The generator of a state dict with the constants that it was most likely trained with. Raises ModelError."""
    try:
        return build_ajbrock_biggan(content, names=names)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def build_ajbrock_biggan(
    content: Mapping[str, Any],
    *,
    norm_eps: float | None = None,
    spectral_eps: float | None = None,
    blocks_per_stage: int = 2,
    names: Sequence[str] = (),
) -> BigGAN:
    """The generator of a state dict (`G_ema.pth`, or converted from TensorFlow Hub).

    Args:
        norm_eps: added to variances of the conditional batch norms (the option BN_eps), which no file tells. None takes
            1e-5 as the launch scripts do, or 1e-4 for weights converted from TensorFlow Hub (which lack `sv0`).
        spectral_eps: the least length in the power iteration (SN_eps); None takes 1e-6, or 1e-4 likewise.
        blocks_per_stage: of BigGAN-deep (G_depth); the last of a stage doubles the resolution.
        names: of the classes.

    Raises:
        ModelError: a tensor is missing, left over or of a wrong shape.
    """
    source = _Source(content, _AJBROCK)
    converted = "linear.u0" in source and "linear.sv0" not in source
    norm_eps = norm_eps if norm_eps is not None else 1e-4 if converted else 1e-5
    spectral_eps = spectral_eps if spectral_eps is not None else 1e-4 if converted else 1e-6
    with _one_model(source):
        settings = _ajbrock_settings(source, norm_eps, blocks_per_stage)
        tensors = _ajbrock_tensors(source, settings, spectral_eps)
        source.require_all_used()
        with torch.device("meta"):
            deep = isinstance(settings, BigGANDeepSettings)
            network = BigGANDeepNetwork(settings) if deep else BigGANNetwork(settings)
        network = _load(network, tensors)
    return BigGAN(network, names)


def _ajbrock_settings(source: "_Source", norm_eps: float, blocks_per_stage: int) -> BigGANSettings | BigGANDeepSettings:
    """The settings, from shapes alone."""
    numbers = source.numbers("blocks.")
    deep = "blocks.0.0.conv4.weight" in source
    last = 4 if deep else 2
    sizes = [
        (source.shape(f"blocks.{i}.0.conv1.weight", 4)[1], source.shape(f"blocks.{i}.0.conv{last}.weight", 4)[0])
        for i in numbers
    ]
    if deep and (blocks_per_stage < 1 or len(sizes) % blocks_per_stage):
        raise ModelError(f"{len(sizes)} blocks do not make stages of {blocks_per_stage}: give another blocks_per_stage")
    ups = [not deep or i % blocks_per_stage == blocks_per_stage - 1 for i in range(len(sizes))]
    numbers_out, first = source.shape("linear.weight", 2)
    start = round((numbers_out / sizes[0][0]) ** 0.5)
    if start * start * sizes[0][0] != numbers_out:
        raise ModelError(f"linear.weight gives {numbers_out} numbers, expected {sizes[0][0]} channels of a square")
    if "shared.weight" in source:
        classes, embedding = source.shape("shared.weight", 2)
        taken = source.shape("blocks.0.0.bn1.gain.weight", 2)[1]
    else:  # every gain is an embedding, (classes, channels)
        classes, embedding = source.shape("blocks.0.0.bn1.gain.weight", 2)[0], 0
        taken = classes
    rest: dict[str, Any] = {
        "classes": classes,
        "embedding_dim": embedding,
        "channels": [sizes[0][0], *(outputs for _, outputs in sizes)],
        "ups": ups,
        # theirs follows a block, ours is counted before the next
        "attention": tuple(i + 1 for i in numbers if f"blocks.{i}.1.theta.weight" in source),
        "norm_eps": norm_eps,
        "output_norm_eps": _OUTPUT_NORM_EPS,
        "start": start,
    }
    if deep:
        reduction = sizes[0][0] // source.shape("blocks.0.0.conv1.weight", 4)[0]
        return BigGANDeepSettings(z_dim=first - embedding, reduction=reduction, **rest)
    hierarchical = embedding > 0 and taken == embedding + first
    if not hierarchical and taken != (embedding or classes):
        raise ModelError(
            f"blocks.0.0.bn1.gain.weight takes {taken} numbers, expected {embedding or classes} of the class, "
            f"and {first} more of z where that is hierarchical"
        )
    return BigGANSettings(z_dim=first * (len(sizes) + 1 if hierarchical else 1), hierarchical=hierarchical, **rest)


def _ajbrock_tensors(
    source: "_Source", settings: BigGANSettings | BigGANDeepSettings, spectral_eps: float
) -> dict[str, Tensor]:
    """The state dict of our network."""
    class_first = settings.embedding_dim
    deep = isinstance(settings, BigGANDeepSettings)

    def normalised(key: str) -> Tensor:
        """A weight over its largest singular value, by one step of power iteration from the stored vector."""
        weight = source.take(f"{key}.weight")
        if f"{key}.u0" not in source:  # trained without spectral normalisation
            return weight
        matrix = weight.flatten(1)
        v = functional.normalize(source.take(f"{key}.u0") @ matrix, eps=spectral_eps)  # (1, inputs)
        u = functional.normalize(v @ matrix.T, eps=spectral_eps)
        return weight / _nonzero((v @ matrix.T @ u.T).squeeze(), f"{key}.weight")

    def conditional(key: str) -> Tensor:
        """The weight of a gain or offset: (channels, z + class) from (channels, class + z)."""
        if not class_first:
            return source.take(f"{key}.weight").T
        weight = normalised(key)
        return torch.cat([weight[:, class_first:], weight[:, :class_first]], dim=1)

    def statistics(key: str) -> dict[str, Tensor]:
        """Means and variances, which three kinds of batch norm call differently."""
        kinds = ("{}.stored_mean", "{}.stored_var"), ("{}.bn.stored_mean", "{}.bn.stored_var")
        kinds = (*kinds, ("{}.bn.running_mean", "{}.bn.running_var"))
        for mean, variance in kinds:
            if mean.format(key) in source:
                return {
                    "means": source.take(mean.format(key))[None],
                    "variances": source.take(variance.format(key))[None],
                }
        raise ModelError(f"{key} has no stored mean and variance: only generators with batch normalisation are read")

    first = conditional("linear") if deep else normalised("linear")
    size, channels = settings.start, settings.channels[0]

    def by_position(rows: Tensor) -> Tensor:
        """Rows of the first layer from (channel, row, column) to (row, column, channel)."""
        return rows.unflatten(0, (channels, size, size)).movedim(0, 2).flatten(0, 2)

    made = {
        "linear.weight": by_position(first),
        "linear.bias": by_position(source.take("linear.bias")),
        "output_norm.gain": source.take("output_layer.0.gain"),
        "output_norm.offset": source.take("output_layer.0.bias"),
        **{f"output_norm.{key}": value for key, value in statistics("output_layer.0").items()},
        "output.weight": normalised("output_layer.2"),
        "output.bias": source.take("output_layer.2.bias"),
    }
    if settings.embedding_dim:
        made["embedding.weight"] = source.take("shared.weight")
    convolutions = (
        {f"conv{j}": f"conv{j}" for j in range(1, 5)}
        if deep
        else {"conv1": "conv1", "conv2": "conv2", "shortcut": "conv_sc"}
    )
    for i in range(len(settings.ups)):
        there = f"blocks.{i}.0"
        for ours, theirs in convolutions.items():
            made[f"block{i}.{ours}.weight"] = normalised(f"{there}.{theirs}")
            made[f"block{i}.{ours}.bias"] = source.take(f"{there}.{theirs}.bias")
        for j in range(1, 5 if deep else 3):
            norm = f"block{i}.norm{j}"
            made[f"{norm}.gain.weight"] = conditional(f"{there}.bn{j}.gain")
            made[f"{norm}.offset.weight"] = conditional(f"{there}.bn{j}.bias")
            made.update({f"{norm}.{key}": value for key, value in statistics(f"{there}.bn{j}").items()})
    for i in settings.attention:
        made[f"attention{i}.gamma"] = source.take(f"blocks.{i - 1}.1.gamma").reshape(())
        for part in ("theta", "phi", "g", "o"):
            made[f"attention{i}.{part}.weight"] = normalised(f"blocks.{i - 1}.1.{part}")
    return made


# --- both


# what is stored for training alone, or of singular values after the first
_UNUSED = re.compile(r"(.*\.)?(sv\d+|u[1-9]\d*|num_batches_tracked|accumulation_counter)")


class _Source:
    """The tensors of a foreign state dict, which knows the ones nobody has asked for."""

    def __init__(self, content: Mapping[str, Any], project: str) -> None:
        self.project = project
        self._arrays = {key: value for key, value in content.items() if isinstance(value, np.ndarray)}
        self._left = set(self._arrays)

    def __contains__(self, key: str) -> bool:
        return key in self._arrays

    def array(self, key: str) -> np.ndarray:
        if key not in self._arrays:
            raise ModelError(f"a BigGAN of {self.project} has the tensor {key}, this file does not: it is incomplete")
        return self._arrays[key]

    def shape(self, key: str, axes: int) -> tuple[int, ...]:
        """The shape of a tensor of so many axes."""
        shape = self.array(key).shape
        if len(shape) != axes:
            raise ModelError(f"{key} has {axes} axes, got {shape}")
        return shape

    def take(self, key: str) -> Tensor:
        """A tensor, in single precision."""
        self._left.discard(key)
        return torch.from_numpy(np.ascontiguousarray(self.array(key), dtype=np.float32).reshape(self.array(key).shape))

    def numbers(self, beginning: str) -> list[int]:
        """The numbers, from 0 on, that follow a beginning of keys."""
        found = {key.removeprefix(beginning).split(".")[0] for key in self._arrays if key.startswith(beginning)}
        numbers = sorted(int(item) for item in found if item.isdecimal())
        if numbers != list(range(len(numbers))) or not numbers:
            raise ModelError(f"keys {beginning}0, {beginning}1 ... follow each other, got the numbers {numbers}")
        return numbers

    def require_all_used(self) -> None:
        """Raises ModelError where tensors are left that change the pictures."""
        left = sorted(key for key in self._left if not _UNUSED.fullmatch(key))
        if left:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            raise ModelError(
                f"a BigGAN of {self.project} has no tensor {', '.join(left[:3])}{more}: it is another model"
            )


@contextmanager
def _one_model(source: _Source) -> Iterator[None]:
    """What tensors and settings that do not belong together make of the building, as one error."""
    try:
        yield
    except (GeneratorError, RuntimeError, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        words = " ".join(str(error).split())
        raise ModelError(f"settings and tensors make no BigGAN of {source.project}: {words[:400]}") from None


def _load(network: BlockStack, tensors: Mapping[str, Tensor]) -> BlockStack:
    """A network on the meta device with its weights. Raises ModelError where shapes differ."""
    wrong = [
        f"{key} is {tuple(value.shape)}, got {tuple(tensors[key].shape)}"
        for key, value in network.state_dict().items()
        if tensors[key].shape != value.shape
    ]
    if wrong:
        raise ModelError(f"{len(wrong)} tensors are of a wrong shape: {'; '.join(wrong[:3])}")
    copies = {key: value.clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    network.load_state_dict(copies, assign=True)
    return network


def _nonzero(sigma: Float[Tensor, ""], key: str) -> Float[Tensor, ""]:
    if not sigma.isfinite() or sigma == 0:
        raise ModelError(f"the spectral norm of {key} is {float(sigma)}: the file is damaged")
    return sigma


def _has(content: object, *keys: str) -> bool:
    return isinstance(content, Mapping) and all(isinstance(content.get(key), np.ndarray) for key in keys)
