"""Intervals: that they hold the truth as often as they say, and what they do with too little."""

import math

import numpy as np
import pytest

from situ.bench.statistics import Interval, interval, interval_or_none, over_pictures, paired, verdict
from situ.core.errors import SituError


def test_intervals_hold_the_true_mean_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    found = [interval(rng.normal(2.0, 1.0, 30).tolist()) for _ in range(100)]
    held = sum(each.low <= 2.0 <= each.high for each in found)
    assert 88 <= held <= 99
    assert all(each.low < each.mean < each.high and each.n == 30 for each in found)
    widths = [each.high - each.low for each in found]
    assert np.mean(widths) == pytest.approx(2 * 1.96 / math.sqrt(30), rel=0.15)


def test_pairs_find_what_their_spread_would_hide() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.normal(0, 10, 40)
    a, b = (pictures + rng.normal(0.5, 0.5, 40)).tolist(), pictures.tolist()
    assert paired(a, b).above_zero
    assert paired(b, a).below_zero
    unpaired = interval(a), interval(b)
    assert unpaired[0].low < unpaired[1].high, "side by side they overlap"


def test_pictures_without_a_number_are_left_out() -> None:
    assert interval([1.0, math.nan, 3.0, math.inf]).n == 2
    assert paired([1.0, math.nan, 3.0, 4.0], [0.0, 1.0, math.nan, 2.0]).mean == 1.5
    assert interval_or_none([math.nan]) is None
    with pytest.raises(SituError, match="got none"):
        interval([math.nan])
    with pytest.raises(SituError, match="2 and 3"):
        paired([1.0, 2.0], [1.0, 2.0, 3.0])


def test_the_same_numbers_give_the_same_interval() -> None:
    values = np.random.default_rng(3).normal(size=20).tolist()
    assert interval(values) == interval(values)


def test_too_little_to_say() -> None:
    one, same = interval([3.0]), interval([2.0, 2.0, 2.0])
    assert one.mean == 3.0
    assert math.isnan(one.low)
    assert not one.above_zero
    assert one.described()["low"] is None
    assert (same.low, same.high) == (2.0, 2.0)


def test_verdicts() -> None:
    above, below, across = Interval(1.0, 0.5, 1.5, 9), Interval(-1.0, -1.5, -0.5, 9), Interval(0.0, -1.0, 1.0, 9)
    assert verdict([above, above]) is True
    assert verdict([above, below]) is False
    assert verdict([above, across]) is None
    assert verdict([across, below]) is False
    assert verdict([]) is None
    hardly = Interval(-0.5, -1.0, 0.1, 9)
    assert not hardly.below_zero, "the whole interval counts, not the mean"
    assert verdict([hardly]) is None


def test_a_statistic_of_sets_has_the_standard_error_around_it() -> None:
    values = np.random.default_rng(0).normal(5, 2, 100)
    found = over_pictures(100, lambda numbers: float(values[numbers].mean()))
    assert found.mean == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 2 / 10, rel=0.25)
