"""Work whose result is known, and which fails in all the ways that work can fail."""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from situ.core.errors import InversionError, SituError
from situ.core.files import write_whole
from situ.core.progress import Progress, silent
from situ.runs.work import Item

GOOD, BROKEN, NAN, BUG, DEADLY, FATAL, STOP = "good", "broken", "nan", "bug", "deadly", "fatal", "stop"


def items(kinds: str | Sequence[str], start: int = 0) -> list[Item]:
    """Items of these kinds, numbered."""
    return [Item(f"{i:03d}", {"kind": kind, "number": i}) for i, kind in enumerate(kinds, start)]


@dataclass(frozen=True)
class Squares:
    """The square of each item's number, in a file; with a mark for every computation."""

    out: Path
    together: int = 4
    holds: int = 1000  # items that the memory holds at once
    word: str = ""  # a setting
    keeps_partial: bool = False

    kind = "squares"

    def settings(self) -> Mapping[str, Any]:
        return {"word": self.word}

    def open(self, device: str) -> "OpenedSquares":
        (self.out / "opened").mkdir(parents=True, exist_ok=True)
        (self.out / "opened" / str(os.getpid())).touch()
        return OpenedSquares(self)


class OpenedSquares:
    def __init__(self, work: Squares) -> None:
        self.work = work

    def prepare(self, item: Item) -> Mapping[str, Any]:
        if item.given["kind"] == BROKEN:
            raise SituError(f"{item.name} is broken")
        return item.given

    def compute(self, prepared: Sequence[Mapping[str, Any]], progress: Progress = silent) -> list[int]:
        kinds = [given["kind"] for given in prepared]
        if len(prepared) > self.work.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if NAN in kinds:
            raise InversionError(f"the losses of photos {[kinds.index(NAN)]} are not finite at step 7")
        if BUG in kinds:
            raise ZeroDivisionError("a bug")
        for given in prepared:
            mark = self.work.out / f"tried-{given['number']}"
            tries = len(list(self.work.out.glob(f"{mark.name}-*")))
            (self.work.out / f"{mark.name}-{tries}").touch()
            if given["kind"] == FATAL or (given["kind"] == DEADLY and tries == 0):
                os.kill(os.getpid(), signal.SIGKILL)
            if given["kind"] == STOP and tries == 0:
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                except KeyboardInterrupt:  # as the methods do, which keep what they have
                    return [-1] * len(prepared)
        return [given["number"] ** 2 for given in prepared]

    def write(self, item: Item, computed: int) -> Mapping[str, Any]:
        name = f"{item.name}.txt"
        write_whole(self.work.out / name, lambda place: place.write_text(str(computed)))
        return {"files": [name], "square": computed}

    def computed(self) -> int:
        return len(list(self.work.out.glob("tried-*")))
