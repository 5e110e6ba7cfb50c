"""The studio as a web page, on Gradio: the layout, wired to the events of `Page`, and the server."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from situ.core.errors import FileError
from situ.packs.pack import Pack
from situ.studio.api import add_api
from situ.studio.exports import EXPORTS
from situ.studio.layout import Layout, lay_out
from situ.studio.page import Page, told
from situ.studio.serving import LOOPBACK, knows, require_free, require_private
from situ.studio.session import secret_of
from situ.studio.theme import CSS, theme
from situ.studio.verbs import Studio

UPLOAD = "20mb"  # largest file that is taken
WAITING = 32  # events in the queue before a polite no
HEAVY = "heavy"  # the queue of what runs one at a time
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUICK: dict[str, Any] = {**PRIVATE, "show_progress": "hidden"}
LONG: dict[str, Any] = {**PRIVATE, "concurrency_id": HEAVY, "concurrency_limit": 1}


def build(studio: Studio) -> gr.Blocks:
    """The page of a studio."""
    page, segmenter = Page(studio), studio.pack.segmenter
    with gr.Blocks(title="Situ", analytics_enabled=False) as blocks:
        kept = gr.BrowserState("", storage_key="situ-session", secret=secret_of(studio.workspace))
        who = gr.State("")
        layout = lay_out(studio.pack.name, [*(segmenter.parts if segmenter else ()), "brush"])
        add_api(studio, HEAVY)  # first, as events of the page would take the names otherwise
        arriving = [kept, who, layout.picture.chooser, layout.edit.gallery, *layout.everything]
        blocks.load(told(page.arrive), kept, arriving, **PRIVATE)
        _wire_canvas(page, layout, who)
        _wire_edit(page, layout, who)
        _wire_find(page, layout, who)
        _wire_picture(page, layout, who)
        _wire_export(page, layout, who)
    return blocks


def _new_picture(page: Page, layout: Layout, who: Any, event: Any) -> None:
    """After another picture was chosen, the library is shown on that."""
    shown = [who, layout.edit.part, layout.edit.method]
    event.success(told(page.previews), shown, layout.edit.gallery, **QUICK)


def _wire_canvas(page: Page, layout: Layout, who: Any) -> None:
    canvas, here = layout.canvas, [who, layout.canvas.view]
    canvas.view.input(told(page.show), here, layout.seen, **QUICK)
    canvas.picture.select(page.point, here, layout.everything, **QUICK)
    for button, change in (
        (canvas.undo, lambda session: session.undo() and None),
        (canvas.redo, lambda session: session.redo() and None),
        (canvas.reset, lambda session: replace(session.now, stack=())),
    ):
        button.click(page.doing(change), here, layout.everything, **QUICK)
    surprised = canvas.surprise.click(page.doing(page.surprise), here, layout.everything, **QUICK)
    _new_picture(page, layout, who, surprised)


def _wire_edit(page: Page, layout: Layout, who: Any) -> None:
    tab, here = layout.edit, [who, layout.canvas.view]
    for i, slot in enumerate(tab.slots):
        # only the newest position is computed
        slot.strength.input(
            told(partial(page.slide, i)), [*here, slot.strength], layout.seen, trigger_mode="always_last", **QUICK
        )
        slot.strength.release(told(partial(page.let_go, i)), [who, slot.strength], layout.export.command, **QUICK)
        for event, value, change in (
            (slot.layers.submit, [slot.layers], lambda s, v, i=i: s.now.with_entry(i, layers=v)),
            (slot.on.input, [slot.on], lambda s, v, i=i: s.now.with_entry(i, on=v)),
            (slot.up.click, [], lambda s, i=i: s.now.raised(i)),
            (slot.remove.click, [], lambda s, i=i: s.now.without(i)),
        ):
            event(page.doing(change), [*here, *value], layout.everything, **QUICK)
    shown = [who, tab.part, tab.method]
    tab.gallery.select(page.add, here, layout.everything, **QUICK)
    gr.on([tab.part.input, tab.method.input], told(page.previews), shown, tab.gallery, **QUICK)
    for event, verb, values in (
        (tab.rename.click, page.rename, [tab.name, tab.new_name]),
        (tab.delete.click, page.delete, [tab.name]),
        (tab.imported.upload, page.bring_in, [tab.imported]),
    ):
        event(page.library_event(verb), [*shown, *values], [tab.gallery, layout.canvas.said], **QUICK)


def _wire_find(page: Page, layout: Layout, who: Any) -> None:
    tab, said = layout.find, layout.canvas.said
    tab.part.input(
        page.doing(lambda session, part: replace(session.now, part=part or "")),
        [who, layout.canvas.view, tab.part],
        layout.everything,
        **QUICK,
    )
    tab.paint.click(told(page.paper), who, tab.painter, **QUICK)
    tab.painter.input(page.brush, [who, tab.painter], tab.part, **QUICK)
    asked = [who, tab.part, tab.method, layout.edit.part, layout.edit.method]
    tab.find.click(page.find, asked, [layout.edit.gallery, said], **LONG)
    tab.both.click(page.compare, [who, tab.part], [tab.sheet, said], **LONG)
    tab.stop.click(page.stop, who, said, queue=False, **PRIVATE)


def _wire_picture(page: Page, layout: Layout, who: Any) -> None:
    tab, here = layout.picture, [who, layout.canvas.view]
    waiting = len(layout.everything) - 1

    def invert(who: str, view: str, path: str | None) -> Iterator[list[Any]]:
        yield from page.invert(who, view, path, waiting)

    events = [
        tab.chooser.select(page.choose, here, layout.everything, **QUICK),
        tab.upload.upload(invert, [*here, tab.upload], layout.everything, **LONG),
    ]
    for event, value, change in (
        (tab.seed.submit, tab.seed, lambda s, v: replace(s.now, seed=int(v or 0), photo="", face=0)),
        (tab.truncation.release, tab.truncation, lambda s, v: replace(s.now, truncation=float(v))),
        (tab.face.submit, tab.face, lambda s, v: replace(s.now, face=int(v or 0))),
    ):
        events.append(event(page.doing(change), [*here, value], layout.everything, **QUICK))
    for event in events:
        _new_picture(page, layout, who, event)
    tab.more.click(told(page.others), tab.truncation, tab.chooser, **QUICK)


def _wire_export(page: Page, layout: Layout, who: Any) -> None:
    tab = layout.export
    for name, button in tab.buttons.items():
        button.click(page.take(EXPORTS[name]), who, tab.file, **PRIVATE)
    loading = page.doing(page.load, "Stack loaded.")
    tab.load.upload(loading, [who, layout.canvas.view, tab.load], layout.everything, **QUICK)


def serve(
    pack: Pack,
    model: str,
    workspace: Path,
    *,
    host: str = LOOPBACK[0],
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
    require_private("studio", host, password, share)
    if port is not None:
        require_free("studio", host, port)
    try:
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot write to {workspace}: {error.strerror or error}; choose another --workspace") from None
    os.environ["GRADIO_TEMP_DIR"] = str(workspace / "passing")
    blocks = build(Studio(pack, model, workspace))
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
        css=CSS,
        show_error=True,
        ssr_mode=False,
        footer_links=[],
    )
    started(address)
    blocks.block_thread()
