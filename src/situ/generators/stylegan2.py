"""StyleGAN2 behind the generator contract: its spaces, its feature layers, and how one latent becomes another.

Karras et al., "Analyzing and improving the image quality of StyleGAN" (2020). The network is in
`stylegan2_network.py`, its derivative in forward mode in `stylegan2_tangents.py`.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.core.errors import GeneratorError, LatentError
from situ.core.generator import IMAGE, FeatureLayer, Linearization, Reduction, Synthesis, SynthesisState
from situ.core.latents import Latents, LatentSpace, Slice, Subspace
from situ.generators.stylegan2_network import StyleGAN2Network
from situ.generators.stylegan2_tangents import Tangents

Noise = Literal["const", "random", "none"]


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

    def linearize(self, latents: Latents, subspace: Subspace) -> Linearization:
        """See `Linearizable`. A tangent costs about one forward pass at batch size one."""
        made = self._tangents(latents, subspace)

        def pushforward(tangents: Float[Tensor, "t k"]) -> Float[Tensor, "t 3 h w"]:
            return made.run(tangents)[0]

        return pushforward

    def linearize_features(
        self, latents: Latents, subspace: Subspace, reductions: Mapping[str, Reduction]
    ) -> Callable[[Float[Tensor, "t k"]], dict[str, Tensor]]:
        """See `Linearizable`."""
        made = self._tangents(latents, subspace)
        return lambda tangents: made.run(tangents, reductions, images=IMAGE in reductions)[1]

    def _tangents(self, latents: Latents, subspace: Subspace) -> Tangents:
        base = self.convert(latents, subspace.space)

        def styles(u: Tensor) -> Tensor:
            moved = base.with_values(base.values + subspace.lift(u)[None])
            return self.convert(moved, self.spaces["s"]).values[0]

        noise = [self._noise(i, 1) for i in range(len(self.network.steps))]
        return Tangents(self.network, styles, base.values.new_zeros(subspace.dim), noise, self._dtypes)

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
