"""A residual discriminator that halves the resolution by average pooling.

No FIR blur: its depthwise filters make the double backward pass of R1 ten times a step on a CPU, average pooling 5 %.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

_GAIN = 2**0.5


class _Conv(nn.Module):
    """Convolution with equalised learning rate."""

    def __init__(self, inputs: int, outputs: int, size: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = (inputs * size * size) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return functional.conv2d(x, (self.weight * self.gain).to(x.dtype), bias, padding=self.weight.shape[-1] // 2)


def _activate(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2) * _GAIN


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0 = _Conv(inputs, inputs, 3)
        self.conv1 = _Conv(inputs, outputs, 3)
        self.skip = _Conv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.avg_pool2d(_activate(self.conv0(x)), 2)
        return (_activate(self.conv1(y)) + self.skip(functional.avg_pool2d(x, 2))) * 0.5**0.5


class Discriminator(nn.Module):
    """Pictures (n, 3, r, r) in [-1, 1] -> logits (n,)."""

    def __init__(self, resolution: int, base: int = 2048, most: int = 128) -> None:
        super().__init__()
        widths = {r: min(base // r, most) for r in (resolution >> i for i in range(resolution.bit_length() - 2))}
        self.fromrgb = _Conv(3, widths[resolution], 1)
        sizes = sorted(widths, reverse=True)
        self.blocks = nn.Sequential(*[_Block(widths[a], widths[b]) for a, b in itertools.pairwise(sizes)])
        self.conv = _Conv(widths[4] + 1, widths[4], 3)
        self.dense = _Conv(widths[4] * 16, widths[4], 1)
        self.out = _Conv(widths[4], 1, 1)

    def forward(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        x = images.to(dtype).contiguous(memory_format=torch.channels_last)
        x = self.blocks(_activate(self.fromrgb(x))).float()
        # minibatch standard deviation, over the whole batch
        spread = (x.var(dim=0, unbiased=False) + 1e-8).sqrt().mean().expand(len(x), 1, 4, 4)
        x = _activate(self.conv(torch.cat([x, spread], dim=1)))
        return self.out(_activate(self.dense(x.flatten(1)[:, :, None, None]))).flatten()
