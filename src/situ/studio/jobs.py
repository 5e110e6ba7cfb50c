"""Long jobs: one at a time, with progress, and a cancel that keeps what was found.

A job goes on when nobody watches it any more (the page was closed or loaded anew), and can be watched again.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from situ.core.errors import SituError
from situ.core.progress import Progress

T = TypeVar("T")
EVERY = 0.25  # seconds between two looks


@dataclass
class Job(Generic[T]):
    """Work in a thread of its own. Verbs keep what they have on KeyboardInterrupt, so that is how it is stopped."""

    run: Callable[[Progress], T]
    doing: str = ""  # in words
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: int | float = 0
    total: int = 0
    note: str = ""
    waiting: bool = False  # for another job to end
    result: T | None = None
    error: BaseException | None = None
    thread: threading.Thread | None = None
    started: float = 0.0

    def progress(self, done: int | float, total: int, message: str = "") -> None:
        """See `Progress`."""
        self.done, self.total, self.note = done, total, message
        if self.cancelled.is_set():
            self.cancelled.clear()  # once: what is to be kept must still be put together
            raise KeyboardInterrupt

    def watch(self) -> Iterator[str]:
        """Tell how far it is, until it ends; an error of the job is raised here.

        Raises:
            KeyboardInterrupt: it was cancelled before there was anything to keep.
        """
        assert self.thread is not None
        while self.thread.is_alive():
            self.thread.join(EVERY)
            share = f"{int(100 * self.done / self.total)} %" if self.total else "starting"
            words = "waiting for another job to end" if self.waiting else share
            note = f", {self.note}" if self.note else ""
            yield f"{self.doing}: {words}, {time.monotonic() - self.started:.0f} s{note}"
        if self.error is not None:
            raise self.error


class Jobs:
    """The jobs under way, by whose they are, so that each person watches and cancels their own."""

    def __init__(self) -> None:
        self._of: dict[str, Job[Any]] = {}
        self._turn, self._lock = threading.Lock(), threading.Lock()

    def start(self, identity: str, run: Callable[[Progress], T], doing: str = "") -> Job[T]:
        """Begin a person's job.

        Raises:
            SituError: one of theirs is under way.
        """
        job = Job(run, doing)
        with self._lock:
            if identity in self._of:
                raise SituError(f"{self._of[identity].doing} is still under way: wait for it, or stop it")
            self._of[identity] = job
        job.started, job.thread = (
            time.monotonic(),
            threading.Thread(target=self._work, args=(identity, job), daemon=True),
        )
        job.thread.start()
        return job

    def _work(self, identity: str, job: Job[Any]) -> None:
        try:
            while not self._turn.acquire(timeout=EVERY):
                job.waiting = True
                job.progress(0, 0)
            job.waiting = False
            try:
                job.result = job.run(job.progress)
            finally:
                self._turn.release()
        except BaseException as error:
            job.error = error
        finally:
            with self._lock:
                self._of.pop(identity, None)

    def of(self, identity: str) -> Job[Any] | None:
        """A person's job under way."""
        return self._of.get(identity)

    def cancel(self, identity: str) -> bool:
        """Ask a person's job to stop; False where there is none."""
        job = self._of.get(identity)
        if job is None:
            return False
        job.cancelled.set()
        return True

    def alone(self, run: Callable[[], T]) -> T:
        """Do something while no job works."""
        with self._turn:
            return run()
