"""The directions that a studio offers: those that come with the model, and those that were found or brought in.

A direction's name is its file's; files are our own safetensors, in one folder of the workspace.
"""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from situ.core.direction import Direction, load_direction
from situ.core.errors import DirectionError, SituError

LARGEST = 64 * 2**20  # bytes of a file that is brought in
_SAFE = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True)
class Item:
    """A direction of the library."""

    name: str
    path: Path
    direction: Direction
    own: bool  # found or brought in here, so that it can be renamed and deleted

    @property
    def method(self) -> str:
        """What found it: LELSD, ReSeFa ..."""
        return self.direction.found_by.partition("(")[0]

    def described(self) -> str:
        """Its part, method and region gain, in a line."""
        score = self.direction.score
        gain = f", gain {score:.0f}" if math.isfinite(score) else ""
        return f"{self.direction.region}, {self.method}{gain}"


class Library:
    """The directions of one generator."""

    def __init__(self, folder: Path, generator: str, bundled: Path | None = None) -> None:
        self.folder, self.generator, self.bundled = folder, generator, bundled
        folder.mkdir(parents=True, exist_ok=True)

    def items(self, part: str = "", method: str = "", gain: float = 0.0) -> list[Item]:
        """Those for a part, by a method and of at least a region gain, the best first; damaged and foreign files are
        left out."""
        found = [item for item in map(self._read, self._paths().values()) if item is not None]
        wanted = [i for i in found if part in ("", i.direction.region) and method in ("", i.method)]
        return sorted(
            (item for item in wanted if not gain or item.direction.score >= gain),
            key=lambda item: -item.direction.score if item.direction.score > 0 else 0.0,
        )

    def item(self, name: str) -> Item:
        """Raises DirectionError for a name that is none."""
        path = self._paths().get(name)
        item = self._read(path) if path else None
        if item is None:
            what = f'no direction "{name}" in the library: it may have been deleted' if name else "choose a direction"
            raise DirectionError(what)
        return item

    def _paths(self) -> dict[str, Path]:
        """The files by their names; own ones hide those that came with the model."""
        folders = (self.bundled, self.folder)
        return {path.stem: path for folder in folders if folder for path in sorted(folder.glob("*.safetensors"))}

    def _read(self, path: Path) -> Item | None:
        try:
            direction = load_direction(path)
        except SituError:
            return None
        return Item(path.stem, path, direction, path.parent == self.folder) if self._fits(direction) else None

    def _fits(self, direction: Direction) -> bool:
        return direction.generator == self.generator

    def add(self, direction: Direction, name: str = "") -> str:
        """Keep a direction under its name, or one that is like it and free. Returns that name."""
        base = _SAFE.sub("_", name or direction.name or direction.region).strip("._")[:60] or "direction"
        taken = self._paths()
        free = next(n for n in (base, *(f"{base}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)
        direction.save(self.folder / f"{free}.safetensors")
        return free

    def bring_in(self, path: Path) -> str:
        """Copy a direction file in, read and written anew.

        Raises:
            DirectionError: too large, no direction file, or of another generator.
        """
        if path.stat().st_size > LARGEST:
            raise DirectionError(f"a direction file has at most {LARGEST // 2**20} MB, {path.name} is larger")
        direction = load_direction(path)
        if not self._fits(direction):
            raise DirectionError(
                f"{path.name} is a direction of {direction.generator}, this model is {self.generator}: open that model"
            )
        return self.add(direction, path.stem)

    def rename(self, name: str, new: str) -> str:
        """Returns the name it got. Raises DirectionError for one that came with the model."""
        item = self._own(name)
        got = self.add(replace(item.direction, name=new), new)
        item.path.unlink()
        return got

    def remove(self, name: str) -> None:
        """Raises DirectionError for one that came with the model."""
        self._own(name).path.unlink()

    def _own(self, name: str) -> Item:
        item = self.item(name)
        if not item.own:
            raise DirectionError(f"{name} came with the model and stays")
        return item
