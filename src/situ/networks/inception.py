"""Inception v3 as the Fréchet Inception distance uses it: the TensorFlow release of 2015-12-05.

Szegedy et al., "Rethinking the Inception architecture for computer vision" (2016); Heusel et al., "GANs trained by a
two time-scale update rule converge to a local Nash equilibrium" (2017). Parameter names are torchvision's. This graph
differs from torchvision's: its average poolings leave the border out of the mean, the last block pools by the maximum,
and it knows 1008 classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.core.errors import ModelError
from situ.networks.inputs import InputFormat
from situ.networks.weights import filled, length

_NAME = "Inception v3 for FID"

Resizing = Literal["pytorch-fid", "tensorflow", "clean", "torchmetrics"]
"""Whose distance is computed: how pictures come to 299 pixels, and how 8-bit values p are scaled.

* "pytorch-fid": bilinear without a filter, (p - 127.5) / 127.5
* "tensorflow": the first TensorFlow's bilinear, whose corners are off by half a pixel, (p - 128) / 128; also NVIDIA's
* "clean": bicubic as Pillow, with a filter, clipped, (p - 128) / 128
* "torchmetrics": bilinear with a filter, (p - 128) / 128
"""

_Kernel = tuple[int, int]


@dataclass(frozen=True)
class _Step:
    name: str
    outputs: int
    kernel: _Kernel = (1, 1)
    stride: int = 1
    padded: bool = True


_Branch = tuple[_Step | tuple[_Step, _Step], ...]  # a pair looks at the same map, and is joined


def _small(pooled: int) -> tuple[_Branch, ...]:
    return (
        (_Step("branch1x1", 64),),
        (_Step("branch5x5_1", 48), _Step("branch5x5_2", 64, (5, 5))),
        (
            _Step("branch3x3dbl_1", 64),
            _Step("branch3x3dbl_2", 96, (3, 3)),
            _Step("branch3x3dbl_3", 96, (3, 3)),
        ),
        (_Step("branch_pool", pooled),),
    )


def _factored(inner: int) -> tuple[_Branch, ...]:
    return (
        (_Step("branch1x1", 192),),
        (_Step("branch7x7_1", inner), _Step("branch7x7_2", inner, (1, 7)), _Step("branch7x7_3", 192, (7, 1))),
        (
            _Step("branch7x7dbl_1", inner),
            _Step("branch7x7dbl_2", inner, (7, 1)),
            _Step("branch7x7dbl_3", inner, (1, 7)),
            _Step("branch7x7dbl_4", inner, (7, 1)),
            _Step("branch7x7dbl_5", 192, (1, 7)),
        ),
        (_Step("branch_pool", 192),),
    )


_WIDE: tuple[_Branch, ...] = (
    (_Step("branch1x1", 320),),
    (_Step("branch3x3_1", 384), (_Step("branch3x3_2a", 384, (1, 3)), _Step("branch3x3_2b", 384, (3, 1)))),
    (
        _Step("branch3x3dbl_1", 448),
        _Step("branch3x3dbl_2", 384, (3, 3)),
        (_Step("branch3x3dbl_3a", 384, (1, 3)), _Step("branch3x3dbl_3b", 384, (3, 1))),
    ),
    (_Step("branch_pool", 192),),
)

_STEM = (
    _Step("Conv2d_1a_3x3", 32, (3, 3), 2, False),
    _Step("Conv2d_2a_3x3", 32, (3, 3), 1, False),
    _Step("Conv2d_2b_3x3", 64, (3, 3)),
    None,  # maximum pooling
    _Step("Conv2d_3b_1x1", 80),
    _Step("Conv2d_4a_3x3", 192, (3, 3), 1, False),
    None,
)
_Pooling = Literal["mean", "maximum", "halving"]
_BLOCKS: Mapping[str, tuple[tuple[_Branch, ...], _Pooling]] = {
    "Mixed_5b": (_small(32), "mean"),
    "Mixed_5c": (_small(64), "mean"),
    "Mixed_5d": (_small(64), "mean"),
    "Mixed_6a": (
        (
            (_Step("branch3x3", 384, (3, 3), 2, False),),
            (
                _Step("branch3x3dbl_1", 64),
                _Step("branch3x3dbl_2", 96, (3, 3)),
                _Step("branch3x3dbl_3", 96, (3, 3), 2, False),
            ),
            (),
        ),
        "halving",
    ),
    "Mixed_6b": (_factored(128), "mean"),
    "Mixed_6c": (_factored(160), "mean"),
    "Mixed_6d": (_factored(160), "mean"),
    "Mixed_6e": (_factored(192), "mean"),
    "Mixed_7a": (
        (
            (_Step("branch3x3_1", 192), _Step("branch3x3_2", 320, (3, 3), 2, False)),
            (
                _Step("branch7x7x3_1", 192),
                _Step("branch7x7x3_2", 192, (1, 7)),
                _Step("branch7x7x3_3", 192, (7, 1)),
                _Step("branch7x7x3_4", 192, (3, 3), 2, False),
            ),
            (),
        ),
        "halving",
    ),
    "Mixed_7b": (_WIDE, "mean"),
    "Mixed_7c": (_WIDE, "maximum"),
}


class _Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, step: _Step) -> None:
        super().__init__()
        padding = (step.kernel[0] // 2, step.kernel[1] // 2) if step.padded else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, step.kernel, step.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Branches that look at the same map and are joined; the last pools it first."""

    def __init__(self, inputs: int, branches: Sequence[_Branch], pooling: _Pooling, widths: "_Widths") -> None:
        super().__init__()
        self.branches, self.pooling = branches, pooling
        self.outputs = 0
        for branch in branches:
            channels = inputs
            for each in branch:
                steps = each if isinstance(each, tuple) else (each,)
                for step in steps:
                    self.add_module(step.name, _Convolution(channels, widths(step), step))
                channels = sum(widths(step) for step in steps)
            self.outputs += channels

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for i, branch in enumerate(self.branches):
            y = self._pooled(x) if i == len(self.branches) - 1 else x
            for each in branch:
                steps = each if isinstance(each, tuple) else (each,)
                made = [self.get_submodule(step.name)(y) for step in steps]
                y = made[0] if len(made) == 1 else torch.cat(made, dim=1)
            maps.append(y)
        return torch.cat(maps, dim=1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pooling == "mean":
            return functional.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
        if self.pooling == "maximum":
            return functional.max_pool2d(x, 3, 1, padding=1)
        return functional.max_pool2d(x, 3, 2)


class _Widths:
    """Channels of the convolutions of one block: the published ones where nothing else is known."""

    def __init__(self, known: Mapping[str, int], prefix: str) -> None:
        self.known, self.prefix = known, prefix

    def __call__(self, step: _Step) -> int:
        return self.known.get(self.prefix + step.name, step.outputs)


class Inception(nn.Module):
    """Pictures -> the 2048 features whose mean and covariance the distance compares."""

    input = InputFormat(size=299, antialias=False)  # of "pytorch-fid"; see `prepare` for the others

    def __init__(self, widths: Mapping[str, int] | None = None, classes: int = 1008) -> None:
        """
        Args:
            widths: channels of convolutions ("Mixed_5b.branch1x1") that are not of the published size.
        """
        super().__init__()
        known = widths or {}
        channels = 3
        for step in _STEM:
            if step is not None:
                outputs = known.get(step.name, step.outputs)
                self.add_module(step.name, _Convolution(channels, outputs, step))
                channels = outputs
        for name, (branches, pooling) in _BLOCKS.items():
            block = _Block(channels, branches, pooling, _Widths(known, f"{name}."))
            self.add_module(name, block)
            channels = block.outputs
        self.fc = nn.Linear(channels, classes)

    def prepare(self, images: Float[Tensor, "n 3 h w"], resizing: Resizing = "pytorch-fid") -> Tensor:
        """Pictures in [-1, 1] as the network is fed them by the program that `resizing` names.

        The published distances are of 8-bit pictures: round with `to_bytes` and `from_bytes` first to reproduce them.
        """
        if resizing == "pytorch-fid":
            return self.input.prepare(images)
        size = self.input.target(*images.shape[-2:])
        if resizing == "tensorflow":
            x = _first_tensorflow(images, size)
        elif resizing == "torchmetrics":
            x = functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        elif resizing == "clean":
            x = functional.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
        else:
            known = "pytorch-fid, tensorflow, clean, torchmetrics"
            raise ModelError(f'pictures are resized as one of {known} does, got "{resizing}"')
        return ((x + 1) * 127.5 - 128) / 128

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n f"]:
        """Features of prepared pictures; differentiable."""
        for step in _STEM:
            x = functional.max_pool2d(x, 3, 2) if step is None else self.get_submodule(step.name)(x)
        for name in _BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))

    def features(self, images: Float[Tensor, "n 3 h w"], resizing: Resizing = "pytorch-fid") -> Float[Tensor, "n f"]:
        """Features of pictures in [-1, 1], of any size; differentiable."""
        return self(self.prepare(images, resizing))

    def logits(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        """Class logits without their bias, as the Inception score takes them."""
        return features @ self.fc.weight.T


def _first_tensorflow(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with source = target * (old / new), clamped at the border, no filter."""
    for axis, new in zip((-2, -1), size, strict=True):
        old = images.shape[axis]
        place = torch.arange(new, device=images.device, dtype=images.dtype) * (old / new)
        low = place.floor().long()
        high = (low + 1).clamp(max=old - 1)
        share = (place - low).reshape((new, 1) if axis == -2 else (new,))
        images = images.index_select(axis, low) * (1 - share) + images.index_select(axis, high) * share
    return images


def inception_from_state_dict(tensors: Mapping[str, Tensor]) -> Inception:
    """The network of the sizes that the tensors have. Raises ModelError for tensors of something else."""
    names = [key.removesuffix(".conv.weight") for key in tensors if key.endswith(".conv.weight")]
    length(tensors, "Mixed_7c.branch_pool.conv.weight", _NAME)
    widths = {name: length(tensors, f"{name}.conv.weight", _NAME) for name in names}
    return filled(Inception(widths, length(tensors, "fc.weight", _NAME)), tensors, _NAME, unused=("AuxLogits.",))
