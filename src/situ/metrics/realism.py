"""How realistic one picture is: whether it lies among the real ones, in the features of a frozen network.

Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models" (2019), section 5:

    R(g) = max_i r_i / |g - f_i|,    r_i the distance of the real feature f_i to its k-th nearest real neighbour,

over the half of the real features with the smallest r_i (which drops the outliers, whose balls are large and empty).
R >= 1 says that g lies inside such a ball. **This reports R itself.** The published code prints R squared, having
squared distances throughout: both are above 1 for the same pictures. The published features are VGG16's second fully
connected layer on 50,000 pictures; scores of other features, or of other numbers of pictures, do not compare.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.errors import SituError

TINY = 1e-5  # added to squared distances, as published


@dataclass(frozen=True)
class Realism:
    """The real pictures' features that count, and their radii; made by `fit_realism`."""

    centre: Float[Tensor, " f"]  # mean of all real features; distances are taken from here, where they round least
    real: Float[Tensor, "m f"]  # less the centre
    radii: Float[Tensor, " m"]  # distance to the k-th neighbour, among all real features

    def score(self, features: Float[Tensor, "n f"], block: int = 1024) -> Float[Tensor, " n"]:
        """R of each picture, from 0 on: 1 and above is realistic.

        Args:
            features: of pictures, from the network that gave the real ones.
            block: rows of one matrix of distances; bounds memory.

        Raises:
            SituError: features of another width, or not finite.
        """
        _require_features(features, self.real.shape[1])
        rows = (features.to(self.real) - self.centre).split(block)
        squares = self.radii.square()
        return torch.cat([(squares / (_squared_distances(r, self.real) + TINY)).amax(dim=1) for r in rows]).sqrt()


def fit_realism(features: Float[Tensor, "r f"], k: int = 3, block: int = 1024) -> Realism:
    """Learn what real pictures are like.

    Args:
        features: of real pictures.
        k: the neighbour that a radius reaches to, the picture itself not counted.
        block: rows of one matrix of distances; memory is block x r numbers.

    Raises:
        SituError: not more than k pictures, features that are not finite, k below 1.
    """
    if k < 1 or len(features) <= k:
        raise SituError(f"radii to neighbour k need k >= 1 and more than k real pictures, got k={k}, {len(features)}")
    _require_features(features, features.shape[1])
    features = features.detach().to(torch.promote_types(features.dtype, torch.float32))
    centre = features.mean(dim=0)
    real = features - centre
    parts = []
    for start in range(0, len(real), block):
        distances = _squared_distances(real[start : start + block], real)
        distances.diagonal(offset=start).fill_(torch.inf)  # itself
        parts.append(distances.kthvalue(k, dim=1).values)
    squares = torch.cat(parts)
    kept = squares <= squares.quantile(0.5)
    return Realism(centre, real[kept], squares[kept].sqrt())


def _require_features(features: Tensor, width: int) -> None:
    if features.ndim != 2 or features.shape[1] != width or not features.isfinite().all():
        raise SituError(
            f"features are (pictures, {width}) finite numbers, got {tuple(features.shape)}: check the network"
        )


def _squared_distances(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> Float[Tensor, "n m"]:
    squares = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    return torch.addmm(squares, a, b.mT, alpha=-2).clamp(min=0)
