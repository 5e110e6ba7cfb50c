"""The network of StyleGAN3 (configurations T and R) in plain PyTorch.

Karras et al., "Alias-free generative adversarial networks" (2021). Parameter names and shapes are those of the
published state dicts, so that released weights load unchanged; the filters are part of them, and are designed here for
new ones (app. C.1 and C.2).

What makes it fast without compiled operators:

* **Modulation scales activations, not weights**, as in `stylegan2_network.py`. The published code first divides styles
  by their root mean square r over the whole batch; here r is each sample's own, so that a picture does not depend on
  its neighbours. Demodulation cancels r but for its epsilon (1e-8 beside a sum of squares), so r appears only there.
* The gains of demodulation, activation and input magnitude act on the small tensor before the upsampling: the filters
  are linear and leaky ReLU commutes with positive factors.
* **Upsampling is a strided transposed convolution** per channel and axis, so no zeros are inserted and multiplied, and
  downsampling a strided convolution that computes only what is kept.
* The nonlinearity runs on few channels at a time, at two to four times the resolution of what goes in and out.
"""

from dataclasses import asdict, dataclass
from math import ceil, log2
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import signal, special
from torch import Tensor, nn
from torch.nn import functional

from situ.core.errors import GeneratorError
from situ.generators.style_based import StyledLayer
from situ.generators.stylegan2_network import GAIN, LEAK, EqualizedLinear, MappingNetwork, StyleGAN2Settings

_OVERSAMPLING = 2  # of the leaky ReLU, relative to the higher of a layer's two sampling rates
_AT_A_TIME = 6_000_000  # numbers of the oversampled activation: what allocators still serve without new pages


@dataclass(frozen=True)
class LayerPlan:
    """One layer's signal: rates in samples per picture width, frequencies in cycles per picture width."""

    name: str
    inputs: int  # channels
    outputs: int
    in_size: int  # samples along a side, with the margin
    size: int
    in_rate: int
    rate: int
    in_cutoff: float
    cutoff: float
    in_half_width: float  # of the transition band
    half_width: float
    kernel: int  # side of the convolution
    up: int  # factors of the resolution around the nonlinearity
    down: int
    up_taps: int  # length of the filters, 1 for none
    down_taps: int
    padding: tuple[int, int]  # zeros before and after the upsampled signal, negative to cut
    radial: bool  # the downsampling filter is not separable but radially symmetric
    rgb: bool


