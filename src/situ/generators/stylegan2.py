"""StyleGAN2 in plain PyTorch, with the semantics of NVIDIA's ADA release.

Karras et al., "Analyzing and improving the image quality of StyleGAN" (2020), skip architecture, config-f. Parameter
names and shapes are those of the published state dicts, so that released weights load unchanged.

Two choices make it fast without compiled operators and cheap to differentiate in forward mode:

* **Modulation scales activations, not weights**: y = d * conv(x * s, W), with the demodulation
  d_o = rsqrt(sum_i s_i^2 sum_k W_oik^2 + eps) (eq. 3 there). All samples, and all tangents, share one W.
* **Up-convolution is one dense convolution at the lower resolution.** Zero-insertion, transposed convolution with W and
  the [1,3,3,1] filter are all linear, so each of the four output phases is a 3 x 3 convolution whose kernel is a fixed
  linear image of W (`_PHASES`); `pixel_shuffle` interleaves the phases. The result is equal, borders included.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.core.errors import GeneratorError, LatentError
from situ.core.generator import FeatureLayer, Synthesis, SynthesisState
from situ.core.latents import Latents, LatentSpace, Slice, Subspace

Noise = Literal["const", "random", "none"]

_FILTER = (0.25, 0.75, 0.75, 0.25)  # [1,3,3,1] / 8, times 2 for the zeros inserted along one axis
_LEAK, _GAIN = 0.2, 2**0.5


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
    """The architecture. Channels at resolution r are min(channel_base // r, channel_max)."""

    resolution: int = 1024  # pixels, a power of two from 4 to 1024
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0  # number of classes, 0 for none
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    conv_clamp: float | None = None  # activations and RGB are clamped to +- this

    def __post_init__(self) -> None:
        r = self.resolution
        if r < 4 or r > 1024 or r & (r - 1):
            raise GeneratorError(f"resolution must be a power of two from 4 to 1024, got {r}")
        small = [k for k, v in asdict(self).items() if k not in ("c_dim", "conv_clamp") and v < 1]
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
        return min(self.channel_base // resolution, self.channel_max)


class _Dense(nn.Module):
    """Linear layer with equalised learning rate: the stored weight is scaled by multiplier / sqrt(inputs)."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full([outputs], float(bias)))
        self.weight_gain = multiplier / inputs**0.5
        self.bias_gain = multiplier

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


def _normalise(x: Tensor) -> Tensor:
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class MappingNetwork(nn.Module):
    """z (and class label) -> w: normalised input, `mapping_layers` leaky-ReLU layers with learning rate x 0.01."""

    w_avg: Tensor

    def __init__(self, settings: StyleGAN2Settings) -> None:
        super().__init__()
        self.depth = settings.mapping_layers
        inputs = settings.z_dim
        if settings.c_dim:
            self.embed = _Dense(settings.c_dim, settings.w_dim)
            inputs += settings.w_dim
        for i in range(self.depth):
            self.add_module(f"fc{i}", _Dense(inputs, settings.w_dim, multiplier=0.01))
            inputs = settings.w_dim
        self.register_buffer("w_avg", torch.zeros(settings.w_dim))

    def forward(self, z: Float[Tensor, "n z"], labels: Tensor | None = None) -> Float[Tensor, "n w"]:
        x = _normalise(z.to(torch.promote_types(z.dtype, torch.float32)))
        if hasattr(self, "embed"):
            if labels is None:
                raise GeneratorError("this generator is class-conditional: give labels (one-hot rows)")
            x = torch.cat([x, _normalise(self.embed(labels.to(x.dtype)))], dim=1)
        for i in range(self.depth):
            x = functional.leaky_relu(getattr(self, f"fc{i}")(x), _LEAK) * _GAIN
        return x


class _Convolution(nn.Module):
    """Modulated 3 x 3 convolution, optionally doubling the resolution, then noise, bias, leaky ReLU, gain, clamp."""

    noise_const: Tensor
    fused: Tensor | None
    squares: Tensor | None

    def __init__(self, inputs: int, outputs: int, w_dim: int, resolution: int, up: bool, clamp: float | None) -> None:
        super().__init__()
        self.up, self.clamp = up, clamp
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = _Dense(w_dim, inputs, bias=1.0)
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("fused", None, persistent=False)
        self.register_buffer("squares", None, persistent=False)

    def kernel(self) -> Tensor:
        """The kernel that is convolved with: the weight itself, or its four phases (4 outputs, inputs, 3, 3)."""
        if self.fused is not None:
            return self.fused
        if not self.up:
            return self.weight
        phases = _PHASES.to(self.weight)
        return torch.einsum("pak,qbl,oikl->opqiab", phases, phases, self.weight).reshape(-1, *self.weight.shape[1:])

    def forward(self, x: Tensor, s: Float[Tensor, "n i"], noise: Tensor | None) -> Tensor:
        if x.dtype in (
            torch.float16,
            torch.bfloat16,
        ):  # demodulation cancels this, and it keeps half precision in range
            s = s / s.abs().amax(dim=1, keepdim=True).clamp(min=1e-8)
        squares = self.weight.square().sum(dim=(2, 3)) if self.squares is None else self.squares
        d = (s.square() @ squares.T + 1e-8).rsqrt()  # (n, o)
        y = functional.conv2d(x * s.to(x.dtype)[:, :, None, None], self.kernel().to(x.dtype), padding=1)
        if self.up:
            y = functional.pixel_shuffle(y, 2)
        y = y * d.to(y.dtype)[:, :, None, None]
        if noise is not None:
            y = y + (noise * self.noise_strength).to(y.dtype)
        y = functional.leaky_relu(y + self.bias.to(y.dtype)[:, None, None], _LEAK) * _GAIN
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


class _ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to RGB, without demodulation; the weight's gain acts on the style."""

    def __init__(self, inputs: int, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.clamp = clamp
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.affine = _Dense(w_dim, inputs, bias=1.0)
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
            self.conv0 = _Convolution(inputs, outputs, *rest, up=True, clamp=settings.conv_clamp)
        self.conv1 = _Convolution(outputs, outputs, *rest, up=False, clamp=settings.conv_clamp)
        self.torgb = _ToRGB(outputs, settings.w_dim, settings.conv_clamp)


@dataclass(frozen=True)
class _Step:
    """One styled layer, in the order of execution: the slices of S are these steps."""

    name: str  # "b8.conv0", as in the state dict
    resolution: int
    inputs: int  # width of its style
    outputs: int
    row: int  # the row of W+ that feeds it
    is_rgb: bool


def _steps(settings: StyleGAN2Settings) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    row = 0
    for r in settings.resolutions:
        inputs, outputs = settings.channels(r // 2), settings.channels(r)
        if r > 4:
            steps.append(_Step(f"b{r}.conv0", r, inputs, outputs, row, False))
            row += 1
        steps.append(_Step(f"b{r}.conv1", r, outputs, outputs, row, False))
        row += 1
        steps.append(_Step(f"b{r}.torgb", r, outputs, 3, row, True))
    return tuple(steps)


def _upsample_image(image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2*h 2*w"]:
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
        self._layers: dict[str, Any] = {step.name: self.synthesis.get_submodule(step.name) for step in self.steps}

    def styles(self, ws: Float[Tensor, "n rows w"]) -> list[Tensor]:
        """W+ -> S: every step's style, (n, inputs) each."""
        return [self._layers[step.name].affine(ws[:, step.row]) for step in self.steps]

    def start(self, n: int, dtype: torch.dtype, channels_last: bool = False) -> Tensor:
        x = self.synthesis.get_parameter("b4.const").to(dtype).expand(n, -1, -1, -1)
        return x.contiguous(memory_format=torch.channels_last) if channels_last else x

    def step(
        self, index: int, x: Tensor, image: Tensor | None, s: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Run one styled layer: (activation, picture so far) -> the same after it."""
        layer = self._layers[self.steps[index].name]
        if not self.steps[index].is_rgb:
            return layer(x, s, noise), image
        rgb = layer(x, s).to(torch.promote_types(s.dtype, torch.float32))
        return x, rgb if image is None else _upsample_image(image) + rgb

    def fuse(self) -> None:
        """Compute once what depends on the weights alone, for weights that no longer change."""
        for layer in self._layers.values():
            if isinstance(layer, _Convolution):
                layer.fused = None
                layer.fused = layer.kernel().detach().contiguous(memory_format=torch.channels_last)
                layer.squares = layer.weight.detach().square().sum(dim=(2, 3))

    def forward(self, ws: Float[Tensor, "n rows w"], dtype: torch.dtype = torch.float32) -> Tensor:
        """Picture of W+ codes without noise, at one precision throughout (what training needs)."""
        styles = self.styles(ws)
        x, image = self.start(len(ws), dtype, channels_last=True), None
        for i, s in enumerate(styles):
            x, image = self.step(i, x, image, s, None)
        assert image is not None
        return image


class StyleGAN2:
    """A frozen StyleGAN2 behind the generator contract.

    Spaces: "z" (one slice), "w" (one slice), "w+" (one slice per row), "s" (one slice per styled layer, kinds "conv"
    and "rgb"). Feature layers: the output of every convolution. Noise is part of the generator, not of a latent.
    """

    def __init__(
        self,
        network: StyleGAN2Network,
        noise: Noise = "const",
        rng: torch.Generator | None = None,
        low_precision: torch.dtype = torch.float32,
        low_precision_resolutions: int = 0,
    ) -> None:
        """
        Args:
            network: the weights; they are frozen in place.
            noise: "const" the stored noise maps, "random" fresh ones from `rng`, "none".
            rng: needed by noise="random".
            low_precision: dtype (torch.float16, torch.bfloat16) of the highest resolutions.
            low_precision_resolutions: how many resolutions, from the top, run in `low_precision`.
        """
        if noise not in ("const", "random", "none"):
            raise GeneratorError(f'noise is "const", "random" or "none", got "{noise}"')
        if noise == "random" and rng is None:
            raise GeneratorError('noise="random" needs rng, a torch.Generator')
        self.network = network.eval().requires_grad_(False)
        self.network.fuse()
        self.settings = network.settings
        self.noise, self.rng = noise, rng
        self.resolution = self.settings.resolution
        low = set(self.settings.resolutions[len(self.settings.resolutions) - low_precision_resolutions :])
        self._dtypes = [low_precision if s.resolution in low else torch.float32 for s in network.steps]
        self.name = f"stylegan2-{self.resolution}px-{_weights_hash(network)}"
        self.spaces: Mapping[str, LatentSpace] = {
            "z": LatentSpace("z", (Slice("z", self.settings.z_dim),)),
            "w": LatentSpace("w", (Slice("w", self.settings.w_dim),)),
            "w+": LatentSpace("w+", tuple(Slice(n, self.settings.w_dim) for n in _row_names(network))),
            "s": LatentSpace("s", tuple(Slice(s.name, s.inputs, "rgb" if s.is_rgb else "conv") for s in network.steps)),
        }
        self.layers = tuple(
            FeatureLayer(s.name, s.resolution, s.outputs, i) for i, s in enumerate(network.steps) if not s.is_rgb
        )

    @property
    def device(self) -> torch.device:
        return self.network.mapping.w_avg.device

    def sample(
        self,
        n: int,
        space: LatentSpace,
        rng: torch.Generator,
        truncation: float = 1.0,
        labels: Float[Tensor, "n c"] | None = None,
    ) -> Latents:
        """See `Generator.sample`. Without labels, a conditional generator draws a class for each code."""
        if not math.isfinite(truncation):
            raise LatentError(f"truncation is a number, 0 the mean picture and 1 full variety, got {truncation}")
        z = torch.randn(n, self.settings.z_dim, generator=rng, device=rng.device).to(self.device)
        if self.settings.c_dim:
            if labels is None:
                drawn = torch.randint(self.settings.c_dim, [n], generator=rng, device=rng.device)
                labels = functional.one_hot(drawn, self.settings.c_dim).float()
            if labels.shape != (n, self.settings.c_dim):
                expected = (n, self.settings.c_dim)
                raise LatentError(f"labels of this generator have shape {expected}, got {tuple(labels.shape)}")
            labels = labels.to(self.device)
        elif labels is not None:
            raise LatentError("this generator has no classes, but labels were given")
        return self.convert(Latents(z, self.spaces["z"], labels, truncation), space)

    def convert(self, latents: Latents, space: LatentSpace) -> Latents:
        """See `Generator.convert`."""
        order = list(self.spaces)
        for wanted in (latents.space, space):
            if self.spaces.get(wanted.name) != wanted:
                sizes = ", ".join(f"{s.name} ({s.dim})" for s in self.spaces.values())
                raise LatentError(f"{self.name} has the spaces {sizes}, got {wanted.name} ({wanted.dim})")
        first, last = order.index(latents.space.name), order.index(space.name)
        if first > last:
            raise LatentError(
                f"latents go z -> w -> w+ -> s, so {latents.space.name} has no unique code in {space.name}: "
                f"use a direction of {latents.space.name} or start from latents of {space.name}"
            )
        for name in order[first + 1 : last + 1]:
            latents = self._advance(latents, name)
        return latents

    def _advance(self, latents: Latents, name: str) -> Latents:
        """One conversion, to the named space from the one before it."""
        values = latents.values
        if name == "w":
            w_avg = self.network.mapping.w_avg
            values = w_avg + latents.truncation * (self.network.mapping(values, latents.labels) - w_avg)
        elif name == "w+":
            values = values.repeat(1, self.settings.num_ws)
        else:
            ws = values.reshape(len(values), self.settings.num_ws, self.settings.w_dim)
            values = torch.cat(self.network.styles(ws), dim=1)
        return Latents(values, self.spaces[name], latents.labels)

    def first_step(self, subspace: Subspace) -> int:
        """See `Generator.first_step`."""
        first = subspace.chosen[0]
        if subspace.space.name == "s":
            return first
        if subspace.space.name == "w+":
            return next(i for i, step in enumerate(self.network.steps) if step.row == first)
        return 0

    def synthesize(
        self,
        latents: Latents,
        features: Sequence[str] = (),
        *,
        images: bool = True,
        keep: int | None = None,
        resume: SynthesisState | None = None,
    ) -> Synthesis:
        """See `Generator.synthesize`. Memory: the activations of one layer, plus the features asked for."""
        steps = self.network.steps
        first = 0 if resume is None else resume.step
        wanted = {layer.name: layer.step for layer in self.layers if layer.name in features}
        missing = [name for name in features if name not in wanted]
        if missing:
            names = ", ".join(layer.name for layer in self.layers)
            raise GeneratorError(f"features of {self.name} are {names}; got {', '.join(missing)}")
        if any(step < first for step in wanted.values()) or (keep is not None and keep < first):
            raise GeneratorError(f"a synthesis resumed at {steps[first].name} cannot give what lies before it")
        last = len(steps) if images else max([*wanted.values(), (keep or 0) - 1, first - 1]) + 1
        styles = self.spaces["s"].split(self.convert(latents, self.spaces["s"]).values)
        if resume is None:
            x, image = self.network.start(len(latents), self._dtypes[0], channels_last=True), None
        else:
            x, image = resume.tensors
            assert x is not None
        state, found = None, {}
        for i in range(first, last + 1):
            if i == keep:
                state = SynthesisState(i, (x, image))
            if i == last:
                break
            step = steps[i]
            x, image = self.network.step(i, x.to(self._dtypes[i]), image, styles[i], self._noise(i, len(latents)))
            if step.name in wanted:
                found[step.name] = x
        return Synthesis(image if images else None, found, state)

    def _noise(self, index: int, n: int) -> Tensor | None:
        step = self.network.steps[index]
        if step.is_rgb or self.noise == "none":
            return None
        if self.noise == "const":
            return self.network.synthesis.get_buffer(f"{step.name}.noise_const")
        assert self.rng is not None
        shape = (n, 1, step.resolution, step.resolution)
        return torch.randn(shape, generator=self.rng, device=self.rng.device).to(self.device)


def _row_names(network: StyleGAN2Network) -> list[str]:
    """A row of W+ is called after the convolution that it feeds; the last one feeds the last ToRGB alone."""
    names = {step.row: step.name for step in reversed(network.steps) if not step.is_rgb}
    return [names.get(row, network.steps[-1].name) for row in range(network.settings.num_ws)]


def _weights_hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
