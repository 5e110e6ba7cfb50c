"""ArcFace: who is on an aligned picture of a face, as a unit vector.

Deng et al., "ArcFace: additive angular margin loss for deep face recognition" (2019), with the improved residual
network with squeeze and excitation (IR-SE-50) by which the published encoders and editors measure identity.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.core.errors import ModelError
from situ.core.images import resize
from situ.networks.inputs import InputFormat
from situ.networks.weights import depth, filled, length

_NAME = "ArcFace (IR-SE-50)"
_DEPTHS, _WIDTHS = (3, 4, 14, 3), (64, 128, 256, 512)

ALIGNED = 256  # pixels of the aligned picture that the crop is given for
CROP = (slice(35, 223), slice(32, 220))  # rows and columns of it that the published editors look at


class _Squeeze(nn.Module):
    """Squeeze and excitation: channels are weighed by their means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.fc2 = nn.Conv2d(squeezed, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(functional.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))))


class ImprovedResidualBlock(nn.Module):
    """Normalisation first, PReLU between the convolutions, squeeze and excitation last."""

    def __init__(self, inputs: int, outputs: int, stride: int, squeezed: int) -> None:
        super().__init__()
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            _Squeeze(outputs, squeezed),
        )
        if inputs == outputs:
            self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class ImprovedResidualTrunk(nn.Module):
    """`input_layer` and `body`: what the identity network and the published encoders of faces share."""

    def __init__(self, stem: int, widths: Sequence[int], squeezed: Sequence[int]) -> None:
        """
        Args:
            stem: channels of the first convolution.
            widths: channels of every block; the size is halved by the first and wherever they change.
            squeezed: channels inside the squeeze and excitation of every block.
        """
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.PReLU(stem)
        )
        blocks = []
        for i, (before, width, inner) in enumerate(zip((stem, *widths[:-1]), widths, squeezed, strict=True)):
            blocks.append(ImprovedResidualBlock(before, width, 2 if i == 0 or width != before else 1, inner))
        self.body = nn.Sequential(*blocks)


class ArcFace(ImprovedResidualTrunk):
    """Aligned faces -> unit vectors; their dot product is the similarity of two faces."""

    input = InputFormat(size=112)  # RGB in [-1, 1], which is what (x - 0.5) / 0.5 of [0, 1] is

    def __init__(
        self,
        stem: int = _WIDTHS[0],
        widths: Sequence[int] = tuple(w for w, d in zip(_WIDTHS, _DEPTHS, strict=True) for _ in range(d)),
        squeezed: Sequence[int] | None = None,
        size: int = 112,
        dim: int = 512,
    ) -> None:
        """
        Args:
            size: pixels on a side of the cropped face.
            dim: length of the vectors.
        """
        super().__init__(stem, widths, squeezed or tuple(width // 16 for width in widths))
        self.size = size
        for block in self.body:
            size = -(-size // block.get_submodule("res_layer.3").stride[0])  # pyright: ignore
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(widths[-1]),
            nn.Dropout(),
            nn.Flatten(),
            nn.Linear(widths[-1] * size * size, dim),
            nn.BatchNorm1d(dim),
        )

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n d"]:
        """Unit vectors of faces in [-1, 1] that are cropped as the network learnt them (112 x 112); differentiable."""
        return functional.normalize(self.output_layer(self.body(self.input_layer(x))), dim=1)

    def crop(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 s s"]:
        """The face of aligned pictures (as FFHQ's are), as the published editors cut it out."""
        rows, columns = CROP
        return functional.adaptive_avg_pool2d(resize(images, ALIGNED)[..., rows, columns], self.size)

    def embed(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Unit vectors of aligned pictures in [-1, 1], of any size; differentiable."""
        return self(self.crop(images))


def arcface_from_state_dict(tensors: Mapping[str, Tensor]) -> ArcFace:
    """An identity network of the sizes that the tensors have. Raises ModelError for tensors of something else."""
    blocks = [f"body.{i}.res_layer" for i in range(depth(tensors, "body.", _NAME))]
    widths = [length(tensors, f"{block}.1.weight", _NAME) for block in blocks]
    stem = length(tensors, "input_layer.0.weight", _NAME)
    cells = length(tensors, "output_layer.3.weight", _NAME, axis=1) / widths[-1]
    halvings = 1 + sum(a != b for a, b in zip([stem, *widths[1:-1]], widths[1:], strict=True)) if widths[1:] else 1
    side = round(cells**0.5)
    if side * side != cells:
        raise ModelError(f"weights of {_NAME} end on a square map, here it has {cells:g} places: expected another file")
    network = ArcFace(
        stem,
        widths,
        [length(tensors, f"{block}.5.fc1.weight", _NAME) for block in blocks],
        side << halvings,
        length(tensors, "output_layer.3.weight", _NAME),
    )
    return filled(network, tensors, _NAME)
