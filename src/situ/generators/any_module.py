"""Any `torch.nn.Module` that makes pictures from latents, behind the generator contract.

    generator = AnyModule(net, z_dim=100)                              # z -> picture
    generator = AnyModule(net.synthesis, z_dim=512, style=net.mapping)  # z -> w -> picture

A dry run on two latents finds what the module does not say: the shape of its input, the size of its pictures, and the
feature layers with their sizes. It also proves what editing relies on: that a picture depends on its own latent alone,
the same every time, and differentiably.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from situ.core.classes import class_labels
from situ.core.errors import GeneratorError, LatentError
from situ.core.generator import FeatureLayer, Synthesis, SynthesisState, feature_steps, require_spaces
from situ.core.images import Images
from situ.core.latents import Latents, LatentSpace, Slice, Subspace
from situ.generators.module_probe import (
    EnoughSeen,
    activations_of,
    brief,
    example_of,
    feature_layers,
    find_layers,
    frozen,
    layout_of,
    tensor_of,
    watching,
)

Prior = Literal["normal", "uniform"]
OUTPUT = "output"  # the feature layer of a module that has no other: its picture

# what a module raises when it is given something of the wrong shape
_MISFITS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError)


class AnyModule:
    """A frozen module as a generator.

    Spaces: "z", and "w" where there is a style function. Feature layers: the outputs of convolutions, or of the
    submodules named; a module without any has one, "output", its picture. All layers count as changed by any edit, and
    a resumed synthesis runs from the start.
    """

    def __init__(
        self,
        module: nn.Module,
        z_dim: int,
        style: nn.Module | Callable[..., Tensor] | None = None,
        layers: Sequence[str] = (),
        *,
        resolution: int | None = None,
        output_range: tuple[float | int, float | int] = (-1.0, 1.0),
        input_shape: tuple[int, ...] | None = None,
        classes: int = 0,
        prior: Prior = "normal",
        name: str = "",
    ) -> None:
        """
        Args:
            module: latents (n, z_dim), or (n, z_dim, 1, 1), or w where there is a style function -> pictures (n, 3, h,
                h), grey ones (n, 1, h, h) or (n, h, h), or flat ones (n, 3 h h) with the channels first. It is frozen
                in place and set to evaluation.
            z_dim: numbers of a latent.
            style: z (n, z_dim) -> w (n, w_dim); frozen too where it is a module.
            layers: submodules, by name, whose outputs (n, c, h, h) are the feature layers; found if not given.
            resolution: of flat pictures, found if not given; otherwise checked.
            output_range: what the module gives for black and for white.
            input_shape: of one latent as the module takes it; (z_dim,) and (z_dim, 1, 1) are tried if not given.
            classes: how many; one-hot rows (n, classes) are then a second argument of `style`, or of the module.
            prior: of z, standard normal or uniform in [-1, 1].
            name: instead of the module's class.

        Raises:
            GeneratorError: the module makes no pictures from such latents, or none that could be edited.
        """
        if not isinstance(module, nn.Module):
            raise GeneratorError(f"a generator is made of a torch.nn.Module, got {type(module).__name__}")
        if z_dim < 1 or classes < 0:
            raise GeneratorError(
                f"a latent has at least one number and classes are counted from 0, got {z_dim}, {classes}"
            )
        black, white = output_range
        if not (math.isfinite(black) and math.isfinite(white)) or black == white:
            raise GeneratorError(
                f"output_range is what black and white are, such as (-1, 1) or (0, 1), got {output_range}"
            )
        if prior not in get_args(Prior):
            raise GeneratorError(f'the prior of z is "normal" or "uniform", got "{prior}"')
        self.module, self.style = frozen(module), frozen(style) if isinstance(style, nn.Module) else style
        self.classes, self.prior, self.output_range = classes, prior, output_range
        self.spaces: Mapping[str, LatentSpace] = {"z": LatentSpace("z", (Slice("z", z_dim),))}
        with torch.no_grad():
            rng = torch.Generator().manual_seed(0)
            z, labels = self._draw(2, rng), self._labels(2, rng, None)
            w = self._try_style(z, labels)
            # the mean of W, of 4096 latents; drawn here because nothing can be drawn inside of a derivative
            self.w_mean = self._mean_style()
            if self.style is not None:
                self.spaces = {**self.spaces, "w": LatentSpace("w", (Slice("w", w.shape[1]),))}
            self.input_shape, raw = self._try_shapes(w, labels, input_shape)
            self._channels, self.resolution = layout_of(raw, resolution)
            self._require_editable(w, labels)
            seen = activations_of(module, lambda: self._call(w, labels))
        names = list(layers) or find_layers(module, seen, self.resolution)
        self._output_is_layer = not names
        whole = FeatureLayer(OUTPUT, self.resolution, 3, 0)
        self.layers = (whole,) if self._output_is_layer else feature_layers(seen, names)
        label = name or type(module).__name__.lower()
        self.name = f"{label}-{self.resolution}px-{_weights_hash(self.module, self.style)}"

    # --- the contract

    @property
    def device(self) -> torch.device:
        return self._like.device

    def sample(
        self,
        n: int,
        space: LatentSpace,
        rng: torch.Generator,
        truncation: float = 1.0,
        labels: Float[Tensor, "n c"] | None = None,
    ) -> Latents:
        """See `Generator.sample`. Truncation pulls W towards its mean; without a style function it scales Z."""
        if not math.isfinite(truncation):
            raise LatentError(f"truncation is a number, 0 the mean picture and 1 full variety, got {truncation}")
        z, labels = self._draw(n, rng), self._labels(n, rng, labels)
        if self.style is None:
            return self.convert(Latents(truncation * z, self.spaces["z"], labels), space)
        return self.convert(Latents(z, self.spaces["z"], labels, truncation), space)

    def convert(self, latents: Latents, space: LatentSpace) -> Latents:
        """See `Generator.convert`."""
        require_spaces(self, latents.space, space)
        if latents.space == space:
            return latents
        if space.name == "z":
            raise LatentError(
                "latents go z -> w, so w has no unique code in z: use a direction of w or start from latents of z"
            )
        w = self._styled(latents.values, latents.labels)
        if latents.truncation != 1 and self.w_mean is not None:
            mean = self.w_mean.to(w)
            w = mean + latents.truncation * (w - mean)
        return Latents(w, space, latents.labels)

    def first_step(self, subspace: Subspace) -> int:
        """See `Generator.first_step`: everything depends on the whole latent."""
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
        """See `Generator.synthesize`. A kept state holds nothing, and going on from it runs everything again."""
        known = feature_steps(self, features)
        state = None if keep is None else SynthesisState(keep, ())
        if not images and not features:
            return Synthesis(None, {}, state)
        codes = self.convert(latents, [*self.spaces.values()][-1])
        hooked = () if self._output_is_layer else features
        last = "" if images or not hooked else max(hooked, key=lambda name: known[name])
        with watching(self.module, hooked, last) as found:
            try:
                pictures = self._pictures(self._call(codes.values, latents.labels))
            except EnoughSeen:
                pictures = None
        if self._output_is_layer and pictures is not None:
            found[OUTPUT] = pictures
        unseen = [name for name in features if name not in found]
        if unseen:
            raise GeneratorError(f"{self.name} did not run its submodule {', '.join(unseen)} on these latents")
        return Synthesis(pictures if images else None, {name: found[name] for name in features}, state)

    # --- latents

    @property
    def _like(self) -> Tensor:
        """A tensor on the device and in the precision of latents: the module's, at least single."""
        like = example_of(self.module)
        if like is None:
            return torch.zeros(())
        return torch.zeros((), device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))

    def _draw(self, n: int, rng: torch.Generator) -> Float[Tensor, "n z"]:
        shape = [n, self.spaces["z"].dim]
        if self.prior == "uniform":
            return (2 * torch.rand(shape, generator=rng, device=rng.device) - 1).to(self._like)
        return torch.randn(shape, generator=rng, device=rng.device).to(self._like)

    def _labels(self, n: int, rng: torch.Generator, labels: Tensor | None) -> Tensor | None:
        """See `class_labels`; in the precision of the module."""
        labels = class_labels(n, self.classes, rng, labels)
        return None if labels is None else labels.to(self._like)

    def _styled(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """z -> w; z itself without a style function."""
        if self.style is None:
            return z
        like = example_of(self.style) if isinstance(self.style, nn.Module) else None
        return self.style(*self._with_labels(z if like is None else z.to(like.dtype), labels)).to(z.dtype)

    def _try_style(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """The same, for the first time."""
        try:
            w = self._styled(z, labels)
        except _MISFITS as error:
            raise GeneratorError(f"the style function does not take z of {tuple(z.shape)}: {brief(error)}") from None
        if w.ndim != 2 or w.shape[0] != z.shape[0] or not w.isfinite().all():
            raise GeneratorError(
                f"a style function gives finite w of shape (n, w_dim), got {tuple(w.shape)}: wrap it, for instance "
                "lambda z: mapping(z)[:, 0]"
            )
        return w

    def _mean_style(self) -> Float[Tensor, " w"] | None:
        rng = torch.Generator().manual_seed(0)
        if self.style is None:
            return None
        parts = [self._styled(self._draw(256, rng), self._labels(256, rng, None)) for _ in range(16)]
        return torch.cat(parts).mean(dim=0)

    def _with_labels(self, values: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
        if not self.classes:
            return (values,)
        if labels is None:
            raise GeneratorError("this generator is class-conditional: give labels (one-hot rows)")
        return values, labels.to(values.dtype)

    # --- pictures

    def _call(self, values: Tensor, labels: Tensor | None, shape: tuple[int, ...] | None = None) -> Any:
        """The module's own output."""
        like = example_of(self.module)
        shaped = values.to(values.dtype if like is None else like.dtype).reshape(
            values.shape[0], *(shape or self.input_shape)
        )
        return self.module(*(self._with_labels(shaped, labels) if self.style is None else (shaped,)))

    def _pictures(self, output: Any) -> Images:
        """The module's output as pictures in [-1, 1]."""
        raw = tensor_of(output)
        x = raw.reshape(raw.shape[0], self._channels, self.resolution, self.resolution)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        black, white = self.output_range
        if (black, white) != (-1.0, 1.0):
            x = (x - black) * (2 / (white - black)) - 1
        return x.expand(-1, 3, -1, -1) if self._channels == 1 else x

    # --- the dry run

    def _try_shapes(
        self, values: Tensor, labels: Tensor | None, given: tuple[int, ...] | None
    ) -> tuple[tuple[int, ...], Tensor]:
        """The shape in which the module takes a latent, and what it gives."""
        width = values.shape[1]
        if given is not None and math.prod(given) != width:
            raise GeneratorError(f"input_shape {given} does not hold the {width} numbers of a latent")
        complaints = []
        for shape in [given] if given is not None else [(width,), (width, 1, 1)]:
            try:
                raw = tensor_of(self._call(values, labels, shape))
                layout_of(raw, None)
                return shape, raw
            except GeneratorError as error:
                complaints.insert(0, str(error))  # it ran, so this is the better complaint
            except _MISFITS as error:
                complaints.append(f"given {(len(values), *shape)} it says {brief(error)}")
        raise GeneratorError(
            f"{type(self.module).__name__} makes no pictures from latents of {width} numbers: {'; '.join(complaints)}"
        )

    def _require_editable(self, values: Tensor, labels: Tensor | None) -> None:
        """Raises GeneratorError unless a picture is a smooth function of its own latent."""
        kind = type(self.module).__name__
        pair, again = (self._pictures(self._call(values, labels)) for _ in range(2))
        if not pair.isfinite().all():
            raise GeneratorError(f"{kind} gives pictures with NaN or infinity")
        if not torch.equal(pair, again):
            raise GeneratorError(
                f"{kind} gives another picture each time (it draws random numbers): fix its noise, or wrap it so that "
                "forward passes the same"
            )
        if torch.equal(pair[0], pair[1]) and not torch.equal(values[0], values[1]):
            raise GeneratorError(f"{kind} gives the same picture for every latent")
        alone = self._pictures(self._call(values[:1], None if labels is None else labels[:1]))
        span = float(pair.amax() - pair.amin())
        if not torch.allclose(alone, pair[:1], rtol=1e-3, atol=1e-3 * span):
            raise GeneratorError(
                f"a picture of {kind} depends on the others of its batch: a normalisation without running statistics?"
            )
        black, white = self.output_range
        if float(pair.abs().amax()) > 40:
            raise GeneratorError(
                f"pictures of {kind} run from {_back(pair.amin(), black, white):.3g} to "
                f"{_back(pair.amax(), black, white):.3g} where output_range is ({black:g}, {white:g}): "
                "say what black and white are, such as output_range=(0, 255)"
            )
        with torch.enable_grad():
            moved = values.detach().clone().requires_grad_()
            if not self._pictures(self._call(moved, labels)).requires_grad:
                raise GeneratorError(f"pictures of {kind} have no derivative: is torch.no_grad used in its forward?")


def _back(value: Tensor, black: float, white: float) -> float:
    """A number of a picture in the module's own range."""
    return (float(value) + 1) * (white - black) / 2 + black


def _weights_hash(*parts: object) -> str:
    digest = hashlib.sha256()
    for i, part in enumerate(parts):
        if isinstance(part, nn.Module):
            for key, tensor in sorted(part.state_dict().items()):
                digest.update(f"{i}.{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
