"""The network of BigGAN-deep in plain PyTorch, for pictures only: weights are those after spectral normalisation.

Brock et al., "Large scale GAN training for high fidelity natural image synthesis" (2019), appendix B: bottleneck blocks
whose shortcut drops channels instead of mixing them, and the whole of z, beside the class, in every condition.
Released weights keep batch statistics for 51 truncations from 0 to 1.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from situ.core.errors import GeneratorError
from situ.generators.biggan_network import (
    Block,
    BlockStack,
    BlockStackSettings,
    ConditionalNorm,
    ResidualBlock,
    upsample,
)


@dataclass(frozen=True)
class BigGANDeepSettings(BlockStackSettings):
    """The architecture of BigGAN-deep."""

    reduction: int = 4  # inputs of a block over channels inside it

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(block.outputs > block.inputs or block.inputs < self.reduction for block in self.blocks):
            raise GeneratorError(
                f"a block of BigGAN-deep drops channels, and takes at least {self.reduction}; got {self.channels}"
            )

    @property
    def z_parts(self) -> tuple[int, ...]:
        return (self.z_dim,) * len(self.channels)


class _BottleneckBlock(ResidualBlock):
    """Four times norm - ReLU - convolution (1 x 1, 3 x 3, 3 x 3, 1 x 1), upsampled before the second of them."""

    def __init__(self, block: Block, condition: int, settings: BigGANDeepSettings) -> None:
        super().__init__()
        self.up, self.outputs = block.up, block.outputs
        middle = block.inputs // settings.reduction
        self.norm1 = ConditionalNorm(condition, block.inputs, settings)
        self.norm2 = ConditionalNorm(condition, middle, settings)
        self.norm3 = ConditionalNorm(condition, middle, settings)
        self.norm4 = ConditionalNorm(condition, middle, settings)
        self.conv1 = nn.Conv2d(block.inputs, middle, 1)
        self.conv2 = nn.Conv2d(middle, middle, 3, padding=1)
        self.conv3 = nn.Conv2d(middle, middle, 3, padding=1)
        self.conv4 = nn.Conv2d(middle, block.outputs, 1)

    def forward(self, x: Float[Tensor, "n i h w"], condition: Float[Tensor, "n k"], truncation: float) -> Tensor:
        h = self.conv1(self.norm1(x, condition, truncation).relu())
        h = self.norm2(h, condition, truncation).relu()
        h = self.conv2(upsample(h) if self.up else h)
        h = self.conv3(self.norm3(h, condition, truncation).relu())
        h = self.conv4(self.norm4(h, condition, truncation).relu())
        kept = x[:, : self.outputs]
        return h + (upsample(kept) if self.up else kept)


class BigGANDeepNetwork(BlockStack):
    """BigGAN-deep: see `BlockStack`."""

    settings: BigGANDeepSettings
    architecture = "biggan-deep"
    first_takes_class = True

    def __init__(self, settings: BigGANDeepSettings) -> None:
        super().__init__(settings)

    def make_block(self, block: Block, condition: int) -> ResidualBlock:
        return _BottleneckBlock(block, condition, self.settings)
