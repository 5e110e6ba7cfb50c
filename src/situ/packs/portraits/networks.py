"""The four frozen networks that look at a portrait: which part is where, what factors it shows, who it is, its code.

All look at 64 pixels and take pictures of any size, resized with an anti-aliased filter. They learnt from
rendered portraits (recipes/portraits). Use them in `eval()` mode: while learning they normalise by the batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.core.images import resize
from situ.packs.portraits.renderer import ATTRIBUTES, FACTORS, PARTS

SIZE = 64  # pixels at which all four networks look

CIRCULAR: tuple[int, ...] = tuple(i for i, factor in enumerate(FACTORS) if factor.name.endswith("_hue"))
"""The factors that go once round: 0 and 1 are the same colour."""


@dataclass(frozen=True)
class ParserSettings:
    """The architecture of `PortraitParser`."""

    widths: Sequence[int] = (24, 48, 96, 112)  # channels at 64, 32, 16 and 8 pixels
    parts: int = len(PARTS)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives lists


@dataclass(frozen=True)
class PredictorSettings:
    """The architecture of `FactorPredictor`."""

    widths: Sequence[int] = (32, 64, 96, 96)  # channels at 64, 32, 16 and 8 pixels
    squeezed: int = 32  # channels of the 8 x 8 map that is flattened
    hidden: int = 128  # units between the flattened map and the answers
    factors: int = len(FACTORS)
    attributes: int = len(ATTRIBUTES)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives lists


@dataclass(frozen=True)
class EmbedderSettings:
    """The architecture of `IdentityEmbedder`."""

    widths: Sequence[int] = (24, 48, 96, 128)  # channels at 64, 32, 16 and 8 pixels
    squeezed: int = 24  # channels of the 8 x 8 map that is flattened
    dim: int = 64  # of the unit vector

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives lists


@dataclass(frozen=True)
class EncoderSettings:
    """The architecture of `PortraitEncoder`."""

    rows: int  # of W+
    w_dim: int
    widths: Sequence[int] = (32, 64, 96, 128)  # channels at 64, 32, 16 and 8 pixels
    squeezed: int = 32  # channels of the 8 x 8 map that is flattened
    hidden: int = 384  # units between the flattened map and the codes

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives lists


def _convolution(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _channels_last(network: nn.Module) -> None:
    """Lay the convolutions' weights out as a CPU likes them best."""
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def _precise(x: Tensor) -> Tensor:
    """At least single precision, also under autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _Encoder(nn.Module):
    """Two convolutions per level; each level after the first halves the size."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        inputs = (3, *widths[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(_convolution(i, o, stride=1 if level == 0 else 2), _convolution(o, o))
            for level, (i, o) in enumerate(zip(inputs, widths, strict=True))
        )

    def forward(self, images: Float[Tensor, "n 3 h w"], depth: int | None = None) -> list[Tensor]:
        """The activations of the first `depth` levels (all by default), finest first."""
        x = resize(images, SIZE).contiguous(memory_format=torch.channels_last)
        maps = []
        for level in self.levels[:depth]:
            x = level(x)
            maps.append(x)
        return maps


