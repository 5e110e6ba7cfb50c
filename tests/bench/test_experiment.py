"""What is kept of a run, what is refused, and what is written at its end."""

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from situ.bench.experiment import Cells, Claim, Outcome, Table, Told, write_outcome
from situ.bench.statistics import Interval
from situ.core.errors import SituError

SETTINGS = {"model": "tiles", "pictures": 8, "parts": ["hair"]}


def test_a_cell_is_computed_once(tmp_path: Path) -> None:
    made = []

    def make() -> list[float]:
        made.append(1)
        return [0.5, float("nan")]

    for _ in range(2):
        value = Cells(tmp_path, SETTINGS).value("lelsd hair: seed 0", make)
        assert value[0] == 0.5
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["lelsd_hair_seed_0.json"]


def test_an_interrupted_cell_leaves_nothing_and_the_finished_ones(tmp_path: Path) -> None:
    cells = Cells(tmp_path, SETTINGS)
    cells.value("first", lambda: 1)

    def stopped() -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cells.value("second", stopped)
    assert len(Cells(tmp_path, SETTINGS)) == 1


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    Cells(tmp_path, SETTINGS)
    with pytest.raises(SituError, match="pictures 8 there, 9 now") as refused:
        Cells(tmp_path, {**SETTINGS, "pictures": 9})
    assert "hair" not in str(refused.value), "what agrees is not named"
    with pytest.raises(SituError, match="quick None there, True now"):
        Cells(tmp_path, {**SETTINGS, "quick": True})


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    cells = Cells(tmp_path, SETTINGS)
    cells.value("one", lambda: 1)
    cells.path("one").write_text('{"half')
    with pytest.raises(SituError, match=r"one\.json cannot be read .* delete it"):
        cells.value("one", lambda: 1)


def test_tables_as_csv_spread_intervals() -> None:
    table = Table("t", "T", ("method", "share", "n"), (("a,b", Interval(0.5, 0.25, 0.75, 9), 3), ("c", None, None)))
    assert table.as_csv() == 'method,share,share (low),share (high),n\n"a,b",0.5,0.25,0.75,3\nc,,,,\n'
    with pytest.raises(SituError, match="3 cells, got 1"):
        Table("t", "T", ("method", "share", "n"), (("a",),))


def test_the_report_is_strict_and_says_how_it_was_made(tmp_path: Path) -> None:
    table = Table(
        "shares", "Shares", ("method", "share", "d"), (("a", Interval(1.0, float("nan"), 2.0, 1), float("inf")),)
    )
    printed = Table("published", "Printed", ("method", "FID"), (("a", 3.0),), "a paper, table 1")
    told = Told("b", "A bench", "Does it?", "situ bench b", SETTINGS, (printed,), 1.5, quick=True)
    claims = [Claim(f"It is {holds}", "a paper", holds, "1") for holds in (None, True, False)]
    outcome = Outcome([table], claims, {"curves": Figure()}, {"sheet": Image.new("RGB", (4, 4))}, ["a note"])
    write_outcome(tmp_path, told, outcome)
    report = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert report["tables"][0]["rows"] == [["a", {"mean": 1, "low": None, "high": 2, "n": 1}, None]]
    assert report["published"][0]["source"] == "a paper, table 1"
    assert [claim["verdict"] for claim in report["claims"]] == ["undecided", "holds", "does not hold"]
    assert report["command"] == "situ bench b"
    assert report["quick"] is True
    assert report["notes"] == ["a note"]
    assert {"cores", "torch", "date"} <= set(report["machine"])
    assert report["pictures"] == ["curves.png", "curves.svg", "sheet.png"]
    assert {path.name for path in tmp_path.iterdir()} == {*report["pictures"], "report.json", "shares.csv"}