@dataclass(frozen=True)
class StyleGAN3Settings:
    """The architecture. The defaults are configuration T.

    Configuration R has conv_kernel=1, use_radial_filters=True, channel_base=65536, channel_max=1024.
    """

    resolution: int = 1024  # pixels, a power of two from 16 to 2048
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0  # number of classes, 0 for none
    mapping_layers: int = 2
    channel_base: int = 32768  # a layer with cutoff f has channel_base / 2 / f channels, at most channel_max
    channel_max: int = 512
    num_layers: int = 14  # without the input and ToRGB
    num_critical: int = 2  # layers at the end that are sampled critically
    first_cutoff: float = 2.0  # cycles per picture width
    first_stopband: float = 2**2.1
    last_stopband_rel: float = 2**0.3  # relative to the last cutoff, resolution / 2
    margin_size: int = 10  # samples around the picture that every layer but the last two keeps
    output_scale: float = 0.25
    conv_kernel: int = 3
    filter_size: int = 6  # taps per factor of up- or downsampling
    use_radial_filters: bool = False
    conv_clamp: float | None = 256.0  # activations and RGB are clamped to +- this

    def __post_init__(self) -> None:
        r = self.resolution
        if r < 16 or r > 2048 or r & (r - 1):
            raise GeneratorError(f"resolution must be a power of two from 16 to 2048, got {r}")
        loose = ("c_dim", "margin_size", "num_critical", "use_radial_filters", "conv_clamp")
        small = [k for k, v in asdict(self).items() if k not in loose and not v > 0]
        if small or min(self.c_dim, self.margin_size, self.num_critical) < 0:
            raise GeneratorError(f"StyleGAN3 sizes must be positive, got {asdict(self)}")
        if self.num_critical >= self.num_layers or self.conv_kernel % 2 == 0:
            raise GeneratorError(
                "StyleGAN3 has more layers than critical ones and an odd convolution, got "
                f"num_layers={self.num_layers}, num_critical={self.num_critical}, conv_kernel={self.conv_kernel}"
            )
        for layer in self.plan():
            if (
                min(layer.inputs, layer.outputs, layer.in_half_width, layer.half_width) <= 0
                or layer.rate < layer.in_rate
            ):
                raise GeneratorError(f"these StyleGAN3 settings leave no channels or no transition band: {layer}")

    @property
    def num_ws(self) -> int:
        """Rows of W+: the input's and one per layer."""
        return self.num_layers + 2

    def plan(self) -> tuple[LayerPlan, ...]:
        """Every layer after the input, ToRGB last (sec. 3.2 and app. C.3)."""
        last_cutoff = self.resolution / 2
        last_stopband = last_cutoff * self.last_stopband_rel
        signals: list[tuple[int, int, int, float, float]] = []  # channels, size, rate, cutoff, half width
        for i in range(self.num_layers + 1):
            grown = min(i / (self.num_layers - self.num_critical), 1)
            cutoff = self.first_cutoff * (last_cutoff / self.first_cutoff) ** grown
            stopband = self.first_stopband * (last_stopband / self.first_stopband) ** grown
            rate = 2 ** ceil(log2(min(2 * stopband, self.resolution)))
            size = self.resolution if i >= self.num_layers - 1 else rate + 2 * self.margin_size
            channels = 3 if i == self.num_layers else round(min(self.channel_base / 2 / cutoff, self.channel_max))
            signals.append((channels, size, rate, cutoff, max(stopband, rate / 2) - cutoff))
        return tuple(
            self._layer(i, before, after) for i, (before, after) in enumerate(zip([signals[0], *signals], signals))
        )

    def _layer(self, i: int, before: tuple, after: tuple) -> LayerPlan:
        """The layer between two signals."""
        inputs, in_size, in_rate, in_cutoff, in_half_width = before
        outputs, size, rate, cutoff, half_width = after
        rgb = i == self.num_layers
        kernel = 1 if rgb else self.conv_kernel
        highest = max(in_rate, rate) * (1 if rgb else _OVERSAMPLING)
        up, down = highest // in_rate, highest // rate
        up_taps, down_taps = (1 if rgb or factor == 1 else self.filter_size * factor for factor in (up, down))
        padding = (size - 1) * down + 1 - (in_size + kernel - 1) * up + up_taps + down_taps - 2
        low = (padding + up) // 2
        return LayerPlan(
            name=f"L{i}_{size}_{outputs}",
            inputs=inputs,
            outputs=outputs,
            in_size=in_size,
            size=size,
            in_rate=in_rate,
            rate=rate,
            in_cutoff=in_cutoff,
            cutoff=cutoff,
            in_half_width=in_half_width,
            half_width=half_width,
            kernel=kernel,
            up=up,
            down=down,
            up_taps=up_taps,
            down_taps=down_taps,
            padding=(low, padding - low),
            radial=self.use_radial_filters and i < self.num_layers - self.num_critical,
            rgb=rgb,
        )


def low_pass(taps: int, cutoff: float, half_width: float, rate: int, radial: bool = False) -> Tensor | None:
    """The low-pass filter of app. C.1 (taps), or the radial one of app. C.2 (taps, taps); None for a single tap."""
    if taps == 1:
        return None
    if not radial:
        return torch.from_numpy(signal.firwin(taps, cutoff, width=2 * half_width, fs=rate)).float()
    positions = (np.arange(taps) - (taps - 1) / 2) / rate
    radius = np.hypot(positions[:, None], positions)
    window = np.kaiser(taps, signal.kaiser_beta(signal.kaiser_atten(taps, 4 * half_width / rate)))
    kernel = special.j1(2 * np.pi * cutoff * radius) / radius * np.outer(window, window)
    return torch.from_numpy(kernel / kernel.sum()).float()


def upsample(
    x: Float[Tensor, "n c h w"], taps: Float[Tensor, " t"], factor: int, padding: tuple[int, int]
) -> Float[Tensor, "n c h2 w2"]:
    """Insert factor - 1 zeros after every sample, pad with zeros, filter both axes, and keep the mean."""
    c, t = x.shape[1], len(taps)
    if factor == t == 1 and padding == (0, 0):
        return x
    before, after = t - 1 - padding[0], t - factor - padding[1]  # samples to cut from the full convolution
    even = max(min(before, after), 0)
    taps = (taps * factor).to(x.dtype)
    x = functional.conv_transpose2d(
        x, taps.reshape(1, 1, t, 1).expand(c, 1, t, 1), stride=(factor, 1), padding=(even, 0), groups=c
    )
    x = functional.conv_transpose2d(
        x, taps.reshape(1, 1, 1, t).expand(c, 1, 1, t), stride=(1, factor), padding=(0, even), groups=c
    )
    if before == after == even:
        return x
    return functional.pad(x, [even - before, even - after] * 2)


