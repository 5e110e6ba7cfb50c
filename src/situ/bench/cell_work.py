"""The cells of a bench as the items of a run, to be made by several processes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from situ.bench.benches import BENCHES
from situ.bench.run import Asked, open_run
from situ.core.progress import Progress, silent
from situ.packs.library import open_model
from situ.packs.pack import Pack
from situ.runs.work import Item


@dataclass(frozen=True)
class BenchCells:
    """The cells of one bench; what it tells of them is put together afterwards."""

    bench: str
    asked: Asked

    kind = "bench"
    together = 1
    keeps_partial = False

    def settings(self) -> Mapping[str, Any]:
        """See `Work.settings`."""
        return {"bench": self.bench, **{key: value for key, value in asdict(self.asked).items() if key != "out"}}

    def open(self, device: str) -> "OpenedCells":
        """See `Work.open`."""
        return self.on(open_model(self.asked.model, device))

    def on(
        self, pack: Pack, say: Callable[[str], None] = lambda text: None, stopped: Callable[[], bool] = lambda: False
    ) -> "OpenedCells":
        """The same on a pack that is open already. `say` is told what is made; `stopped`: see `open_run`."""
        return OpenedCells(self, pack, say, stopped)


class OpenedCells:
    """Makes cells on one pack."""

    def __init__(self, work: BenchCells, pack: Pack, say: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        bench = BENCHES[work.bench]
        self.run, _ = open_run(bench, pack, work.asked, say, stopped)
        self.planned = bench.plan(self.run)

    def items(self) -> list[Item]:
        """All cells that need no other."""
        return [Item(name) for name in self.planned]

    def prepare(self, item: Item) -> str:
        """See `Opened.prepare`."""
        return item.name

    def compute(self, prepared: Sequence[str], progress: Progress = silent) -> list[str]:
        """See `Opened.compute`."""
        for name in prepared:
            self.run.cell(name, self.planned[name])
        return list(prepared)

    def write(self, item: Item, computed: str) -> Mapping[str, Any]:
        """See `Opened.write`. The cell is in its file already."""
        return {"files": [f"cells/{self.run.cells.path(computed).name}"]}
