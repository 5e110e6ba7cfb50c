"""The face parser behind the segmenter contract, and whether its labels are in the right order."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from situ.core.errors import RegionError
from situ.core.generator import Synthesis
from situ.core.region import Part, Segmenter
from situ.networks.bisenet import BiSeNet, bisenet_from_state_dict
from situ.segmenters.bisenet import (
    CELEBAMASK_LABELS,
    FACE_GROUPS,
    FACE_PARSING_LABELS,
    ORDERS,
    bisenet_segmenter,
    implausible_order,
)
from toys_networks import narrow_bisenet, pictures

NETWORK = bisenet_from_state_dict(narrow_bisenet())
MADE = Synthesis(pictures(2, 64, 64))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published way at an eighth of the size."""
    monkeypatch.setattr(BiSeNet, "input", replace(BiSeNet.input, size=64))


def test_it_is_a_segmenter() -> None:
    segmenter = bisenet_segmenter(NETWORK, size=96)
    assert isinstance(segmenter, Segmenter)
    assert segmenter.parts == FACE_PARSING_LABELS
    assert segmenter.layers == ()
    found = segmenter.segment(MADE)
    assert found.shape == (2, 19, 96, 96)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 96, 96))
    expected = NETWORK(NETWORK.input.prepare(MADE.images))
    whole = bisenet_segmenter(NETWORK).segment(MADE)
    torch.testing.assert_close(whole, expected.softmax(dim=1))
    assert Part(segmenter, ("hair",)).mask(MADE).shape == (2, 1, 96, 96)


def test_it_is_differentiable() -> None:
    x = pictures(1, 64, 64).requires_grad_()
    mask = Part(bisenet_segmenter(NETWORK, size=64), ("l_eye", "r_eye"), soft=True).mask(Synthesis(x))
    (gradient,) = torch.autograd.grad(mask.sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_pictures_are_clipped_as_when_saved() -> None:
    segmenter = bisenet_segmenter(NETWORK, size=64)
    loud = Synthesis(3 * MADE.images)
    torch.testing.assert_close(segmenter.segment(loud), segmenter.segment(Synthesis(loud.images.clamp(-1, 1))))
    assert not torch.allclose(segmenter.segment(loud), segmenter.segment(MADE))


def test_the_orders_name_the_same_parts() -> None:
    assert set(FACE_PARSING_LABELS) == set(CELEBAMASK_LABELS)
    assert len(set(FACE_PARSING_LABELS)) == 19
    zll = bisenet_segmenter(NETWORK, size=64).segment(MADE)
    official = bisenet_segmenter(NETWORK, "celebamask-hq", size=64)
    assert torch.equal(official.segment(MADE), zll)
    assert [official.parts.index(part) for part in ("nose", "hair", "cloth")] == [2, 13, 18]
    assert [FACE_PARSING_LABELS.index(part) for part in ("nose", "hair", "cloth")] == [10, 17, 16]


def test_groups_add_up() -> None:
    single, grouped = bisenet_segmenter(NETWORK, size=64), bisenet_segmenter(NETWORK, grouped=True, size=64)
    a, b = single.segment(MADE), grouped.segment(MADE)
    assert len(grouped.parts) == 19 - 4
    for group, members in FACE_GROUPS.items():
        summed = sum((a[:, single.parts.index(member)] for member in members), torch.zeros(()))
        torch.testing.assert_close(b[:, grouped.parts.index(group)], summed)
    torch.testing.assert_close(b[:, grouped.parts.index("hair")], a[:, single.parts.index("hair")])


def test_what_does_not_fit_is_refused(unchecked: None) -> None:
    with pytest.raises(RegionError, match=r"face-parsing, celebamask-hq.*backwards"):
        bisenet_segmenter(NETWORK, "backwards")
    with pytest.raises(RegionError, match="19 parts apart, got 2"):
        bisenet_segmenter(NETWORK, ("a", "b"))
    with pytest.raises(RegionError, match="number of pixels"):
        bisenet_segmenter(NETWORK, size=0)


# rows, columns of a painted face of 64 x 64 pixels, later ones over earlier ones
FACE = {
    "cloth": (56, 64, 8, 56),
    "hair": (2, 30, 10, 54),
    "neck": (46, 58, 26, 38),
    "skin": (12, 50, 16, 48),
    "l_brow": (18, 20, 20, 28),
    "r_brow": (18, 20, 36, 44),
    "l_eye": (22, 25, 20, 28),
    "r_eye": (22, 25, 36, 44),
    "nose": (26, 36, 29, 35),
    "u_lip": (39, 41, 26, 38),
    "mouth": (41, 42, 26, 38),
    "l_lip": (42, 45, 26, 38),
}


def painted(order: tuple[str, ...], upside_down: bool = False) -> Tensor:
    labels = torch.zeros(3, 64, 64, dtype=torch.long)
    for part, (top, bottom, left, right) in FACE.items():
        labels[:, top:bottom, left:right] = order.index(part)
    if upside_down:
        labels = labels.flip(1)
    return torch.nn.functional.one_hot(labels, len(order)).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("name", ORDERS)
def test_the_right_order_is_plausible(name: str) -> None:
    order = ORDERS[name]  # pyright: ignore
    assert implausible_order(painted(order), order) == []


@pytest.mark.parametrize(
    ("true", "read"), [(FACE_PARSING_LABELS, CELEBAMASK_LABELS), (CELEBAMASK_LABELS, FACE_PARSING_LABELS)]
)
def test_the_other_order_is_not(true: tuple[str, ...], read: tuple[str, ...]) -> None:
    assert any("of 3 pictures" in each for each in implausible_order(painted(true), read))


def test_faces_upside_down_are_not() -> None:
    found = implausible_order(painted(FACE_PARSING_LABELS, upside_down=True), FACE_PARSING_LABELS)
    assert "eyes is below nose in 3 of 3 pictures" in found


def test_nothing_is_said_of_parts_that_are_not_there() -> None:
    blank = torch.zeros(2, 19, 16, 16)
    blank[:, 0] = 1
    assert implausible_order(blank, FACE_PARSING_LABELS) == []
