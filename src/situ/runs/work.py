"""What a run does: work in independent items, described without networks, so that it can travel to any worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from situ.core.progress import Progress, silent


@dataclass(frozen=True)
class Item:
    """One independent piece: a photo, a search, a cell of a bench."""

    name: str  # unique in its run
    given: Mapping[str, Any] = field(default_factory=dict)  # as JSON holds it; what would make the result another


@runtime_checkable
class Opened(Protocol):
    """Work with its models in memory. It must give the same for the same items, wherever it is done."""

    def prepare(self, item: Item) -> Any:
        """What the item needs, cheap to make.

        Raises:
            SituError: the item cannot be used.
        """
        ...

    def compute(self, prepared: Sequence[Any], progress: Progress = silent) -> Sequence[Any]:
        """The results of some items, which share the passes.

        Raises:
            SituError: one of them cannot be done; each is then tried alone.
        """
        ...

    def write(self, item: Item, computed: Any) -> Mapping[str, Any]:
        """Write the item's files, each whole; returns what is kept of it, as JSON holds it.

        Raises:
            FileError: nothing can be written there, which ends the run. SituError: this item alone fails.
        """
        ...


@runtime_checkable
class Work(Protocol):
    """A picklable description: names and settings, never networks. Every worker opens it once."""

    @property
    def kind(self) -> str:
        """A word for people: "photos"."""
        ...

    @property
    def together(self) -> int:
        """How many items share a pass; bounds memory."""
        ...

    @property
    def keeps_partial(self) -> bool:
        """Whether what Ctrl-C leaves of a computation is written, though it is done again next time."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """What makes other results, as JSON holds it."""
        ...

    def open(self, device: str) -> Opened:
        """Read the models.

        Raises:
            SituError: they cannot be opened.
        """
        ...


@dataclass(frozen=True)
class Report:
    """What became of one item."""

    item: str
    result: Mapping[str, Any] | None = None  # None where it failed
    reason: str = ""  # why it failed
    partial: bool = False  # Ctrl-C cut it short: written, and done again next time
