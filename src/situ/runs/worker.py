"""One worker: opens the work once, and does batches of items one after another."""

import gc
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

import torch

from situ.core.devices import usable_device
from situ.core.errors import FileError, SituError
from situ.core.progress import Progress, silent
from situ.runs.folder import RunFolder
from situ.runs.work import Item, Opened, Report, Work


class _Failed:
    """In the place of a result."""

    def __init__(self, error: BaseException) -> None:
        own = isinstance(error, SituError)
        self.reason = str(error) if own else f"unexpected {type(error).__name__}: {error}"


class Worker:
    """Does batches of a work's items, and keeps what it finishes in the run's folder."""

    def __init__(
        self,
        work: Work,
        folder: RunFolder,
        device: str,
        opened: Opened | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            opened: the work, where it is open already.
            stopped: whether Ctrl-C was pressed: methods keep what they have then, as if they had finished.
        """
        self.work, self.folder, self.device, self.stopped = work, folder, device, stopped
        self.opened = opened
        self.most = work.together  # items in a pass; halved where the device's memory does not hold them
        self.notes: list[str] = []  # for the person who waits

    def do(self, batch: Sequence[Item], missing: Collection[str], progress: Progress = silent) -> list[Report]:
        """Do a batch and record what of it is missing. All of it is computed, so that results do not depend on where
        an earlier run was cut off.

        Raises:
            SituError: the work cannot be opened. FileError: results cannot be written. KeyboardInterrupt: stopped,
                with the reports of what was cut short as its arguments.
        """
        if self.opened is None:
            self.opened = self.work.open(usable_device(self.device))
        reports: list[Report] = []
        prepared: dict[str, Any] = {}
        for item in batch:
            if item.name in missing:
                try:
                    prepared[item.name] = self.opened.prepare(item)
                except Exception as error:
                    reports.append(Report(item.name, reason=_Failed(error).reason))
        if not prepared:
            return reports
        for item in batch:
            if item.name not in missing:
                with suppress(SituError):  # it was finished before
                    prepared[item.name] = self.opened.prepare(item)
        items = [item for item in batch if item.name in prepared]
        computed = self._computed([prepared[item.name] for item in items], progress)
        partial = self.stopped()
        if partial and not self.work.keeps_partial:
            raise KeyboardInterrupt
        for item, result in zip(items, computed, strict=True):
            if item.name in missing:
                reports.append(self._kept(item, result, partial))
        if partial:
            raise KeyboardInterrupt(reports)
        return reports

    def _kept(self, item: Item, result: Any, partial: bool) -> Report:
        """Write a result and record it."""
        if isinstance(result, _Failed):
            return Report(item.name, reason=result.reason)
        assert self.opened is not None
        try:
            told = self.opened.write(item, result)
        except FileError:
            raise
        except Exception as error:
            return Report(item.name, reason=_Failed(error).reason)
        if not partial:
            self.folder.record(item, told)
        return Report(item.name, told, partial=partial)

    def _computed(self, prepared: Sequence[Any], progress: Progress) -> list[Any]:
        """Results, or why there are none, in passes that the memory holds."""
        found: list[Any] = []
        while len(found) < len(prepared):
            some = prepared[len(found) : len(found) + self.most]
            assert self.opened is not None
            try:
                found += self.opened.compute(some, progress)
            except Exception as error:
                if is_out_of_memory(error) and len(some) > 1:
                    self.most = len(some) // 2
                    if not self.notes:
                        self.notes.append(f"the memory of {self.device} does not hold {len(some)} at once: "
                                          f"going on with {self.most}")  # fmt: skip
                    del error
                    _free_memory()
                    continue
                if is_out_of_memory(error):
                    found.append(_Failed(SituError(f"the memory of {self.device} does not hold it alone: {error}")))
                elif len(some) == 1:
                    found.append(_Failed(error))
                else:  # one of them: each alone, so that the others go on
                    found += [result for each in some for result in self._computed([each], progress)]
        return found


def is_out_of_memory(error: BaseException) -> bool:
    """Of a device, or of the machine."""
    words = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)
    )


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
