"""What the readers of generator checkpoints share: state dicts of arrays, how they are found, checked and loaded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.checkpoints.unpickle import Inert
from situ.core.errors import ModelError
from situ.generators.style_based import Noise

Weights = dict[str, np.ndarray]  # a state dict

AVERAGED = ("g_ema", "G_ema", "generator_smooth", "generator_ema")  # entries with the mean of a generator's weights
PLAIN = ("g", "G", "generator")  # and with its weights at the last step of training
_WRAPPERS = ("models", "state_dict")  # entries that hold others, or a bare state dict
FILTER = [1, 3, 3, 1]  # of StyleGAN2, not normalised
MEAN_OF = 10_000  # codes that a missing mean of W is taken over

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class Options:
    """How a generator is to be opened, and what there is to say about it."""

    device: torch.device | str = "cpu"
    noise: Noise | None = None  # None takes what the file says, or "const"
    low_precision: bool = False  # bfloat16 for the upper three resolutions, where the architecture has it
    rng: torch.Generator | None = None  # for noise="random"
    notes: list[str] = field(default_factory=list)  # what was assumed or left out, a sentence each

    def note(self, text: str) -> None:
        """Say something about how the file was read."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class StateDict:
    """One state dict of a file."""

    weights: Weights
    entry: str = ""  # where it stood

    def note_the_entry(self, options: Options) -> None:
        """Say so where the weights are not the averaged ones of a file that could have had them."""
        name = self.entry.rpartition(".")[2]
        if name in PLAIN:
            options.note(f'the file has no averaged weights: those of the last training step are taken ("{name}")')


# --- finding


def as_mapping(value: Any) -> Mapping[Any, Any]:
    """Dictionaries, and objects that were dictionaries or attributes: their content; {} for anything else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, Inert):
        return value.items or (value.state if isinstance(value.state, Mapping) else {})
    return {}


def arrays_of(value: Any) -> Weights:
    """The arrays that stand directly in a dictionary; the prefix of torch's DataParallel is dropped."""
    content = as_mapping(value)
    found = {
        key: item
        for key, item in content.items()
        if isinstance(key, str) and isinstance(item, np.ndarray) and item.dtype.kind in "fiub"
    }
    if found and all(key.startswith("module.") for key in found):
        found = {key.removeprefix("module."): item for key, item in found.items()}
    return found


def state_dicts(content: Any) -> Iterator[StateDict]:
    """The state dicts of generators that a file may hold, the averaged ones first."""
    yield from _state_dicts(content, "", 3, set())


def _state_dicts(content: Any, entry: str, depth: int, seen: set[int]) -> Iterator[StateDict]:
    inside = as_mapping(content)
    if id(content) in seen:  # a file may say a thing twice, or hold itself
        return
    seen.add(id(content))
    if depth and inside:
        for name in (*AVERAGED, *PLAIN, *_WRAPPERS):
            if name in inside:
                yield from _state_dicts(inside[name], f"{entry}.{name}" if entry else name, depth - 1, seen)
    weights = arrays_of(content)
    if weights:
        yield StateDict(weights, entry)


def has(weights: Mapping[str, np.ndarray], *keys: str) -> bool:
    return all(key in weights for key in keys)


def first_with(content: Any, *keys: str) -> StateDict | None:
    """The best state dict that has all the keys."""
    return next((found for found in state_dicts(content) if has(found.weights, *keys)), None)


def require_first(content: Any, *keys: str) -> StateDict:
    found = first_with(content, *keys)
    if found is None:
        raise ModelError(f"expected a state dict with {', '.join(keys)}")
    return found


def under(weights: Mapping[str, np.ndarray], prefix: str) -> Weights:
    """The arrays whose keys begin so, without it."""
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def shown(keys: Sequence[str], most: int = 4) -> str:
    """The first of several names, in one line."""
    words = [" ".join(key.split())[:60] for key in keys[:most]]
    return ", ".join(words) + (f" and {len(keys) - most} more" if len(keys) > most else "")


# settings of genforce's and Hammer's generators that the networks here have built in
_BUILT_IN: Mapping[str, object] = {
    "final_tanh": False,
    "final_sigmoid": False,
    "repeat_w": True,
    "normalize_z": True,
    "mapping_use_wscale": True,
    "mapping_wscale_gain": 1.0,
    "mapping_lr_mul": 0.01,
    "const_input": True,
    "architecture": "skip",
    "demodulate": True,
    "use_wscale": True,
    "wscale_gain": 1.0,
    "lr_mul": 1.0,
    "noise_type": "spatial",
}


def hammer_settings(content: Any) -> Mapping[Any, Any]:
    """What a file of Hammer says of its generator; {} where it says nothing.

    Raises:
        ModelError: something that changes pictures and is not supported.
    """
    said = as_mapping(content).get("model_kwargs_init")
    said = as_mapping(as_mapping(said).get("generator_smooth") or as_mapping(said).get("generator"))
    require_built_in(said, _BUILT_IN)
    return said


def require_built_in(said: Mapping[Any, Any], built_in: Mapping[str, object]) -> None:
    """Raises ModelError for settings that are stated and are others than those that the networks have built in."""
    wrong = [f"{key} {plain(said[key])}" for key, value in built_in.items() if key in said and said[key] != value]
    if wrong:
        raise ModelError(f"settings of this generator are not supported: {shown(wrong)}")


def plain(value: Any) -> str:
    """Something out of a file in a few words. Containers are not gone into: they can be as large as they like."""
    if value is None or isinstance(value, (str, bool, int, float, np.generic)):
        return " ".join(str(value).split())[:60]
    return type(value).__name__


# --- taking


