"""Residual networks with torchvision's parameter names, which several published networks stand on.

He et al., "Deep residual learning for image recognition" (2016). Strides are on the 3 x 3 convolution of a bottleneck;
stages may be dilated instead of strided, as in DeepLabV3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.networks.weights import depth, length

_STAGES = ("layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class ResNetSettings:
    """The architecture. The defaults are ResNet-50's."""

    depths: tuple[int, ...] = (3, 4, 6, 3)  # blocks of each stage
    widths: tuple[int, ...] = (64, 128, 256, 512)  # of the 3 x 3 convolutions of each stage
    stem: int = 64
    bottleneck: bool = True  # three convolutions a block, the last four times as wide; else two
    dilated: tuple[bool, ...] = (False, False, False, False)  # stages that dilate where others halve the size

    @property
    def outputs(self) -> tuple[int, ...]:
        """Channels after each stage."""
        return tuple(width * (4 if self.bottleneck else 1) for width in self.widths)


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, dilation: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = width * 4 if bottleneck else width
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
            self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.conv3 = self.bn3 = None
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.conv3 is not None and self.bn3 is not None:
            y = self.bn3(self.conv3(functional.relu(y)))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A normalised picture -> the maps after each of the four stages; no classifier."""

    def __init__(self, settings: ResNetSettings) -> None:
        super().__init__()
        self.settings = settings
        self.conv1 = nn.Conv2d(3, settings.stem, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(settings.stem)
        inputs, dilation = settings.stem, 1
        for stage, name in enumerate(_STAGES):
            first, stride = dilation, 1 if stage == 0 else 2
            if settings.dilated[stage]:  # the first block keeps the dilation of the stage before
                dilation, stride = 2 * dilation, 1
            blocks: list[nn.Module] = []
            for i in range(settings.depths[stage]):
                step, spread = (stride, first) if i == 0 else (1, dilation)
                blocks.append(_Block(inputs, settings.widths[stage], step, spread, settings.bottleneck))
                inputs = settings.outputs[stage]
            self.add_module(name, nn.Sequential(*blocks))

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        maps = []
        for name in _STAGES:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return maps


def resnet_settings(
    tensors: Mapping[str, Tensor],
    network: str,
    prefix: str = "",
    bottleneck: bool = True,
    dilated: Sequence[bool] = (False, False, False, False),
) -> ResNetSettings:
    """The architecture that a state dict's shapes tell of. Raises ModelError where it has no such network."""
    stages = [f"{prefix}{name}." for name in _STAGES]
    return ResNetSettings(
        depths=tuple(depth(tensors, stage, network) for stage in stages),
        widths=tuple(length(tensors, f"{stage}0.conv1.weight", network) for stage in stages),
        stem=length(tensors, f"{prefix}conv1.weight", network),
        bottleneck=bottleneck,
        dilated=tuple(dilated),
    )
