"""The studio's page, on Gradio: each control calls one verb of `Studio`; what a person does lives in `Session`."""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import numpy as np
import torch
from gradio.events import api
from PIL import Image

from situ.core.errors import FileError, SituError
from situ.core.images import Masks
from situ.core.latents import save_latents
from situ.core.progress import silent
from situ.packs.pack import Pack
from situ.studio.jobs import Jobs
from situ.studio.session import MOST, Entry, Session, Work, open_session, secret_of
from situ.studio.theme import CSS, theme
from situ.studio.verbs import SHOWN, Studio

LOOPBACK = ("127.0.0.1", "localhost", "::1")
UPLOAD = "20mb"  # largest file that is taken
WAITING = 32  # events in the queue before a polite no
HEAVY = "heavy"  # what runs one at a time
VIEWS = ("Edited", "Before | after", "Change", "Region")
HELP = "Strength 1 moves every picture by the same perceptual distance, whatever the direction."


class Page:
    """What the events of the page do. State between events is in the sessions alone."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.jobs = studio, Jobs()
        self._sessions: dict[str, Session] = {}
        self._masks: dict[str, Masks] = {}
        self._lock = threading.Lock()

    def session(self, identity: str) -> tuple[str, Session]:
        """A person's session by the name that their browser keeps."""
        with self._lock:
            if identity not in self._sessions:
                identity, session = open_session(self.studio.workspace, identity)
                self._sessions[identity] = session
            return identity, self._sessions[identity]

    def show(self, identity: str, view: str) -> list[Any]:
        """The picture (and the pair to compare) in a view."""
        _, session = self.session(identity)
        pair = self.studio.pictures(session, session.now)
        if view == VIEWS[1]:
            before, after = self.studio.shown(pair)
            return [gr.update(visible=False), gr.update(value=(before, after), visible=True)]
        if view == VIEWS[2]:
            shown = self.studio.difference(pair)
        elif view == VIEWS[3] and session.now.part:
            region = self.studio.region(session.now.part, self._masks.get(identity))
            latents = self.studio.latents(session, session.now)[session.now.face : session.now.face + 1]
            with torch.no_grad():
                shown = self.studio.outlined(
                    pair[1:], region.mask(self.studio.pack.generator.synthesize(latents, region.layers))
                )
        else:
            (shown,) = self.studio.shown(pair[1:])
        return [gr.update(value=shown, visible=True), gr.update(visible=False)]

    def controls(self, session: Session) -> list[Any]:
        """The sliders of the stack, and the picture's own controls, as the session has them."""
        updates: list[Any] = []
        for i in range(MOST):
            entry = session.now.stack[i] if i < len(session.now.stack) else None
            updates += [
                gr.update(visible=entry is not None),
                gr.update(value=entry.strength if entry else 0, label=entry.direction if entry else ""),
                gr.update(value=entry.layers if entry else ""),
                gr.update(value=entry.on if entry else True),
            ]
        faces = gr.update(visible=bool(session.now.photo))
        return [*updates, session.now.seed, session.now.truncation, faces, session.now.part or None]

    def library(self, identity: str, part: str, method: str) -> list[tuple[Image.Image, str]]:
        """Previews of the library on the current picture."""
        _, session = self.session(identity)
        items = self.studio.library.items("" if part == "all" else part, "" if method == "all" else method)
        return self.studio.previews(session, session.now, items[:24])


