"""Changes of factors, by hand."""

import pytest
import torch

from situ.core.measurement import EditedImages, Metric
from situ.metrics.attributes import FactorChange, factor_changes


def change(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """The factors of a picture are its mean red, green and blue."""
    return (after - before).mean(dim=(2, 3))


def run() -> EditedImages:
    before = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]])[:, :, None, None].expand(-1, -1, 2, 2)
    after = torch.tensor([[0.4, 0.1, 0.3], [0.4, 0.5, 0.9]])[:, :, None, None].expand(-1, -1, 2, 2)
    return EditedImages(before, after, torch.ones(2, 1, 2, 2))


@pytest.mark.parametrize(
    ("factors", "expected"), [((0,), [0.3, 0.1]), ((0, 1), [0.2, 0.05]), ((0, 1, 2), [0.4 / 3, 0.5 / 3])]
)
def test_mean_absolute_change_of_the_factors(factors: tuple[int, ...], expected: list[float]) -> None:
    metric = FactorChange("target", change, factors)
    assert metric(run()).tolist() == pytest.approx(expected, abs=1e-6)
    assert isinstance(metric, Metric)


def test_mean_signed_changes_by_name() -> None:
    found = factor_changes(change, ["red", "green", "blue"], run())
    assert found == pytest.approx({"red": 0.1, "green": -0.05, "blue": 0.2}, abs=1e-6)
