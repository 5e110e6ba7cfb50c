"""What is on the studio's page, and nothing of what it does."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from situ.studio.exports import EXPORTS
from situ.studio.session import MOST

VIEWS = ("Edited", "Before | after", "Change", "Region")
ALL = "all"  # parts or methods
UNIT = "Strength 1 moves every picture by the same perceptual distance, whatever the direction."


@dataclass(frozen=True)
class Slot:
    """One edit of the stack."""

    box: Any
    strength: Any
    layers: Any
    on: Any
    up: Any
    remove: Any


@dataclass(frozen=True)
class Canvas:
    """The picture and what is under it."""

    view: Any
    picture: Any
    compare: Any
    said: Any
    undo: Any
    redo: Any
    reset: Any
    surprise: Any


@dataclass(frozen=True)
class EditTab:
    """The stack and the library."""

    slots: Sequence[Slot]
    part: Any
    method: Any
    gallery: Any
    name: Any
    new_name: Any
    rename: Any
    delete: Any
    imported: Any


@dataclass(frozen=True)
class FindTab:
    """Where and how directions are looked for."""

    part: Any
    paint: Any
    painter: Any
    method: Any
    find: Any
    stop: Any
    both: Any
    sheet: Any


@dataclass(frozen=True)
class PictureTab:
    """Which picture."""

    seed: Any
    truncation: Any
    chooser: Any
    more: Any
    upload: Any
    face: Any


@dataclass(frozen=True)
class ExportTab:
    """What is taken away, and brought back."""

    buttons: dict[str, Any] = field(default_factory=dict)
    file: Any = None
    load: Any = None
    command: Any = None


@dataclass(frozen=True)
class Layout:
    """The whole page."""

    canvas: Canvas
    edit: EditTab
    find: FindTab
    picture: PictureTab
    export: ExportTab

    @property
    def seen(self) -> list[Any]:
        """Where a view is shown."""
        return [self.canvas.picture, self.canvas.compare]

    @property
    def everything(self) -> list[Any]:
        """All that shows a person's work, in the order of `Page.refreshed`."""
        stack = [part for s in self.edit.slots for part in (s.box, s.strength, s.layers, s.on)]
        own = [self.picture.seed, self.picture.truncation, self.picture.face, self.find.part]
        return [*self.seen, *stack, *own, self.export.command, self.canvas.said]


def lay_out(model: str, parts: Sequence[str]) -> Layout:
    """Make the page's components, inside a `gr.Blocks`."""
    gr.Markdown(f"# Situ\nEdit one part of a picture and leave the rest alone. Model: {model}", elem_id="head")
    with gr.Row():
        with gr.Column(scale=5, min_width=260):
            canvas = _canvas()
        with gr.Column(scale=4, min_width=260), gr.Tabs():
            with gr.Tab("Edit"):
                edit = _edit(parts)
            with gr.Tab("Find"):
                find = _find(parts)
            with gr.Tab("Picture"):
                picture = _picture()
            with gr.Tab("Take away"):
                export = _export()
    return Layout(canvas, edit, find, picture, export)


def _canvas() -> Canvas:
    view = gr.Radio(VIEWS, value=VIEWS[0], show_label=False, container=False, elem_id="view")
    shown: dict[str, Any] = {"show_label": False, "interactive": False, "format": "jpeg", "buttons": ["fullscreen"]}
    picture = gr.Image(elem_id="picture", alt_text="the picture; click a part of it to choose that part", **shown)
    compare = gr.ImageSlider(elem_id="compare", visible=False, **shown)
    said = gr.Markdown("", elem_id="said")
    with gr.Row(elem_classes="small"):
        undo, redo, reset = (gr.Button(word, size="sm") for word in ("Undo", "Redo", "Reset"))
        surprise = gr.Button("Surprise me", size="sm", variant="primary")
    return Canvas(view, picture, compare, said, undo, redo, reset, surprise)


