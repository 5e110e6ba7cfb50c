"""The Frechet distance: its closed form on features whose means and covariances are known, and what it refuses."""

import pytest
import torch
from torch import Tensor

from situ.core.errors import SituError
from situ.metrics.frechet import frechet_distance


def whitened(n: int, f: int, seed: int) -> Tensor:
    """Features of exactly mean 0 and covariance 1."""
    x = torch.randn(n, f, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(dim=0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T


def test_a_shift_counts_squared() -> None:
    x, shift = whitened(50, 4, 0), torch.tensor([1.0, -2.0, 0.0, 2.0], dtype=torch.float64)
    assert frechet_distance(x, whitened(80, 4, 1) + shift) == pytest.approx(9.0, abs=1e-9)


def test_scales_count_by_the_difference_of_deviations() -> None:
    x, scale = whitened(50, 3, 0), torch.tensor([2.0, 1.0, 0.25], dtype=torch.float64)
    assert frechet_distance(x, whitened(70, 3, 1) * scale) == pytest.approx(1.0 + 0.5625, abs=1e-9)


def test_covariances_that_do_not_commute() -> None:
    a = torch.tensor([[2.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.0], [-1.0, 3.0]], dtype=torch.float64)
    product = (a @ a.T) @ (b @ b.T)  # tr of its root is the sum of the roots of its eigenvalues
    root = torch.linalg.eigvals(product).real.sqrt().sum()
    expected = float((a @ a.T).trace() + (b @ b.T).trace() - 2 * root)
    x, y = whitened(60, 2, 0) @ a.T, whitened(90, 2, 1) @ b.T
    assert frechet_distance(x, y) == pytest.approx(expected, abs=1e-9)
    assert frechet_distance(y, x) == pytest.approx(expected, abs=1e-9)


def test_nothing_is_nearer_than_itself() -> None:
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))  # fewer pictures than features
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(torch.ones(3, 2), torch.ones(4, 2)) == 0


@pytest.mark.usefixtures("unchecked")
def test_features_that_cannot_be_compared() -> None:
    x = torch.zeros(4, 3)
    for other, words in ((torch.zeros(4, 2), "one f"), (torch.zeros(1, 3), "two pictures"), (x / 0, "NaN")):
        with pytest.raises(SituError, match=words):
            frechet_distance(x, other)
