"""The rise of a probability, and Student's test, by hand."""

import math

import pytest
import torch

from situ.core.errors import SituError
from situ.core.measurement import EditedImages, Metric
from situ.metrics.improved_target import ImprovedTarget, paired_t_test
from toys import TILES
from toys_styles import BrightnessClassifier


def tiles(*means: float) -> torch.Tensor:
    """(1, 3, 4, 4): a grey for each tile."""
    grey = torch.tensor(means, dtype=torch.float32).reshape(1, 1, 2, 2)
    return grey.repeat_interleave(2, 2).repeat_interleave(2, 3).expand(-1, 3, -1, -1)


def test_it_is_the_rise_of_that_attribute_alone() -> None:
    before = torch.cat([tiles(0, 0, 0, 0), tiles(0.5, 0, 0, 0)])
    after = torch.cat([tiles(0, 0.5, 0, -1), tiles(0, -0.5, 0, 0)])
    edited = EditedImages(before, after, torch.ones(2, 1, 4, 4))
    adding = ImprovedTarget(BrightnessClassifier(), TILES[1])
    assert isinstance(adding, Metric)
    rise = 1 / (1 + math.exp(-3)) - 0.5
    assert adding(edited).tolist() == pytest.approx([rise, -rise])
    assert ImprovedTarget(BrightnessClassifier(), TILES[1], removed=True)(edited).tolist() == pytest.approx(
        [-rise, rise]
    )


def test_what_cannot_be_seen_does_not_count() -> None:
    edited = EditedImages(tiles(1, 1, 1, 1), tiles(5, 5, 5, 5), torch.ones(1, 1, 4, 4))
    assert ImprovedTarget(BrightnessClassifier(), TILES[0])(edited).tolist() == [0]


def test_an_unknown_attribute_is_said_at_once() -> None:
    with pytest.raises(SituError, match="moustache"):
        ImprovedTarget(BrightnessClassifier(), "moustache")


def test_a_paired_test_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3); with 2 degrees, t has a closed form."""
    result = paired_t_test(torch.tensor([2.0, 4, 6]), torch.tensor([1.0, 2, 3]))
    t = 2 * 3**0.5
    assert result.mean_difference == pytest.approx(2)
    assert result.t == pytest.approx(t)
    assert result.p == pytest.approx(1 - t / (2 + t**2) ** 0.5)
    quantile = 0.95 * (2 / (1 - 0.95**2)) ** 0.5
    assert result.interval == pytest.approx((2 - quantile / 3**0.5, 2 + quantile / 3**0.5))
    assert result.pairs == 3
    assert not result.significant()
    assert result.significant(0.1)
    other = paired_t_test(torch.tensor([1.0, 2, 3]), torch.tensor([2.0, 4, 6]), confidence=0.5)
    assert other.t == pytest.approx(-t)
    assert other.p == pytest.approx(result.p)
    assert other.interval[1] - other.interval[0] < result.interval[1] - result.interval[0]


def test_the_interval_excludes_zero_exactly_where_p_is_small(rng: torch.Generator) -> None:
    base = torch.randn(30, generator=rng)
    for shift in (0.0, 0.1, 0.3, 0.5, 1.0):
        result = paired_t_test(base + shift + torch.randn(30, generator=rng), base)
        low, high = result.interval
        assert result.significant() == (low > 0 or high < 0)


def test_pairs_without_a_score_are_left_out() -> None:
    nan = math.nan
    with_gaps = paired_t_test(torch.tensor([2.0, nan, 4, 6, 9]), torch.tensor([1.0, 5, 2, 3, nan]))
    assert with_gaps == paired_t_test(torch.tensor([2.0, 4, 6]), torch.tensor([1.0, 2, 3]))


def test_differences_without_spread() -> None:
    a = torch.tensor([0.1, 0.5, 0.7])
    same, apart = paired_t_test(a, a), paired_t_test(a, a + 0.1)
    assert (same.t, same.p, same.interval) == (0, 1, (0, 0))
    assert (apart.t, apart.p) == (-math.inf, 0)
    assert apart.interval == pytest.approx((-0.1, -0.1))


@pytest.mark.parametrize(
    ("a", "b", "confidence", "said"),
    [
        ([1.0], [2.0], 0.95, "1 pairs"),
        ([1.0, math.nan], [2.0, 3], 0.95, "1 pairs"),
        ([1.0, math.inf], [2.0, 3], 0.95, "finite"),
        ([1.0, 2], [2.0, 3, 4], 0.95, "one length"),
        ([1.0, 2], [2.0, 4], 1.0, "confidence"),
    ],
)
def test_what_does_not_fit_is_said(
    a: list[float], b: list[float], confidence: float, said: str, unchecked: None
) -> None:
    with pytest.raises(SituError, match=said):
        paired_t_test(torch.tensor(a), torch.tensor(b), confidence)
