"""DeepLabV3 on a dilated ResNet-101, with torchvision's parameter names.

Chen et al., "Rethinking atrous convolution for semantic image segmentation" (2017).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.networks.inputs import IMAGENET_MEAN, IMAGENET_STD, InputFormat
from situ.networks.resnet import ResNet, ResNetSettings, resnet_settings
from situ.networks.weights import filled, length

_NAME = "DeepLabV3 (ResNet-101)"
_DILATED = (False, False, True, True)
_RESNET_101 = ResNetSettings(depths=(3, 4, 23, 3), dilated=_DILATED)
_RATES = (12, 24, 36)

VOC_LABELS = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


@dataclass(frozen=True)
class DeepLabV3Settings:
    """The architecture; the defaults are the published sizes."""

    resnet: ResNetSettings = _RESNET_101
    hidden: int = 256  # channels of the pyramid and of the head
    parts: int = len(VOC_LABELS)


def _convolution(inputs: int, outputs: int, size: int = 1, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (size // 2)
    return [
        nn.Conv2d(inputs, outputs, size, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


class _Pyramid(nn.Module):
    """Convolutions of several dilations beside the mean of the picture, joined."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        branches = [_convolution(inputs, outputs)]
        branches += [_convolution(inputs, outputs, 3, rate) for rate in _RATES]
        branches.append([nn.AdaptiveAvgPool2d(1), *_convolution(inputs, outputs)])
        self.convs = nn.ModuleList(nn.Sequential(*branch) for branch in branches)
        self.project = nn.Sequential(*_convolution(outputs * len(branches), outputs), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        maps = [branch(x) for branch in self.convs]
        maps[-1] = maps[-1].expand_as(maps[0])
        return self.project(torch.cat(maps, dim=1))


class DeepLabV3(nn.Module):
    """A logit per class at every pixel of a picture. Raised in size, it answers at the input's."""

    input = InputFormat(size=520, fit="shorter side", mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def __init__(self, settings: DeepLabV3Settings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or DeepLabV3Settings()
        self.backbone = ResNet(settings.resnet)
        self.classifier = nn.Sequential(
            _Pyramid(settings.resnet.outputs[-1], settings.hidden),
            *_convolution(settings.hidden, settings.hidden, 3),
            nn.Conv2d(settings.hidden, settings.parts, 1),
        )

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p h w"]:
        """Logits of prepared pictures (`input.prepare`), of any size; differentiable."""
        logits = self.classifier(self.backbone(x)[-1])
        return functional.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)


def deeplab_v3_from_state_dict(tensors: Mapping[str, Tensor]) -> DeepLabV3:
    """A segmenter of the sizes that the tensors have, which may hold the auxiliary head of training.

    Raises:
        ModelError: tensors of something else.
    """
    settings = DeepLabV3Settings(
        resnet=resnet_settings(tensors, _NAME, "backbone.", dilated=_DILATED),
        hidden=length(tensors, "classifier.1.weight", _NAME),
        parts=length(tensors, "classifier.4.weight", _NAME),
    )
    return filled(DeepLabV3(settings), tensors, _NAME, unused=("aux_classifier.",))
