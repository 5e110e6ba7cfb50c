"""The DeepLabs behind the segmenter contract."""

from dataclasses import replace

import pytest
import torch

from situ.core.errors import RegionError
from situ.core.generator import Synthesis
from situ.core.region import Part, Segmenter
from situ.networks.deeplab_v2 import COCO_STUFF_GROUPS, COCO_STUFF_LABELS, DeepLabV2, deeplab_v2_from_state_dict
from situ.networks.deeplab_v3 import VOC_LABELS, DeepLabV3, deeplab_v3_from_state_dict
from situ.segmenters.deeplab import deeplab_v2_segmenter, deeplab_v3_segmenter
from toys_networks import NARROW_DEEPLAB_V2, NARROW_DEEPLAB_V3, narrow_deeplab_v2, narrow_deeplab_v3, pictures

SHALLOW = (1, 1, 2, 1)
WEIGHTS = narrow_deeplab_v2(SHALLOW)
# logits of a few units, so that no class is certain
V2 = deeplab_v2_from_state_dict({key: w * (0.02 if "aspp" in key else 1) for key, w in WEIGHTS.items()})
V3 = deeplab_v3_from_state_dict(narrow_deeplab_v3(SHALLOW))
MADE = Synthesis(pictures(1, 64, 64))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published way at an eighth of the size."""
    monkeypatch.setattr(DeepLabV2, "input", replace(DeepLabV2.input, size=65))
    monkeypatch.setattr(DeepLabV2, "input_as_lelsd", replace(DeepLabV2.input_as_lelsd, size=65))
    monkeypatch.setattr(DeepLabV3, "input", replace(DeepLabV3.input, size=66))


def test_v3_is_a_segmenter() -> None:
    segmenter = deeplab_v3_segmenter(V3)
    assert isinstance(segmenter, Segmenter)
    assert segmenter.parts == VOC_LABELS
    found = segmenter.segment(MADE)
    torch.testing.assert_close(found, V3(V3.input.prepare(MADE.images)).softmax(dim=1))
    assert found.shape == (1, 21, 66, 66)
    wide = deeplab_v3_segmenter(V3, size=64).segment(Synthesis(pictures(1, 48, 64)))
    assert wide.shape == (1, 21, 48, 64)


def test_v2_is_a_segmenter() -> None:
    segmenter = deeplab_v2_segmenter(V2)
    assert isinstance(segmenter, Segmenter)
    assert segmenter.parts == COCO_STUFF_LABELS
    found = segmenter.segment(MADE)
    torch.testing.assert_close(found, V2(V2.input.prepare(MADE.images)).softmax(dim=1))
    assert found.shape == (1, 182, 65, 65)
    coarse = deeplab_v2_segmenter(V2, size="eighth").segment(MADE)
    assert coarse.shape == (1, 182, 9, 9)
    assert deeplab_v2_segmenter(V2, size=64).segment(MADE).shape == (1, 182, 64, 64)


def test_lelsds_colours_are_an_option() -> None:
    """It feeds what a picture with red and blue exchanged would be fed as, but for the rounded means."""
    coarse = deeplab_v2_segmenter(V2, size="eighth")
    as_lelsd = deeplab_v2_segmenter(V2, size="eighth", as_lelsd=True)
    right, lelsd = coarse.segment(MADE), as_lelsd.segment(MADE)
    assert as_lelsd.name != coarse.name
    assert (right - lelsd).abs().max() > 0.01 * right.max()
    expected = V2.logits(V2.input_as_lelsd.prepare(MADE.images)).softmax(dim=1)
    torch.testing.assert_close(lelsd, expected)


def test_groups_take_the_place_of_their_classes() -> None:
    single = deeplab_v2_segmenter(V2, size="eighth")
    grouped = deeplab_v2_segmenter(V2, grouped=True, size="eighth")
    assert grouped.parts[:4] == ("sky", "building", "water", "plant")
    assert len(grouped.parts) == 182 - 22 + 4
    a, b = single.segment(MADE), grouped.segment(MADE)
    for group, members in COCO_STUFF_GROUPS.items():
        expected = a[:, [single.parts.index(member) for member in members]].sum(dim=1)
        torch.testing.assert_close(b[:, grouped.parts.index(group)], expected)
    torch.testing.assert_close(b.sum(dim=1), torch.ones(1, 9, 9))
    soft = Part(grouped, ("sky",), soft=True).mask(MADE)
    torch.testing.assert_close(soft, Part(single, COCO_STUFF_GROUPS["sky"], soft=True).mask(MADE))


def test_they_are_differentiable() -> None:
    for segmenter in (deeplab_v2_segmenter(V2, grouped=True, size=32), deeplab_v3_segmenter(V3, size=32)):
        x = pictures(1, 64, 64).requires_grad_()
        (gradient,) = torch.autograd.grad(segmenter.segment(Synthesis(x))[:, 0].sum(), x)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_other_classes_are_refused() -> None:
    with torch.device("meta"):
        stuff = DeepLabV2(replace(NARROW_DEEPLAB_V2, parts=21))
        things = DeepLabV3(replace(NARROW_DEEPLAB_V3, parts=20))
    with pytest.raises(RegionError, match="182, this network has 21"):
        deeplab_v2_segmenter(stuff)
    with pytest.raises(RegionError, match="21, this network has 20"):
        deeplab_v3_segmenter(things)
