"""What a bench is given, and how one is run: settings, pictures, searches, cells, a report at the end."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from situ.bench.experiment import Cells, Outcome, Table, Told, write_outcome
from situ.bench.searches import Found, Searches, regions_of_bench, sampled, shared_settings
from situ.core.errors import SituError
from situ.core.images import Images
from situ.core.latents import Latents
from situ.core.region import Region
from situ.metrics.realism import Realism, fit_realism
from situ.packs.pack import Pack
from situ.packs.portraits.renderer import render, sample_factors
from situ.runs.engine import remembered_interrupts

MEASURED = 7_000_000  # plus the bench's seed: seed of the pictures that edits are measured on
HELD_OUT = 8_100_000  # of held-out renders, which no recipe trains on
REALS = 2000  # of them


@dataclass(frozen=True)
class Size:
    """How much a run measures."""

    pictures: int
    searches: int  # seeds that every method searches with
    parts: tuple[str, ...]
    minutes: float | int  # about, on one core, the bundled model


@dataclass
class Run:
    """One run of a bench."""

    pack: Pack
    seed: int
    size: Size
    quick: bool
    cells: Cells
    searches: Searches
    say: Callable[[str], None]
    model: str  # as it was named
    out: Path  # where every bench has a folder of its own

    @cached_property
    def regions(self) -> dict[str, Region]:
        return regions_of_bench(self.pack, self.size.parts)

    @cached_property
    def latents(self) -> Latents:
        """Codes of the pictures that edits are measured on."""
        return sampled(self.pack, self.size.pictures, MEASURED + self.seed)

    @cached_property
    def real(self) -> tuple[Images, str]:
        """Real pictures where there are any, and what they are in words."""
        return reference_pictures(self.pack, REALS // 10 if self.quick else REALS, HELD_OUT)

    @cached_property
    def reference(self) -> Float[Tensor, "n e"] | None:
        """The embedder's features of real pictures; kept."""
        if self.pack.embed is None:
            return None
        name = f"reference {REALS // 10 if self.quick else REALS}"
        return torch.tensor(self.cell(name, lambda: rounded(embedded(self.pack, self.real[0]))))

    @cached_property
    def realism(self) -> Realism:
        """What real pictures are like, in the features of the pack's distance.

        (Features that tell people apart would not do: noise scores 0.86 in them, and real pictures 1.04.)
        """
        return fit_realism(summarised(self.pack, self.real[0]))

    def shared(self, name: str) -> Cells:
        """Cells that benches of this model share, in a folder beside theirs."""
        settings = shared_settings(self.pack, self.model, self.quick)
        return Cells(self.out / name, settings, self.cells.stopped)

    @property
    def seeds(self) -> list[int]:
        return list(range(self.seed, self.seed + self.size.searches))

    def find(self, method: str, part: str, seed: int, settings: Mapping[str, object] | None = None) -> Found:
        """See `Searches.find`, among this run's parts."""
        return self.searches.find(method, self.regions, part, seed, settings)

    def cell(self, name: str, make: Callable[[], object]) -> Any:
        """A cell, and a word about it where it is made now."""
        if not self.cells.path(name).exists():
            self.say(name)
        return self.cells.value(name, make)


Plan = Callable[[Run], Mapping[str, Callable[[], object]]]  # cells that need no other, by name


def _no_plan(run: Run) -> Mapping[str, Callable[[], object]]:
    return {}


@dataclass(frozen=True)
class Bench:
    """A published table or figure, or one that only known truth makes possible."""

    name: str
    title: str
    question: str  # what it asks, in a sentence
    run: Callable[[Run], Outcome]
    full: Size
    quick: Size
    plan: Plan = _no_plan  # where its cells can be made apart from each other
    published: tuple[Table, ...] = ()
    picture_seed: int = MEASURED  # plus the run's: of the pictures


@dataclass(frozen=True)
class Asked:
    """How a bench is to be run."""

    model: str
    out: Path  # where every bench has a folder of its own
    seed: int = 0
    pictures: int | None = None  # None: the bench's
    quick: bool = False


