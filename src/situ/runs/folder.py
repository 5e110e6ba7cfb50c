"""The record of a run, in the folder `.run` of what it writes: what was asked, what is finished, what failed and why.

    .run/run.json  the manifest: command, settings, items, versions
    .run/items/NAME.json  one for each finished item, written whole
    .run/failures.jsonl  a line for each failure, as they came

The same command goes on with what is missing; another is refused.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from situ.core.errors import FileError, SituError
from situ.core.files import write_whole
from situ.runs.work import Item, Report, Work

RECORD = ".run"
FORMAT = "situ-run-1"


class RunFolder:
    """The record under the folder that a run writes to."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.place = out / RECORD

    @contextmanager
    def begun(self, work: Work, items: Sequence[Item], command: str, anew: bool = False) -> Iterator[None]:
        """Hold the folder for a run of this work.

        Args:
            anew: forget what is finished.

        Raises:
            SituError: another command works in the folder, or has worked there with other settings; a record that
                cannot be read. FileError: the folder cannot be written.
        """
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.place / "lock", blocking=False)
            lock.acquire()
        except Timeout:
            raise SituError(f"another command works in {self.out}: wait for it, or choose another folder") from None
        except OSError as error:
            raise FileError(f"cannot write to {self.place}: {error.strerror or error}; choose another folder") from None
        try:
            if anew:
                shutil.rmtree(self.place / "items", ignore_errors=True)
                for name in ("run.json", "failures.jsonl"):
                    (self.place / name).unlink(missing_ok=True)
            self._require_same(work)
            manifest = {
                "format": FORMAT,
                "kind": work.kind,
                "command": command,
                "settings": _as_json(work.settings()),
                "together": work.together,
                "versions": {name: version(name) for name in ("situ", "torch")} | {"python": platform.python_version()},
                "started": time.time(),
                "finished_before": len(self.finished(items)),
                "items": [{"name": item.name, "given": dict(item.given)} for item in items],
            }
            _write_json(self.place / "run.json", manifest)
            yield
        finally:
            lock.release()

    def _require_same(self, work: Work) -> None:
        """Refuse a folder in which another command has finished something."""
        if not (self.place / "run.json").exists() or not any((self.place / "items").glob("*.json")):
            return
        kept = _read_json(self.place / "run.json")
        before = {"kind": kept.get("kind"), **kept.get("settings", {})}
        now = {"kind": work.kind, **_as_json(work.settings())}
        changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        if changed:
            words = ", ".join(f"{key} {before.get(key)} there, {now.get(key)} now" for key in changed)
            raise SituError(
                f"{self.out} holds what another command made ({words}): choose another folder with -o, or give --anew "
                "to forget what is there"
            )

    def path(self, item: Item) -> Path:
        """Where the result of an item is kept."""
        plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", item.name)[:100].lstrip(".")
        own = "" if plain == item.name else f"-{hashlib.sha256(item.name.encode()).hexdigest()[:8]}"
        return self.place / "items" / f"{plain}{own}.json"

    def finished(self, items: Sequence[Item]) -> dict[str, Mapping[str, Any]]:
        """Results by the names of their items: those that were made of what is given now, and whose files are there."""
        try:
            there = set(os.listdir(self.place / "items"))
        except OSError:
            return {}
        found: dict[str, Mapping[str, Any]] = {}
        for item in items:
            path = self.path(item)
            if path.name not in there:
                continue
            kept = _read_json(path)
            files = [self.out / name for name in kept["result"].get("files", [])]
            if kept["given"] == _as_json(item.given) and all(file.exists() for file in files):
                found[item.name] = kept["result"]
        return found

    def record(self, item: Item, result: Mapping[str, Any]) -> None:
        """Keep the result of a finished item. A result's "files" are names in the folder of the run."""
        _write_json(self.path(item), {"item": item.name, "given": item.given, "result": result})

    def failed(self, report: Report) -> None:
        """Add to the log of failures."""
        line = json.dumps({"item": report.item, "reason": report.reason, "time": time.time()})
        try:
            with open(self.place / "failures.jsonl", "a") as log:
                log.write(f"{line}\n")
        except OSError as error:
            raise FileError(f"cannot write to {self.place}: {error.strerror or error}") from None

    def failures(self) -> dict[str, str]:
        """The last reason of every item that has ever failed; the end of a line that was cut short is left out."""
        try:
            lines = (self.place / "failures.jsonl").read_text().splitlines()
        except OSError:
            return {}
        found = {}
        for line in lines:
            try:
                entry = json.loads(line)
                found[entry["item"]] = entry["reason"]
            except (ValueError, KeyError):
                continue
        return found


@dataclass(frozen=True)
class RunState:
    """How far a run is."""

    out: Path
    kind: str
    command: str
    items: int
    done: int
    failed: dict[str, str]  # of what is not done: item -> reason
    running: bool
    seconds_left: float | None  # None: not running, or nothing finished yet

    @property
    def words(self) -> str:
        if self.running:
            return "running"
        if self.done == self.items:
            return "finished"
        return "finished but for failures" if self.done + len(self.failed) == self.items else "stopped"


def state_of(out: Path) -> RunState:
    """How far the run in a folder is.

    Raises:
        SituError: no run, or a record that cannot be read.
    """
    folder = RunFolder(out)
    manifest = _read_json(folder.place / "run.json")
    try:
        items = [Item(each["name"], each["given"]) for each in manifest["items"]]
        started, before = manifest["started"], manifest["finished_before"]
        kind, command = manifest["kind"], manifest["command"]
    except (KeyError, TypeError) as error:
        raise SituError(f"{folder.place / 'run.json'} is no record of a run ({error!r})") from None
    finished = folder.finished(items)
    failed = {name: reason for name, reason in folder.failures().items() if name not in finished}
    asked = {item.name for item in items}
    failed = {name: reason for name, reason in failed.items() if name in asked}
    running = _is_held(folder.place / "lock")
    new, missing = len(finished) - before, len(items) - len(finished)
    left = (time.time() - started) / new * missing if running and new > 0 else None
    return RunState(out, kind, command, len(items), len(finished), failed, running, left)


def runs_under(folder: Path, depth: int = 3) -> list[Path]:
    """Folders of runs in a folder, itself among them, so many levels down."""
    found = [folder] if (folder / RECORD / "run.json").is_file() else []
    if depth and folder.is_dir():
        inner = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
        found += [run for each in inner for run in runs_under(each, depth - 1)]
    return found


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value)
    write_whole(path, lambda place: place.write_text(text))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SituError(f"{path} cannot be read ({error}): delete it, and what it tells is made again") from None
