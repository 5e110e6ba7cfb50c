"""What happens on the studio's page: each event is a change of somebody's work or a verb of `Studio`, and what to show.

`who` is a session's name, which the server keeps: no request can name another's.
"""

import re
import shutil
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

from situ.core.errors import RegionError, SituError
from situ.core.images import Images
from situ.core.progress import Progress
from situ.studio.cards import Card, data_address
from situ.studio.comparison import comparable
from situ.studio.exports import Export, read_stack
from situ.studio.jobs import Job, Jobs
from situ.studio.kept import Kept
from situ.studio.layout import ALL, VIEWS
from situ.studio.session import MOST, Session, Work, open_session
from situ.studio.verbs import Studio

PREVIEWS = 24  # directions of the library that are shown
CHOICE = 12  # pictures to choose from
SESSIONS = 64  # that are kept in memory; the others are read from their files again
REACH = 3.0  # strengths at the edge of the pad
DRAFT = "Preview, blended from pictures made before: this model is slow. Let go for the real one."
COMPUTING = "Computing the picture ..."

Change = Callable[..., Work | None]  # of a session, and the values of controls


def plain(error: SituError) -> str:
    """An error in words, without the folders that files pass through."""
    return re.sub(r"""(?:/[^/'"]*?)*?/passing/[0-9a-f]{16,}/""", "", str(error))


