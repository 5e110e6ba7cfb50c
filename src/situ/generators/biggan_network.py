"""The network of BigGAN in plain PyTorch, for pictures only: weights are those after spectral normalisation.

Brock et al., "Large scale GAN training for high fidelity natural image synthesis" (2019), appendix B. A class embedding
and a chunk of z set the gains and offsets of every batch norm; z is split over the blocks (the hierarchical latent), or
feeds the first layer alone. What BigGAN shares with BigGAN-deep (`biggan_deep_network.py`) is `BlockStack`.

A 1 x 1 convolution commutes with nearest-neighbour upsampling, so the shortcut runs before it, four times cheaper.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.core.errors import GeneratorError


@dataclass(frozen=True)
class Block:
    """One residual block."""

    up: bool  # it doubles the resolution
    inputs: int  # channels
    outputs: int


@dataclass(frozen=True)
class BlockStackSettings(ABC):
    """The architecture that BigGAN and BigGAN-deep have in common. Sequences become tuples."""

    z_dim: int
    classes: int
    embedding_dim: int  # of a class; 0 where the one-hot row itself is the condition
    channels: Sequence[int]  # before the first block, and after every block
    ups: Sequence[bool]  # of every block, whether it doubles the resolution
    attention: Sequence[int] = ()  # self-attention stands before the blocks of these numbers, or after the last
    norm_eps: float = 1e-5  # added to variances, of the conditional batch norms
    output_norm_eps: float = 1e-5  # of the last batch norm
    statistics: int = 1  # sets of means and variances, for evenly spaced truncations from 0 to 1; 1 serves all
    start: int = 4  # pixels on a side before the first block

    def __post_init__(self) -> None:
        for name, kind in (("channels", int), ("ups", bool), ("attention", int)):
            object.__setattr__(self, name, tuple(kind(value) for value in getattr(self, name)))
        count = len(self.ups)
        sizes = (self.z_dim, self.classes, self.statistics, self.start, *self.channels)
        if not count or len(self.channels) != count + 1 or min(sizes) < 1 or self.embedding_dim < 0:
            raise GeneratorError(
                f"BigGAN sizes are positive, with channels before the first of some blocks and after each, got {self}"
            )
        if len(set(self.attention)) < len(self.attention) or any(not 0 <= i <= count for i in self.attention):
            raise GeneratorError(
                f"attention stands before blocks 0 to {count} (after the last), once each, got {self.attention}"
            )
        narrow = [i for i in self.attention if self.channels[i] < 8]
        if narrow:
            raise GeneratorError(f"self-attention takes at least 8 channels, fewer go in before block {narrow[0]}")

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(Block(*block) for block in zip(self.ups, self.channels[:-1], self.channels[1:], strict=True))

    @property
    def resolution(self) -> int:
        return self.start << sum(self.ups)

    @property
    def condition_dim(self) -> int:
        """Numbers that say the class."""
        return self.embedding_dim or self.classes

    @property
    @abstractmethod
    def z_parts(self) -> tuple[int, ...]:
        """Numbers of z that the first layer takes, and each block after it; just one where the blocks take none."""


@dataclass(frozen=True)
class BigGANSettings(BlockStackSettings):
    """The architecture of BigGAN. Its attention blocks and channels at every resolution are free."""

    hierarchical: bool = (
        True  # z is split evenly over the first layer and the blocks, instead of feeding the first layer
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hierarchical and self.z_dim % len(self.channels):
            raise GeneratorError(
                f"a hierarchical z is split in {len(self.channels)} chunks of one size, got {self.z_dim} numbers"
            )

    @property
    def z_parts(self) -> tuple[int, ...]:
        count = len(self.channels)
        return (self.z_dim // count,) * count if self.hierarchical else (self.z_dim,)


@dataclass(frozen=True)
class BigGANStep:
    """One step of the synthesis: the first layer, a block, self-attention, or the output."""

    name: str  # as in the state dict
    resolution: int  # pixels on a side of what it gives
    channels: int
    part: int | None  # the part of z that it takes, None for none


def _statistics(table: Float[Tensor, "s c"], truncation: float) -> Float[Tensor, " c"]:
    """The row of a truncation in (0, 1]; between two rows, mixed with the weights swapped, as published."""
    if len(table) == 1:
        return table[0]
    fraction, row = math.modf(truncation / (1.0 / (len(table) - 1)))
    i = int(row)
    return table[i] if fraction == 0.0 else table[i] * fraction + table[i + 1] * (1 - fraction)


class _Norm(nn.Module):
    """Batch normalisation by stored statistics, as one multiplication and one addition."""

    means: Tensor
    variances: Tensor

    def __init__(self, channels: int, statistics: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("means", torch.zeros(statistics, channels))
        self.register_buffer("variances", torch.ones(statistics, channels))

    def _normalise(
        self, x: Tensor, gain: Float[Tensor, "*m c"], offset: Float[Tensor, "*m c"], truncation: float
    ) -> Tensor:
        factor = gain * (_statistics(self.variances, truncation) + self.eps).rsqrt()
        shift = offset - _statistics(self.means, truncation) * factor
        return x * factor[..., None, None] + shift[..., None, None]


class ConditionalNorm(_Norm):
    """Batch normalisation whose gains and offsets are linear in the condition."""

    def __init__(self, inputs: int, channels: int, settings: BlockStackSettings) -> None:
        super().__init__(channels, settings.statistics, settings.norm_eps)
        self.gain = nn.Linear(inputs, channels, bias=False)
        self.offset = nn.Linear(inputs, channels, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"], condition: Float[Tensor, "n k"], truncation: float) -> Tensor:
        return self._normalise(x, 1 + self.gain(condition), self.offset(condition), truncation)


class OutputNorm(_Norm):
    """Batch normalisation with gains and offsets of its own."""

    def __init__(self, channels: int, settings: BlockStackSettings) -> None:
        super().__init__(channels, settings.statistics, settings.output_norm_eps)
        self.gain = nn.Parameter(torch.ones(channels))
        self.offset = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "n c h w"], truncation: float) -> Tensor:
        return self._normalise(x, self.gain, self.offset, truncation)


class SelfAttention(nn.Module):
    """Self-attention over positions, with keys and values at half the resolution (Zhang et al. 2019, as released)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.phi = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.g = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.o = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros([]))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        queries = self.theta(x).flatten(2)  # (n, c/8, h w)
        keys = functional.max_pool2d(self.phi(x), 2).flatten(2)  # (n, c/8, h w / 4)
        values = functional.max_pool2d(self.g(x), 2).flatten(2)  # (n, c/2, h w / 4)
        weights = (queries.transpose(1, 2) @ keys).softmax(dim=-1)  # (n, h w, h w / 4)
        mixed = (values @ weights.transpose(1, 2)).unflatten(2, tuple(x.shape[2:]))
        return x + self.gamma * self.o(mixed)


