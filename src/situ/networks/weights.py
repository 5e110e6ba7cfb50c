"""State dicts of frozen networks: sizes are read from shapes, every name is checked.

The networks of this room carry the parameter names of the published files. Each is built from the shapes that its file
has, then filled by name, so that a file of another kind is refused with the names that are missing.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from situ.core.errors import ModelError

_Network = TypeVar("_Network", bound=nn.Module)

_SHOWN = 3  # names in a message; files have hundreds


def length(tensors: Mapping[str, Tensor], key: str, network: str, axis: int = 0) -> int:
    """Length of an axis of one tensor (0: outputs, 1: inputs). Raises ModelError where there is no such tensor."""
    tensor = tensors.get(key)
    if not isinstance(tensor, Tensor) or tensor.ndim <= axis or not tensor.shape[axis]:
        has = "not there" if tensor is None else f"of shape {tuple(tensor.shape)}"
        raise ModelError(f"weights of {network} have {key}, here it is {has}: expected another file")
    return tensor.shape[axis]


def depth(tensors: Mapping[str, Tensor], prefix: str, network: str, first: int = 0) -> int:
    """How many blocks `prefix0.`, `prefix1.` ... there are. Raises ModelError where there is none."""
    found = {key[len(prefix) :].split(".")[0] for key in tensors if key.startswith(prefix)}
    count = 0
    while str(first + count) in found:
        count += 1
    if not count:
        raise ModelError(f"weights of {network} have {prefix}{first}, here it is not there: expected another file")
    return count


def filled(network: _Network, tensors: Mapping[str, Tensor], name: str, unused: Sequence[str] = ()) -> _Network:
    """The network with these weights, frozen and in evaluation mode; derivatives by its input remain possible.

    Args:
        unused: beginnings of names that a file may have and the network does not need.

    Raises:
        ModelError: names that are missing or unknown, shapes that disagree.
    """
    wanted = network.state_dict()
    given = {key: value for key, value in tensors.items() if not key.startswith(tuple(unused))}
    counters = [key for key in {**wanted, **given} if key.endswith(".num_batches_tracked")]  # some files lack them
    missing = [key for key in wanted if key not in given and key not in counters]
    unknown = [key for key in given if key not in wanted and key not in counters]
    odd = [key for key in wanted if key in given and key not in counters and given[key].shape != wanted[key].shape]
    if missing or unknown or odd:
        shapes = [f"{key} of shape {tuple(given[key].shape)} (expected {tuple(wanted[key].shape)})" for key in odd]
        faults = [("missing are", missing), ("unknown are", unknown), ("of the wrong shape are", shapes)]
        listed = "; ".join(f"{word} {_some(names)}" for word, names in faults if names)
        raise ModelError(f"these are no weights of {name}: {listed}; expected the published file")
    with torch.no_grad():
        for key, value in wanted.items():
            if key not in counters:
                value.copy_(given[key])
    return network.eval().requires_grad_(False)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
