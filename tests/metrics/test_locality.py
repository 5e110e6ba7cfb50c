"""Locality: where a change lies, by hand."""

import pytest
import torch

from situ.core.errors import SituError
from situ.core.measurement import EditedImages, Metric
from situ.metrics.locality import LOCALITY, ChangeInside, ChangeOutside, InsideShare, LocalizationScore


def run(localization: torch.Tensor | None = None) -> EditedImages:
    """5 x 5 pictures that change by 0.4 at the centre, 0.2 one pixel and 0.1 two pixels to the right of it."""
    after = torch.zeros(1, 3, 5, 5)
    after[:, :, 2, 2], after[:, :, 2, 3], after[:, :, 2, 4] = 0.4, 0.2, 0.1
    mask = torch.zeros(1, 1, 5, 5)
    mask[..., 2, 2] = 1
    return EditedImages(torch.zeros(1, 3, 5, 5), after, mask, localization)


@pytest.mark.parametrize(("dilation", "expected"), [(0, 0.16 / 0.21), (1, 0.20 / 0.21), (2, 1.0)])
def test_share_inside_the_dilated_region(dilation: int, expected: float) -> None:
    assert InsideShare(dilation)(run()).tolist() == pytest.approx([expected])


def test_mean_changes_inside_and_outside() -> None:
    assert ChangeInside()(run()).tolist() == pytest.approx([0.16])
    assert ChangeOutside()(run()).tolist() == pytest.approx([0.05 / 24])


def test_nothing_changed() -> None:
    still = EditedImages(run().before, run().before, run().mask)
    for metric in (InsideShare(), ChangeInside(), ChangeOutside()):
        assert metric(still).tolist() == [0]


def test_localization_is_the_mean_over_layers() -> None:
    assert LocalizationScore()(run(torch.tensor([[0.2], [0.6]]))).tolist() == pytest.approx([0.4])
    with pytest.raises(SituError, match="needs the generator's features: use"):
        LocalizationScore()(run())


def test_every_metric_says_its_unit_and_which_way_is_better() -> None:
    assert {m.name: (m.unit, m.better) for m in LOCALITY} == {
        "LS": ("share", "higher"),
        "inside": ("share", "higher"),
        "mse_inside": ("squared intensity", ""),
        "mse_outside": ("squared intensity", "lower"),
    }
    assert all(isinstance(metric, Metric) for metric in LOCALITY)