def _slot(number: int) -> Slot:
    with gr.Column(visible=False, elem_classes="edit", variant="compact") as box:
        strength = gr.Slider(-5, 5, 0, step=0.05, label="", interactive=True, elem_id=f"strength-{number}")
        with gr.Row(elem_classes="small", equal_height=True):
            on = gr.Checkbox(True, label="On", min_width=60, container=False, scale=1)
            layers = gr.Textbox(
                "", label=f"Layers of edit {number}", placeholder="all layers, or 4-7", min_width=110, container=False,
                scale=2,
            )  # fmt: skip
            up = gr.Button("Up", size="sm", min_width=50, scale=1)
            remove = gr.Button("Remove", size="sm", min_width=70, scale=1)
    return Slot(box, strength, layers, on, up, remove)


def _edit(parts: Sequence[str]) -> EditTab:
    slots = [_slot(i + 1) for i in range(MOST)]
    gr.Markdown(
        f"**Directions.** Click one to add it: less of it on the left, more on the right. {UNIT}", elem_classes="quiet"
    )
    with gr.Row():
        part = gr.Dropdown([ALL, *parts], value=ALL, label="Part", min_width=100)
        method = gr.Dropdown([ALL, "LELSD", "ReSeFa"], value=ALL, label="Method", min_width=100)
    gallery = gr.Gallery(
        label="Directions", show_label=False, columns=3, height=330, object_fit="contain", allow_preview=False,
        elem_id="library", buttons=[],
    )  # fmt: skip
    with gr.Accordion("Rename, delete, import", open=False):
        name, new_name = gr.Textbox(label="Direction", placeholder="its name"), gr.Textbox(label="New name")
        with gr.Row():
            rename, delete = gr.Button("Rename", size="sm"), gr.Button("Delete", size="sm")
        imported = gr.File(label="Direction file (.safetensors)", file_types=[".safetensors"], height=110)
    return EditTab(slots, part, method, gallery, name, new_name, rename, delete, imported)


def _find(parts: Sequence[str]) -> FindTab:
    part = gr.Dropdown(list(parts), value=None, label="Where", info="or click a part in the picture")
    with gr.Accordion("Paint the region", open=False):
        paint = gr.Button("Put the picture here", size="sm")
        painter = gr.ImageEditor(
            label="Paint over the place to edit", type="numpy", elem_id="painter", sources=(), layers=False,
            brush=gr.Brush(default_size=28, colors=["#ff3399"], color_mode="fixed"), transforms=(), height=380,
        )  # fmt: skip
    method = gr.Radio(
        [("Quick: from this picture (ReSeFa)", "resefa"), ("Careful: many pictures (LELSD)", "lelsd")],
        value="resefa", label="How",
        info="Quick solves the picture's Jacobian in seconds; careful optimises for half a minute.",
    )  # fmt: skip
    with gr.Row():
        find = gr.Button("Find directions here", variant="primary", min_width=140)
        stop = gr.Button("Stop and keep", min_width=120)
    both = gr.Button("Compare both on the same pictures", size="sm")
    sheet = gr.Image(label="Both methods, edits of equal size", interactive=False, visible=False)
    return FindTab(part, paint, painter, method, find, stop, both, sheet)


def _picture() -> PictureTab:
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1, min_width=90)
        truncation = gr.Slider(0.1, 1.2, 0.7, step=0.05, label="Variety", info="Truncation ψ", min_width=120)
    gr.Markdown("Choose a picture, or bring your own photo below.", elem_classes="quiet")
    chooser = gr.Gallery(
        label="Choose a picture", show_label=False, columns=4, height=300, allow_preview=False, elem_id="chooser",
        buttons=[],
    )  # fmt: skip
    more = gr.Button("Others", size="sm")
    upload = gr.Image(label="Your photo", type="filepath", sources=["upload"], height=170, elem_id="upload")
    face = gr.Number(0, label="Face", precision=0, minimum=0, visible=False, info="of the photo, from 0")
    return PictureTab(seed, truncation, chooser, more, upload, face)


def _export() -> ExportTab:
    buttons: dict[str, Any] = {}
    names = list(EXPORTS)
    for i in range(0, len(names), 2):
        with gr.Row():
            buttons |= {name: gr.Button(name) for name in names[i : i + 2]}
    file = gr.File(label="Here it is", interactive=False, height=110)
    load = gr.File(label="Load a stack (.json)", file_types=[".json"], height=130)
    command = gr.Textbox(
        label="The same on the command line", interactive=False, lines=3, buttons=["copy"], elem_id="command"
    )
    return ExportTab(buttons, file, load, command)
