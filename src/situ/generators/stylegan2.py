"""StyleGAN2 behind the generator contract: how its styled layers run, and its derivative.

Karras et al., "Analyzing and improving the image quality of StyleGAN" (2020). The network is in
`stylegan2_network.py`, its derivative in forward mode in `stylegan2_tangents.py`.
"""

import copy
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.generator import IMAGE, Linearization, Reduction
from situ.core.latents import Latents, Subspace
from situ.generators.style_based import Activations, Noise, StyleBasedGenerator
from situ.generators.stylegan2_network import StyleGAN2Network
from situ.generators.stylegan2_tangents import Tangents


class StyleGAN2(StyleBasedGenerator):
    """A frozen StyleGAN2. The kinds of styled layer are "conv" and "rgb"; activations are (features, picture)."""

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
            noise, rng: see `StyleBasedGenerator`.
            low_precision: dtype (torch.float16, torch.bfloat16) of the highest resolutions.
            low_precision_resolutions: how many resolutions, from the top, run in `low_precision`.
        """
        super().__init__("stylegan2", network, network.settings, network.steps, noise, rng)
        self.network = network
        self.maps: Mapping[str, Tensor] = {}
        network.fuse()
        low = set(self.settings.resolutions[len(self.settings.resolutions) - low_precision_resolutions :])
        self._dtypes = [low_precision if s.resolution in low else torch.float32 for s in network.steps]

    def noise_layers(self) -> dict[str, int]:
        """The layers whose weights make use of noise, with the side of their maps."""
        strengths = {s: self.network.layers[s.name].noise_strength for s in self.steps if s.kind != "rgb"}
        return {s.name: s.resolution for s, strength in strengths.items() if strength != 0}

    def with_noise(self, maps: Mapping[str, Float[Tensor, "n 1 _ _"]]) -> "StyleGAN2":
        """The same generator with noise maps of one's own on some layers, a map for every picture; differentiable."""
        made = copy.copy(self)
        made.maps = maps
        return made

    def styles(self, ws: Float[Tensor, "n rows w"]) -> list[Tensor]:
        """See `StyleBasedGenerator.styles`."""
        return self.network.styles(ws)

    def start(self, n: int) -> Activations:
        """See `StyleBasedGenerator.start`."""
        return self.network.start(n, self._dtypes[0], channels_last=True), None

    def step(self, index: int, activations: Activations, style: Float[Tensor, "n inputs"]) -> Activations:
        """See `StyleBasedGenerator.step`."""
        x, image = activations
        assert x is not None
        return self.network.step(index, x.to(self._dtypes[index]), image, style, self._noise(index, len(style)))

    def _noise(self, index: int, n: int) -> Tensor | None:
        step = self.steps[index]
        if step.name in self.maps:
            return self.maps[step.name]
        stored = None if step.kind == "rgb" else self.network.synthesis.get_buffer(f"{step.name}.noise_const")
        return self.noise_map(stored, n)

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

        noise = [self._noise(i, 1) for i in range(len(self.steps))]
        return Tangents(self.network, styles, base.values.new_zeros(subspace.dim), noise, self._dtypes)
