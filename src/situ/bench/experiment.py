"""What a bench is: cells computed one by one and kept, tables beside the published ones, claims that hold or do not.

A run folder holds `settings.json`, a JSON for every cell (written whole, so that an interrupted run goes on), and at
the end `report.json`, a CSV for every table, and PNG and SVG of the figures. A folder made with other settings is
refused.
"""

import csv
import io
import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import scipy
import torch
from filelock import FileLock
from matplotlib.figure import Figure
from PIL import Image

from situ.bench.statistics import Interval
from situ.core.errors import SituError
from situ.core.files import write_whole
from situ.figures.plots import save_figure
from situ.figures.sheets import save_page

Value = str | float | int | bool | None | Interval


@dataclass(frozen=True)
class Table:
    """Rows under columns. A published table says where it was printed."""

    name: str  # of its file
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    source: str = ""  # paper, table or figure
    note: str = ""

    def __post_init__(self) -> None:
        bad = [row for row in self.rows if len(row) != len(self.columns)]
        if bad:
            raise SituError(f"rows of {self.name} have {len(self.columns)} cells, got {len(bad[0])}: {bad[0]}")

    def described(self) -> dict[str, object]:
        """As JSON can hold it."""
        rows = [[_plain(value) for value in row] for row in self.rows]
        told = {"name": self.name, "title": self.title, "source": self.source, "note": self.note}
        return {**told, "columns": list(self.columns), "rows": rows}

    def as_csv(self) -> str:
        """Comma-separated; an interval becomes three columns."""
        wide = [any(isinstance(row[i], Interval) for row in self.rows) for i in range(len(self.columns))]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        head = [[c, f"{c} (low)", f"{c} (high)"] if w else [c] for c, w in zip(self.columns, wide, strict=True)]
        writer.writerow([cell for cells in head for cell in cells])
        for row in self.rows:
            cells: list[object] = []
            for value, w in zip(row, wide, strict=True):
                bounds = (value.mean, value.low, value.high) if isinstance(value, Interval) else (value, "", "")
                cells += bounds if w else (value,)
            writer.writerow(["" if cell is None else cell for cell in cells])
        return text.getvalue()


def _plain(value: Value) -> object:
    if isinstance(value, Interval):
        return value.described()
    if isinstance(value, float):
        return value if numpy.isfinite(value) else None
    return value


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper, and what the measurement says of it."""

    text: str
    source: str
    holds: bool | None  # None: the measurement does not decide it
    test: str  # the test, and its numbers

    @property
    def verdict(self) -> str:
        return {True: "holds", False: "does not hold", None: "undecided"}[self.holds]


@dataclass(frozen=True)
class Outcome:
    """What a bench found."""

    tables: Sequence[Table]
    claims: Sequence[Claim] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    sheets: Mapping[str, Image.Image] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Cells:
    """A folder of results, one JSON a cell. Several processes may work in it: each cell is made once."""

    def __init__(
        self, folder: Path, settings: Mapping[str, object], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """
        Args:
            stopped: whether Ctrl-C was pressed, so that what was made is not whole.

        Raises:
            SituError: the folder was made with other settings, or its cells cannot be read. FileError: not writable.
        """
        self.folder, self.stopped = folder / "cells", stopped
        path = folder / "settings.json"
        given = json.loads(json.dumps(settings))
        if path.exists():
            kept = _read(path)
            changed = [key for key in sorted({*kept, *given}) if kept.get(key) != given.get(key)]
            if changed:
                words = ", ".join(f"{key} {kept.get(key)} there, {given.get(key)} now" for key in changed)
                raise SituError(f"{folder} was made with other settings ({words}): choose another folder with -o")
        else:
            text = json.dumps(given, indent=2)
            write_whole(path, lambda place: place.write_text(text))

    def path(self, name: str, suffix: str = ".json") -> Path:
        """Where a cell is kept."""
        return self.folder / f"{re.sub(r'[^A-Za-z0-9_.+-]+', '_', name)}{suffix}"

    def value(self, name: str, make: Callable[[], object]) -> Any:
        """The cell of this name, computed now if it is not there."""
        path = self.path(name)
        if path.exists():
            return _read(path)
        locks = self.folder.parent / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / path.name):  # another process that makes it now is waited for
            if not path.exists():
                text = json.dumps(make())
                if self.stopped():
                    raise KeyboardInterrupt
                write_whole(path, lambda place: place.write_text(text))
        return _read(path)

    def __len__(self) -> int:
        return len(list(self.folder.glob("*.json")))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SituError(f"{path} cannot be read ({error}): delete it, and it is computed again") from None


def machine() -> dict[str, object]:
    """What figures of time depend on."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }


@dataclass(frozen=True)
class Told:
    """What the report says of the run itself."""

    name: str
    title: str
    question: str
    command: str  # that makes it again
    settings: Mapping[str, object]
    published: Sequence[Table]
    seconds: float  # of this run; of one that went on, since it went on
    quick: bool


def write_outcome(folder: Path, told: Told, outcome: Outcome) -> dict[str, object]:
    """Write the report, the tables and the pictures; the report is what `--json` prints."""
    pictures: list[str] = []
    for name, figure in outcome.figures.items():
        pictures += [path.name for path in save_figure(figure, folder, name)]
    for name, page in outcome.sheets.items():
        save_page(page, folder / f"{name}.png")
        pictures.append(f"{name}.png")
    for table in outcome.tables:
        write_whole(folder / f"{table.name}.csv", lambda place, table=table: place.write_text(table.as_csv()))
    report: dict[str, object] = {
        "bench": told.name,
        "title": told.title,
        "question": told.question,
        "quick": told.quick,
        "command": told.command,
        "settings": dict(told.settings),
        "machine": machine(),
        "seconds": told.seconds,
        "claims": [
            {"text": c.text, "source": c.source, "verdict": c.verdict, "holds": c.holds, "test": c.test}
            for c in outcome.claims
        ],
        "tables": [table.described() for table in outcome.tables],
        "published": [table.described() for table in told.published],
        "pictures": pictures,
        "notes": list(outcome.notes),
    }
    text = json.dumps(report, indent=2, allow_nan=False)
    write_whole(folder / "report.json", lambda place: place.write_text(text))
    return report
