"""A bench's cells as items: each made once, whoever makes it, and none of what Ctrl-C cut short."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from situ.bench.experiment import Cells
from situ.runs.engine import remembered_interrupts


def test_two_processes_do_not_make_the_same_cell(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> object:
        made.append(1)
        time.sleep(0.3)
        return len(made)

    values: list[object] = []
    threads = [
        threading.Thread(target=lambda: values.append(Cells(tmp_path, {}).value("the same", make))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [1, 1, 1]


def test_what_an_interrupted_method_hands_over_is_no_cell(tmp_path: Path) -> None:
    def make() -> object:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:  # as methods do, which keep what they have
            return "half"
        return "whole"

    with remembered_interrupts() as stopped:
        cells = Cells(tmp_path, {}, stopped)
        with remembered_interrupts(), pytest.raises(KeyboardInterrupt):
            cells.value("one", make)
    assert len(Cells(tmp_path, {})) == 0
