"""How a long job tells where it is. The caller draws the bar; the job only reports."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called after each unit of work; within a long one, with a fraction."""

    def __call__(self, done: int | float, total: int, message: str = "") -> None: ...


def silent(done: int | float, total: int, message: str = "") -> None:
    """Report nothing."""
