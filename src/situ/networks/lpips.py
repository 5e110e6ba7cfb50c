"""LPIPS: how different two pictures look to people.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric" (2018), version 0.1. Two files
make one: the convolutions of AlexNet or VGG-16 as torchvision names them, and five small linear heads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.core.errors import ModelError
from situ.networks.inputs import IMAGENET
from situ.networks.weights import filled, length

Trunk = Literal["alex", "vgg"]


@dataclass(frozen=True)
class _Convolution:
    size: int
    stride: int = 1
    padding: int = 1


_POOL = (3, 2)  # AlexNet's: size and stride
_VGG_STAGES = (2, 2, 3, 3, 3)  # convolutions between poolings


@dataclass(frozen=True)
class _Plan:
    """Where the layers of a trunk stand, by their index in `features`."""

    convolutions: Mapping[int, _Convolution]
    poolings: Mapping[int, tuple[int, int]]
    taps: tuple[int, ...]  # after these (ReLUs) the pictures are compared
    smallest: int  # pixels on the shorter side of a picture


def _vgg() -> _Plan:
    convolutions, poolings, taps = {}, {}, []
    place = 0
    for count in _VGG_STAGES:
        for _ in range(count):
            convolutions[place] = _Convolution(3)
            place += 2  # its ReLU comes after it
        taps.append(place - 1)
        poolings[place] = (2, 2)
        place += 1
    del poolings[place - 1]  # nothing is compared after the last
    return _Plan(convolutions, poolings, tuple(taps), 16)


_PLANS: Mapping[Trunk, _Plan] = {
    "alex": _Plan(
        {
            0: _Convolution(11, 4, 2),
            3: _Convolution(5, 1, 2),
            6: _Convolution(3),
            8: _Convolution(3),
            10: _Convolution(3),
        },
        {2: _POOL, 5: _POOL},
        (1, 4, 7, 9, 11),
        31,
    ),
    "vgg": _vgg(),
}


class LPIPS(nn.Module):
    """Distance between pictures in [-1, 1], RGB, at their own size."""

    input = IMAGENET
    unit = "LPIPS"

    def __init__(self, trunk: Trunk, channels: Sequence[int] | None = None) -> None:
        """
        Args:
            channels: of every convolution of the trunk; None for the published ones.
        """
        super().__init__()
        plan = _PLANS[trunk]
        channels = channels or _PUBLISHED[trunk]
        self.trunk, self.name, self.plan = trunk, f"LPIPS ({trunk})", plan
        layers: list[nn.Module] = [nn.ReLU() for _ in range(plan.taps[-1] + 1)]
        inputs = 3
        widths = {}
        for (place, shape), outputs in zip(plan.convolutions.items(), channels, strict=True):
            layers[place] = nn.Conv2d(inputs, outputs, shape.size, shape.stride, shape.padding)
            inputs = widths[place + 1] = outputs
        for place, pooling in plan.poolings.items():
            layers[place] = nn.MaxPool2d(*pooling)
        self.features = nn.Sequential(*layers)
        for k, tap in enumerate(plan.taps):  # "model.0" is dropout, of training
            head = nn.Module()
            head.add_module("model", nn.Sequential(nn.Identity(), nn.Conv2d(widths[tap], 1, 1, bias=False)))
            self.add_module(f"lin{k}", head)

    def activations(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """The maps that are compared, of unit length along the channels.

        Raises:
            ModelError: pictures that are too small for the network.
        """
        if min(images.shape[-2:]) < self.plan.smallest:
            raise ModelError(
                f"{self.name} takes pictures of {self.plan.smallest} pixels or more, got {tuple(images.shape[-2:])}: "
                "enlarge them"
            )
        x, found = self.input.prepare(images), []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.plan.taps:
                found.append(x / (_length(x) + 1e-10))
        return found

    def against(self, target: Float[Tensor, "n 3 h w"]) -> Callable[[Tensor], Tensor]:
        """The distance from pictures that stay, whose activations are computed once."""
        with torch.no_grad():
            kept = self.activations(target)
        return lambda images: _mean(self._weighed(self.activations(images), kept))

    def _weighed(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
        """The layers' maps of two pictures' activations."""
        pairs = zip(a, b, strict=True)
        heads = [self.get_submodule(f"lin{k}.model") for k in range(len(self.plan.taps))]
        return [head((p - q).square()) for head, (p, q) in zip(heads, pairs, strict=True)]

    def forward(self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """Distance of each pair: 0 for equal pictures; differentiable."""
        return _mean(self._weighed(self.activations(a), self.activations(b)))

    def between(self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """The same, as the other distances call it."""
        return self(a, b)

    def maps(self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
        """Where each pair differs: the layers' maps at the size of the pictures, summed."""
        size = (a.shape[-2], a.shape[-1])
        weighed = self._weighed(self.activations(a), self.activations(b))
        found = [functional.interpolate(each, size, mode="bilinear", align_corners=False) for each in weighed]
        return torch.stack(found).sum(dim=0)


def _mean(maps: Sequence[Tensor]) -> Float[Tensor, " n"]:
    return torch.stack([each.mean(dim=(1, 2, 3)) for each in maps]).sum(dim=0)


def _length(x: Tensor) -> Tensor:
    """Of the vectors along the channels. At zero its derivative is zero, not infinite."""
    squares = x.square().sum(dim=1, keepdim=True)
    return torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)


_PUBLISHED: Mapping[Trunk, tuple[int, ...]] = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
}


def lpips_from_state_dict(trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> LPIPS:
    """The distance of a trunk (torchvision's names, with or without its classifier) and its heads.

    Raises:
        ModelError: tensors of something else, or heads of another trunk.
    """
    name = "AlexNet or VGG-16"
    large = length(trunk, "features.0.weight", name, axis=2) == 11
    kind: Trunk = "alex" if large else "vgg"
    channels = [length(trunk, f"features.{i}.weight", name) for i in _PLANS[kind].convolutions]
    features = {key: value for key, value in trunk.items() if not key.startswith("classifier.")}
    try:
        return filled(LPIPS(kind, channels), {**features, **heads}, f"LPIPS ({kind})")
    except ModelError as error:
        raise ModelError(f"{error}, and the heads of the same trunk ({kind})") from None