def downsample(x: Float[Tensor, "n c h w"], taps: Tensor, factor: int) -> Float[Tensor, "n c h2 w2"]:
    """Filter with taps (t) on both axes or a kernel (t, t), without padding, and keep every factor-th sample."""
    c, t = x.shape[1], len(taps)
    taps = taps.to(x.dtype)
    if taps.ndim == 2:
        return functional.conv2d(x, taps.flip(0, 1).expand(c, 1, t, t), stride=factor, groups=c)
    taps = taps.flip(0)
    x = functional.conv2d(x, taps.reshape(1, 1, 1, t).expand(c, 1, 1, t), stride=(1, factor), groups=c)
    return functional.conv2d(x, taps.reshape(1, 1, t, 1).expand(c, 1, t, 1), stride=(factor, 1), groups=c)


def rigid_transform(translation: tuple[float, float] = (0.0, 0.0), degrees: float = 0.0) -> Float[Tensor, "3 3"]:
    """The value of `synthesis.input.transform` that turns the picture about its centre and then moves it.

    Args:
        translation: to the right and down, in picture widths.
        degrees: anticlockwise.
    """
    angle = torch.deg2rad(torch.tensor(float(degrees)))
    cos, sin = angle.cos(), angle.sin()
    inverse = torch.eye(3)  # a place of the picture -> where it comes from
    inverse[:2, :2] = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])
    inverse[:2, 2] = -inverse[:2, :2] @ torch.tensor(translation, dtype=torch.float32)
    return inverse


class FourierInput(nn.Module):
    """Fourier features, turned and moved by the style (cos, sin, right, down), through a linear layer (sec. 3.2)."""

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, first: LayerPlan, w_dim: int) -> None:
        super().__init__()
        c = first.inputs
        self.size, self.rate, self.cutoff = first.in_size, first.in_rate, first.in_cutoff
        self.weight = nn.Parameter(torch.randn(c, c))
        self.affine = EqualizedLinear(w_dim, 4)
        with torch.no_grad():
            self.affine.weight.zero_()
            self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        angles = 2 * torch.pi * torch.rand(c)
        radii = self.cutoff * torch.rand(c, 1).sqrt()  # uniform in the disc
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", radii * torch.stack([angles.cos(), angles.sin()], dim=1))
        self.register_buffer("phases", torch.rand(c) - 0.5)

    def forward(self, t: Float[Tensor, "n 4"]) -> Float[Tensor, "n c h w"]:
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        cos, sin, right, down = t[:, :, None].unbind(1)
        user = self.transform.to(t.dtype)
        # frequencies transform from the other side: the style's turn first, its shift, then the user's
        f = self.freqs.to(t.dtype)
        fx, fy = f[:, 0] * cos + f[:, 1] * sin, f[:, 1] * cos - f[:, 0] * sin  # (n, c)
        phases = self.phases.to(t.dtype) + fx * (user[0, 2] - right) + fy * (user[1, 2] - down)
        fx, fy = fx * user[0, 0] + fy * user[1, 0], fx * user[0, 1] + fy * user[1, 1]
        radii = (fx.square() + fy.square()).clamp(min=1e-20).sqrt()
        damping = (1 - (radii - self.cutoff) / (self.rate / 2 - self.cutoff)).clamp(0, 1)
        places = (torch.arange(self.size, device=t.device, dtype=t.dtype) + (1 - self.size) / 2) / self.rate
        across, along = places[:, None] * fx[:, None], places[:, None] * fy[:, None] + phases[:, None]  # (n, size, c)
        waves = (2 * torch.pi * (along[:, :, None] + across[:, None])).sin()  # (n, h, w, c)
        weight = self.weight.to(t.dtype) * self.weight.shape[1] ** -0.5
        return (waves * damping[:, None, None] @ weight.T).permute(0, 3, 1, 2)


