"""The DeepLabs agree with published implementations, and feed them the right colours.

Numbers: kazuto1011/deeplab-pytorch at 4219467, with a sixteenth of the channels and weights drawn from a seed.
DeepLabV3 is compared with the same network written as a plain function of its state dict.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from situ.networks.deeplab_v2 import COCO_STUFF_GROUPS, COCO_STUFF_LABELS, DeepLabV2, deeplab_v2_from_state_dict
from situ.networks.deeplab_v3 import VOC_LABELS, deeplab_v3_from_state_dict
from toys_networks import golden, narrow_deeplab_v2, narrow_deeplab_v3, pictures, require_golden

V2 = deeplab_v2_from_state_dict(narrow_deeplab_v2())
V3_WEIGHTS = narrow_deeplab_v3()
V3 = deeplab_v3_from_state_dict(V3_WEIGHTS)


def test_v2_is_the_published() -> None:
    expected = golden("deeplab_v2")
    x = pictures(1, 129, 129, 8)
    require_golden(V2.logits(V2.input.normalise(x)), expected["logits"])
    require_golden(V2(V2.input.normalise(x)), expected["enlarged"])
    require_golden(V2.logits(V2.input.normalise(pictures(1, 65, 98, 9))), expected["wide"])
    require_golden(V2.logits(V2.input.normalise(x.flip(1))), expected["swapped"])


def test_v2_is_fed_blue_first() -> None:
    red = -torch.ones(1, 3, 4, 4)
    red[:, 0] = 1
    fed = DeepLabV2.input.normalise(red)[0, :, 0, 0]
    torch.testing.assert_close(fed, torch.tensor([-104.008, -116.669, 255 - 122.675]))
    as_lelsd = DeepLabV2.input_as_lelsd.normalise(red)[0, :, 0, 0]
    torch.testing.assert_close(as_lelsd, torch.tensor([255 - 0.481 * 255, -0.458 * 255, -0.408 * 255]))


@pytest.mark.parametrize(("shape", "expected"), [((256, 256), (513, 513)), ((300, 400), (385, 513))])
def test_v2_takes_the_longer_side(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert DeepLabV2.input.prepare(torch.zeros(1, 3, *shape)).shape[-2:] == expected
    assert DeepLabV2.input_as_lelsd.prepare(torch.zeros(1, 3, *shape)).shape[-2:] == (513, 513)


def test_labels() -> None:
    assert len(COCO_STUFF_LABELS) == len(set(COCO_STUFF_LABELS)) == 182
    assert [COCO_STUFF_LABELS[i] for i in (0, 95, 105, 123, 148, 156, 181)] == [
        *("person", "building-other", "clouds", "grass", "road", "sky-other", "wood")
    ]
    numbers = {name: {COCO_STUFF_LABELS.index(label) for label in group} for name, group in COCO_STUFF_GROUPS.items()}
    assert numbers["sky"] == {105, 156}
    assert numbers["building"] == {94, 95, 127, 150, 157, 165}
    assert numbers["water"] == {119, 147, 154, 177, 178}
    assert numbers["plant"] == {93, 96, 118, 123, 128, 133, 141, 162, 168}
    assert len(VOC_LABELS) == 21
    assert VOC_LABELS[15] == "person"


def plain_v3(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """torchvision's network, from its state dict."""

    def norm(x: Tensor, key: str) -> Tensor:
        stored = (w[f"{key}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *stored)

    def conv(x: Tensor, key: str, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = w[f"{key}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return functional.conv2d(x, weight, w.get(f"{key}.bias"), stride, padding, dilation)

    size = x.shape[-2:]
    x = functional.max_pool2d(norm(conv(x, "backbone.conv1", 2), "backbone.bn1").relu(), 3, 2, 1)
    for stage, blocks, strides, dilations in (
        *((1, 3, (1, 1), (1, 1)), (2, 4, (2, 1), (1, 1))),
        *((3, 23, (1, 1), (1, 2)), (4, 3, (1, 1), (2, 4))),  # of the first block, of the others
    ):
        for i in range(blocks):
            key = f"backbone.layer{stage}.{i}"
            stride, dilation = strides[i > 0], dilations[i > 0]
            y = norm(conv(x, f"{key}.conv1"), f"{key}.bn1").relu()
            y = norm(conv(y, f"{key}.conv2", stride, dilation), f"{key}.bn2").relu()
            y = norm(conv(y, f"{key}.conv3"), f"{key}.bn3")
            if i == 0:
                x = norm(conv(x, f"{key}.downsample.0", stride), f"{key}.downsample.1")
            x = (x + y).relu()
    head = "classifier.0"
    maps = [
        norm(conv(x, f"{head}.convs.{i}.0", dilation=rate), f"{head}.convs.{i}.1").relu()
        for i, rate in enumerate((1, 12, 24, 36))
    ]
    pooled = norm(conv(x.mean(dim=(2, 3), keepdim=True), f"{head}.convs.4.1"), f"{head}.convs.4.2").relu()
    maps.append(functional.interpolate(pooled, x.shape[-2:], mode="bilinear", align_corners=False))
    x = norm(conv(torch.cat(maps, dim=1), f"{head}.project.0"), f"{head}.project.1").relu()
    x = norm(conv(x, "classifier.1"), "classifier.2").relu()
    return functional.interpolate(conv(x, "classifier.4"), size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("shape", [(64, 64), (65, 97)])
def test_v3_is_torchvisions(shape: tuple[int, int]) -> None:
    x = pictures(1, *shape)
    fed = V3.input.normalise(x)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(fed, ((x + 1) / 2 - mean[:, None, None]) / std[:, None, None])
    expected = plain_v3(fed, V3_WEIGHTS)
    torch.testing.assert_close(V3(fed), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("shape", "expected"), [((256, 256), (520, 520)), ((300, 401), (520, 695))])
def test_v3_takes_the_shorter_side(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert V3.input.prepare(torch.zeros(1, 3, *shape)).shape[-2:] == expected


def test_v3_without_or_with_its_auxiliary_head() -> None:
    deeplab_v3_from_state_dict({**V3_WEIGHTS, "aux_classifier.0.weight": torch.zeros(4, 4, 3, 3)})