class Source:
    """The arrays of one state dict, taken out one by one, so that what is missing or left over can be said."""

    def __init__(self, weights: Mapping[str, np.ndarray], kind: str) -> None:
        self.weights, self.kind = weights, kind
        self.left = set(weights)

    def __contains__(self, key: str) -> bool:
        return key in self.weights

    def take(self, key: str, axes: int | None = None) -> np.ndarray:
        """An array, with as many axes as it must have. Raises ModelError."""
        if key not in self.weights:
            raise ModelError(f"{key} is missing from this {self.kind}: the file is incomplete or of another version")
        self.left.discard(key)
        value = self.weights[key]
        if axes is not None and value.ndim != axes:
            raise ModelError(f"{key} of this {self.kind} has the shape {value.shape}, expected {axes} axes")
        return value

    def take_under(self, old: str, new: str, names: Sequence[str] = ("weight", "bias")) -> Weights:
        """Several arrays under another prefix."""
        return {f"{new}.{name}": self.take(f"{old}.{name}") for name in names}

    def drop(self, *endings: str) -> None:
        """Forget what can be derived, or is not used."""
        self.left = {key for key in self.left if not key.endswith(endings)}

    def check_filters(self, *endings: str) -> None:
        """Forget filters that are [1,3,3,1]. Raises ModelError for others."""
        for key in [key for key in self.left if key.endswith(endings)]:
            check_filter(key, self.take(key))

    def require_all_used(self) -> None:
        """Raises ModelError where something is left: it would change the pictures."""
        if self.left:
            raise ModelError(f"this {self.kind} also has {shown(sorted(self.left))}, which no such generator has")


def check_filter(key: str, values: np.ndarray) -> None:
    """Raises ModelError for a filter that is not [1,3,3,1] along both axes (of any scale)."""
    values = np.asarray(values, np.float64)
    expected = np.outer(FILTER, FILTER) / sum(FILTER) ** 2
    plane = values.reshape(values.shape[-2:]) if values.size == 16 and values.ndim >= 2 else values
    if plane.shape != (4, 4) or not np.allclose(plane / (plane.sum() or 1), expected, atol=1e-4):
        raise ModelError(f"{key} is not the filter [1,3,3,1], and no other is supported")


def depth_of(weights: Mapping[str, np.ndarray], beginning: str, ending: str) -> int:
    """How many keys beginning + 0, 1, 2 ... + ending there are in a row."""
    count = 0
    while f"{beginning}{count}{ending}" in weights:
        count += 1
    return count


def log2_of(size: int, what: str) -> int:
    """Raises ModelError where a size is no power of two from 4 on."""
    if size < 4 or size & (size - 1):
        raise ModelError(f"{what} is {size}, expected a power of two from 4 on")
    return size.bit_length() - 1


# --- loading


def to_tensor(key: str, value: np.ndarray) -> Tensor:
    """An array as a tensor of its own in single precision. Raises ModelError for NaN, infinity and other kinds."""
    if value.dtype.kind != "f":
        raise ModelError(f"{key} holds numbers of the kind {value.dtype}, expected floating point")
    with np.errstate(over="ignore", invalid="ignore"):
        copied = np.array(value, np.float32, order="C", copy=True)
    if not np.isfinite(copied).all():  # several times faster than torch's
        raise ModelError(f"{key} holds NaN or infinity: the file is damaged, or its training went wrong")
    return torch.from_numpy(copied)


def require_shapes(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], kind: str) -> None:
    """Raises ModelError where tensors are missing or do not agree in size.

    Done for all large ones before a network is made, so that no file gets memory for sizes that it only claims.
    """
    missing = [key for key in expected if key not in found]
    if missing:
        raise ModelError(f"this {kind} lacks {shown(missing)}: the file is incomplete")
    wrong = [f"{key} {found[key]} for {shape}" for key, shape in expected.items() if found[key] != shape]
    if wrong:
        raise ModelError(f"the tensors of this {kind} do not agree with each other in size: {shown(wrong)}")


def shapes_of(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in weights.items()}


def load_into(network: _Network, weights: Mapping[str, np.ndarray], kind: str) -> _Network:
    """Give a network its weights.

    Raises:
        ModelError: a tensor is missing, left over, of another shape or not finite.
    """
    require_same(network, shapes_of(weights), kind)
    network.load_state_dict({key: to_tensor(key, value) for key, value in weights.items()}, assign=True)
    return network


def require_same(network: nn.Module, found: Mapping[str, tuple[int, ...]], kind: str) -> None:
    """Raises ModelError where a state dict has not the keys and shapes of a network's."""
    expected = shapes_of(network.state_dict())
    extra = [key for key in found if key not in expected]
    if extra:
        raise ModelError(f"this {kind} also has {shown(extra)}, which no such generator has")
    require_shapes(found, expected, kind)


def mean_of_w(mapping: nn.Module, z_dim: int, c_dim: int) -> Float[Tensor, " w"]:
    """The mean of W as seeded codes of Z give it, classes drawn alike."""
    rng = torch.Generator().manual_seed(0)
    total = torch.zeros(())
    with torch.no_grad():
        for _ in range(MEAN_OF // 1000):
            z = torch.randn(1000, z_dim, generator=rng)
            labels = None
            if c_dim:
                drawn = torch.randint(c_dim, [1000], generator=rng)
                labels = functional.one_hot(drawn, c_dim).float()
            total = total + mapping(z, labels).sum(dim=0)
    return total / (MEAN_OF // 1000 * 1000)


def drawn_noise(resolution: int, index: int) -> np.ndarray:
    """A noise map for a file that has none: of the layer alone, the same every time."""
    return np.random.default_rng((index, resolution)).standard_normal((resolution, resolution)).astype(np.float32)
