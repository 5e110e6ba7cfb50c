"""What a verb prints: tables and progress for people, JSON for machines."""

import json
import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from situ.core.direction import Direction
from situ.core.progress import Progress
from situ.core.ranks import own_rank

WIDE = 200  # columns where nobody sees the edge: in a file or a pipe

console = Console(width=None if sys.stdout.isatty() else WIDE)
messages = Console(stderr=True, quiet=own_rank() > 0)  # several processes speak once


def finite(value: object) -> object:
    """A value as strict JSON can hold it: NaN and infinity become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def emit_json(value: object) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(finite(value), indent=2, allow_nan=False))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; numbers with three figures."""
    drawn = Table(title=escape(title), title_justify="left")
    for i, column in enumerate(columns):
        drawn.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*[f"{cell:.3g}" if isinstance(cell, float) else escape(str(cell)) for cell in row])
    console.print(drawn)


def say(text: str) -> None:
    """Tell a person something, apart from the results."""
    messages.print(text, highlight=False, markup=False, soft_wrap=True)


def command_line() -> str:
    """The command that is running, as a person would type it again."""
    return shlex.join(["situ", *sys.argv[1:]])


def tell_failures(failed: Mapping[str, str]) -> None:
    """Name what could not be used and why, and end with exit code 1 where there is any."""
    for name, reason in failed.items():
        say(f"{name}: {reason}")
    if failed:
        raise typer.Exit(1)


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A bar on standard error, fed by what it yields."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task(title, note="")

        def advance(done: int | float, total: int, message: str = "") -> None:
            bar.update(task, completed=done, total=total, note=message)

        yield advance


def describe(direction: Direction) -> dict[str, object]:
    """Everything but its numbers, as JSON can hold it."""
    return {
        "name": direction.name,
        "region": direction.region,
        "subspace": str(direction.subspace),
        "numbers": direction.subspace.dim,
        "generator": direction.generator,
        "found_by": direction.found_by,
        "raw_alpha_per_unit": direction.unit,
        "region_gain": direction.score,
        "figures": dict(direction.figures),
        "truncation": direction.truncation,
        "seed": direction.seed,
        "licence": direction.licence,
    }
