"""Runs: the same work in this process, on workers of this machine, or on a cluster, through Ray.

Whichever way, items come in the same batches with the same seeds, a finished item is kept at once, one that fails is
named, and the same command goes on with what is missing.
"""

import signal
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from situ.core.errors import SituError
from situ.core.progress import Progress, silent
from situ.runs.folder import RunFolder
from situ.runs.work import Item, Opened, Report, Work
from situ.runs.worker import Worker


@dataclass(frozen=True)
class Batch:
    """Items that share the passes, and which of them are missing."""

    items: tuple[Item, ...]
    missing: frozenset[str]


@runtime_checkable
class Way(Protocol):
    """Where work is done."""

    def reports(
        self, work: Work, folder: RunFolder, batches: Sequence[Batch], progress: Progress, say: Callable[[str], None]
    ) -> Iterator[list[Report]]:
        """What became of each batch, as they finish."""
        ...


@dataclass
class Outcome:
    """What a run leaves: results and reasons by the names of the items."""

    results: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    partial: dict[str, Any] = field(default_factory=dict)  # what Ctrl-C cut short, where that is kept
    stopped: bool = False  # by Ctrl-C


def run_work(
    work: Work,
    items: Sequence[Item],
    folder: RunFolder,
    way: Way,
    command: str,
    *,
    anew: bool = False,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Do what is missing of the items. Ctrl-C keeps what is finished.

    Args:
        command: that makes the run again, for the record.
        anew: forget what is finished.
        progress: in items.

    Raises:
        SituError: see `RunFolder.begun`; the work cannot be opened, nothing can be written, or two items of one name.
    """
    names = [item.name for item in items]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise SituError(f"items of a run have names of their own, got twice: {', '.join(twice)}")
    outcome = Outcome()
    with folder.begun(work, items, command, anew):
        outcome.results = dict(folder.finished(items))
        missing = frozenset(names) - set(outcome.results)
        parts = [tuple(items[i : i + work.together]) for i in range(0, len(items), work.together)]
        batches = [Batch(part, own) for part in parts if (own := missing & {item.name for item in part})]

        finished = 0

        def advance(done: int | float, total: int = 0, message: str = "") -> None:
            progress(len(items) - len(missing) + finished + done, len(items), message)

        if batches:
            advance(0)
        try:
            ongoing = way.reports(work, folder, batches, advance, say)
            for reports in ongoing:
                _settle(reports, outcome, folder)
                finished += len(reports)
                advance(0)
        except KeyboardInterrupt as stop:
            _settle(stop.args[0] if stop.args else [], outcome, folder)
            outcome.stopped = True
    outcome.results = {name: outcome.results[name] for name in names if name in outcome.results}
    return outcome


def _settle(reports: Sequence[Report], outcome: Outcome, folder: RunFolder) -> None:
    for report in reports:
        if report.result is None:
            outcome.failed[report.item] = report.reason
            folder.failed(report)
        else:
            (outcome.partial if report.partial else outcome.results)[report.item] = report.result


@dataclass(frozen=True)
class InProcess:
    """One batch after another, here."""

    device: str
    opened: Opened | None = None  # the work, where it is open already

    def reports(
        self, work: Work, folder: RunFolder, batches: Sequence[Batch], progress: Progress, say: Callable[[str], None]
    ) -> Iterator[list[Report]]:
        """See `Way.reports`."""
        with remembered_interrupts() as stopped:
            worker = Worker(work, folder, self.device, self.opened, stopped)
            for batch in batches:
                n = len(batch.missing)

                def inner(done: int | float, total: int, message: str = "", n: int = n) -> None:
                    progress(done / max(total, 1) * n, n, message)

                yield worker.do(batch.items, batch.missing, inner)
                while worker.notes:
                    say(worker.notes.pop())


@contextmanager
def remembered_interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, though whoever was at work may have kept what it had and gone on."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def remember(number: int, frame: types.FrameType | None) -> None:
        pressed.set()
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)  # whoever else remembers
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, remember)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
