"""The network of StyleGAN in plain PyTorch.

Karras et al., "A style-based generator architecture for generative adversarial networks" (2019), config-f at its final
level of detail. Released files come in several dialects; readers bring them to the parameter names used here.

**Up-convolution.** The original doubles the size by nearest neighbour, convolves and blurs with [1,2,1]; from 128
pixels on it fuses the first two into a transposed convolution, which is the same map of the kernel stored flipped.
Repeating a pixel is inserting a zero and summing two neighbours, and both are linear filters, so a transposed
convolution with the 3 x 3 kernel at the lower resolution, then a 2 x 2 sum, gives the same, borders included, with a
quarter of the arithmetic.
"""

from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.core.errors import GeneratorError
from situ.generators.style_based import StyledLayer
from situ.generators.stylegan2_network import GAIN, LEAK, EqualizedLinear, normalise


@dataclass(frozen=True)
class StyleGAN1Settings:
    """The architecture. Channels at resolution r are min(channel_base // r, channel_max)."""

    resolution: int = 1024  # pixels, a power of two from 4 to 1024
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0  # number of classes, 0 for none
    mapping_layers: int = 8
    channel_base: int = 16384
    channel_max: int = 512
    instance_norm_eps: float = 1e-8  # added to variances; the lernapparat port and its heirs have 1e-5

    def __post_init__(self) -> None:
        r = self.resolution
        if r < 4 or r > 1024 or r & (r - 1):
            raise GeneratorError(f"resolution must be a power of two from 4 to 1024, got {r}")
        small = [k for k, v in asdict(self).items() if k not in ("c_dim", "instance_norm_eps") and v < 1]
        if small or self.c_dim < 0 or self.channels(r) < 1 or not self.instance_norm_eps > 0:
            raise GeneratorError(f"StyleGAN1 sizes must be positive, got {asdict(self)}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(4 << i for i in range(self.resolution.bit_length() - 2))

    @property
    def num_ws(self) -> int:
        """Rows of W+: one per styled layer, two at each resolution."""
        return 2 * len(self.resolutions)

    def channels(self, resolution: int) -> int:
        return min(self.channel_base // resolution, self.channel_max)


class StyleGAN1Mapping(nn.Module):
    """z (and class label) -> w. A label is a row of `label_weight` beside z, and both are normalised as one vector."""

    w_avg: Tensor

    def __init__(self, settings: StyleGAN1Settings) -> None:
        super().__init__()
        self.depth = settings.mapping_layers
        inputs = settings.z_dim
        if settings.c_dim:
            self.label_weight = nn.Parameter(torch.randn(settings.c_dim, settings.z_dim))
            inputs += settings.z_dim
        for i in range(self.depth):
            self.add_module(f"fc{i}", EqualizedLinear(inputs, settings.w_dim, multiplier=0.01))
            inputs = settings.w_dim
        self.register_buffer("w_avg", torch.zeros(settings.w_dim))

    def forward(self, z: Float[Tensor, "n z"], labels: Tensor | None = None) -> Float[Tensor, "n w"]:
        x = z.to(torch.promote_types(z.dtype, torch.float32))
        if hasattr(self, "label_weight"):
            if labels is None:
                raise GeneratorError("this generator is class-conditional: give labels (one-hot rows)")
            x = torch.cat([x, labels.to(x.dtype) @ self.label_weight], dim=1)
        x = normalise(x)
        for i in range(self.depth):  # the gain belongs to the weights, so it does not reach the biases
            x = functional.leaky_relu(getattr(self, f"fc{i}")(x * GAIN), LEAK)
        return x


class AdaptedLayer(nn.Module):
    """Convolution (optionally doubling the resolution), noise, bias, leaky ReLU, instance norm, style (AdaIN, eq. 1).

    The first layer has no convolution: it works on the constant. The style (n, 2 outputs) is the scales less one, then
    the biases.
    """

    noise_const: Tensor
    fused: Tensor | None

    def __init__(self, inputs: int | None, outputs: int, w_dim: int, resolution: int, up: bool, eps: float) -> None:
        super().__init__()
        self.up, self.eps = up, eps
        self.weight = None if inputs is None else nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.gain = 1.0 if inputs is None else GAIN / (9 * inputs) ** 0.5
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = EqualizedLinear(w_dim, 2 * outputs)
        self.noise_strength = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("fused", None, persistent=False)

    def fuse(self) -> None:
        """Compute once what depends on the weights alone, for weights that no longer change."""
        if self.weight is not None:
            self.fused = self._kernel(self.weight.detach()).contiguous(memory_format=torch.channels_last)

    def _kernel(self, weight: Tensor) -> Tensor:
        """The kernel as the convolution takes it: a transposed convolution sees it flipped, inputs first."""
        return (weight.flip(2, 3).transpose(0, 1) if self.up else weight) * self.gain

    def convolve(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """The convolution alone, with the change of resolution."""
        if self.weight is None:
            return x
        kernel = (self._kernel(self.weight) if self.fused is None else self.fused).to(x.dtype)
        if not self.up:
            return functional.conv2d(x, kernel, padding=1)
        y = functional.conv_transpose2d(x, kernel, stride=2)  # one pixel larger
        c = y.shape[1]
        y = functional.conv2d(y, y.new_ones(1, 1, 1, 1).expand(c, 1, 2, 2), groups=c)
        taps = y.new_tensor([0.25, 0.5, 0.25])
        # a filter of its own: the border's zeros come between the two
        return functional.conv2d(y, torch.outer(taps, taps).expand(c, 1, 3, 3), padding=1, groups=c)

    def forward(self, x: Tensor, s: Float[Tensor, "n two_o"], noise: Tensor | None) -> Tensor:
        shift = self.bias[:, None, None]
        if noise is not None:
            shift = shift + noise * self.noise_strength[:, None, None]
        y = functional.leaky_relu(self.convolve(x) + shift, LEAK)
        y = y - y.mean(dim=(2, 3), keepdim=True)
        scale, bias = s[:, :, None, None].chunk(2, dim=1)
        scale = (scale + 1) * (y.square().mean(dim=(2, 3), keepdim=True) + self.eps).rsqrt()
        return torch.addcmul(bias, y, scale)


class _LastToRGB(nn.Module):
    """1 x 1 convolution to RGB, without a style."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight * self.weight.shape[1] ** -0.5, self.bias)


def _steps(settings: StyleGAN1Settings) -> tuple[StyledLayer, ...]:
    return tuple(
        StyledLayer(f"layer{row}", r, 2 * settings.channels(r), settings.channels(r), row, "conv")
        for row, r in enumerate(r for r in settings.resolutions for _ in range(2))
    )


class StyleGAN1Network(nn.Module):
    """The module: `mapping` and `synthesis`. Row l of W+ feeds `synthesis.layer{l}`; `synthesis.torgb` has no style.

    Shapes: z (n, z_dim), w (n, w_dim), styles one (n, 2 outputs) tensor per layer, pictures (n, 3, R, R).
    """

    def __init__(self, settings: StyleGAN1Settings) -> None:
        super().__init__()
        self.settings = settings
        self.steps = _steps(settings)
        self.mapping = StyleGAN1Mapping(settings)
        self.synthesis = nn.Module()
        self.synthesis.register_parameter("const", nn.Parameter(torch.randn(settings.channels(4), 4, 4)))
        self.layers: list[AdaptedLayer] = []
        inputs = None
        for row, step in enumerate(self.steps):
            up = row % 2 == 0 and row > 0
            layer = AdaptedLayer(inputs, step.outputs, settings.w_dim, step.resolution, up, settings.instance_norm_eps)
            self.synthesis.add_module(step.name, layer)
            self.layers.append(layer)
            inputs = step.outputs
        self.synthesis.add_module("torgb", _LastToRGB(settings.channels(settings.resolution)))

    def styles(self, ws: Float[Tensor, "n rows w"]) -> list[Tensor]:
        """W+ -> S: every layer's style, (n, 2 outputs) each."""
        return [layer.affine(ws[:, row]) for row, layer in enumerate(self.layers)]

    def start(self, n: int) -> Tensor:
        const = self.synthesis.get_parameter("const").expand(n, -1, -1, -1)
        return const.contiguous(memory_format=torch.channels_last)

    def step(self, index: int, x: Tensor, s: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Run one styled layer: the activation after it, and the picture after the last."""
        x = self.layers[index](x, s, noise)
        last = index == len(self.steps) - 1
        return x, self.synthesis.get_submodule("torgb")(x) if last else None

    def fuse(self) -> None:
        """Compute once what depends on the weights alone, for weights that no longer change."""
        for layer in self.layers:
            layer.fuse()