class AliasFreeLayer(nn.Module):
    """Modulated convolution, then bias, leaky ReLU and clamp between up- and downsampling (sec. 3.2, fig. 4b).

    The last layer, to RGB, has neither demodulation nor nonlinearity nor filters.
    """

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None
    fused: Tensor | None
    squares: Tensor | None

    def __init__(self, plan: LayerPlan, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.plan, self.clamp = plan, clamp
        self.weight = nn.Parameter(torch.randn(plan.outputs, plan.inputs, plan.kernel, plan.kernel))
        self.bias = nn.Parameter(torch.zeros(plan.outputs))
        self.affine = EqualizedLinear(w_dim, plan.inputs, bias=1.0)
        self.register_buffer("magnitude_ema", torch.ones([]))
        highest = plan.in_rate * plan.up
        self.register_buffer("up_filter", low_pass(plan.up_taps, plan.in_cutoff, plan.in_half_width, highest))
        self.register_buffer(
            "down_filter", low_pass(plan.down_taps, plan.cutoff, plan.half_width, highest, plan.radial)
        )
        self.register_buffer("fused", None, persistent=False)
        self.register_buffer("squares", None, persistent=False)

    def fuse(self) -> None:
        """Compute once what depends on the weights alone, for weights that no longer change."""
        kernel = self._kernel()
        self.fused = kernel.detach().contiguous(memory_format=torch.channels_last)
        self.squares = self.fused.square().sum(dim=(2, 3))

    def _kernel(self) -> Tensor:
        """The weights as they act on activations of one scale."""
        if self.plan.rgb:
            return self.weight / (self.plan.inputs * self.plan.kernel**2 * self.magnitude_ema).sqrt()
        return self.weight * self.weight.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()

    def forward(self, x: Float[Tensor, "n i h w"], s: Float[Tensor, "n i"]) -> Tensor:
        kernel = self._kernel() if self.fused is None else self.fused
        y = functional.conv2d(x * s[:, :, None, None], kernel, padding=self.plan.kernel - 1)
        bias = self.bias[:, None, None]
        if self.plan.rgb:
            y = y + bias
            return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)
        squares = kernel.square().sum(dim=(2, 3)) if self.squares is None else self.squares
        s2 = s.square()
        d = (s2 @ squares.T + 1e-8 * s2.mean(dim=1, keepdim=True)).rsqrt() * (GAIN * self.magnitude_ema.rsqrt())
        y = torch.addcmul(bias * GAIN, y, d[:, :, None, None])
        numbers = len(x) * (self.plan.size * self.plan.down + self.plan.down_taps) ** 2
        parts = y.split(max(_AT_A_TIME // numbers // 16 * 16, 16), dim=1)  # channels, whole vectors of them
        return torch.cat([self._activate(part) for part in parts], dim=1) if len(parts) > 1 else self._activate(y)

    def _activate(self, y: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        assert self.up_filter is not None
        assert self.down_filter is not None
        y = upsample(y, self.up_filter, self.plan.up, self.plan.padding)
        if self.clamp is not None:  # before leaky ReLU, where the limit of negative numbers is further away
            y.clamp_(-self.clamp / LEAK, self.clamp)
        return downsample(functional.leaky_relu_(y, LEAK), self.down_filter, self.plan.down)


class StyleGAN3Network(nn.Module):
    """The module: `mapping` and `synthesis`, with the parameter names of the published state dicts.

    Shapes: z (n, z_dim), w (n, w_dim), styles one (n, inputs) tensor per step, pictures (n, 3, R, R).
    """

    def __init__(self, settings: StyleGAN3Settings) -> None:
        super().__init__()
        self.settings = settings
        self.plan = settings.plan()
        self.mapping = MappingNetwork(
            StyleGAN2Settings(
                z_dim=settings.z_dim,
                w_dim=settings.w_dim,
                c_dim=settings.c_dim,
                mapping_layers=settings.mapping_layers,
            )
        )
        self.synthesis = nn.Module()
        self.synthesis.add_module("input", FourierInput(self.plan[0], settings.w_dim))
        for layer in self.plan:
            self.synthesis.add_module(layer.name, AliasFreeLayer(layer, settings.w_dim, settings.conv_clamp))
        first = self.plan[0]
        self.steps = (
            StyledLayer("input", first.in_rate, 4, first.inputs, 0, "input"),
            *(
                StyledLayer(p.name, min(p.rate, p.size), p.inputs, p.outputs, i + 1, "rgb" if p.rgb else "conv")
                for i, p in enumerate(self.plan)
            ),
        )
        self.layers: list[Any] = [self.synthesis.get_submodule(step.name) for step in self.steps]

    def styles(self, ws: Float[Tensor, "n rows w"]) -> list[Tensor]:
        """W+ -> S: every step's style, (n, inputs) each; the input's is (cos, sin, right, down)."""
        return [layer.affine(ws[:, step.row]) for step, layer in zip(self.steps, self.layers)]

    def step(self, index: int, x: Tensor | None, s: Tensor) -> Tensor:
        """Run one styled layer: activation -> activation, with the margin; the last gives the picture."""
        if x is None:
            return self.layers[index](s)
        y = self.layers[index](x, s)
        return y * self.settings.output_scale if index == len(self.steps) - 1 else y

    def fuse(self) -> None:
        """Compute once what depends on the weights alone, for weights that no longer change."""
        for layer in self.layers[1:]:
            layer.fuse()
