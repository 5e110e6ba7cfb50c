"""The Frechet distance between two sets of pictures, in the features of a given network.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (2017):

    d^2 = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)),

with m and C the means and covariances of the features. With Inception's pool features this is FID. With other features
it is another number, and must be named after them: the values do not compare.
"""

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh, eigvalsh
from torch import Tensor

from situ.core.errors import SituError


def frechet_distance(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> float:
    """d^2 between the features of two sets of pictures, from 0 on; biased upwards for few pictures.

    Raises:
        SituError: fewer than two pictures on a side, features of different widths, or not finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise SituError(f"features come as (pictures, f) with one f, got {tuple(a.shape)} and {tuple(b.shape)}")
    if min(len(a), len(b)) < 2:
        raise SituError(f"a covariance needs two pictures or more, got {len(a)} and {len(b)}")
    x, y = (side.detach().cpu().double().numpy() for side in (a, b))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise SituError("features to compare hold NaN or infinity: check the network and the pictures")
    c1, c2 = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    # tr (C1 C2)^(1/2) = tr (R C2 R)^(1/2) with R = C1^(1/2): symmetric, so that its eigenvalues are real
    values, vectors = eigh(c1)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    product = eigvalsh(root @ c2 @ root)
    mean = float(np.square(x.mean(axis=0) - y.mean(axis=0)).sum())
    return max(0.0, mean + float(np.trace(c1) + np.trace(c2) - 2 * np.sqrt(product.clip(min=0)).sum()))
