"""Frozen helper networks in files of our own: any published file of weights comes in, safetensors come out.

Which network a file holds is told by the names of its tensors, as `open.py` tells generators.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from situ.checkpoints.native import format_of, is_safetensors
from situ.checkpoints.networks import read_tensors
from situ.core.containers import Container
from situ.core.errors import ModelError
from situ.networks.arcface import arcface_from_state_dict
from situ.networks.bisenet import bisenet_from_state_dict
from situ.networks.deeplab_v2 import deeplab_v2_from_state_dict
from situ.networks.deeplab_v3 import deeplab_v3_from_state_dict
from situ.networks.lpips import lpips_from_state_dict
from situ.networks.moco import MoCo, moco_from_state_dict

NETWORK_FILE = Container("situ-network-1", "network file", " as `situ pack create` writes it", ModelError)


@dataclass(frozen=True)
class FrozenKind:
    """One kind of helper network."""

    name: str
    serves: str  # "segmenter", "embedder" or "distance"
    what: str
    marks: tuple[str, ...]  # parts of keys; a file that has them all is of this kind
    build: Callable[[Mapping[str, Tensor]], nn.Module]


def _lpips(tensors: Mapping[str, Tensor]) -> nn.Module:
    heads = {key: value for key, value in tensors.items() if key.startswith("lin")}
    return lpips_from_state_dict({key: value for key, value in tensors.items() if key not in heads}, heads)


KINDS: Mapping[str, FrozenKind] = {
    kind.name: kind
    for kind in (
        FrozenKind("bisenet", "segmenter", "BiSeNet, parts of faces", ("cp.resnet.", "ffm."), bisenet_from_state_dict),
        FrozenKind(
            "deeplab-v3",
            "segmenter",
            "DeepLabV3 on ResNet-101",
            ("backbone.layer4.", "classifier."),
            deeplab_v3_from_state_dict,
        ),
        FrozenKind(
            "deeplab-v2",
            "segmenter",
            "DeepLabV2 on ResNet-101",
            ("base.layer1.", "base.aspp."),
            deeplab_v2_from_state_dict,
        ),
        FrozenKind(
            "arcface", "embedder", "ArcFace, IR-SE-50", ("input_layer.", "output_layer."), arcface_from_state_dict
        ),
        FrozenKind("lpips", "distance", "LPIPS, trunk and heads", ("features.0.", "lin0."), _lpips),
        FrozenKind("moco", "embedder", "MoCo's ResNet-50", ("encoder_q.layer4.",), moco_from_state_dict),
    )
}


def read_frozen(path: Path | str, serves: str) -> tuple[str, nn.Module]:
    """A helper network of a published file, or of one of ours.

    Args:
        serves: what it is wanted for, see `FrozenKind`.

    Returns:
        the name of its kind, and the network.

    Raises:
        ModelError: missing, of no known kind, or of one that serves something else. FileError: damaged.
    """
    wanted = ", ".join(kind.what for kind in KINDS.values() if kind.serves == serves)
    if Path(path).is_file() and is_safetensors(path) and format_of(path) == NETWORK_FILE.format:
        name, network = load_network(path)
    else:
        tensors = read_tensors(path)
        name = next((n for n, k in KINDS.items() if all(any(m in key for key in tensors) for m in k.marks)), "")
        if not name:
            first = ", ".join(list(tensors)[:4])
            raise ModelError(f"{path} holds no known {serves}: expected {wanted}; its first tensors are {first}")
        network = KINDS[name].build(tensors)
    if KINDS[name].serves != serves:
        raise ModelError(f"{path} holds {KINDS[name].what}, which is no {serves}: expected {wanted}")
    return name, network


def save_network(kind: str, network: nn.Module, path: Path | str, dtype: torch.dtype = torch.float32) -> None:
    """Write a helper network, whole or not at all; counters keep their own type."""
    named = network.trunk if isinstance(network, MoCo) else network  # as its published file names them
    tensors = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in named.state_dict().items()
    }
    NETWORK_FILE.write(path, {"network": kind}, tensors)


def load_network(path: Path | str) -> tuple[str, nn.Module]:
    """What `save_network` wrote. Raises ModelError where it is missing, something else or damaged."""

    def build(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[str, nn.Module]:
        kind = KINDS[header["network"]]
        full = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
        return kind.name, kind.build(full)

    return NETWORK_FILE.read(path, build)
