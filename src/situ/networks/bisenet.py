"""BiSeNet for faces: 19 parts of a face from one picture.

Yu et al., "BiSeNet: bilateral segmentation network for real-time semantic segmentation" (2018), in the form of the
widely used face parser: its spatial path is replaced by the context path's map at 1/8. Parameter names are the
published file's; the two heads that only training uses are left out.
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

_NAME = "BiSeNet"
_RESNET_18 = ResNetSettings(depths=(2, 2, 2, 2), bottleneck=False)
_TRAINING_HEADS = ("conv_out16.", "conv_out32.")


@dataclass(frozen=True)
class BiSeNetSettings:
    """The architecture; the defaults are the published sizes."""

    resnet: ResNetSettings = _RESNET_18
    context: int = 128  # channels of the context path
    fused: int = 256  # channels after fusion
    squeezed: int = 64  # of the fusion's attention
    hidden: int = 256  # of the head
    parts: int = 19


class _Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Attention(nn.Module):
    """Attention refinement: channels are weighed by their own mean over the picture."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _Convolution(inputs, outputs)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(_mean(x))))


class _ContextPath(nn.Module):
    def __init__(self, settings: BiSeNetSettings) -> None:
        super().__init__()
        _, _, c16, c32 = settings.resnet.outputs
        self.resnet = ResNet(settings.resnet)
        self.arm16 = _Attention(c16, settings.context)
        self.arm32 = _Attention(c32, settings.context)
        self.conv_head32 = _Convolution(settings.context, settings.context)
        self.conv_head16 = _Convolution(settings.context, settings.context)
        self.conv_avg = _Convolution(c32, settings.context, size=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The detailed map and the context, both at 1/8."""
        _, x8, x16, x32 = self.resnet(x)
        y = self.arm32(x32) + self.conv_avg(_mean(x32))
        y = self.arm16(x16) + self.conv_head32(functional.interpolate(y, x16.shape[-2:], mode="nearest"))
        return x8, self.conv_head16(functional.interpolate(y, x8.shape[-2:], mode="nearest"))


class _Fusion(nn.Module):
    def __init__(self, inputs: int, outputs: int, squeezed: int) -> None:
        super().__init__()
        self.convblk = _Convolution(inputs, outputs, size=1)
        self.conv1 = nn.Conv2d(outputs, squeezed, 1, bias=False)
        self.conv2 = nn.Conv2d(squeezed, outputs, 1, bias=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([detail, context], dim=1))
        return x * (1 + torch.sigmoid(self.conv2(functional.relu(self.conv1(_mean(x))))))


class _Head(nn.Module):
    def __init__(self, inputs: int, hidden: int, parts: int) -> None:
        super().__init__()
        self.conv = _Convolution(inputs, hidden)
        self.conv_out = nn.Conv2d(hidden, parts, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=True)


class BiSeNet(nn.Module):
    """Face parser: a logit per part at every pixel of a picture."""

    input = InputFormat(size=512, mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def __init__(self, settings: BiSeNetSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or BiSeNetSettings()
        self.cp = _ContextPath(settings)
        self.ffm = _Fusion(settings.resnet.outputs[1] + settings.context, settings.fused, settings.squeezed)
        self.conv_out = _Head(settings.fused, settings.hidden, settings.parts)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p h w"]:
        """Logits of prepared pictures (`input.prepare`), of any size; differentiable."""
        logits = self.conv_out(self.ffm(*self.cp(x)))
        return functional.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=True)


def bisenet_from_state_dict(tensors: Mapping[str, Tensor]) -> BiSeNet:
    """A face parser of the sizes that the tensors have. Raises ModelError for tensors of something else."""
    settings = BiSeNetSettings(
        resnet=resnet_settings(tensors, _NAME, "cp.resnet.", bottleneck=False),
        context=length(tensors, "cp.arm16.conv.conv.weight", _NAME),
        fused=length(tensors, "ffm.convblk.conv.weight", _NAME),
        squeezed=length(tensors, "ffm.conv1.weight", _NAME),
        hidden=length(tensors, "conv_out.conv.conv.weight", _NAME),
        parts=length(tensors, "conv_out.conv_out.weight", _NAME),
    )
    return filled(BiSeNet(settings), tensors, _NAME, unused=_TRAINING_HEADS)
