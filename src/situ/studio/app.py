"""The studio as a web page, on Gradio: the layout, wired to the events of `Page`, and the server."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from situ.core.errors import FileError
from situ.packs.pack import Pack
from situ.studio.api import add_api
from situ.studio.comparison import comparable
from situ.studio.exports import EXPORTS
from situ.studio.layout import Layout, lay_out
from situ.studio.page import Page, told
from situ.studio.serving import LOOPBACK, knows, require_free, require_private
from situ.studio.session import secret_of
from situ.studio.theme import theme
from situ.studio.verbs import Studio

UPLOAD = "20mb"  # largest file that is taken
PASSING = (600, 3600)  # seconds: how often files that passed through are looked at, and how old they get
WAITING = 32  # events in the queue before a polite no
HEAVY = "heavy"  # the queue of what runs one at a time
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUICK: dict[str, Any] = {**PRIVATE, "show_progress": "hidden"}
NEWEST: dict[str, Any] = {**QUICK, "trigger_mode": "always_last"}  # only the newest position is computed
LONG: dict[str, Any] = {**PRIVATE, "concurrency_id": HEAVY, "concurrency_limit": 1}


def build(page: Page) -> gr.Blocks:
    """The page of a studio."""
    studio = page.studio
    with gr.Blocks(title="Situ", analytics_enabled=False, delete_cache=PASSING) as blocks:
        kept = gr.BrowserState("", storage_key="situ-session", secret=secret_of(studio.workspace))
        who = gr.State("")
        words = bool(studio.regions.words)
        layout = lay_out(studio.pack.name, studio.regions.parts, comparable(studio.pack), words)
        add_api(page, HEAVY)  # first, as events of the page would take the names otherwise
        arrived = blocks.load(told(page.arrive), kept, [kept, who, *layout.everything], **QUICK)
        _new_picture(page, layout, who, arrived)
        here = [who, layout.canvas.view]
        followed = arrived.success(page.follow, here, layout.everything, concurrency_limit=None, **QUICK)
        _new_picture(page, layout, who, followed)
        blocks.load(told(page.chooser), None, layout.picture.chooser, **QUICK)
        _wire_canvas(page, layout, who)
        _wire_edit(page, layout, who)
        _wire_pad(page, layout, who)
        _wire_find(page, layout, who)
        _wire_picture(page, layout, who)
        _wire_export(page, layout, who)
    return blocks


def _new_picture(page: Page, layout: Layout, who: Any, event: Any) -> None:
    """After another picture was chosen, the library is shown on that."""
    event.success(page.shelving, [who, *layout.filters], layout.shelves, **QUICK)


def _emptied(event: Any, taken: Any) -> None:
    """After a file came in, or was refused, there is room for another."""
    event.then(lambda: None, None, taken, **QUICK)


def _wire_canvas(page: Page, layout: Layout, who: Any) -> None:
    canvas, here = layout.canvas, [who, layout.canvas.view]
    canvas.view.input(told(page.show), here, layout.seen, **QUICK)
    canvas.surface.focus(told(page.part_map), [who, canvas.surface], canvas.surface, **NEWEST)
    canvas.surface.select(told(page.mark), [*here, canvas.surface], layout.everything, **NEWEST)
    for button, change in (
        (canvas.undo, page.undo),
        (canvas.redo, page.redo),
        (canvas.reset, lambda session: replace(session.now, stack=())),
    ):
        button.click(page.doing(change), here, layout.everything, **QUICK)
    surprised = canvas.surprise.click(page.doing(page.surprise), here, layout.everything, **QUICK)
    _new_picture(page, layout, who, surprised)


def _wire_edit(page: Page, layout: Layout, who: Any) -> None:
    tab, here = layout.edit, [who, layout.canvas.view]
    moved = [*layout.seen, layout.canvas.said]
    for i, slot in enumerate(tab.slots):
        slot.strength.input(told(partial(page.slide, i)), [*here, slot.strength], moved, **NEWEST)
        slot.strength.release(partial(page.let_go, i), [*here, slot.strength], layout.everything, **NEWEST)
        for event, value, change in (
            (slot.layers.submit, [slot.layers], lambda s, v, i=i: s.now.with_entry(i, layers=v)),
            (slot.on.input, [slot.on], lambda s, v, i=i: s.now.with_entry(i, on=v)),
            (slot.up.click, [], lambda s, i=i: s.now.raised(i)),
            (slot.remove.click, [], lambda s, i=i: s.now.without(i)),
        ):
            event(page.doing(change), [*here, *value], layout.everything, **QUICK)
    tab.export.click(told(page.export), tab.name, tab.exported, **QUICK)
    tab.gallery.select(page.add, here, layout.everything, **QUICK)
    shelves = page.shelving
    gr.on([each.input for each in layout.filters], shelves, [who, *layout.filters], layout.shelves, **QUICK)
    for event, verb, values in (
        (tab.rename.click, page.rename, [tab.name, tab.new_name]),
        (tab.delete.click, page.delete, [tab.name]),
        (tab.imported.upload, page.bring_in, [tab.imported]),
    ):
        changed = event(page.library_event(verb), [*here, *values], layout.everything, **QUICK)
        changed.success(shelves, [who, *layout.filters], layout.shelves, **QUICK)
        if values == [tab.imported]:
            _emptied(changed, tab.imported)


def _wire_pad(page: Page, layout: Layout, who: Any) -> None:
    two, here = layout.edit.pad, [who, layout.canvas.view]
    strengths = [slot.strength for slot in layout.edit.slots]
    moved = [*layout.seen, layout.canvas.said, *strengths]
    two.pad.input(told(page.pad), [*here, two.pad], moved, **NEWEST)
    two.pad.release(page.drop, [*here, two.pad], layout.everything, **NEWEST)
    two.pad.focus(told(page.pad_picture), who, two.pad, **QUICK)
    gr.on([two.across.input, two.down.input], told(page.aim), [*here, two.across, two.down], layout.everything, **QUICK)


def _wire_find(page: Page, layout: Layout, who: Any) -> None:
    tab, here, said = layout.find, [who, layout.canvas.view], layout.canvas.said
    tab.part.input(page.choose_region, [*here, tab.part], layout.everything, **QUICK)
    tab.find.click(page.find, [who, tab.method, *layout.filters], [*layout.shelves, said], **LONG)
    tab.stop.click(page.stop, who, said, queue=False, **PRIVATE)
    tab.look.click(page.find_clusters, [who, tab.clusters], [tab.sheet, layout.canvas.surface, said], **LONG)
    tab.sheet.select(page.choose_cluster, here, layout.everything, **QUICK)
    tab.compare.click(page.compare, [who, tab.first, tab.second], [tab.compared, said], **LONG)


def _wire_picture(page: Page, layout: Layout, who: Any) -> None:
    tab, here = layout.picture, [who, layout.canvas.view]
    events = [
        tab.chooser.select(page.choose, here, layout.everything, **QUICK),
        tab.upload.upload(page.invert, [*here, tab.upload], layout.everything, **LONG),
    ]
    for event, value, change in (
        (tab.seed.submit, tab.seed, lambda s, v: replace(s.now, seed=int(v or 0), photo="", face=0)),
        (tab.truncation.release, tab.truncation, lambda s, v: replace(s.now, truncation=float(v))),
        (tab.face.submit, tab.face, lambda s, v: replace(s.now, face=int(v or 0))),
    ):
        events.append(event(page.doing(change), [*here, value], layout.everything, **QUICK))
    _emptied(events[1], tab.upload)
    for event in events:
        _new_picture(page, layout, who, event)
    tab.more.click(told(page.others), tab.truncation, tab.chooser, **QUICK)


def _wire_export(page: Page, layout: Layout, who: Any) -> None:
    tab = layout.export
    for name, button in tab.buttons.items():
        button.click(page.take(EXPORTS[name]), who, tab.file, **PRIVATE)
    loading = page.doing(page.load, "Stack loaded.")
    _emptied(tab.load.upload(loading, [who, layout.canvas.view, tab.load], layout.everything, **QUICK), tab.load)


def serve(
    pack: Pack,
    model: str,
    workspace: Path,
    *,
    host: str = LOOPBACK[0],
    port: int | None = None,
    share: bool = False,
    password: str = "",
    words: str | None = None,
    started: Callable[[str], None] = print,
) -> None:
    """Open the studio in a server, until Ctrl-C.

    Args:
        words: the place of a segmenter that goes by words: regions can be any words then.
        started: told the address.

    Raises:
        FileError: a host other than this machine, or a shared link, without a password; a port that is taken.
    """
    require_private("studio", host, password, share)
    if port is not None:
        require_free("studio", host, port)
    try:
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot write to {workspace}: {error.strerror or error}; choose another --workspace") from None
    os.environ["GRADIO_TEMP_DIR"] = str(workspace / "passing")
    page = Page(Studio(pack, model, workspace, words))
    blocks = build(page)
    blocks.queue(default_concurrency_limit=4, max_size=WAITING)
    _, address, _ = blocks.launch(
        server_name=host,
        server_port=port,
        share=share,
        auth=knows(password),
        auth_message="Any name, and the password that the studio was started with.",
        quiet=True,
        prevent_thread_lock=True,
        max_file_size=UPLOAD,
        theme=theme(),
        css_paths=Path(__file__).with_name("page.css"),
        show_error=True,
        ssr_mode=False,
        footer_links=[],
    )
    threading.Thread(target=page.warm, daemon=True).start()  # while the browser loads the page
    started(address)
    blocks.block_thread()
