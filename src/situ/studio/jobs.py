"""Long jobs: one at a time, with progress, and a cancel that keeps what was found."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from situ.core.progress import Progress

T = TypeVar("T")
EVERY = 0.25  # seconds between two looks


@dataclass
class Job(Generic[T]):
    """Work in a thread of its own. Verbs keep what they have on KeyboardInterrupt, so that is how it is stopped."""

    run: Callable[[Progress], T]
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: int = 0
    total: int = 0
    note: str = ""
    result: T | None = None
    error: BaseException | None = None

    def progress(self, done: int, total: int, message: str = "") -> None:
        """See `Progress`."""
        self.done, self.total, self.note = done, total, message
        if self.cancelled.is_set():
            self.cancelled.clear()  # once: what is to be kept must still be put together
            raise KeyboardInterrupt

    def _work(self) -> None:
        try:
            self.result = self.run(self.progress)
        except BaseException as error:
            self.error = error

    def watch(self) -> Iterator[str]:
        """Start it and tell how far it is, until it ends; an error of the job is raised here.

        Raises:
            KeyboardInterrupt: it was cancelled before there was anything to keep.
        """
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        started = time.monotonic()
        while thread.is_alive():
            thread.join(EVERY)
            share = f"{100 * self.done // self.total} %" if self.total else "starting"
            yield f"{share}, {time.monotonic() - started:.0f} s{', ' + self.note if self.note else ''}"
        if self.error is not None:
            raise self.error


class Jobs:
    """The jobs under way, by whose they are, so that each person cancels their own."""

    def __init__(self) -> None:
        self._of: dict[str, Job] = {}

    def start(self, identity: str, run: Callable[[Progress], T]) -> Job[T]:
        """A person's new job."""
        job = Job(run)
        self._of[identity] = job
        return job

    def cancel(self, identity: str) -> bool:
        """Ask a person's job to stop; False where there is none."""
        job = self._of.get(identity)
        if job is None:
            return False
        job.cancelled.set()
        return True

    def end(self, identity: str) -> None:
        """Forget a job that has ended."""
        self._of.pop(identity, None)