def _guarded(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A failed verb says why and leaves the page as it was."""

    def guarded(*values: Any) -> Any:
        try:
            return verb(*values)
        except SituError as error:
            raise gr.Error(str(error), duration=12, print_exception=False) from None

    guarded.__name__ = getattr(verb, "__name__", "verb")
    return guarded


def mask_of(painted: dict[str, Any] | None) -> Masks | None:
    """What was painted in the editor, as a mask; None where that is nothing."""
    layers = [np.asarray(layer)[..., 3] for layer in (painted or {}).get("layers", []) if layer is not None]
    if not layers or not max(layer.max() for layer in layers):
        return None
    drawn = np.max(np.stack(layers), axis=0)
    return torch.from_numpy(drawn.astype(np.float32) / 255)[None, None]


def build(studio: Studio) -> gr.Blocks:
    """The page of a studio."""
    page = Page(studio)
    pack = studio.pack
    parts = [*(pack.segmenter.parts if pack.segmenter else ()), "brush"]
    with gr.Blocks(title="Situ", analytics_enabled=False) as blocks:
        identity = gr.BrowserState("", storage_key="situ-session", secret=secret_of(studio.workspace))
        me = gr.State("")
        gr.Markdown(f"# Situ\nEdit one part of a picture and leave the rest alone. Model: {pack.name}", elem_id="head")
        with gr.Row():
            with gr.Column(scale=5, min_width=260):
                view = gr.Radio(VIEWS, value=VIEWS[0], show_label=False, container=False, elem_id="view")
                picture = gr.Image(
                    show_label=False, interactive=False, elem_id="picture", format="webp", buttons=["fullscreen"],
                    alt_text="the picture; click a part of it to choose that part",
                )  # fmt: skip
                compare = gr.ImageSlider(
                    show_label=False, interactive=False, visible=False, elem_id="compare", format="webp",
                    buttons=["fullscreen"],
                )  # fmt: skip
                said = gr.Markdown("", elem_id="said")
                with gr.Row(elem_classes="small"):
                    undo = gr.Button("Undo", size="sm")
                    redo = gr.Button("Redo", size="sm")
                    reset = gr.Button("Reset", size="sm")
                    surprise = gr.Button("Surprise me", size="sm", variant="primary")
            with gr.Column(scale=4, min_width=260), gr.Tabs():
                with gr.Tab("Edit"):
                    slots: list[Any] = []
                    for i in range(MOST):
                        with gr.Column(visible=False, elem_classes="edit", variant="compact") as group:
                            slider = gr.Slider(
                                -5, 5, 0, step=0.05, label="", interactive=True, elem_id=f"strength-{i + 1}",
                            )  # fmt: skip
                            with gr.Row(elem_classes="small", equal_height=True):
                                on = gr.Checkbox(True, label="On", min_width=60, container=False, scale=1)
                                layers = gr.Textbox(
                                    "", label=f"Layers of edit {i + 1}", placeholder="all layers, or 4-7",
                                    min_width=110, container=False, scale=2,
                                )  # fmt: skip
                                up = gr.Button("Up", size="sm", min_width=50, scale=1)
                                gone = gr.Button("Remove", size="sm", min_width=70, scale=1)
                        slots.append((group, slider, layers, on, up, gone))
                    gr.Markdown(
                        "**Directions.** Click one to add it: less of it on the left, more on the right. " + HELP,
                        elem_classes="quiet",
                    )
                    with gr.Row():
                        only = gr.Dropdown(["all", *parts], value="all", label="Part", min_width=100)
                        by = gr.Dropdown(["all", "LELSD", "ReSeFa"], value="all", label="Method", min_width=100)
                    gallery = gr.Gallery(
                        label="Directions", show_label=False, columns=3, height=330, object_fit="contain",
                        allow_preview=False, elem_id="library", buttons=[],
                    )  # fmt: skip
                    with gr.Accordion("Rename, delete, import", open=False):
                        named = gr.Textbox(label="Direction", placeholder="its name")
                        renamed = gr.Textbox(label="New name")
                        with gr.Row():
                            rename, delete = gr.Button("Rename", size="sm"), gr.Button("Delete", size="sm")
                        imported = gr.File(
                            label="Direction file (.safetensors)", file_types=[".safetensors"], height=90
                        )
                with gr.Tab("Find"):
                    part = gr.Dropdown(parts, value=None, label="Where", info="or click a part in the picture")
                    with gr.Accordion("Paint the region", open=False):
                        paint = gr.Button("Put the picture here", size="sm")
                        painter = gr.ImageEditor(
                            label="Paint over the place to edit", type="numpy", elem_id="painter", sources=(),
                            brush=gr.Brush(default_size=28, colors=["#ff3399"], color_mode="fixed"),
                            layers=False, transforms=(), height=380,
                        )  # fmt: skip
                    method = gr.Radio(
                        [("Quick: from this picture (ReSeFa)", "resefa"), ("Careful: many pictures (LELSD)", "lelsd")],
                        value="resefa", label="How",
                        info="Quick solves the picture's Jacobian in seconds; careful optimises for half a minute.",
                    )  # fmt: skip
                    with gr.Row():
                        find = gr.Button("Find directions here", variant="primary")
                        cancel = gr.Button("Stop, keep what there is")
                    versus = gr.Button("Compare both on the same pictures", size="sm")
                    sheet = gr.Image(label="Both methods, edits of equal size", interactive=False, visible=False)
                with gr.Tab("Picture"):
                    with gr.Row():
                        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1, min_width=90)
                        truncation = gr.Slider(0.1, 1.2, 0.7, step=0.05, label="Variety", info="Truncation ψ")
                    gr.Markdown("Choose a picture, or bring your own photo below.", elem_classes="quiet")
                    chooser = gr.Gallery(
                        label="Choose a picture", show_label=False, columns=4, height=300, allow_preview=False,
                        elem_id="chooser", buttons=[],
                    )  # fmt: skip
                    more = gr.Button("Others", size="sm")
                    upload = gr.Image(
                        label="Your photo", type="filepath", sources=["upload"], height=150, elem_id="upload"
                    )
                    face = gr.Number(0, label="Face", precision=0, minimum=0, visible=False)
                with gr.Tab("Take away"):
                    with gr.Row():
                        png, strip = gr.Button("Picture"), gr.Button("Strip")
                        motion, palette = gr.Button("Animation"), gr.Button("Palette of two")
                    with gr.Row():
                        stack, codes = gr.Button("Stack"), gr.Button("Latents")
                    taken = gr.File(label="Here it is", interactive=False)
                    load = gr.File(label="Load a stack (.json)", file_types=[".json"], height=90)
                    command = gr.Textbox(
                        label="The same on the command line",
                        interactive=False,
                        lines=3,
                        buttons=["copy"],
                        elem_id="command",
                    )

        seen = [picture, compare]
        flat = [c for group, slider, layers, on, _, _ in slots for c in (group, slider, layers, on)]
        everything = [*seen, *flat, seed, truncation, face, part, command, said]

        def refreshed(who: str, shown: str, words: str = "") -> list[Any]:
            _, session = page.session(who)
            line = page.studio.command(session, session.now)
            return [*page.show(who, shown), *page.controls(session), line, words]

        def doing(change: Callable[..., Work | None], words: str = "") -> Callable[..., list[Any]]:
            """An event that changes the work and shows it; undo comes back over it."""

            def event(who: str, shown: str, *values: Any) -> list[Any]:
                _, session = page.session(who)
                before, work = session.now, change(session, *values)
                if work is not None:
                    session.do(work)
                try:
                    return refreshed(who, shown, words)
                except SituError:
                    if work is not None and session.now != before:
                        session.undo()
                        session.future.clear()
                    raise

            return _guarded(event)

        def arrive(kept: str) -> list[Any]:
            who, _ = page.session(kept or "")
            rows = page.studio.gallery(range(12), 0.7)
            return [who, who, rows, page.library(who, "all", "all"), *refreshed(who, VIEWS[0])]

        blocks.load(_guarded(arrive), identity, [identity, me, chooser, gallery, *everything], api_visibility="private")
        private: dict[str, Any] = {"api_visibility": "private"}
        quick = {**private, "show_progress": "hidden"}

        # live: only the newest position of a slider is computed
        def slide(index: int, who: str, shown: str, strength: float) -> list[Any]:
            _, session = page.session(who)
            if index < len(session.now.stack):
                session.slide(index, float(strength))
            return page.show(who, shown)

        def let_go(index: int, who: str, strength: float) -> str:
            _, session = page.session(who)
            if index < len(session.now.stack):  # the last position may be on its way still
                session.slide(index, float(strength))
            session.settle()
            return page.studio.command(session, session.now)

        for i, (_, slider, layers, on, up, gone) in enumerate(slots):
            slider.input(
                _guarded(partial(slide, i)), [me, view, slider], seen, trigger_mode="always_last", queue=True, **quick
            )
            slider.release(_guarded(partial(let_go, i)), [me, slider], command, **quick)
            layers.submit(
                doing(lambda s, v, i=i: s.now.with_entry(i, layers=v)), [me, view, layers], everything, **quick
            )
            on.input(doing(lambda s, v, i=i: s.now.with_entry(i, on=v)), [me, view, on], everything, **quick)
            up.click(doing(lambda s, i=i: s.now.raised(i)), [me, view], everything, **quick)
            gone.click(doing(lambda s, i=i: s.now.without(i)), [me, view], everything, **quick)

        def undone(session: Session) -> None:
            session.undo()

        def redone(session: Session) -> None:
            session.redo()

        undo.click(doing(undone), [me, view], everything, **quick)
        redo.click(doing(redone), [me, view], everything, **quick)
        reset.click(doing(lambda s: replace(s.now, stack=())), [me, view], everything, **quick)
        view.input(_guarded(page.show), [me, view], seen, **quick)

        def surprised(session: Session) -> Work:
            return replace(session.now, seed=int(torch.randint(2**31 - 1, [1], generator=_dice)), photo="", face=0)

        _dice = torch.Generator()
        _dice.seed()
        surprise.click(doing(surprised), [me, view], everything, **quick)
        seed.submit(
            doing(lambda s, v: replace(s.now, seed=int(v or 0), photo="", face=0)),
            [me, view, seed],
            everything,
            **quick,
        )
        truncation.release(
            doing(lambda s, v: replace(s.now, truncation=float(v))), [me, view, truncation], everything, **quick
        )
        face.submit(doing(lambda s, v: replace(s.now, face=int(v or 0))), [me, view, face], everything, **quick)

        def chosen(who: str, shown: str, event: gr.SelectData) -> list[Any]:
            seed_of = int(event.value["caption"])
            return doing(lambda s: replace(s.now, seed=seed_of, photo="", face=0))(who, shown)

        chooser.select(chosen, [me, view], everything, **quick)
        more.click(
            _guarded(lambda t: page.studio.gallery(torch.randint(10**6, [12], generator=_dice).tolist(), t)),
            truncation, chooser, **quick,
        )  # fmt: skip

        def added(who: str, shown: str, event: gr.SelectData) -> list[Any]:
            name = str(event.value["caption"])
            return doing(lambda s: s.now.added(name))(who, shown)

        gallery.select(added, [me, view], everything, **quick)
        previews = [me, only, by]
        gr.on([only.input, by.input], _guarded(page.library), previews, gallery, **quick)
        gr.on([surprise.click, chooser.select], None, None, None, **private)

        def pointed(who: str, shown: str, event: gr.SelectData) -> list[Any]:
            column, row = event.index
            _, session = page.session(who)
            pair = page.studio.pictures(session, session.now)
            size = max(pair.shape[-1], SHOWN)
            name = page.studio.part_at(pair[1:], row / size, column / size)
            return doing(
                lambda s: replace(s.now, part=name), f"Part: **{name}**. Find directions for it, or see Region."
            )(who, shown)

        picture.select(_guarded_select(pointed), [me, view], everything, **quick)
        part.input(doing(lambda s, v: replace(s.now, part=v or "")), [me, view, part], everything, **quick)

        def canvas(who: str) -> Any:
            _, session = page.session(who)
            return {
                "background": page.studio.shown(page.studio.pictures(session, session.now)[1:])[0],
                "layers": [],
                "composite": None,
            }

        paint.click(_guarded(canvas), me, painter, **quick)

        def brushed(who: str, painted: dict[str, Any] | None) -> Any:
            mask = mask_of(painted)
            _, session = page.session(who)
            if mask is None:
                page._masks.pop(who, None)
                return gr.skip()
            page._masks[who] = mask
            session.do(replace(session.now, part="brush"))
            return "brush"

        painter.input(brushed, [me, painter], part, **quick)

        # long: one at a time
        def searched(who: str, where: str, how: str, shown_part: str, shown_by: str) -> Iterator[list[Any]]:
            _, session = page.session(who)
            try:
                region = page.studio.region(where or "", page._masks.get(who))
                job = page.jobs.start(
                    who, lambda progress: page.studio.find(session, session.now, region, how, progress)
                )
                for words in job.watch():
                    yield [gr.skip(), f"Finding directions for {where}: {words}"]
            except KeyboardInterrupt:
                yield [gr.skip(), "Stopped before there was anything to keep."]
                return
            except SituError as error:
                yield [gr.skip(), f"**That did not work:** {error}"]
                return
            finally:
                page.jobs.end(who)
            names = job.result or []
            yield [
                page.library(who, shown_part, shown_by),
                f"Found {', '.join(names)}: choose it under Edit." if names else "Nothing was found.",
            ]

        heavy: dict[str, Any] = {**private, "concurrency_id": HEAVY, "concurrency_limit": 1}
        find.click(searched, [me, part, method, only, by], [gallery, said], **heavy)
        cancel.click(
            lambda who: "Stopping ..." if page.jobs.cancel(who) else "Nothing is under way.",
            me,
            said,
            queue=False,
            **private,
        )

        def versus_both(who: str, where: str) -> Iterator[list[Any]]:
            _, session = page.session(who)
            try:
                region = page.studio.region(where or "", page._masks.get(who))
                job = page.jobs.start(
                    who, lambda progress: page.studio.compare(region, ["lelsd", "resefa"], session.now.seed, progress)
                )
                for words in job.watch():
                    yield [gr.skip(), f"Comparing: {words}"]
            except (KeyboardInterrupt, SituError) as error:
                yield [gr.skip(), f"**That did not work:** {error or 'stopped'}"]
                return
            finally:
                page.jobs.end(who)
            yield [gr.update(value=job.result, visible=True), "Every edit in the sheet is of the same perceptual size."]

        versus.click(versus_both, [me, part], [sheet, said], **heavy)

        def photographed(who: str, shown: str, path: str | None) -> Iterator[list[Any]]:
            skip = [gr.skip()] * (len(everything) - 1)
            if not path:
                yield [*skip, gr.skip()]
                return
            _, session = page.session(who)
            try:
                job = page.jobs.start(
                    who, lambda progress: page.studio.invert(session, Path(path), "refined", progress)
                )
                for words in job.watch():
                    yield [*skip, f"Inverting the photo: {words}"]
                assert job.result is not None
                name, faces, words = job.result
                session.do(replace(session.now, photo=name, face=0))
                more_faces = f" {faces} faces; the first is shown." if faces > 1 else ""
                yield refreshed(who, shown, f"Your photo is in: {words}.{more_faces}")
            except (KeyboardInterrupt, SituError) as error:
                yield [*skip, f"**That photo cannot be used:** {error or 'stopped'}"]
            finally:
                page.jobs.end(who)

        upload.upload(photographed, [me, view, upload], everything, **heavy)

        # library
        def changed(verb: Callable[..., str]) -> Callable[..., list[Any]]:
            def event(who: str, a: str, b: str, *values: Any) -> list[Any]:
                words = verb(*values)
                page.studio.forget()
                return [page.library(who, a, b), words]

            return _guarded(event)

        def forgotten(name: str) -> str:
            page.studio.library.remove(name.strip())
            return f"Deleted {name}."

        rename.click(
            changed(lambda old, new: f"Now called {page.studio.library.rename(old.strip(), new)}."),
            [*previews, named, renamed], [gallery, said], **quick,
        )  # fmt: skip
        delete.click(changed(forgotten), [*previews, named], [gallery, said], **quick)
        imported.upload(
            changed(lambda path: f"Added {page.studio.library.bring_in(Path(path))}."),
            [*previews, imported], [gallery, said], **quick,
        )  # fmt: skip

        # what is taken away
        def take(make: Callable[[Session, Path], Path]) -> Callable[[str], str]:
            def event(who: str) -> str:
                _, session = page.session(who)
                return str(make(session, Path(tempfile.mkdtemp(prefix="situ-"))))

            return _guarded(event)

        for button, make in (
            (png, partial(_png, studio)), (strip, partial(_strip, studio)), (motion, partial(_motion, studio)),
            (palette, partial(_palette, studio)), (stack, partial(_stack, studio)), (codes, partial(_codes, studio)),
        ):  # fmt: skip
            button.click(take(make), me, taken, **private)

        def loaded(session: Session, path: str) -> Work:
            return replace(session.now, stack=read_stack(studio, Path(path)))

        load.upload(doing(loaded, "Stack loaded."), [me, view, load], everything, **quick)
        _api(studio)
    return blocks


def _guarded_select(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The same for events that carry where was clicked, which Gradio knows by the annotation."""

    def guarded(who: str, shown: str, event: gr.SelectData) -> Any:
        try:
            return verb(who, shown, event)
        except SituError as error:
            raise gr.Error(str(error), duration=12, print_exception=False) from None

    return guarded


def _png(studio: Studio, session: Session, folder: Path) -> Path:
    studio.finished(session, session.now).save(folder / "edited.png")
    return folder / "edited.png"


def _strip(studio: Studio, session: Session, folder: Path) -> Path:
    frames = studio.strip(session, session.now)
    sheet = Image.new("RGB", (sum(f.width for f in frames), frames[0].height))
    for i, frame in enumerate(frames):
        sheet.paste(frame, (i * frame.width, 0))
    sheet.save(folder / "strip.png")
    return folder / "strip.png"


def _motion(studio: Studio, session: Session, folder: Path) -> Path:
    first, *rest = studio.frames(session, session.now)
    first.save(folder / "edit.webp", save_all=True, append_images=rest, duration=60, loop=0, quality=85)
    return folder / "edit.webp"


def _palette(studio: Studio, session: Session, folder: Path) -> Path:
    studio.palette(session, session.now).save(folder / "palette.png")
    return folder / "palette.png"


def _stack(studio: Studio, session: Session, folder: Path) -> Path:
    content = {"format": "situ-studio-stack-1", "apply": [asdict(entry) for entry in session.now.stack]}
    (folder / "stack.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder / "stack.json"


def read_stack(studio: Studio, path: Path) -> tuple[Entry, ...]:
    """A stack that the studio wrote. Raises FileError; DirectionError for directions that are not in the library."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != "situ-studio-stack-1":
            raise ValueError(content["format"])
        entries = tuple(
            Entry(str(e["direction"]), float(e["strength"]), str(e["layers"]), bool(e["on"])) for e in content["apply"]
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileError(f"{path.name} is no stack as the studio saves it ({type(error).__name__})") from None
    if len(entries) > MOST:
        raise FileError(f"a stack holds {MOST} edits, {path.name} has {len(entries)}")
    for entry in entries:
        studio.direction(entry)
    return entries


def _codes(studio: Studio, session: Session, folder: Path) -> Path:
    save_latents(studio.latents(session, session.now), folder / "latents.safetensors", studio.pack.generator.name)
    return folder / "latents.safetensors"


def _api(studio: Studio) -> None:
    """The same verbs for programs (gradio_client), each call on its own, without a session."""

    def directions() -> list[dict[str, Any]]:
        """The library: name, part, method and score of every direction."""
        return [
            {"name": i.name, "part": i.direction.region, "method": i.method, "score": i.direction.score}
            for i in studio.library.items()
        ]

    def edited(seed: int, truncation: float, apply: list[list[Any]]) -> str:
        """A picture of a seed, edited: apply is a list of [name, strength]. Returns a PNG file."""
        entries = tuple(Entry(str(name), float(strength)) for name, strength in apply)
        work = Work(int(seed), float(truncation), stack=entries)
        return str(_png(studio, Session(studio.workspace, work), Path(tempfile.mkdtemp(prefix="situ-"))))

    def found(part: str, method: str, seed: int) -> list[str]:
        """Find directions of a part; returns their names, now in the library."""
        if method not in ("resefa", "lelsd"):
            raise SituError(f'methods are resefa and lelsd, got "{method}"')
        session, work = Session(studio.workspace), Work(int(seed), part=part)
        return studio.find(session, work, studio.region(part, None), method, silent)

    api(directions, api_name="directions")
    api(_guarded_api(edited), api_name="edit")
    api(_guarded_api(found), api_name="find", concurrency_id=HEAVY, concurrency_limit=1)


def _guarded_api(verb: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(verb)
    def guarded(*values: Any, **named: Any) -> Any:
        try:
            return verb(*values, **named)
        except SituError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return guarded


def serve(
    pack: Pack,
    model: str,
    workspace: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    password: str = "",
    started: Callable[[str], None] = print,
) -> None:
    """Open the studio in a server, until Ctrl-C.

    Args:
        started: told the address.

    Raises:
        FileError: a host other than this machine, or a shared link, without a password; a port that is taken.
    """
    if (share or host not in LOOPBACK) and not password:
        raise FileError("others could reach the studio: give it a --password, or leave --host and --share out")
    try:
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot write to {workspace}: {error.strerror or error}; choose another --workspace") from None
    os.environ["GRADIO_TEMP_DIR"] = str(workspace / "passing")
    blocks = build(Studio(pack, model, workspace))
    blocks.queue(default_concurrency_limit=4, max_size=WAITING)
    try:
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            share=share,
            auth=("situ", password) if password else None,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=UPLOAD,
            theme=theme(),
            css=CSS,
            show_error=True,
            ssr_mode=False,
            footer_links=[],
        )
    except OSError as error:
        raise FileError(f"the studio cannot listen on port {port}: {error}") from None
    started(address)
    blocks.block_thread()