def told(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb that cannot do it says why, and the page stays as it was."""

    @wraps(verb)
    def guarded(*values: Any, **named: Any) -> Any:
        try:
            return verb(*values, **named)
        except SituError as error:
            raise gr.Error(plain(error), duration=12, print_exception=False) from None

    return guarded


class Page:
    """The events. What lasts between them is in the sessions."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.jobs = studio, Jobs()
        self._sessions: Kept[str, Session] = Kept(SESSIONS, 2**26, Session.settle)
        self._lock = threading.Lock()
        self._dice = torch.Generator()
        self._dice.seed()

    def named_session(self, who: str) -> tuple[str, Session]:
        """A person's session by the name that their browser keeps, or a new one."""
        with self._lock:
            session = self._sessions.get(who)
            if session is None:
                who, session = open_session(self.studio.workspace, who)
                self._sessions.put(who, session)
            return who, session

    def session(self, who: str) -> Session:
        """The session of somebody who has arrived."""
        return self.named_session(who)[1]

    # what is shown

    def show(self, who: str, view: str) -> list[Any]:
        """The picture in a view; the pair to compare takes its place."""
        session = self.session(who)
        return self._seen(session, view, self.studio.pictures(session, session.now))

    def _seen(self, session: Session, view: str, pair: Images) -> list[Any]:
        if view == VIEWS[1]:
            before, after = self.studio.shown(pair)
            return [gr.update(visible=False), gr.update(value=(before, after), visible=True)]
        if view == VIEWS[2]:
            shown = self.studio.difference(pair)
        elif view == VIEWS[3] and session.now.part:
            shown = self.studio.outlined(session, session.now, self.studio.region(session, session.now.part))
        else:
            (shown,) = self.studio.shown(pair[1:])
        return [gr.update(value=shown, visible=True), gr.update(visible=False)]

    def refreshed(self, who: str, view: str, words: str = "") -> list[Any]:
        """All that shows a person's work: see `Layout.everything`."""
        session = self.session(who)
        now, stack = session.now, []
        for i in range(MOST):
            entry = now.stack[i] if i < len(now.stack) else None
            label = (
                entry.direction if entry and self.studio.has(entry) else f"{entry.direction} (deleted)" if entry else ""
            )
            stack += [
                gr.update(visible=entry is not None),
                gr.update(value=entry.strength if entry else 0, label=label),
                entry.layers if entry else "",
                entry.on if entry else True,
            ]
        face = gr.update(value=now.face, visible=bool(now.photo))
        where = gr.update(value=now.part or None, choices=self._places(now.part))
        own = [now.seed, now.truncation, face, where]
        return [*self.show(who, view), *stack, *self._pad(session), *own, self.studio.command(session, now), words]

    def _places(self, part: str) -> list[tuple[str, str]]:
        """Regions to choose from: the parts, and the one that is chosen."""
        known = [(name, name) for name in self.studio.regions.parts]
        if not part or part in self.studio.regions.parts:
            return known
        return [*known, ("what is painted" if part.startswith("brush-") else part, part)]

    def _pad(self, session: Session) -> list[Any]:
        """The pad, and which edits it moves; hidden where there are fewer than two."""
        stack, count = session.now.stack, len(session.now.stack)
        if count < 2:
            return [gr.update(visible=False), gr.skip(), gr.skip(), gr.skip()]
        a, b = session.aim()
        choices = [(f"{i + 1} {entry.direction}", i) for i, entry in enumerate(stack)]
        value = {
            "x": stack[a].strength,
            "y": stack[b].strength,
            "reach": REACH,
            "across": choices[a][0],
            "down": choices[b][0],
            "rest": self.studio.palette_key(session, session.now, (a, b)),
            "picture": self.studio.kept_palette(session, session.now, (a, b)),
        }
        return [gr.update(visible=True), *(gr.update(choices=choices, value=i) for i in (a, b)), value]

    def shelving(self, who: str, part: str, method: str, gain: float | None) -> Iterator[list[Any]]:
        """The shelves; on a slow model one preview after the other, as long as the picture is the same."""
        if self.studio.slow:
            picture = self.studio.picture_name(self.session(who))
            for most in range(PREVIEWS):
                yield self.shelves(who, part, method, gain, most)
                if self.studio.picture_name(self.session(who)) != picture:
                    return
        yield self.shelves(who, part, method, gain)

    def shelves(self, who: str, part: str, method: str, gain: float | None, most: int | None = None) -> list[Any]:
        """The library on the current picture, and what there is to filter by and to compare.

        Args:
            most: previews that may be made; the others are left blank.
        """
        session = self.session(who)
        library = self.studio.library
        every = library.items()
        wanted = library.items("" if part == ALL else part, "" if method == ALL else method, float(gain or 0))
        parts, methods = (
            sorted({*names}) for names in ([i.direction.region for i in every], [i.method for i in every])
        )
        rivals = [*comparable(self.studio.pack), *(item.name for item in every)]
        return [
            self.studio.previews(session, session.now, wanted[:PREVIEWS], most),
            gr.update(choices=[ALL, *parts], value=part if part in parts else ALL),
            gr.update(choices=[ALL, *methods], value=method if method in methods else ALL),
            gr.update(choices=[item.name for item in every]),
            *[gr.update(choices=rivals)] * 2,
        ]

    def arrive(self, kept: str) -> list[Any]:
        """Somebody opens the page, perhaps not for the first time."""
        who, session = self.named_session(kept or "")
        try:
            return [who, who, *self.refreshed(who, VIEWS[0])]
        except SituError as error:
            session.do(Work())
            words = f"Your last work cannot be shown ({error}), so this is a new start. Undo goes back."
            return [who, who, *self.refreshed(who, VIEWS[0], words)]

    def chooser(self) -> list[Card]:
        """The first pictures to choose from."""
        return self.studio.gallery(range(CHOICE), Work.truncation)

    def warm(self) -> None:
        """Make what everybody sees first, before anybody has come."""
        nobody = Session(self.studio.workspace)
        self.studio.pictures(nobody, nobody.now)
        if not self.studio.slow:
            self.studio.previews(nobody, nobody.now, self.studio.library.items()[:PREVIEWS])
            self.chooser()

    def others(self, truncation: float) -> list[Card]:
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

    @staticmethod
    def undo(session: Session) -> None:
        """Back, where there is anything to go back to."""
        session.undo()

    @staticmethod
    def redo(session: Session) -> None:
        """Forth again, where anything was taken back."""
        session.redo()

    def surprise(self, session: Session) -> Work:
        """Any picture."""
        return replace(session.now, seed=int(torch.randint(2**31 - 1, [1], generator=self._dice)), photo="", face=0)

    def slide(self, index: int, who: str, view: str, strength: float | None) -> list[Any]:
        """A slider on its way."""
        return self._moved(who, view, {index: float(strength or 0)})

    def _moved(self, who: str, view: str, strengths: dict[int, float]) -> list[Any]:
        """Strengths on their way: the picture, or a preview of it where the model is slow; and words about it."""
        session = self.session(who)
        session.slide(strengths)
        if not self.studio.slow:
            return [*self.show(who, view), gr.skip()]
        moved = [i for i in strengths if i < len(session.now.stack)]
        return [*self._seen(session, view, self.studio.blended(session, session.now, moved)), DRAFT]

    def let_go(self, index: int, who: str, view: str, strength: float | None) -> Iterator[list[Any]]:
        """A slider at rest."""
        session = self.session(who)
        session.slide({index: float(strength or 0)})  # the last position may be on its way still
        yield from self._rest(who, view, 2 + 4 * index + 1)

    def _rest(self, who: str, view: str, own: int) -> Iterator[list[Any]]:
        """All of the work, after a control came to rest.

        Args:
            own: number of that control among the outputs: it may have gone on meanwhile, so it is left alone.
        """
        self.session(who).settle()
        if self.studio.slow:
            yield [*[gr.skip()] * self.outputs, COMPUTING]
        shown = told(self.refreshed)(who, view)
        shown[own] = gr.skip()
        yield shown

    @property
    def outputs(self) -> int:
        """Number of outputs of `refreshed`, but for the words at their end."""
        return 2 + 4 * MOST + 4 + 4 + 1

    # the pad

    def aim(self, who: str, view: str, across: int | None, down: int | None) -> list[Any]:
        """Which edits the pad moves."""
        self.session(who).aim(across, down)
        return self.refreshed(who, view)

    def pad(self, who: str, view: str, value: dict[str, Any]) -> list[Any]:
        """The point of the pad on its way: what a slider shows, and the strengths."""
        session = self.session(who)
        strengths = self._pointed(session, value)
        seen = self._moved(who, view, strengths)
        return [*seen, *(strengths.get(i, gr.skip()) for i in range(MOST))]

    def drop(self, who: str, view: str, value: dict[str, Any]) -> Iterator[list[Any]]:
        """The point of the pad at rest."""
        session = self.session(who)
        session.slide(told(self._pointed)(session, value))
        yield from self._rest(who, view, 2 + 4 * MOST + 3)

    @staticmethod
    def _pointed(session: Session, value: dict[str, Any]) -> dict[int, float]:
        try:
            x, y = (min(max(float(value[axis]), -REACH), REACH) for axis in "xy")
        except (KeyError, TypeError, ValueError):
            raise SituError("the pad's point is two numbers") from None
        return dict(zip(session.aimed, (x, y), strict=True))

    def pad_picture(self, who: str) -> Any:
        """The pad with the picture of all combinations; without it where that would take long."""
        session = self.session(who)
        if len(session.now.stack) >= 2 and not self.studio.slow:
            self.studio.palette_picture(session, session.now, session.aimed, REACH)
        return self._pad(session)[-1]

    # regions

    def part_map(self, who: str, value: dict[str, Any] | None) -> dict[str, Any]:
        """Which part is where in the picture that is shown: a PNG of their numbers, and their names."""
        session = self.session(who)
        of = {"of": str((value or {}).get("asks", ""))[:1000]}
        try:
            winners, parts = self.studio.part_map(session, session.now, session.clusters)
        except RegionError:  # a model without parts has none to show
            return {"map": "", "parts": [], **of}
        numbers = Image.fromarray(winners.numpy().astype(np.uint8))
        return {"map": data_address(numbers, "PNG"), "parts": list(parts), **of}

    def mark(self, who: str, view: str, value: dict[str, Any] | None) -> list[Any]:
        """A mark on the picture is the region: a part that was clicked, a box, a painted place."""

        def change(session: Session) -> Work:
            mark = (value or {}).get("mark") or {}
            try:
                if mark["kind"] == "part":
                    place = float(mark["row"]), float(mark["column"])
                    part = self.studio.part_at(session, session.now, *place, session.clusters)
                elif mark["kind"] == "box":
                    part = self.studio.regions.box([float(share) for share in mark["corners"]])
                else:
                    part = self.studio.regions.paint(str(mark["mask"]), session.folder)
            except (KeyError, TypeError, ValueError, IndexError, OverflowError):
                raise RegionError("the mark on the picture cannot be read: mark it again") from None
            return replace(session.now, part=part)

        shown = self.doing(change)(who, view)
        return [*shown[:-1], self._chosen(self.session(who).now.part)]

    def choose_region(self, who: str, view: str, text: str | None) -> list[Any]:
        """A region by its name, from the list or written."""
        session = self.session(who)
        part = told(self.studio.regions.read)(text or "", session.folder)
        return self.doing(lambda session: replace(session.now, part=part), self._chosen(part))(who, view)

    @staticmethod
    def _chosen(part: str) -> str:
        name = "what is painted" if part.startswith("brush-") else part
        return f"Region: **{name}**. Find directions for it, or see Region." if part else ""

    def choose_cluster(self, who: str, view: str, event: gr.EventData) -> list[Any]:
        """A cluster of the sheet."""
        return self.choose_region(who, view, str(event._data["name"]))

    def find_clusters(self, who: str, count: float | None) -> Iterator[list[Any]]:
        """The sheet of so many clusters."""

        def run(session: Session, progress: Progress) -> list[Card]:
            k = int(count or 0)
            self.studio.regions.find_clusters(k, torch.Generator().manual_seed(0), progress)
            if self.studio.pack.segmenter is None:
                session.clusters = k  # what the pointer tells
            return self.studio.cluster_sheet(session, session.now, k)

        def ended(cards: list[Card]) -> list[Any]:
            # the map of parts is of other parts now, where the model has none of its own
            parts = gr.skip() if self.studio.pack.segmenter else {"map": "", "parts": [], "of": ""}
            return [cards, parts, "Choose one of the clusters as the region."]

        yield from self._job(who, "Looking for clusters", run, ended, [gr.skip()] * 2)

    # the library

    def choose(self, who: str, view: str, event: gr.EventData) -> list[Any]:
        """A picture of those to choose from."""
        seed = int(event._data["name"])
        return self.doing(lambda session: replace(session.now, seed=seed, photo="", face=0))(who, view)

    def add(self, who: str, view: str, event: gr.EventData) -> list[Any]:
        """A direction of the library, onto the stack."""
        name = str(event._data["name"])
        told(self.studio.library.item)(name)
        return self.doing(lambda session: session.now.added(name))(who, view)

    def load(self, session: Session, path: str) -> Work:
        """A stack that was saved."""
        return replace(session.now, stack=read_stack(self.studio, Path(path)))

    def take(self, export: Export) -> Callable[[str], str]:
        """An event that makes a file to take away."""

        def event(who: str) -> str:
            return str(export(self.studio, self.session(who), Path(self.folder())))

        return told(event)

    def folder(self) -> str:
        """A new one for what is taken away; emptied with what else passes through."""
        passing = self.studio.workspace / "passing"
        passing.mkdir(parents=True, exist_ok=True)
        return tempfile.mkdtemp(dir=passing)

    def library_event(self, verb: Callable[..., str]) -> Callable[..., list[Any]]:
        """An event that changes the library, and with it perhaps the work; it says what it did."""

        def event(who: str, view: str, *values: Any) -> list[Any]:
            words = verb(self.session(who), *values)
            self.studio.forget()
            return self.refreshed(who, view, words)

        return told(event)

    def rename(self, session: Session, name: str | None, new: str) -> str:
        if not new.strip():
            raise SituError("give the direction a new name")
        got = self.studio.library.rename(name or "", new)
        session.rename(name or "", got)
        return f"Now called {got}."

    def export(self, name: str | None) -> Any:
        """The file of a direction, to take away."""
        item = self.studio.library.item(name or "")
        place = Path(self.folder()) / item.path.name
        shutil.copyfile(item.path, place)
        return gr.update(value=str(place), visible=True)

    def delete(self, session: Session, name: str | None) -> str:
        self.studio.library.remove(name or "")
        used = any(entry.direction == name for entry in session.now.stack)
        return f"Deleted {name}." + (" It does nothing in the stack any more: remove it there." if used else "")

    def bring_in(self, session: Session, path: str | None) -> str:
        return f"Added {self.studio.library.bring_in(Path(path))}." if path else ""

    # long jobs: each tells how far it is, and at the end what came of it or why nothing did

    def _job(
        self,
        who: str,
        doing: str,
        run: Callable[[Session, Progress], Any],
        ended: Callable[[Any], list[Any]],
        waiting: list[Any],
    ) -> Iterator[list[Any]]:
        try:
            job = self.jobs.start(who, lambda progress: run(self.session(who), progress), doing)
        except SituError as error:
            raise gr.Error(str(error), duration=12, print_exception=False) from None
        yield from self._watched(job, ended, waiting)

    def _watched(self, job: Job[Any], ended: Callable[[Any], list[Any]], waiting: list[Any]) -> Iterator[list[Any]]:
        try:
            for words in job.watch():
                yield [*waiting, words]
            yield ended(job.result)
        except KeyboardInterrupt:
            yield [*waiting, "Stopped before there was anything to keep."]
        except SituError as error:
            yield [*waiting, f"**That did not work:** {plain(error)}"]

    def follow(self, who: str, view: str) -> Iterator[list[Any]]:
        """Somebody who loaded the page anew sees the job that they left under way."""
        job = self.jobs.of(who)
        if job is not None:
            waiting = [gr.skip()] * self.outputs
            yield from self._watched(job, lambda _: self.refreshed(who, view, f"{job.doing}: done."), waiting)
        else:
            yield [gr.skip()] * (self.outputs + 1)

    def find(self, who: str, how: str, *filters: Any) -> Iterator[list[Any]]:
        """Directions of the region that is chosen."""

        def run(session: Session, progress: Progress) -> list[str]:
            region = self.studio.region(session, session.now.part)
            return self.studio.find(session, session.now, region, how, progress)

        def ended(names: list[str]) -> list[Any]:
            words = f"Found {', '.join(names)}: choose one under Edit." if names else "Nothing was found."
            return [*self.shelves(who, *filters, most=2 if self.studio.slow else None), words]

        yield from self._job(who, "Finding directions", run, ended, [gr.skip()] * 6)

    def compare(self, who: str, first: str | None, second: str | None) -> Iterator[list[Any]]:
        """Two methods or directions on the same pictures."""

        def run(session: Session, progress: Progress) -> tuple[Image.Image, str]:
            region = self.studio.region(session, session.now.part)
            return self.studio.compare(region, [first or "", second or ""], session.now.seed, progress)

        def ended(found: tuple[Image.Image, str]) -> list[Any]:
            picture, failed = found
            return [gr.update(value=picture, visible=True), failed or "Every edit of the sheet is of the same size."]

        yield from self._job(who, "Comparing", run, ended, [gr.skip()])

    def invert(self, who: str, view: str, path: str | None) -> Iterator[list[Any]]:
        """A photo comes in."""
        waiting = [gr.skip()] * self.outputs
        if not path:
            yield [*waiting, gr.skip()]
            return

        def run(session: Session, progress: Progress) -> tuple[str, int, str]:
            found = self.studio.invert(session, Path(path), "refined", progress)
            session.do(replace(session.now, photo=found[0], face=0))
            return found

        def ended(found: tuple[str, int, str]) -> list[Any]:
            _, faces, words = found
            more = f" {faces} faces; the first is shown." if faces > 1 else ""
            return self.refreshed(who, view, f"Your photo is in: {words}.{more}")

        yield from self._job(who, "Inverting the photo", run, ended, waiting)

    def stop(self, who: str) -> str:
        """The job under way ends with what it has."""
        return "Stopping ..." if self.jobs.cancel(who) else "Nothing is under way."
