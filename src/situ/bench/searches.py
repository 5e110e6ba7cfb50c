"""Directions that benches work with: searched once by each method for each part and seed, kept, and shared by benches.

Every direction is calibrated (strength 1 is the pack's unit distance on the average) and ranked by its region gain on
pictures of its own, apart from those on which it is measured later: no bench sees the best of its own pictures.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from situ.bench.experiment import Cells
from situ.core.direction import Direction, calibrate, load_direction
from situ.core.errors import DirectionError, RegionError, SituError
from situ.core.generator import Generator, Linearizable
from situ.core.latents import Latents
from situ.core.measurement import edited_images, region_gain
from situ.core.region import PRESETS, Part, Region, preset
from situ.packs.methods import METHODS, build_method
from situ.packs.pack import Pack

TRUNCATION = 0.7
SELECTION = 6_000_000  # seed of the pictures that directions are ranked on; its own, whatever the bench's
RANKED_ON = 16  # pictures

WANTED = ("hair", "eyes", "mouth", "nose")  # parts that a pack of faces has
TOGETHER = ("stylespace", "ganspace", "sefa")  # one search serves all parts at once, and its time is for all of them

# how many directions a search hands over for the best to be taken; where more cost nothing, more
COUNTS: Mapping[str, Mapping[str, object]] = {
    "resefa": {"k": 4},
    "lowrankgan": {"k": 4},
    "stylespace": {"k": 4},
    "random": {"k": 4},
    "interpolation": {"k": 4},
}
# what `--quick` cuts: enough to see that all of it works, too little to judge a method by
QUICK: Mapping[str, Mapping[str, object]] = {
    "lelsd": {"samples": 24, "start_pictures": 1},
    "stylespace": {"pictures": 1, "sigma_samples": 200},
    "lowrankgan": {"iterations": 200},
    "ganspace": {"k": 4, "samples": 1000},
    "sefa": {"k": 4},
    "interfacegan": {"samples": 200},
    "ganalyze": {"samples": 16},
    "styleflow": {"samples": 200, "steps": 10, "edits": 8},
    "random": {"k": 2},
    "interpolation": {"k": 2, "samples": 200},
}


def regions_of_bench(pack: Pack, wanted: Sequence[str] = WANTED) -> dict[str, Region]:
    """The parts that the model's segmenter knows, the published boxes of aligned faces for the others.

    Raises:
        RegionError: none of them.
    """
    regions: dict[str, Region] = {}
    for name in wanted:
        if pack.segmenter is not None and name in pack.segmenter.parts:
            regions[name] = Part(pack.segmenter, (name,))
        elif name in PRESETS:
            regions[name] = preset(name, pack.generator.resolution)
    if not regions:
        raise RegionError(f"the bench edits {', '.join(wanted)}, and {pack.name} has none of these parts")
    return regions


def shared_settings(pack: Pack, model: str, quick: bool) -> dict[str, object]:
    """What cells that several benches share are for."""
    return {"model": model, "generator": pack.generator.name, "quick": quick}


def clock(pack: Pack) -> Callable[[], float]:
    """Seconds of this process alone on a CPU, which other work on the machine does not lengthen; else of the wall."""
    return time.process_time if pack.generator.device.type == "cpu" else time.perf_counter


@dataclass(frozen=True)
class Found:
    """What one search gave."""

    directions: tuple[Direction, ...]  # calibrated, best region gain first
    seconds: float  # to find them
    derivative: float  # of these, in the Jacobian's passes through the generator; NaN where that cannot be told
    failed: str = ""  # why there are none

    @property
    def best(self) -> Direction:
        """Raises DirectionError where there is none."""
        if not self.directions:
            raise DirectionError(self.failed)
        return self.directions[0]


class Searches:
    """Searches of one model, kept in a folder."""

    def __init__(
        self, pack: Pack, model: str, folder: Path, quick: bool, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self.pack, self.quick = pack, quick
        self.cells = Cells(folder, shared_settings(pack, model, quick), stopped)

    def settings_of(self, name: str) -> dict[str, object]:
        """The settings of a method that differ from those of `situ discover`."""
        return {**COUNTS.get(name, {}), **(QUICK.get(name, {}) if self.quick else {})}

    def find(
        self,
        name: str,
        regions: Mapping[str, Region],
        part: str,
        seed: int,
        settings: Mapping[str, object] | None = None,
    ) -> Found:
        """The directions of one part.

        Args:
            regions: all parts of the bench; those that are searched together, are.
            settings: of the method, instead of the bench's own.
        """
        asked = dict(regions) if name in TOGETHER else {part: regions[part]}
        own = {**self.settings_of(name), **(settings or {})}
        words = " ".join(f"{key}={value}" for key, value in sorted(own.items()))
        label = f"{name} {words} {'+'.join(asked)} seed {seed}".replace("  ", " ")
        cell = self.cells.value(label, lambda: self._search(label, name, asked, seed, own))
        files = cell["files"].get(part, [])
        directions = tuple(load_direction(self.cells.folder / file) for file in files)
        derivative = math.nan if cell["derivative"] is None else cell["derivative"]
        return Found(directions, cell["seconds"], derivative, cell["failed"].get(part, ""))

    def _search(
        self, label: str, name: str, asked: Mapping[str, Region], seed: int, settings: Mapping[str, object]
    ) -> dict[str, object]:
        tick = clock(self.pack)
        failed: dict[str, str] = {}
        rows: list[list[Direction]] = [[] for _ in asked]
        timed, spent = timed_derivatives(self.pack.generator, tick)
        started = tick()
        try:
            method = build_method(METHODS[name], settings, self.pack, list(asked.values()))
            rows = method.find(timed, list(asked.values()), torch.Generator().manual_seed(seed))
        except SituError as error:
            failed = dict.fromkeys(asked, str(error))
        seconds = tick() - started
        files: dict[str, list[str]] = {}
        for part, directions in zip(asked, ranked(self.pack, list(asked.values()), rows), strict=True):
            if not directions and part not in failed:
                failed[part] = "it found no direction that changes the pictures"
            files[part] = []
            for i, direction in enumerate(directions):
                path = self.cells.path(f"{label} {part} {i}", ".safetensors")
                direction.save(path)
                files[part].append(path.name)
        derivative = spent() if isinstance(self.pack.generator, Linearizable) else None
        return {"seconds": seconds, "derivative": derivative, "files": files, "failed": failed}


def ranked(pack: Pack, regions: Sequence[Region], rows: Sequence[Sequence[Direction]]) -> list[list[Direction]]:
    """Calibrated, and by region gain on pictures of their own; vectors that several regions share are calibrated once.

    Directions that hardly change the pictures are left out.
    """
    codes = sampled(pack, RANKED_ON, SELECTION)
    known: dict[str, Direction | None] = {}
    found: list[list[Direction]] = []
    for region, directions in zip(regions, rows, strict=True):
        judged: list[Direction] = []
        for direction in directions:
            if direction.key not in known:
                known[direction.key] = _calibrated(pack, direction, codes)
            unit = known[direction.key]
            if unit is None:
                continue
            own = replace(direction, unit=unit.unit)
            starts = pack.generator.convert(codes, own.subspace.space)
            gain = region_gain([edited_images(pack.generator, own, region, starts, sign) for sign in (1.0, -1.0)])
            judged.append(replace(own, score=gain))
        found.append(sorted(judged, key=lambda d: -d.score))
    return found


def _calibrated(pack: Pack, direction: Direction, codes: Latents) -> Direction | None:
    starts = pack.generator.convert(codes, direction.subspace.space)
    try:
        return calibrate(pack.generator, direction, starts, pack.distance.between, pack.unit_distance)
    except DirectionError:  # it hardly changes the pictures
        return None


def sampled(pack: Pack, n: int, seed: int) -> Latents:
    """Codes of pictures, the same for one seed."""
    with torch.no_grad():
        rng = torch.Generator().manual_seed(seed)
        return pack.generator.sample(n, pack.generator.spaces["z"], rng, TRUNCATION)


def timed_derivatives(generator: Generator, tick: Callable[[], float]) -> tuple[Any, Callable[[], float]]:
    """The generator, and how long it has spent on its derivatives in forward mode since."""
    spent = [0.0]
    if not isinstance(generator, Linearizable):
        return generator, lambda: spent[0]

    def timed(run: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **options: Any) -> Any:
            started = tick()
            try:
                made = run(*args, **options)
            finally:
                spent[0] += tick() - started
            return timed(made) if callable(made) else made

        return measured

    watched: Any = copy.copy(generator)
    watched.linearize = timed(generator.linearize)
    watched.linearize_features = timed(generator.linearize_features)
    return watched, lambda: spent[0]
