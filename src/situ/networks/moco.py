"""MoCo v2's ResNet-50: how alike two pictures of anything are, learnt without labels.

Chen et al., "Improved baselines with momentum contrastive learning" (2020). The published encoders of pictures other
than faces measure similarity with it, on pictures in [-1, 1] without ImageNet's normalisation (which the network learnt
with); that is followed here.
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.networks.inputs import InputFormat
from situ.networks.resnet import ResNet, ResNetSettings, resnet_settings
from situ.networks.weights import filled, without_prefix

_NAME = "MoCo v2 (ResNet-50)"
_QUERY = "encoder_q."  # the trained encoder; its momentum copy and the queue are of training


class MoCo(nn.Module):
    """Pictures -> unit vectors; their dot product is the similarity of two pictures."""

    input = InputFormat(size=224)  # resized by nearest neighbours, see `resize`; RGB in [-1, 1]

    def __init__(self, settings: ResNetSettings | None = None) -> None:
        super().__init__()
        self.trunk = ResNet(settings or ResNetSettings())

    def resize(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 s s"]:
        """To a square by nearest neighbours, as the published loss does."""
        return functional.interpolate(images, self.input.size, mode="nearest")

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Unit vectors of pictures in [-1, 1] at the network's size; differentiable."""
        return functional.normalize(self.trunk(x)[-1].mean(dim=(2, 3)), dim=1)

    def embed(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Unit vectors of pictures in [-1, 1], of any size; differentiable."""
        return self(self.resize(images))


def moco_from_state_dict(tensors: Mapping[str, Tensor]) -> MoCo:
    """An encoder from MoCo's own names ("module.encoder_q.conv1.weight") or a plain ResNet's.

    Raises:
        ModelError: tensors of something else.
    """
    trunk = without_prefix(tensors, f"module.{_QUERY}") or without_prefix(tensors, _QUERY) or dict(tensors)
    network = MoCo(resnet_settings(trunk, _NAME))
    filled(network.trunk, trunk, _NAME, unused=("fc.",))
    return network.eval()
