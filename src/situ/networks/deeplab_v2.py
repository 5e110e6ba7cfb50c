"""DeepLabV2 on a dilated ResNet-101 at three scales, trained on COCO-Stuff (182 classes).

Chen et al., "DeepLab: semantic image segmentation with deep convolutional nets, atrous convolution, and fully connected
CRFs" (2018), without the CRF. Parameter names are those of the PyTorch port of the authors' network. It differs from
torchvision's residual networks: the stride is on the first 1 x 1 convolution, all blocks of a stage are dilated alike,
and the first pooling rounds up.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.networks.inputs import InputFormat
from situ.networks.weights import depth, filled, length

_NAME = "DeepLabV2 (ResNet-101, three scales)"
_RATES = (6, 12, 18, 24)
_STRIDES, _DILATIONS = (1, 2, 1, 1), (1, 1, 2, 4)  # of the four stages

SCALES = (0.5, 0.75)  # at which a picture is looked at besides its own

BLUE_GREEN_RED = (104.008, 116.669, 122.675)  # means of pictures in [0, 255]

_LABELS = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, street sign, stop
sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, hat, backpack,
umbrella, shoe, eye glasses, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat,
baseball glove, skateboard, surfboard, tennis racket, bottle, plate, wine glass, cup, fork, knife, spoon, bowl,
banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed,
mirror, dining table, window, desk, toilet, door, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven,
toaster, sink, refrigerator, blender, book, clock, vase, scissors, teddy bear, hair drier, toothbrush, hair brush,
banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other, ceiling-tile,
cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence, floor-marble, floor-other,
floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, grass, gravel, ground-other,
hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement, pillow,
plant-other, plastic, platform, playingfield, railing, railroad, river, road, rock, roof, rug, salad, sand, sea,
shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table, tent, textile-other,
towel, tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood,
water-other, waterdrops, window-blind, window-other, wood
"""
COCO_STUFF_LABELS = tuple(" ".join(_LABELS.split()).split(", "))

COCO_STUFF_GROUPS: Mapping[str, tuple[str, ...]] = {
    "sky": ("clouds", "sky-other"),
    "building": ("bridge", "building-other", "house", "roof", "skyscraper", "tent"),
    "water": ("fog", "river", "sea", "water-other", "waterdrops"),
    "plant": ("branch", "bush", "flower", "grass", "leaves", "moss", "plant-other", "straw", "tree"),
}


@dataclass(frozen=True)
class DeepLabV2Settings:
    """The architecture; the defaults are the published sizes."""

    depths: tuple[int, ...] = (3, 4, 23, 3)
    stem: int = 64
    widths: tuple[int, ...] = (64, 128, 256, 512)  # inside a block; four times as many come out
    parts: int = len(COCO_STUFF_LABELS)


class _Convolution(nn.Module):
    """Convolution and batch normalisation."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (size // 2)
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, dilation: int, projected: bool) -> None:
        super().__init__()
        self.reduce = _Convolution(inputs, width, stride=stride)
        self.conv3x3 = _Convolution(width, width, 3, dilation=dilation)
        self.increase = _Convolution(width, 4 * width)
        self.shortcut = _Convolution(inputs, 4 * width, stride=stride) if projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.conv3x3(functional.relu(self.reduce(x))))
        return functional.relu(self.increase(y) + self.shortcut(x))


class _OneScale(nn.Module):
    """The network proper: logits at an eighth of the size."""

    def __init__(self, settings: DeepLabV2Settings) -> None:
        super().__init__()
        self.layer1 = nn.Module()
        self.layer1.add_module("conv1", _Convolution(3, settings.stem, 7, 2))
        inputs = settings.stem
        for stage, (count, width) in enumerate(zip(settings.depths, settings.widths, strict=True)):
            blocks = nn.Sequential()
            for i in range(count):
                stride = _STRIDES[stage] if i == 0 else 1
                blocks.add_module(f"block{i + 1}", _Block(inputs, width, stride, _DILATIONS[stage], i == 0))
                inputs = 4 * width
            self.add_module(f"layer{stage + 2}", blocks)
        self.aspp = nn.ModuleDict(
            {f"c{i}": nn.Conv2d(inputs, settings.parts, 3, padding=r, dilation=r) for i, r in enumerate(_RATES)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.layer1.get_submodule("conv1")(x))
        x = functional.max_pool2d(x, 3, 2, padding=1, ceil_mode=True)
        for stage in range(2, 6):
            x = self.get_submodule(f"layer{stage}")(x)
        return torch.stack([branch(x) for branch in self.aspp.values()]).sum(dim=0)


class DeepLabV2(nn.Module):
    """A logit per class at every pixel of a picture, the largest of three scales."""

    input = InputFormat(
        size=513,
        fit="longer side",
        antialias=False,
        mean=BLUE_GREEN_RED,
        std=(1.0, 1.0, 1.0),
        white=255.0,
        channels="BGR",
    )
    input_as_lelsd = InputFormat(  # LELSD feeds red for blue, with the means of the right colours
        size=513, mean=(0.481 * 255, 0.458 * 255, 0.408 * 255), std=(1.0, 1.0, 1.0), white=255.0
    )

    def __init__(self, settings: DeepLabV2Settings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or DeepLabV2Settings()
        self.base = _OneScale(settings)

    def logits(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p h8 w8"]:
        """Logits of prepared pictures at an eighth of their size; differentiable."""
        full = self.base(x)
        found = [full]
        for scale in SCALES:
            # by the factor: given a size, coordinates of odd sides would be scaled by another one
            smaller = functional.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
            small = self.base(smaller)
            found.append(functional.interpolate(small, full.shape[-2:], mode="bilinear", align_corners=False))
        return torch.stack(found).amax(dim=0)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p h w"]:
        """Logits of prepared pictures (`input.prepare`), at their size; differentiable."""
        return functional.interpolate(self.logits(x), x.shape[-2:], mode="bilinear", align_corners=False)


def deeplab_v2_from_state_dict(tensors: Mapping[str, Tensor]) -> DeepLabV2:
    """A segmenter of the sizes that the tensors have. Raises ModelError for tensors of something else."""
    stages = [f"base.layer{stage}.block" for stage in range(2, 6)]
    settings = DeepLabV2Settings(
        depths=tuple(depth(tensors, stage, _NAME, first=1) for stage in stages),
        stem=length(tensors, "base.layer1.conv1.conv.weight", _NAME),
        widths=tuple(length(tensors, f"{stage}1.reduce.conv.weight", _NAME) for stage in stages),
        parts=length(tensors, "base.aspp.c0.weight", _NAME),
    )
    return filled(DeepLabV2(settings), tensors, _NAME)
