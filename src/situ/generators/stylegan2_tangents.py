"""The derivative of StyleGAN2's synthesis in forward mode: many tangents at one latent, written out.

Forward-mode differentiation of the network as it stands multiplies and adds whole activations ten times a layer, which
on a CPU costs more than the convolutions. Written out, with the primal's style s and demodulation d,

    z   = dx + x * (ds / s)
    dx' = m * (conv(z, d W s) + y * (dd / d)),   dd / d = -d^2 sum_i s_i ds_i sum_k W_ik^2

where y is the demodulated convolution and m the slope of leaky ReLU, its gain and its clamp. All tangents share the
modulated weights d W s, which are made once, and three passes over the activations in place are left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap
from torch.nn import functional

from situ.core.generator import IMAGE, Reduction
from situ.generators.stylegan2_network import GAIN, LEAK, StyleGAN2Network, filter_channels, upsample_image

CACHED_BYTES = 32 << 20  # of one layer's activations; larger ones fall out of a processor's cache between two passes


@dataclass(frozen=True)
class _LinearStep:
    """What a styled layer's derivative needs of the primal."""

    x: Tensor  # (1, i, h, w) its input
    s: Tensor  # (1, i) its style, kept off zero
    kernel: Tensor  # the modulated and, but for ToRGB, demodulated weight
    up: bool = False
    slope: Tensor | None = None  # (1, o, h, w) m; None where the output is not clamped or bent
    y: Tensor | None = None  # (1, o, h, w) m * y; None for ToRGB, which is not demodulated
    shrink: Tensor | None = None  # (i, o) -d^2 s_i sum_k W_ik^2: ds -> dd / d

    def modulated(self, dx: Tensor | None, ds: Float[Tensor, "t i"]) -> Tensor:
        """z, in place of dx but for ToRGB, after which dx is still needed."""
        change = (ds / self.s)[:, :, None, None].to(self.x.dtype)
        if dx is None:
            return self.x * change
        dx = dx.to(self.x.dtype)
        return torch.addcmul(dx, self.x, change) if self.y is None else dx.addcmul_(self.x, change)

    def output(self, dx: Tensor | None, ds: Float[Tensor, "t i"]) -> Tensor:
        """dx', or the change of RGB."""
        z = self.modulated(dx, ds)
        if self.up:
            out = filter_channels(functional.conv_transpose2d(z, self.kernel, stride=2))
        else:
            out = functional.conv2d(z, self.kernel, padding=self.kernel.shape[-1] // 2)
        if self.slope is not None:
            out.mul_(self.slope)
        if self.y is not None and self.shrink is not None:
            out.addcmul_(self.y, (ds @ self.shrink)[:, :, None, None].to(out.dtype))
        return out


class Tangents:
    """The derivative at one latent: tangents of the free coordinates in, tangents of picture and features out."""

    def __init__(
        self,
        network: StyleGAN2Network,
        styles: Callable[[Float[Tensor, " k"]], Float[Tensor, " s"]],
        origin: Float[Tensor, " k"],
        noise: Sequence[Tensor | None],
        dtypes: Sequence[torch.dtype],
    ) -> None:
        """
        Args:
            styles: u -> the code of S.
            origin: the u at which the derivative is taken.
            noise: of every step.
            dtypes: that every step computes in.
        """
        self.network, self.styles, self.origin = network, styles, origin
        self.sizes = [step.inputs for step in network.steps]
        with torch.no_grad():
            self.steps = _linear_steps(network, styles(origin)[None].split(self.sizes, dim=1), noise, dtypes)

    def run(
        self, tangents: Float[Tensor, "t k"], reductions: Mapping[str, Reduction] | None = None, images: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Tangents (t, 3, h, w) of the picture, and what the reductions make of those of their feature layers.

        Args:
            images: False stops after the last layer that has a reduction; the first result is then empty.
        """
        reductions = reductions or {}
        steps = self.network.steps
        last = len(steps) if images else 1 + max(i for i, step in enumerate(steps) if step.name in reductions)
        found: dict[str, list[Tensor]] = {name: [] for name in reductions}
        with torch.no_grad():
            styles = vmap(lambda u: jvp(self.styles, (self.origin,), (u,))[1])(tangents.to(self.origin))
            ds = styles.split(self.sizes, dim=1)
            moved = [i for i, each in enumerate(ds) if each.any()]
            first = min([*moved, last - 1])
            for step in steps[:first]:  # nothing changes before
                if step.name in reductions:
                    zero = self.origin.new_zeros(len(tangents), step.outputs, step.resolution, step.resolution)
                    found[step.name].append(reductions[step.name](zero))
            picture = self._move(first, last, None, None, ds, reductions, found)
            if IMAGE in reductions:
                found[IMAGE].append(reductions[IMAGE](picture))
        return picture, {name: torch.cat(parts) for name, parts in found.items()}

    def _move(
        self,
        first: int,
        last: int,
        dx: Tensor | None,
        image: Tensor | None,
        ds: Sequence[Tensor],
        reductions: Mapping[str, Reduction],
        found: dict[str, list[Tensor]],
    ) -> Tensor:
        """Run some steps, in halves as soon as all tangents at once would not fit the cache."""
        t = len(ds[0])
        for i in range(first, last):
            step, layer = self.steps[i], self.network.steps[i]
            if layer.kind == "rgb":
                rgb = step.output(dx, ds[i]).to(ds[i].dtype)
                image = rgb if image is None else upsample_image(image) + rgb
                continue
            if t > 1 and t * layer.outputs * layer.resolution**2 * step.x.element_size() > CACHED_BYTES:
                parts = []
                for half in (slice(0, t // 2), slice(t // 2, t)):
                    some = (None if dx is None else dx[half], None if image is None else image[half])
                    parts.append(self._move(i, last, *some, [d[half] for d in ds], reductions, found))
                return torch.cat(parts)
            dx = step.output(dx, ds[i])
            if layer.name in reductions:
                kept = reductions[layer.name](dx)
                shared = kept.untyped_storage().data_ptr() == dx.untyped_storage().data_ptr()
                found[layer.name].append(kept.clone() if shared else kept)  # the next step writes over dx
        return ds[0].new_zeros(t, 0) if image is None else image


def _linear_steps(
    network: StyleGAN2Network, styles: Sequence[Tensor], noise: Sequence[Tensor | None], dtypes: Sequence[torch.dtype]
) -> list[_LinearStep]:
    """Run the primal and keep what the derivative of each step needs."""
    linear = []
    x = network.start(1, styles[0].dtype, channels_last=True)
    for i, step in enumerate(network.steps):
        layer, dtype = network.layers[step.name], dtypes[i]
        s = torch.where(styles[i].abs() < 1e-12, 1e-12, styles[i])
        if step.kind == "rgb":
            kernel = layer.weight * (s * layer.gain)[:, :, None, None]
            slope = None if layer.clamp is None else (layer(x, s).abs() < layer.clamp).to(dtype)
            linear.append(_LinearStep(x.to(dtype), s, kernel.to(dtype), slope=slope))
            continue
        squares = layer.weight.square().sum(dim=(2, 3))  # (o, i)
        d = (s.square() @ squares.T + 1e-8).rsqrt()  # (1, o)
        y = layer.convolve(x * s[:, :, None, None]) * d[:, :, None, None]
        before = y + layer.shift(noise[i])
        after = functional.leaky_relu(before, LEAK) * GAIN
        slope = torch.where(before > 0, GAIN, GAIN * LEAK)
        if layer.clamp is not None:
            slope = torch.where(after.abs() <= layer.clamp, slope, 0.0)
            after = after.clamp(-layer.clamp, layer.clamp)
        kernel = layer.weight * s[:, :, None, None] * d[0, :, None, None, None]
        kernel = (
            (kernel.transpose(0, 1) if layer.up else kernel).to(dtype).contiguous(memory_format=torch.channels_last)
        )
        shrink = -(squares * s * d[0, :, None].square()).T
        linear.append(_LinearStep(x.to(dtype), s, kernel, layer.up, slope.to(dtype), (y * slope).to(dtype), shrink))
        x = after
    return linear
