"""Benches on small models: run one, read its report."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from situ.bench.experiment import Cells
from situ.bench.run import Asked, Bench, Run, Size, run_bench
from situ.bench.searches import Searches
from situ.packs.pack import Pack


def silent(_: str) -> None:
    """Says nothing."""


def new_run(pack: Pack, size: Size, out: Path, quick: bool = False, say: Callable[[str], None] = silent) -> Run:
    """A run without a bench."""
    cells, searches = Cells(out / "b", {}), Searches(pack, pack.name, out / "searches", quick)
    return Run(pack, 0, size, quick, cells, searches, say, pack.name, out)


def ran(bench: Bench, pack: Pack, out: Path, size: Size, quick: bool = False) -> dict[str, Any]:
    """The report of a bench on a small model."""
    bench = replace(bench, full=size, quick=size)
    run_bench(bench, pack, Asked(pack.name, out, quick=quick), f"situ bench {bench.name}", silent)
    return json.loads((out / bench.name / "report.json").read_text())


def rows_of(report: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A table of a report, a row as a dictionary."""
    (table,) = [each for each in report["tables"] if each["name"] == name]
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def verdict_of(report: dict[str, Any], words: str) -> bool | None:
    """Of the claim that has these words."""
    (claim,) = [claim for claim in report["claims"] if words in claim["text"]]
    return claim["holds"]
