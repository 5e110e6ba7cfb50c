"""What one person is at work on: a picture, a stack of edits, a region; with undo, and found again after a reload.

No Gradio and no tensors: names, numbers and files of the person's own folder.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from situ.core.errors import FileError
from situ.core.files import write_whole

FORMAT = "situ-session-1"
STEPS = 100  # of undo that are kept
MOST = 6  # edits in a stack
_ID = re.compile(r"[A-Za-z0-9_-]{22,64}")


@dataclass(frozen=True)
class Entry:
    """An edit of the stack."""

    direction: str  # its name in the library
    strength: float = 0.0
    layers: str = ""  # "4-7"; all that the direction has by default
    on: bool = True


@dataclass(frozen=True)
class Work:
    """All that undo goes back over."""

    seed: int = 0
    truncation: float = 0.7
    photo: str = ""  # file name in the session's folder; none: the picture of the seed
    face: int = 0  # of the photo
    stack: tuple[Entry, ...] = ()
    part: str = ""  # the region in words, as `Regions.region` reads them

    def with_entry(self, index: int, **changes: Any) -> "Work":
        """The stack with one entry changed."""
        changed = replace(self.stack[index], **changes)
        return replace(self, stack=(*self.stack[:index], changed, *self.stack[index + 1 :]))

    def added(self, direction: str, strength: float = 1.0) -> "Work":
        """The stack with one more edit on top. Raises FileError where it is full."""
        if len(self.stack) >= MOST:
            raise FileError(f"a stack holds {MOST} edits: remove one first")
        return replace(self, stack=(*self.stack, Entry(direction, strength)))

    def renamed(self, old: str, new: str) -> "Work":
        """The stack with a direction under its new name."""
        stack = (replace(entry, direction=new) if entry.direction == old else entry for entry in self.stack)
        return replace(self, stack=tuple(stack))

    def without(self, index: int) -> "Work":
        """The stack with one edit less."""
        return replace(self, stack=self.stack[:index] + self.stack[index + 1 :])

    def raised(self, index: int) -> "Work":
        """The stack with one edit applied a place earlier."""
        if index == 0:
            return self
        order = list(self.stack)
        order[index - 1], order[index] = order[index], order[index - 1]
        return replace(self, stack=tuple(order))


@dataclass
class Session:
    """A person's work and its history."""

    folder: Path
    now: Work = field(default_factory=Work)
    past: list[Work] = field(default_factory=list)
    future: list[Work] = field(default_factory=list)
    sliding: tuple[int, ...] = ()  # numbers of the edits whose sliders are under way

    aimed: tuple[int, int] = (0, 1)  # numbers of the edits that the pad moves
    clusters: int | None = None  # number of the clusters that the pointer tells, where the model has no parts

    def aim(self, across: int | None = None, down: int | None = None) -> tuple[int, int]:
        """Have the pad move other edits, where these are two of the stack; the same one twice turns it round.

        Returns:
            the numbers of the edits that it moves, of a stack of two or more.
        """
        count, (a, b) = len(self.now.stack), self.aimed
        if across is not None and down is not None and max(across, down) < count and min(across, down) >= 0:
            a, b = (across, down) if across != down else (b, a)
        if max(a, b) >= count:
            a, b = 0, 1
        self.aimed = (a, b)
        return self.aimed

    def do(self, work: Work) -> None:
        """Go on to new work; undo comes back to what was there before."""
        self.settle()
        if work == self.now:
            return
        self.past = [*self.past[-STEPS + 1 :], self.now]
        self.future, self.now = [], work
        self.save()

    def slide(self, strengths: Mapping[int, float]) -> None:
        """Strengths under way, by the numbers of their edits: all positions, until they are let go, are one step of
        undo. Edits that are no more are left out."""
        stack = self.now.stack
        moved = {i: s for i, s in strengths.items() if i < len(stack) and s != stack[i].strength}
        if not moved:
            return
        if self.sliding != tuple(strengths):
            self.settle()
            self.sliding = tuple(strengths)
            self.past = [*self.past[-STEPS + 1 :], self.now]
        self.future = []
        for i, strength in moved.items():
            self.now = self.now.with_entry(i, strength=strength)

    def settle(self) -> None:
        """The slider was let go."""
        if self.sliding:
            self.sliding = ()
            self.save()

    def rename(self, old: str, new: str) -> None:
        """A direction has another name from now on, in all that can be gone back to as well."""
        self.settle()
        self.now = self.now.renamed(old, new)
        self.past, self.future = ([work.renamed(old, new) for work in works] for works in (self.past, self.future))
        self.save()

    def undo(self) -> bool:
        """Back to the work before. False where there is none."""
        self.settle()
        if not self.past:
            return False
        self.future.append(self.now)
        self.now = self.past.pop()
        self.save()
        return True

    def redo(self) -> bool:
        """Take an undo back. False where there is none."""
        if not self.future:
            return False
        self.past.append(self.now)
        self.now = self.future.pop()
        self.save()
        return True

    def save(self) -> None:
        """Write it into its folder, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "format": FORMAT,
            "now": asdict(self.now),
            "past": [asdict(work) for work in self.past],
            "future": [asdict(work) for work in self.future],
        }
        text = json.dumps(content)
        write_whole(self.folder / "session.json", lambda place: place.write_text(text, encoding="utf-8"))


def new_id() -> str:
    """A name that nobody can guess."""
    return secrets.token_urlsafe(24)


def secret_of(workspace: Path) -> str:
    """What the names in browsers are sealed with: kept, so that a new start of the server knows them again."""
    path = workspace / "secret"
    if not path.is_file():
        workspace.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(new_id(), encoding="utf-8")
    return path.read_text(encoding="utf-8")


def open_session(workspace: Path, identity: str) -> tuple[str, Session]:
    """A person's session, where it was left; a new one for an unknown or impossible name, or a damaged file.

    Returns:
        its name, to be kept in the person's browser, and the session.
    """
    if not _ID.fullmatch(identity or ""):
        identity = new_id()
    folder = workspace / "sessions" / identity
    try:
        content = json.loads((folder / "session.json").read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        past, future = ([_work(each) for each in content[key]] for key in ("past", "future"))
        return identity, Session(folder, _work(content["now"]), past, future)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return identity, Session(folder)


def _work(content: Mapping[str, Any]) -> Work:
    photo = str(content["photo"])
    if Path(photo).name != photo:
        raise ValueError("a photo's name is that of a file of the session")
    return Work(
        int(content["seed"]),
        float(content["truncation"]),
        photo,
        int(content["face"]),
        tuple(
            Entry(str(e["direction"]), float(e["strength"]), str(e["layers"]), bool(e["on"])) for e in content["stack"]
        ),
        str(content["part"]),
    )
