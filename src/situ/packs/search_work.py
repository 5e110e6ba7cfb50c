"""Searches as the items of a run: every method on every part of every model, with every seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from situ.core.direction import Direction
from situ.core.discovery import discover
from situ.core.errors import SituError
from situ.core.progress import Progress, silent
from situ.core.region import parse_part
from situ.packs.library import files_of_model, open_model
from situ.packs.methods import build_method, method_named
from situ.packs.pack import Pack
from situ.runs.work import Item


def search_items(
    models: Sequence[str], methods: Sequence[str], parts: Sequence[str], seeds: Sequence[int]
) -> list[Item]:
    """Every search, those of one model together. A model whose files have changed since is another.

    Raises:
        ModelError: no such model. SituError: no such method.
    """
    for method in methods:
        method_named(method)
    stamps = {}
    for model in models:
        there = [file.stat() for file in files_of_model(model)]
        stamps[model] = [[each.st_size, each.st_mtime_ns] for each in there]
    return [
        Item(
            f"{model} {method} {part} seed {seed}",
            {"model": model, "method": method, "part": part, "seed": seed, "files": stamps[model]},
        )
        for model, method, part, seed in product(models, methods, parts, seeds)
    ]


@dataclass(frozen=True)
class DirectionSearches:
    """How directions are searched and judged: as `situ discover` does."""

    out: Path
    given: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # method -> settings, not its defaults
    random: int = 4  # random directions to compare with
    truncation: float = 0.7

    kind = "discover"
    together = 1
    keeps_partial = False

    def settings(self) -> Mapping[str, Any]:
        """See `Work.settings`."""
        own = {method: {k: str(v) for k, v in settings.items()} for method, settings in self.given.items()}
        return {"settings": own, "random": self.random, "truncation": self.truncation}

    def open(self, device: str) -> "OpenedSearches":
        """See `Work.open`."""
        return OpenedSearches(self, device)


class OpenedSearches:
    """Searches on the model that was asked for last, which alone stays in memory."""

    def __init__(self, work: DirectionSearches, device: str) -> None:
        self.work, self.device = work, device
        self.kept: tuple[str, Pack] | None = None

    def prepare(self, item: Item) -> Mapping[str, Any]:
        """See `Opened.prepare`."""
        pack = self._pack(item.given["model"])
        parse_part(item.given["part"], pack.segmenter)  # which refuses a part that the model does not have
        return item.given

    def _pack(self, model: str) -> Pack:
        if self.kept is None or self.kept[0] != model:
            self.kept = None  # two models need not fit
            self.kept = model, open_model(model, self.device)
        return self.kept[1]

    def compute(self, prepared: Sequence[Mapping[str, Any]], progress: Progress = silent) -> list[list[Direction]]:
        """See `Opened.compute`."""
        return [self._found(given, progress) for given in prepared]

    def _found(self, given: Mapping[str, Any], progress: Progress) -> list[Direction]:
        pack, name = self._pack(given["model"]), given["method"]
        region, method = parse_part(given["part"], pack.segmenter), method_named(name)
        settings = {**(method.settings or {}), **self.work.given.get(name, {})}
        made = build_method(method, settings, pack, [region])
        rng, calibration = (
            torch.Generator().manual_seed(given["seed"]),
            pack.calibration(truncation=self.work.truncation),
        )
        (found,) = discover(pack.generator, [region], made, rng, calibration, progress, self.work.random)
        if not found:
            raise SituError(f"{name} found no direction of {given['part']}")
        return [replace(direction, licence=pack.licence) for direction in found]

    def write(self, item: Item, computed: Sequence[Direction]) -> Mapping[str, Any]:
        """See `Opened.write`."""
        given, rows = item.given, []
        folder = Path(Path(given["model"]).stem) / given["method"]
        for i, direction in enumerate(computed):
            number = f"-{i + 1}" if len(computed) > 1 else ""
            name = str(folder / f"{given['part']}-seed-{given['seed']}{number}.safetensors")
            direction.save(self.work.out / name)
            rows.append({"file": name, "region_gain": direction.score, **direction.figures})
        return {"files": [row["file"] for row in rows], "directions": rows}
