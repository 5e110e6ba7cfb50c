"""The network of StyleGAN2 in plain PyTorch, with the semantics of NVIDIA's ADA release.

Karras et al., "Analyzing and improving the image quality of StyleGAN" (2020), skip architecture, config-f. Parameter
names and shapes are those of the published state dicts, so that released weights load unchanged.

Two choices make it fast without compiled operators and cheap to differentiate in forward mode:

* **Modulation scales activations, not weights**: y = d * conv(x * s, W), with the demodulation
  d_o = rsqrt(sum_i s_i^2 sum_k W_oik^2 + eps) (eq. 3 there). All samples, and all tangents, share one W.
* **Up-convolution has two equal forms**, borders included. Frozen weights use a transposed convolution, then the
  [1,3,3,1] filter on each channel. For training both are one dense convolution at the lower resolution: each of the
  four output phases is a 3 x 3 convolution whose kernel is a fixed linear image of W (`_PHASES`), and `pixel_shuffle`
  interleaves them; that is four times the arithmetic, but its double backward (R1) has no depthwise convolution.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.core.errors import GeneratorError
from situ.generators.style_based import StyledLayer

_FILTER = (0.25, 0.75, 0.75, 0.25)  # [1,3,3,1] / 8, times 2 for the zeros inserted along one axis
LEAK, GAIN = 0.2, 2**0.5


def _phases() -> Float[Tensor, "2 3 3"]:
    """[p, a, k]: weight of kernel tap k in tap a of output phase p, for zero-insertion + convolution + filter."""
    table = torch.zeros(2, 3, 3)
    for p in range(2):
        for a in range(3):
            for k in range(3):
                t = k + 1 - p + 2 * (a - 1)
                if 0 <= t <= 3:
                    table[p, a, k] = _FILTER[t]
    return table


_PHASES = _phases()
# the same for the picture, which is upsampled by the filter alone: bilinear, with zeros outside
_IMAGE_PHASES = torch.tensor([[_FILTER[0], _FILTER[2], 0.0], [0.0, _FILTER[1], _FILTER[3]]])


@dataclass(frozen=True)
class StyleGAN2Settings:
    """The architecture. Channels at resolution r are min(channel_base // r, channel_max), or what `widths` says."""

    resolution: int = 1024  # pixels, a power of two from 4 to 1024
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0  # number of classes, 0 for none
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    conv_clamp: float | None = None  # activations and RGB are clamped to +- this
    widths: tuple[int, ...] = ()  # channels at 4, 8, ... pixels where they follow no such rule

    def __post_init__(self) -> None:
        r = self.resolution
        if r < 4 or r > 1024 or r & (r - 1):
            raise GeneratorError(f"resolution must be a power of two from 4 to 1024, got {r}")
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON has lists
        if self.widths and (len(self.widths) != len(self.resolutions) or min(self.widths) < 1):
            raise GeneratorError(f"widths are channels of {len(self.resolutions)} resolutions, got {self.widths}")
        small = [k for k, v in asdict(self).items() if k not in ("c_dim", "conv_clamp", "widths") and v < 1]
        if small or self.c_dim < 0 or self.channels(r) < 1:
            raise GeneratorError(f"StyleGAN2 sizes must be positive, got {asdict(self)}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(4 << i for i in range(self.resolution.bit_length() - 2))

    @property
    def num_ws(self) -> int:
        """Rows of W+: one per convolution and one for the last ToRGB (the others share the next convolution's)."""
        return 2 * len(self.resolutions)

    def channels(self, resolution: int) -> int:
        if self.widths:
            return self.widths[max(resolution.bit_length() - 3, 0)]
        return min(self.channel_base // resolution, self.channel_max)


class EqualizedLinear(nn.Module):
    """Linear layer with equalised learning rate: the stored weight is scaled by multiplier / sqrt(inputs)."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full([outputs], float(bias)))
        self.weight_gain = multiplier / inputs**0.5
        self.bias_gain = multiplier

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


def normalise(x: Tensor) -> Tensor:
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class MappingNetwork(nn.Module):
    """z (and class label) -> w: normalised input, `mapping_layers` leaky-ReLU layers with learning rate x 0.01."""

    w_avg: Tensor

    def __init__(self, settings: StyleGAN2Settings) -> None:
        super().__init__()
        self.depth = settings.mapping_layers
        inputs = settings.z_dim
        if settings.c_dim:
            self.embed = EqualizedLinear(settings.c_dim, settings.w_dim)
            inputs += settings.w_dim
        for i in range(self.depth):
            self.add_module(f"fc{i}", EqualizedLinear(inputs, settings.w_dim, multiplier=0.01))
            inputs = settings.w_dim
        self.register_buffer("w_avg", torch.zeros(settings.w_dim))

    def forward(self, z: Float[Tensor, "n z"], labels: Tensor | None = None) -> Float[Tensor, "n w"]:
        x = normalise(z.to(torch.promote_types(z.dtype, torch.float32)))
        if hasattr(self, "embed"):
            if labels is None:
                raise GeneratorError("this generator is class-conditional: give labels (one-hot rows)")
            x = torch.cat([x, normalise(self.embed(labels.to(x.dtype)))], dim=1)
        for i in range(self.depth):
            x = functional.leaky_relu(getattr(self, f"fc{i}")(x), LEAK) * GAIN
        return x


class ModulatedConvolution(nn.Module):
    """Modulated 3 x 3 convolution, optionally doubling the resolution, then noise, bias, leaky ReLU, gain, clamp."""

    noise_const: Tensor
    fused: Tensor | None
    squares: Tensor | None

    def __init__(self, inputs: int, outputs: int, w_dim: int, resolution: int, up: bool, clamp: float | None) -> None:
        super().__init__()
        self.up, self.clamp = up, clamp
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = EqualizedLinear(w_dim, inputs, bias=1.0)
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("fused", None, persistent=False)
        self.register_buffer("squares", None, persistent=False)

    def fuse(self) -> None:
        """Compute once what depends on the weights alone, for weights that no longer change. Kernel and weights share
        their memory."""
        weight = self.weight.detach()
        kernel = (weight.transpose(0, 1) if self.up else weight).contiguous(memory_format=torch.channels_last)
        self.weight.data = kernel.transpose(0, 1) if self.up else kernel
        self.fused = kernel
        self.squares = weight.square().sum(dim=(2, 3))

    def convolve(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """The convolution alone, with the change of resolution."""
        if not self.up:
            return functional.conv2d(x, (self.weight if self.fused is None else self.fused).to(x.dtype), padding=1)
        if self.fused is not None:
            return filter_channels(functional.conv_transpose2d(x, self.fused.to(x.dtype), stride=2))
        phases = _PHASES.to(self.weight)
        kernel = torch.einsum("pak,qbl,oikl->opqiab", phases, phases, self.weight)
        kernel = kernel.reshape(-1, *self.weight.shape[1:]).to(x.dtype)
        return functional.pixel_shuffle(functional.conv2d(x, kernel, padding=1), 2)

    def shift(self, noise: Tensor | None) -> Tensor:
        """What is added before the activation: bias and noise."""
        bias = self.bias[:, None, None]
        return bias if noise is None else bias + noise * self.noise_strength

    def forward(self, x: Tensor, s: Float[Tensor, "n i"], noise: Tensor | None) -> Tensor:
        if x.dtype in (
            torch.float16,
            torch.bfloat16,
        ):  # demodulation cancels this, and it keeps half precision in range
            s = s / s.abs().amax(dim=1, keepdim=True).clamp(min=1e-8)
        squares = self.weight.square().sum(dim=(2, 3)) if self.squares is None else self.squares
        # leaky ReLU commutes with positive factors, so the gain acts before it, where tensors are small
        d = (s.square() @ squares.T + 1e-8).rsqrt() * GAIN  # (n, o)
        shift = self.shift(noise) * GAIN
        y = self.convolve(x * s.to(x.dtype)[:, :, None, None])
        y = functional.leaky_relu(y * d.to(y.dtype)[:, :, None, None] + shift.to(y.dtype), LEAK)
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to RGB, without demodulation; the weight's gain acts on the style."""

    def __init__(self, inputs: int, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.clamp = clamp
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.affine = EqualizedLinear(w_dim, inputs, bias=1.0)
        self.gain = inputs**-0.5

    def forward(self, x: Tensor, s: Float[Tensor, "n i"]) -> Tensor:
        y = functional.conv2d(x * (s * self.gain).to(x.dtype)[:, :, None, None], self.weight.to(x.dtype))
        y = y + self.bias.to(y.dtype)[:, None, None]
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


class _Block(nn.Module):
    def __init__(self, settings: StyleGAN2Settings, resolution: int) -> None:
        super().__init__()
        inputs, outputs = settings.channels(resolution // 2), settings.channels(resolution)
        rest = (settings.w_dim, resolution)
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(outputs, 4, 4))
        else:
            self.conv0 = ModulatedConvolution(inputs, outputs, *rest, up=True, clamp=settings.conv_clamp)
        self.conv1 = ModulatedConvolution(outputs, outputs, *rest, up=False, clamp=settings.conv_clamp)
        self.torgb = ToRGB(outputs, settings.w_dim, settings.conv_clamp)


def _steps(settings: StyleGAN2Settings) -> tuple[StyledLayer, ...]:
    steps: list[StyledLayer] = []
    row = 0
    for r in settings.resolutions:
        inputs, outputs = settings.channels(r // 2), settings.channels(r)
        if r > 4:
            steps.append(StyledLayer(f"b{r}.conv0", r, inputs, outputs, row, "conv"))
            row += 1
        steps.append(StyledLayer(f"b{r}.conv1", r, outputs, outputs, row, "conv"))
        row += 1
        steps.append(StyledLayer(f"b{r}.torgb", r, outputs, 3, row, "rgb"))
    return tuple(steps)


def filter_channels(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h-1 w-1"]:
    """The [1,3,3,1] filter along both axes of every channel: what follows a transposed convolution."""
    c = x.shape[1]
    taps = x.new_tensor(_FILTER)
    x = functional.conv2d(x, taps.reshape(1, 1, 4, 1).expand(c, 1, 4, 1), padding=(1, 0), groups=c)
    return functional.conv2d(x, taps.reshape(1, 1, 1, 4).expand(c, 1, 1, 4), padding=(0, 1), groups=c)


def upsample_image(image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2*h 2*w"]:
    n, c, h, w = image.shape
    phases = _IMAGE_PHASES.to(image)
    kernel = torch.einsum("pa,qb->pqab", phases, phases).reshape(4, 1, 3, 3)
    up = functional.pixel_shuffle(functional.conv2d(image.reshape(n * c, 1, h, w), kernel, padding=1), 2)
    return up.reshape(n, c, 2 * h, 2 * w)


class StyleGAN2Network(nn.Module):
    """The trainable module: `mapping` and `synthesis`, with the parameter names of the published state dicts.

    Shapes: z (n, z_dim), w (n, w_dim), styles one (n, inputs) tensor per step, pictures (n, 3, R, R).
    """

    def __init__(self, settings: StyleGAN2Settings) -> None:
        super().__init__()
        self.settings = settings
        self.steps = _steps(settings)
        self.mapping = MappingNetwork(settings)
        self.synthesis = nn.Module()
        for r in settings.resolutions:
            self.synthesis.add_module(f"b{r}", _Block(settings, r))
        self.layers: dict[str, Any] = {step.name: self.synthesis.get_submodule(step.name) for step in self.steps}

    def styles(self, ws: Float[Tensor, "n rows w"]) -> list[Tensor]:
        """W+ -> S: every step's style, (n, inputs) each."""
        return [self.layers[step.name].affine(ws[:, step.row]) for step in self.steps]

    def start(self, n: int, dtype: torch.dtype, channels_last: bool = False) -> Tensor:
        x = self.synthesis.get_parameter("b4.const").to(dtype).expand(n, -1, -1, -1)
        return x.contiguous(memory_format=torch.channels_last) if channels_last else x

    def step(
        self, index: int, x: Tensor, image: Tensor | None, s: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Run one styled layer: (activation, picture so far) -> the same after it."""
        layer = self.layers[self.steps[index].name]
        if self.steps[index].kind != "rgb":
            return layer(x, s, noise), image
        rgb = layer(x, s).to(torch.promote_types(s.dtype, torch.float32))
        return x, rgb if image is None else upsample_image(image) + rgb

    def fuse(self) -> None:
        """Compute once what depends on the weights alone, for weights that no longer change."""
        for layer in self.layers.values():
            if isinstance(layer, ModulatedConvolution):
                layer.fuse()

    def forward(self, ws: Float[Tensor, "n rows w"], dtype: torch.dtype = torch.float32) -> Tensor:
        """Picture of W+ codes without noise, at one precision throughout (what training needs)."""
        styles = self.styles(ws)
        x, image = self.start(len(ws), dtype, channels_last=True), None
        for i, s in enumerate(styles):
            x, image = self.step(i, x, image, s, None)
        assert image is not None
        return image
