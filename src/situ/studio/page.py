"""What happens on the studio's page: each event is a change of somebody's work or a verb of `Studio`, and what to show.

`who` is a session's name, which the server keeps: no request can name another's.
"""

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

from situ.core.errors import SituError
from situ.core.images import Masks
from situ.core.progress import Progress
from situ.studio.exports import Export, read_stack
from situ.studio.jobs import Jobs
from situ.studio.layout import ALL, VIEWS
from situ.studio.session import MOST, Session, Work, open_session
from situ.studio.verbs import SHOWN, Studio

PREVIEWS = 24  # directions of the library that are shown
CHOICE = 12  # pictures to choose from

Change = Callable[..., Work | None]  # of a session, and the values of controls


def told(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb that cannot do it says why, and the page stays as it was."""

    @wraps(verb)
    def guarded(*values: Any, **named: Any) -> Any:
        try:
            return verb(*values, **named)
        except SituError as error:
            raise gr.Error(str(error), duration=12, print_exception=False) from None

    return guarded


def mask_of(painted: dict[str, Any] | None) -> Masks | None:
    """What was painted in the editor, as a mask; None where that is nothing."""
    layers = [np.asarray(layer)[..., 3] for layer in (painted or {}).get("layers", []) if layer is not None]
    if not layers or not max(layer.max() for layer in layers):
        return None
    drawn = np.max(np.stack(layers), axis=0)
    return torch.from_numpy(drawn.astype(np.float32) / 255)[None, None]


class Page:
    """The events. What lasts between them is in the sessions."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.jobs = studio, Jobs()
        self._sessions: dict[str, Session] = {}
        self._masks: dict[str, Masks] = {}
        self._lock = threading.Lock()
        self._dice = torch.Generator()
        self._dice.seed()

    def named_session(self, who: str) -> tuple[str, Session]:
        """A person's session by the name that their browser keeps, or a new one."""
        with self._lock:
            if who not in self._sessions:
                who, session = open_session(self.studio.workspace, who)
                self._sessions[who] = session
            return who, self._sessions[who]

    def session(self, who: str) -> Session:
        """The session of somebody who has arrived."""
        return self.named_session(who)[1]

    # what is shown

    def show(self, who: str, view: str) -> list[Any]:
        """The picture in a view; the pair to compare takes its place."""
        session = self.session(who)
        pair = self.studio.pictures(session, session.now)
        if view == VIEWS[1]:
            before, after = self.studio.shown(pair)
            return [gr.update(visible=False), gr.update(value=(before, after), visible=True)]
        if view == VIEWS[2]:
            shown = self.studio.difference(pair)
        elif view == VIEWS[3] and session.now.part:
            region = self.studio.region(session.now.part, self._masks.get(who))
            shown = self.studio.outlined(session, session.now, region)
        else:
            (shown,) = self.studio.shown(pair[1:])
        return [gr.update(value=shown, visible=True), gr.update(visible=False)]

    def refreshed(self, who: str, view: str, words: str = "") -> list[Any]:
        """All that shows a person's work: see `Layout.everything`."""
        session = self.session(who)
        now, stack = session.now, []
        for i in range(MOST):
            entry = now.stack[i] if i < len(now.stack) else None
            stack += [
                gr.update(visible=entry is not None),
                gr.update(value=entry.strength if entry else 0, label=entry.direction if entry else ""),
                entry.layers if entry else "",
                entry.on if entry else True,
            ]
        face = gr.update(value=now.face, visible=bool(now.photo))
        own = [now.seed, now.truncation, face, now.part or None]
        return [*self.show(who, view), *stack, *own, self.studio.command(session, now), words]

    def previews(self, who: str, part: str, method: str) -> list[tuple[Image.Image, str]]:
        """The library on the current picture."""
        session = self.session(who)
        items = self.studio.library.items("" if part == ALL else part, "" if method == ALL else method)
        return self.studio.previews(session, session.now, items[:PREVIEWS])

    def arrive(self, kept: str) -> list[Any]:
        """Somebody opens the page, perhaps not for the first time."""
        who, _ = self.named_session(kept or "")
        chooser = self.studio.gallery(range(CHOICE), Work.truncation)
        return [who, who, chooser, self.previews(who, ALL, ALL), *self.refreshed(who, VIEWS[0])]

    def others(self, truncation: float) -> list[tuple[Image.Image, str]]:
        """Other pictures to choose from."""
        return self.studio.gallery(torch.randint(10**6, [CHOICE], generator=self._dice).tolist(), truncation)

    # what changes the work

    def doing(self, change: Change, words: str = "") -> Callable[..., list[Any]]:
        """An event that changes the work and shows it. What cannot be shown is taken back."""

        def event(who: str, view: str, *values: Any) -> list[Any]:
            session = self.session(who)
            before, work = session.now, change(session, *values)
            if work is not None:
                session.do(work)
            try:
                return self.refreshed(who, view, words)
            except SituError:
                if session.now != before and work is not None:
                    session.undo()
                    session.future.clear()
                raise

        return told(event)

    def surprise(self, session: Session) -> Work:
        """Any picture."""
        return replace(session.now, seed=int(torch.randint(2**31 - 1, [1], generator=self._dice)), photo="", face=0)

    def slide(self, index: int, who: str, view: str, strength: float) -> list[Any]:
        """A slider on its way."""
        session = self.session(who)
        if index < len(session.now.stack):
            session.slide(index, float(strength))
        return self.show(who, view)

    def let_go(self, index: int, who: str, strength: float) -> str:
        """A slider at rest; returns the command line."""
        session = self.session(who)
        if index < len(session.now.stack):  # the last position may be on its way still
            session.slide(index, float(strength))
        session.settle()
        return self.studio.command(session, session.now)

    def choose(self, who: str, view: str, event: gr.SelectData) -> list[Any]:
        """A picture of the gallery."""
        seed = int(event.value["caption"])
        return self.doing(lambda session: replace(session.now, seed=seed, photo="", face=0))(who, view)

    def add(self, who: str, view: str, event: gr.SelectData) -> list[Any]:
        """A direction of the library, onto the stack."""
        name = str(event.value["caption"])
        return self.doing(lambda session: session.now.added(name))(who, view)

    def point(self, who: str, view: str, event: gr.SelectData) -> list[Any]:
        """A click into the picture names the part there."""
        session = self.session(who)
        pair = self.studio.pictures(session, session.now)
        column, row = event.index
        size = max(pair.shape[-1], SHOWN)
        part = told(self.studio.part_at)(pair[1:], row / size, column / size)
        words = f"Part: **{part}**. Find directions for it, or see Region."
        return self.doing(lambda session: replace(session.now, part=part), words)(who, view)

    def paper(self, who: str) -> dict[str, Any]:
        """The picture, to be painted on."""
        session = self.session(who)
        (picture,) = self.studio.shown(self.studio.pictures(session, session.now)[1:])
        return {"background": picture, "layers": [], "composite": None}

    def brush(self, who: str, painted: dict[str, Any] | None) -> Any:
        """What was painted is the region; returns its name."""
        mask = mask_of(painted)
        if mask is None:
            self._masks.pop(who, None)
            return gr.skip()
        self._masks[who] = mask
        session = self.session(who)
        session.do(replace(session.now, part="brush"))
        return "brush"

    def load(self, session: Session, path: str) -> Work:
        """A stack that was saved."""
        return replace(session.now, stack=read_stack(self.studio, Path(path)))

    def take(self, export: Export) -> Callable[[str], str]:
        """An event that makes a file to take away."""

        def event(who: str) -> str:
            return str(export(self.studio, self.session(who), Path(tempfile.mkdtemp(prefix="situ-"))))

        return told(event)

    def library_event(self, verb: Callable[..., str]) -> Callable[..., list[Any]]:
        """An event that changes the library and says what it did."""

        def event(who: str, part: str, method: str, *values: Any) -> list[Any]:
            words = verb(*values)
            self.studio.forget()
            return [self.previews(who, part, method), words]

        return told(event)

    def rename(self, name: str, new: str) -> str:
        return f"Now called {self.studio.library.rename(name.strip(), new)}."

    def delete(self, name: str) -> str:
        self.studio.library.remove(name.strip())
        return f"Deleted {name}."

    def bring_in(self, path: str) -> str:
        return f"Added {self.studio.library.bring_in(Path(path))}."

    # long jobs: each tells how far it is, and at the end what came of it or why nothing did

    def _job(
        self,
        who: str,
        doing: str,
        run: Callable[[Session, Progress], Any],
        ended: Callable[[Any], list[Any]],
        waiting: list[Any],
    ) -> Iterator[list[Any]]:
        session = self.session(who)
        job = self.jobs.start(who, lambda progress: run(session, progress))
        try:
            for words in job.watch():
                yield [*waiting, f"{doing}: {words}"]
            yield ended(job.result)
        except KeyboardInterrupt:
            yield [*waiting, "Stopped before there was anything to keep."]
        except SituError as error:
            yield [*waiting, f"**That did not work:** {error}"]
        finally:
            self.jobs.end(who)

    def find(self, who: str, where: str, how: str, part: str, method: str) -> Iterator[list[Any]]:
        """Directions of a region."""

        def run(session: Session, progress: Progress) -> list[str]:
            region = self.studio.region(where or "", self._masks.get(who))
            return self.studio.find(session, session.now, region, how, progress)

        def ended(names: list[str]) -> list[Any]:
            words = f"Found {', '.join(names)}: choose one under Edit." if names else "Nothing was found."
            return [self.previews(who, part, method), words]

        yield from self._job(who, "Finding directions", run, ended, [gr.skip()])

    def compare(self, who: str, where: str) -> Iterator[list[Any]]:
        """Both methods on the same pictures."""

        def run(session: Session, progress: Progress) -> Image.Image:
            region = self.studio.region(where or "", self._masks.get(who))
            return self.studio.compare(region, ["lelsd", "resefa"], session.now.seed, progress)

        def ended(sheet: Image.Image) -> list[Any]:
            return [gr.update(value=sheet, visible=True), "Every edit of the sheet is of the same perceptual size."]

        yield from self._job(who, "Comparing", run, ended, [gr.skip()])

    def invert(self, who: str, view: str, path: str | None, waiting: int) -> Iterator[list[Any]]:
        """A photo comes in.

        Args:
            waiting: number of outputs that stay as they are meanwhile.
        """
        if not path:
            yield [gr.skip()] * (waiting + 1)
            return

        def run(session: Session, progress: Progress) -> tuple[str, int, str]:
            return self.studio.invert(session, Path(path), "refined", progress)

        def ended(found: tuple[str, int, str]) -> list[Any]:
            name, faces, words = found
            session = self.session(who)
            session.do(replace(session.now, photo=name, face=0))
            more = f" {faces} faces; the first is shown." if faces > 1 else ""
            return self.refreshed(who, view, f"Your photo is in: {words}.{more}")

        yield from self._job(who, "Inverting the photo", run, ended, [gr.skip()] * waiting)

    def stop(self, who: str) -> str:
        """The job under way ends with what it has."""
        return "Stopping ..." if self.jobs.cancel(who) else "Nothing is under way."