def open_run(
    bench: Bench, pack: Pack, asked: Asked, say: Callable[[str], None], stopped: Callable[[], bool] = lambda: False
) -> tuple[Run, dict[str, object]]:
    """A run of a bench, and its settings.

    Args:
        stopped: whether Ctrl-C was pressed: methods keep what they have then, which is no measurement.

    Raises:
        SituError: the folder was made with other settings, or fewer than two pictures.
    """
    model, out, seed, pictures, quick = asked.model, asked.out, asked.seed, asked.pictures, asked.quick
    size = bench.quick if quick else bench.full
    if pictures is not None:
        size = Size(pictures, size.searches, size.parts, size.minutes)
    if size.pictures < 2:
        raise SituError(f"a bench compares over pictures: give two or more, got {size.pictures}")
    settings: dict[str, object] = {
        "model": model,
        "generator": pack.generator.name,
        "pictures": size.pictures,
        "picture_seed": bench.picture_seed + seed,
        "search_seeds": list(range(seed, seed + size.searches)),
        "parts": list(size.parts),
        "quick": quick,
    }
    cells = Cells(out / bench.name, settings, stopped)
    searches = Searches(pack, model, out / "searches", quick, stopped)
    return Run(pack, seed, size, quick, cells, searches, say, model, out), settings


def run_bench(
    bench: Bench, pack: Pack, asked: Asked, command: str, say: Callable[[str], None]
) -> tuple[dict[str, object], Outcome, Path]:
    """Run a bench, or go on with one that was interrupted. Its folder is `out`/NAME; searches are shared in
    `out`/searches, inversions in `out`/inversions.

    Raises:
        SituError: the folder was made with other settings, or the model lacks what the bench needs.
    """
    folder = asked.out / bench.name
    with remembered_interrupts() as stopped:
        run, settings = open_run(bench, pack, asked, say, stopped)
        started = time.perf_counter()
        outcome = bench.run(run)
        seconds = time.perf_counter() - started
    told = Told(bench.name, bench.title, bench.question, command, settings, bench.published, seconds, asked.quick)
    return write_outcome(folder, told, outcome), outcome, folder


def real_pictures(pack: Pack, n: int, seed: int) -> Images | None:
    """Pictures that the generator never made: renders of the bundled pack; of other models there are none."""
    if pack.name != "portraits":
        return None
    factors = sample_factors(n, torch.Generator().manual_seed(seed))
    return render(factors, pack.generator.resolution).images.clamp(-1, 1).to(pack.generator.device)


def reference_pictures(pack: Pack, n: int, seed: int) -> tuple[Images, str]:
    """Real pictures where there are any, else the generator's own unedited ones, and what they are in words."""
    real = real_pictures(pack, n, seed)
    if real is not None:
        return real, f"{n} held-out renders"
    codes = sampled(pack, n, seed)
    with torch.no_grad():
        parts = [pack.generator.synthesize(codes[i : i + 32]).images for i in range(0, n, 32)]
    return torch.cat(parts).clamp(-1, 1), f"{n} pictures of the generator itself, unedited"


def embedded(pack: Pack, images: Images, batch: int = 64) -> Float[Tensor, "n e"]:
    """The pack's embedder features of pictures, clipped to what can be seen."""
    assert pack.embed is not None
    with torch.no_grad():
        return torch.cat([pack.embed(part.clamp(-1, 1)).float().cpu() for part in images.split(batch)])


def summarised(pack: Pack, images: Images, batch: int = 64) -> Float[Tensor, "n s"]:
    """The features of the pack's distance, each picture in one row, clipped to what can be seen."""
    with torch.no_grad():
        return torch.cat([pack.distance.summary(part.clamp(-1, 1)).float().cpu() for part in images.split(batch)])


def rounded(features: Float[Tensor, "n e"]) -> list[list[float]]:
    """Features as a cell of JSON can hold them, short."""
    return [[round(value, 5) for value in row] for row in features.tolist()]


def over_searches(rows: Sequence[Sequence[float]]) -> list[float]:
    """Numbers of the same pictures from several searches, averaged for each picture; NaN where none has one."""
    values = np.array(rows, dtype=float)
    counts = np.isfinite(values).sum(axis=0)
    sums = np.where(np.isfinite(values), values, 0.0).sum(axis=0)
    return [float(s / c) if c else math.nan for s, c in zip(sums, counts, strict=True)]