class PortraitParser(nn.Module):
    """A small U-Net: pictures (n, 3, any, any) in [-1, 1] -> a logit per part of PARTS, (n, 12, 64, 64)."""

    def __init__(self, settings: ParserSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or ParserSettings()
        self.encoder = _Encoder(settings.widths)
        pairs = list(zip(settings.widths[1:], settings.widths[:-1], strict=True))[::-1]  # (coarse, fine)
        self.lift = nn.ModuleList(_convolution(coarse, fine, size=1) for coarse, fine in pairs)
        self.merge = nn.ModuleList(_convolution(fine, fine) for _, fine in pairs)
        self.refine = nn.ModuleList(_convolution(fine, fine) for _, fine in pairs)
        self.answer = nn.Conv2d(settings.widths[0], settings.parts, 1)
        _channels_last(self)

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """The encoder's activations: (n, 24, 64, 64), (n, 48, 32, 32) and (n, 96, 16, 16)."""
        return self.encoder(images, depth=3)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p 64 64"]:
        *skips, x = self.encoder(images)
        for lift, merge, refine, skip in zip(self.lift, self.merge, self.refine, skips[::-1], strict=True):
            x = refine(merge(skip + functional.interpolate(lift(x), scale_factor=2.0, mode="nearest")))
        return self.answer(x)


class FactorPredictor(nn.Module):
    """Pictures (n, 3, any, any) in [-1, 1] -> factors in [0, 1], (n, f), and a logit per attribute, (n, a).

    The last map is flattened, not averaged: where something is tells as much as what it is. A hue is an
    angle, so that the predictor need not jump where the colour circle closes.
    """

    def __init__(self, settings: PredictorSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or PredictorSettings()
        cells = (SIZE >> (len(settings.widths) - 1)) ** 2
        self.encoder = _Encoder(settings.widths)
        self.squeeze = _convolution(settings.widths[-1], settings.squeezed, size=1)
        self.hidden = nn.Linear(cells * settings.squeezed, settings.hidden)
        self.answer = nn.Linear(settings.hidden, settings.factors + len(CIRCULAR) + settings.attributes)
        _channels_last(self)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n a"]]:
        x = self.squeeze(self.encoder(images)[-1]).flatten(1)
        answers = _precise(self.answer(functional.relu(self.hidden(x))))
        f = self.settings.factors
        raw, sines, logits = answers.split([f, len(CIRCULAR), self.settings.attributes], dim=1)
        circular = list(CIRCULAR)
        turns = (torch.atan2(sines, raw[:, circular]) / (2 * math.pi)) % 1
        return torch.sigmoid(raw).index_copy(1, torch.tensor(circular, device=raw.device), turns), logits


class IdentityEmbedder(nn.Module):
    """Pictures (n, 3, any, any) in [-1, 1] -> unit vectors (n, 64): close for one person, apart for two."""

    def __init__(self, settings: EmbedderSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or EmbedderSettings()
        cells = (SIZE >> (len(settings.widths) - 1)) ** 2
        self.encoder = _Encoder(settings.widths)
        self.squeeze = _convolution(settings.widths[-1], settings.squeezed, size=1)
        self.answer = nn.Linear(cells * settings.squeezed, settings.dim)
        _channels_last(self)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        x = self.squeeze(self.encoder(images)[-1]).flatten(1)
        return functional.normalize(_precise(self.answer(x)), dim=1)


class PortraitEncoder(nn.Module):
    """Pictures (n, 3, any, any) in [-1, 1] -> codes of W+, (n, rows, w_dim).

    One vector for all rows and a deviation for each, as in e4e (Tov et al., "Designing an encoder for StyleGAN image
    manipulation", 2021): the smaller the deviations, the better a code can be edited.
    """

    w_avg: Tensor

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        cells = (SIZE >> (len(settings.widths) - 1)) ** 2
        self.encoder = _Encoder(settings.widths)
        self.squeeze = _convolution(settings.widths[-1], settings.squeezed, size=1)
        self.hidden = nn.Linear(cells * settings.squeezed, settings.hidden)
        self.base = nn.Linear(settings.hidden, settings.w_dim)
        self.deviations = nn.Linear(settings.hidden, settings.rows * settings.w_dim)
        nn.init.zeros_(self.deviations.weight)
        nn.init.zeros_(self.deviations.bias)
        self.register_buffer("w_avg", torch.zeros(settings.w_dim))
        _channels_last(self)

    def parts(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n 1 d"], Float[Tensor, "n rows d"]]:
        """What all rows share, and how each deviates from it."""
        x = self.squeeze(self.encoder(images)[-1]).flatten(1)
        x = functional.relu(self.hidden(x))
        base = self.w_avg + _precise(self.base(x))
        return base[:, None], _precise(self.deviations(x)).unflatten(1, (self.settings.rows, -1))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n rows d"]:
        base, deviations = self.parts(images)
        return base + deviations
