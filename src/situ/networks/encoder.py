"""The encoders of e4e and pSp: a photo, aligned as the generator learnt it -> a code of W+.

Tov et al., "Designing an encoder for StyleGAN image manipulation" (e4e, 2021); Richardson et al., "Encoding in style"
(pSp, 2021). Both read a pyramid of features, each row of W+ from one level by a head of its own; in e4e the first row's
vector is that of all rows, and the other heads give what theirs deviate by.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.core.errors import ModelError
from situ.networks.arcface import ImprovedResidualTrunk
from situ.networks.inputs import InputFormat
from situ.networks.weights import depth, filled, length

_NAME = "e4e or pSp (IR-SE-50)"
_DEPTHS, _WIDTHS = (3, 4, 14, 3), (64, 128, 256, 512)
_COARSE, _MIDDLE = 3, 7  # rows below read the smallest map, rows below the next, the others the largest
_SLOPE = 0.01  # of the heads' leaky ReLU


class _ScaledLinear(nn.Linear):
    """A linear layer whose stored weights have unit variance."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight * self.in_features**-0.5, self.bias)


class _StyleHead(nn.Module):
    """A map of 2^halvings pixels -> a vector."""

    def __init__(self, inputs: int, w_dim: int, halvings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(halvings):
            layers += [nn.Conv2d(w_dim if i else inputs, w_dim, 3, 2, padding=1), nn.LeakyReLU(_SLOPE)]
        self.convs = nn.Sequential(*layers)
        self.linear = _ScaledLinear(w_dim, w_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


class Encoder4Editing(ImprovedResidualTrunk):
    """Pictures in [-1, 1] -> codes of W+; the parameter names are the published ones."""

    latent_avg: Tensor

    def __init__(
        self,
        rows: int = 18,
        w_dim: int = 512,
        stem: int = _WIDTHS[0],
        widths: Sequence[int] = tuple(w for w, d in zip(_WIDTHS, _DEPTHS, strict=True) for _ in range(d)),
        squeezed: Sequence[int] | None = None,
        halvings: int = 4,
        shared: bool = True,
        portrait: float = 1.0,
    ) -> None:
        """
        Args:
            rows: of W+.
            halvings: convolutions of the heads that read the smallest map.
            shared: the first row's vector is added to the others (e4e), or not (pSp).
            portrait: height over width of what the encoder looks at; of higher pictures, the middle.

        Raises:
            ModelError: fewer than three widths, of which the pyramid is made.
        """
        super().__init__(stem, widths, squeezed or tuple(width // 16 for width in widths))
        ends = [i for i in range(len(widths)) if i + 1 == len(widths) or widths[i + 1] != widths[i]]
        if len(ends) < 3:
            raise ModelError(f"the blocks of {_NAME} have three widths or more, here {len(ends)}")
        self.ends = ends[-3:]
        fine, middle, coarse = (widths[i] for i in self.ends)
        self.styles = nn.ModuleList(
            _StyleHead(coarse, w_dim, halvings + (row >= _COARSE) + (row >= _MIDDLE)) for row in range(rows)
        )
        self.latlayer1 = nn.Conv2d(middle, coarse, 1)
        self.latlayer2 = nn.Conv2d(fine, coarse, 1)
        self.shared, self.portrait = shared, portrait
        side = 2 ** (halvings + sum(block.res_layer[3].stride[0] > 1 for block in self.body))  # pyright: ignore
        self.input = InputFormat(size=(round(side * portrait), side))  # RGB in [-1, 1]
        # not in the encoder's own state dict: it stands beside it in the file
        self.register_buffer("latent_avg", torch.zeros(rows, w_dim), persistent=False)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n rows d"]:
        """Codes of pictures of any size, aligned as the encoder learnt them; differentiable."""
        x = self.input_layer(self.input.prepare(self._middle(images)))
        maps = []
        for i, block in enumerate(self.body):
            x = block(x)
            if i in self.ends:
                maps.append(x)
        fine, middle, coarse = maps
        middle = _enlarged(coarse, middle) + self.latlayer1(middle)
        fine = middle if len(self.styles) <= _MIDDLE else _enlarged(middle, fine) + self.latlayer2(fine)
        levels = [coarse] * _COARSE + [middle] * (_MIDDLE - _COARSE) + [fine] * len(self.styles)
        found = torch.stack([head(level) for head, level in zip(self.styles, levels, strict=False)], dim=1)
        if self.shared:
            found = torch.cat([found[:, :1], found[:, :1] + found[:, 1:]], dim=1)
        return self.latent_avg + found

    def _middle(self, images: Tensor) -> Tensor:
        """Rows in the middle, as many as the encoder's shape has of that width: a square generator of wide pictures
        has bars above and below."""
        rows = min(round(images.shape[-1] * self.portrait), images.shape[-2])
        top = (images.shape[-2] - rows) // 2
        return images[..., top : top + rows, :]


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)


def encoder_from_state_dict(
    tensors: Mapping[str, Tensor],
    latent_avg: Float[Tensor, "r d"] | None = None,
    shared: bool = True,
    portrait: float = 1.0,
) -> Encoder4Editing:
    """An encoder of the sizes that the tensors have, frozen.

    Args:
        tensors: without the prefix "encoder.".
        latent_avg: added to the codes; one row, or one for each. None adds nothing.
        shared, portrait: see `Encoder4Editing`; files of both kinds have the same names and shapes.

    Raises:
        ModelError: tensors of something else, or a mean of another size.
    """
    blocks = [f"body.{i}.res_layer" for i in range(depth(tensors, "body.", _NAME))]
    halvings = 0
    while f"styles.0.convs.{2 * halvings}.weight" in tensors:
        halvings += 1
    rows, w_dim = depth(tensors, "styles.", _NAME), length(tensors, "styles.0.linear.weight", _NAME)
    with torch.device("meta"):  # no memory for sizes that a file only claims
        network = Encoder4Editing(
            rows,
            w_dim,
            length(tensors, "input_layer.0.weight", _NAME),
            [length(tensors, f"{block}.1.weight", _NAME) for block in blocks],
            [length(tensors, f"{block}.5.fc1.weight", _NAME) for block in blocks],
            halvings,
            shared,
            portrait,
        )
    mean = torch.zeros(rows, w_dim) if latent_avg is None else latent_avg.detach().float()
    if mean.shape not in ((1, w_dim), (rows, w_dim)):
        raise ModelError(f"the mean code of {_NAME} has {rows} x {w_dim} numbers, or one row of them; got {mean.shape}")
    filled(network, tensors, _NAME)  # only looks at names and shapes: there is no memory to fill yet
    network = filled(network.to_empty(device="cpu"), tensors, _NAME)
    network.latent_avg = mean.expand(rows, w_dim).clone()
    return network
