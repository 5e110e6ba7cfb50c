"""Statistics of benches: means and paired differences over the same pictures, with bootstrap confidence intervals.

The unit is a picture: what was measured of one picture several times (both sides of an edit, several searches) is
averaged first, so that repeated looks at a picture do not count as independent ones.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, norm

from situ.core.errors import SituError

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0  # of the resampling, so that the same numbers give the same interval


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval that holds it with 95 % confidence; NaN bounds where one picture says nothing."""

    mean: float
    low: float
    high: float
    n: int  # pictures

    @property
    def above_zero(self) -> bool:
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        return self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"

    def described(self) -> dict[str, float | int | None]:
        """As JSON can hold it."""
        return {"mean": _or_none(self.mean), "low": _or_none(self.low), "high": _or_none(self.high), "n": self.n}


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def interval(values: Sequence[float], of: Callable[..., float] = np.mean) -> Interval:
    """A statistic of one number a picture, with its bootstrap interval (bias-corrected and accelerated).

    Pictures without a number (NaN) are left out.

    Raises:
        SituError: no picture has a number.
    """
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x)]
    if not len(x):
        raise SituError("an interval needs the number of one picture at least, got none: measure more pictures")
    return _bootstrapped(x, of)


def interval_or_none(values: Sequence[float]) -> Interval | None:
    """The interval of the mean; None where no picture has a number."""
    return interval(values) if np.isfinite(np.asarray(values, dtype=float)).any() else None


def verdict(intervals: Sequence[Interval]) -> bool | None:
    """Whether all lie above 0 (True), one lies below it (False), or neither can be said (None)."""
    if intervals and all(each.above_zero for each in intervals):
        return True
    return False if any(each.below_zero for each in intervals) else None


def paired(a: Sequence[float], b: Sequence[float]) -> Interval:
    """The mean of a - b over pictures that both were measured on.

    Raises:
        SituError: lists of unequal lengths.
    """
    if len(a) != len(b):
        raise SituError(f"paired numbers come in two lists of one length, got {len(a)} and {len(b)}")
    return interval((np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).tolist())


def over_pictures(n: int, statistic: Callable[[np.ndarray], float]) -> Interval:
    """A statistic of a set of pictures (a Frechet distance, say), resampled by their numbers 0 to n - 1.

    The interval is the estimate and 1.96 standard errors: such a statistic is biased for few pictures, and more so for
    resampled ones, which shifts percentiles and leaves the standard error.
    """

    def of(numbers: np.ndarray) -> float:
        return float(statistic(numbers.astype(int)))

    numbers = np.arange(n, dtype=float)
    centre = of(numbers)
    found = bootstrap(
        (numbers,), of, n_resamples=100, vectorized=False, method="percentile", rng=np.random.default_rng(SEED)
    )
    margin = float(norm.ppf(0.5 + CONFIDENCE / 2) * found.standard_error)
    return Interval(centre, centre - margin, centre + margin, n)


def _bootstrapped(x: np.ndarray, of: Callable[..., float]) -> Interval:
    centre = float(of(x))
    if len(x) < 2:
        return Interval(centre, math.nan, math.nan, len(x))
    if float(np.ptp(x)) <= 1e-12 * max(1.0, float(np.abs(x).max())):  # all alike: nothing to resample
        return Interval(centre, centre, centre, len(x))
    found = bootstrap(
        (x,), of, n_resamples=RESAMPLES, vectorized=of is np.mean, confidence_level=CONFIDENCE, method="BCa",
        rng=np.random.default_rng(SEED),
    )  # fmt: skip
    low, high = (float(bound) for bound in found.confidence_interval)
    return Interval(centre, low, high, len(x))