def upsample(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2*h 2*w"]:
    """Every pixel four times."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")


class ResidualBlock(nn.Module, ABC):
    """A block with conditional batch norms."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "n i h w"], condition: Float[Tensor, "n k"], truncation: float) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h, w) or twice as high and wide."""


class BlockStack(nn.Module, ABC):
    """The trainable module: class embedding, first layer, blocks and self-attention in a row, output.

    Conditions are z first, then the class. Shapes: z parts as the settings say, labels (n, classes), pictures
    (n, 3, R, R) in [-1, 1].
    """

    architecture: ClassVar[str]  # the beginning of the generator's name
    first_takes_class: ClassVar[bool]  # whether the first layer takes the class besides its part of z

    def __init__(self, settings: BlockStackSettings) -> None:
        super().__init__()
        self.settings = settings
        classes, parts = settings.condition_dim, settings.z_parts
        if settings.embedding_dim:
            self.embedding = nn.Embedding(settings.classes, settings.embedding_dim)
        size, channels = settings.start, settings.channels[0]
        first = parts[0] + (classes if self.first_takes_class else 0)
        self.linear = nn.Linear(first, size * size * channels)  # to (row, column, channel)
        steps = [BigGANStep("linear", size, channels, 0)]
        for i in range(len(settings.channels)):
            if i in settings.attention:
                name = f"attention{i}"
                self.add_module(name, SelfAttention(channels))
                steps.append(BigGANStep(name, size, channels, None))
            if i < len(settings.ups):
                block, part = settings.blocks[i], i + 1 if len(parts) > 1 else None
                size, channels = size << block.up, block.outputs
                made = self.make_block(block, classes + (0 if part is None else parts[part]))
                self.add_module(f"block{i}", made)
                steps.append(BigGANStep(f"block{i}", size, channels, part))
        self.output_norm = OutputNorm(channels, settings)
        self.output = nn.Conv2d(channels, 3, 3, padding=1)
        self.steps = (*steps, BigGANStep("output", size, 3, None))

    @abstractmethod
    def make_block(self, block: Block, condition: int) -> ResidualBlock:
        """A block whose batch norms take so many numbers."""

    def embed(self, labels: Float[Tensor, "n c"]) -> Float[Tensor, "n e"]:
        """One-hot rows (or mixtures of classes) -> what the layers are given of them."""
        labels = labels.to(self.linear.weight.dtype)
        return labels @ self.embedding.weight if self.settings.embedding_dim else labels

    def step(
        self, index: int, x: Tensor | None, z: Sequence[Tensor], embedded: Float[Tensor, "n e"], truncation: float
    ) -> Float[Tensor, "n c h w"]:
        """Run one step: activation -> the same after it; the first takes none, the last gives pictures.

        Args:
            z: the parts, (n, size) each.
            truncation: in (0, 1], the one whose batch statistics are used.
        """
        step, layer = self.steps[index], self.get_submodule(self.steps[index].name)
        if x is None:
            given = torch.cat([z[0], embedded], dim=1) if self.first_takes_class else z[0]
            return self.linear(given).unflatten(1, (step.resolution, step.resolution, -1)).permute(0, 3, 1, 2)
        if index == len(self.steps) - 1:
            return self.output(self.output_norm(x, truncation).relu()).tanh()
        if isinstance(layer, SelfAttention):
            return layer(x)
        condition = embedded if step.part is None else torch.cat([z[step.part], embedded], dim=1)
        return cast(ResidualBlock, layer)(x, condition, truncation)


class _BigGANBlock(ResidualBlock):
    """norm1 - ReLU - (upsample) - 3 x 3 - norm2 - ReLU - 3 x 3, beside a 1 x 1 shortcut."""

    def __init__(self, block: Block, condition: int, settings: BigGANSettings) -> None:
        super().__init__()
        self.up = block.up
        self.norm1 = ConditionalNorm(condition, block.inputs, settings)
        self.norm2 = ConditionalNorm(condition, block.outputs, settings)
        self.conv1 = nn.Conv2d(block.inputs, block.outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(block.outputs, block.outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(block.inputs, block.outputs, 1)

    def forward(self, x: Float[Tensor, "n i h w"], condition: Float[Tensor, "n k"], truncation: float) -> Tensor:
        h = self.norm1(x, condition, truncation).relu()
        h = self.conv1(upsample(h) if self.up else h)
        h = self.conv2(self.norm2(h, condition, truncation).relu())
        beside = self.shortcut(x)
        return h + (upsample(beside) if self.up else beside)


class BigGANNetwork(BlockStack):
    """BigGAN: see `BlockStack`."""

    settings: BigGANSettings
    architecture = "biggan"
    first_takes_class = False

    def __init__(self, settings: BigGANSettings) -> None:
        super().__init__(settings)

    def make_block(self, block: Block, condition: int) -> ResidualBlock:
        return _BigGANBlock(block, condition, self.settings)
