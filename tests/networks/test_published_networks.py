"""What every frozen network keeps to: the published sizes and names, its file or none, the picture's derivative.

Agreement with the published implementations is tested network by network.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from situ.core.errors import ModelError
from situ.networks.arcface import ArcFace, arcface_from_state_dict
from situ.networks.bisenet import BiSeNet, bisenet_from_state_dict
from situ.networks.deeplab_v2 import DeepLabV2, deeplab_v2_from_state_dict
from situ.networks.deeplab_v3 import DeepLabV3, deeplab_v3_from_state_dict
from situ.networks.inception import Inception, inception_from_state_dict
from situ.networks.lpips import LPIPS, lpips_from_state_dict
from situ.networks.moco import MoCo, moco_from_state_dict
from toys_networks import (
    narrow_arcface,
    narrow_bisenet,
    narrow_deeplab_v2,
    narrow_deeplab_v3,
    narrow_inception,
    narrow_lpips,
    narrow_moco,
    pictures,
)

Build = Callable[[dict[str, Tensor]], nn.Module]


def lpips(kind: str) -> Build:
    def build(tensors: dict[str, Tensor]) -> LPIPS:
        heads = {key: value for key, value in tensors.items() if key.startswith("lin")}
        return lpips_from_state_dict({key: value for key, value in tensors.items() if key not in heads}, heads)

    return build


def both(trunk: dict[str, Tensor], heads: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**trunk, **heads}


NETWORKS: dict[str, tuple[Build, dict[str, Tensor]]] = {
    "bisenet": (bisenet_from_state_dict, narrow_bisenet()),
    "arcface": (arcface_from_state_dict, narrow_arcface()),
    "lpips alex": (lpips("alex"), both(*narrow_lpips("alex"))),
    "lpips vgg": (lpips("vgg"), both(*narrow_lpips("vgg"))),
    "deeplab v2": (deeplab_v2_from_state_dict, narrow_deeplab_v2()),
    "deeplab v3": (deeplab_v3_from_state_dict, narrow_deeplab_v3()),
    "inception": (inception_from_state_dict, narrow_inception()),
    "moco": (moco_from_state_dict, narrow_moco()),
}
each = pytest.mark.parametrize("name", NETWORKS)


@pytest.mark.parametrize(
    ("build", "entries", "parameters"),
    [
        (BiSeNet, 191 - 2 * 7, 13_300_416 - 2 * (128 * 64 * 9 + 2 * 64 + 64 * 19)),  # two heads are of training
        (ArcFace, 397, 43_797_696),
        (lambda: LPIPS("alex").features, 10, 2_469_696),
        (lambda: LPIPS("vgg").features, 26, 14_714_688),
        (DeepLabV2, 632, 55_919_384),
        (DeepLabV3, 668, 58_630_997),
        (Inception, 566, 23_850_960),
        (lambda: MoCo().trunk, 318, 23_508_032),
    ],
)
def test_the_full_sizes_are_the_published(build: Callable[[], nn.Module], entries: int, parameters: int) -> None:
    with torch.device("meta"):
        network = build()
    assert len(network.state_dict()) == entries
    assert sum(p.numel() for p in network.parameters()) == parameters


@each
def test_every_number_of_the_file_arrives(name: str) -> None:
    build, tensors = NETWORKS[name]
    network = build(tensors)
    held = network.state_dict() if name != "moco" else network.get_submodule("trunk").state_dict()
    for key, value in tensors.items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(held[key], value, rtol=0, atol=0)
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in network.parameters())


@each
def test_counters_may_be_missing_and_halves_are_read(name: str) -> None:
    build, tensors = NETWORKS[name]
    build({key: value.half() for key, value in tensors.items() if not key.endswith("num_batches_tracked")})


@each
def test_another_file_is_refused_with_names(name: str) -> None:
    build, tensors = NETWORKS[name]
    *_, last = (key for key in tensors if not key.endswith("num_batches_tracked"))
    with pytest.raises(ModelError, match=last.replace(".", r"\.")):
        build({key: value for key, value in tensors.items() if key != last})
    with pytest.raises(ModelError, match=r"unknown are somebody\.else"):
        build({**tensors, "somebody.else": torch.zeros(1)})
    with pytest.raises(ModelError, match="expected another file"):
        build({"weight": torch.zeros(3, 3)})
    with pytest.raises(ModelError, match="shape"):
        build({**tensors, last: tensors[last][..., None]})


@each
def test_the_picture_is_felt_and_its_channels_are_told_apart(name: str) -> None:
    build, tensors = NETWORKS[name]
    network = build(tensors)
    side = {"inception": 96, "arcface": 112}.get(name, 64)
    x = pictures(1, side, side, 20).requires_grad_()
    answer = {
        "inception": lambda x: network.features(x),  # pyright: ignore
        "lpips alex": lambda x: network(x, -x.flip(2)),
        "lpips vgg": lambda x: network(x, -x.flip(2)),
    }.get(name, network)
    y = answer(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert gradient.isfinite().all()
    assert (gradient.abs().amax(dim=(0, 2, 3)) > 0).all()
    assert (answer(x.flip(1)) - y).abs().max() > 1e-3 * y.abs().max()


def test_lpips_has_a_derivative_where_nothing_is_felt() -> None:
    """There the length is zero, whose root has no derivative; forward mode would meet it."""
    trunk, heads = narrow_lpips("alex")
    trunk["features.0.weight"] *= 0
    trunk["features.0.bias"] = -torch.ones(4)
    distance = lpips_from_state_dict(trunk, heads)
    x = pictures(1, 64, 64)
    _, tangent = torch.func.jvp(lambda y: distance(x, y), (x.flip(2),), (torch.ones_like(x),))
    assert tangent.isfinite().all()
