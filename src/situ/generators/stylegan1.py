"""StyleGAN behind the generator contract.

Karras et al., "A style-based generator architecture for generative adversarial networks" (2019). The network is in
`stylegan1_network.py`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from situ.generators.style_based import Activations, Noise, StyleBasedGenerator
from situ.generators.stylegan1_network import StyleGAN1Network


class StyleGAN1(StyleBasedGenerator):
    """A frozen StyleGAN. Every styled layer is of kind "conv" and has a style twice as wide as its features.

    A slice of S holds a layer's scales less one, then its biases. Features are those after the style is applied; the
    ToRGB layer has no style and belongs to the last step. Activations are (features, picture).
    """

    def __init__(self, network: StyleGAN1Network, noise: Noise = "const", rng: torch.Generator | None = None) -> None:
        """
        Args:
            network: the weights; they are frozen in place.
            noise, rng: see `StyleBasedGenerator`.
        """
        super().__init__("stylegan1", network, network.settings, network.steps, noise, rng)
        self.network = network
        network.fuse()

    def styles(self, ws: Float[Tensor, "n rows w"]) -> list[Tensor]:
        """See `StyleBasedGenerator.styles`."""
        return self.network.styles(ws)

    def start(self, n: int) -> Activations:
        """See `StyleBasedGenerator.start`."""
        return self.network.start(n), None

    def step(self, index: int, activations: Activations, style: Float[Tensor, "n inputs"]) -> Activations:
        """See `StyleBasedGenerator.step`."""
        x = activations[0]
        assert x is not None
        noise = self.noise_map(self.network.layers[index].noise_const, len(style))
        return self.network.step(index, x, style, noise)
