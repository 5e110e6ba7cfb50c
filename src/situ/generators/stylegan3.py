"""StyleGAN3 behind the generator contract.

Karras et al., "Alias-free generative adversarial networks" (2021). The network is in `stylegan3_network.py`.
"""

from jaxtyping import Float
from torch import Tensor

from situ.generators.style_based import Activations, StyleBasedGenerator
from situ.generators.stylegan3_network import StyleGAN3Network


class StyleGAN3(StyleBasedGenerator):
    """A frozen StyleGAN3. The kinds of styled layer are "input", "conv" and "rgb"; there is no noise.

    The input's style turns and moves the whole picture: (cos, sin, right, down), divided by the length of (cos, sin).
    Activations reach beyond the picture; features are cut to its frame. To turn or move what every picture shows, set
    `network.synthesis.input.transform` to what `rigid_transform` gives.
    """

    def __init__(self, network: StyleGAN3Network) -> None:
        """
        Args:
            network: the weights; they are frozen in place.
        """
        super().__init__("stylegan3", network, network.settings, network.steps)
        self.network = network
        network.fuse()

    def styles(self, ws: Float[Tensor, "n rows w"]) -> list[Tensor]:
        """See `StyleBasedGenerator.styles`."""
        return self.network.styles(ws)

    def start(self, n: int) -> Activations:
        """See `StyleBasedGenerator.start`. The input makes its activations of its style alone."""
        return (None,)

    def step(self, index: int, activations: Activations, style: Float[Tensor, "n inputs"]) -> Activations:
        """See `StyleBasedGenerator.step`."""
        return (self.network.step(index, activations[0], style),)

    def feature(self, index: int, activations: Activations) -> Tensor:
        """See `StyleBasedGenerator.feature`. Without the margin."""
        x, side = activations[0], self.steps[index].resolution
        assert x is not None
        margin = (x.shape[-1] - side) // 2
        return x[..., margin : margin + side, margin : margin + side]
