"""How the rows of MAGEC's tables are compared: the same photos in pairs, with intervals and the paper's own t-test."""

from collections.abc import Mapping, Sequence

import torch

from situ.bench.experiment import Claim, Table, Value
from situ.bench.magec_inversions import (
    FULL,
    IMAGE2STYLEGAN,
    PUBLISHED,
    REFINED,
    REFINED_WITHOUT,
    WITHOUT,
)
from situ.bench.statistics import Interval, interval_or_none, paired, verdict
from situ.core.errors import SituError
from situ.figures.plots import Bars
from situ.metrics.improved_target import paired_t_test

Figures = Mapping[str, Mapping[str, Sequence[float]]]  # row -> figure -> a number for each photo

PAIRS = ((FULL, WITHOUT), (FULL, PUBLISHED), (FULL, IMAGE2STYLEGAN), (REFINED, REFINED_WITHOUT))
HERE = "here, from the encoder's codes"  # what is claimed of methods that the paper does not have


def differences(figures: Figures) -> Table:
    """Every figure of a row less that of its rivals, with Student's paired t-test as in the paper."""
    rows: list[tuple[Value, ...]] = []
    for ours, theirs in PAIRS:
        if ours in figures and theirs in figures:
            for name in [name for name in figures[ours] if name in figures[theirs]]:
                a, b = figures[ours][name], figures[theirs][name]
                if (found := _paired(a, b)) is not None:
                    rows.append((ours, theirs, name, found, p_value(a, b)))
    note = (
        "Mean difference over the same photos with its 95 % bootstrap interval, and p of Student's paired t-test, as "
        "the paper has it; neither is corrected for their number."
    )
    return Table("tests", "Paired differences", ("row", "less", "figure", "difference", "p"), tuple(rows), note=note)


def _paired(a: Sequence[float], b: Sequence[float]) -> Interval | None:
    """The mean difference; None where no photo has both numbers."""
    return paired(a, b) if interval_or_none([x - y for x, y in zip(a, b, strict=True)]) else None


def p_value(a: Sequence[float], b: Sequence[float]) -> float | None:
    """p of the paired t-test; None where there are too few pairs."""
    try:
        return paired_t_test(torch.tensor(a), torch.tensor(b)).p
    except SituError:
        return None


def claim(
    text: str,
    source: str,
    figures: Figures,
    pair: tuple[str, str],
    names: Sequence[str],
    higher: bool,
    slack: float = 0.0,
) -> list[Claim]:
    """A claim that one row is better than another in every figure named; none where the run has not both rows.

    Args:
        pair: the row that is said to be better, and the other.
        higher: whether a high number is the better one.
        slack: share of the other row's number by which the first may be worse; for rows that are said to be on a par.
    """
    ours, theirs = pair
    tests = []
    for name in names:
        a, b = (figures.get(row, {}).get(name) for row in pair)
        if a is not None and b is not None:
            allowed = [y * (1 - slack if higher else 1 + slack) for y in b]
            found = _paired(a, allowed) if higher else _paired(allowed, a)
            if found is not None:
                tests.append((name, found, p_value(a, b)))
    if not tests:
        return []
    words = "; ".join(f"{name}: {found}" + ("" if p is None or slack else f", p {p:.1g}") for name, found, p in tests)
    than = f" though it may be worse by {slack:.0%}," if slack else ""
    test = f"paired difference,{than} {ours} better than {theirs} where above 0; {words}"
    return [Claim(text, source, verdict([found for _, found, _ in tests]), test)]


def bars(figures: Figures, name: str, title: str, x: str, marks: Mapping[str, float] | None = None) -> list[Bars]:
    """One figure of all rows, as a list of one group; empty where no row has it."""
    kept = [(row, found) for row, each in figures.items() if (found := interval_or_none(each.get(name, [])))]
    if not kept:
        return []
    points = [found for _, found in kept]
    return [Bars(title, x, [row for row, _ in kept], [p.mean for p in points], [p.low for p in points],
                 [p.high for p in points], marks or {})]  # fmt: skip


def means(figures: Figures, names: Sequence[str]) -> list[list[Value]]:
    """A row of intervals for every row."""
    return [[interval_or_none(each.get(name, [])) for name in names] for each in figures.values()]
