"""What is measured of an edit."""

import math

import pytest

from situ.bench.measures import leakage


def test_leakage_is_the_others_share_and_nothing_where_nothing_changed() -> None:
    found = leakage([1.0, 0.5, 0.0, 0.0], [0.0, 0.5, 0.25, 0.0])
    assert found[:3] == pytest.approx([0.0, 0.5, 1.0])
    assert math.isnan(found[3])
