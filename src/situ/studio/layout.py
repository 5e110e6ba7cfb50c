"""What is on the studio's page, and nothing of what it does."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from situ.studio.exports import EXPORTS
from situ.studio.regions import CLUSTERS
from situ.studio.session import MOST
from situ.studio.widgets import pad, shelf, surface

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
    surface: Any


@dataclass(frozen=True)
class PadBox:
    """Two edits of the stack at once."""

    box: Any
    across: Any
    down: Any
    pad: Any


@dataclass(frozen=True)
class EditTab:
    """The stack and the library."""

    slots: Sequence[Slot]
    pad: PadBox
    part: Any
    method: Any
    gain: Any
    gallery: Any
    name: Any
    new_name: Any
    rename: Any
    delete: Any
    export: Any
    exported: Any
    imported: Any


@dataclass(frozen=True)
class FindTab:
    """Where and how directions are looked for."""

    part: Any
    method: Any
    find: Any
    stop: Any
    clusters: Any
    look: Any
    sheet: Any
    first: Any
    second: Any
    compare: Any
    compared: Any


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
    def shelves(self) -> list[Any]:
        """What is shown of the library, and what it offers to choose from, in the order of `Page.shelves`."""
        return [self.edit.gallery, self.edit.part, self.edit.method, self.edit.name, self.find.first, self.find.second]

    @property
    def filters(self) -> list[Any]:
        """What the library is filtered by."""
        return [self.edit.part, self.edit.method, self.edit.gain]

    @property
    def everything(self) -> list[Any]:
        """All that shows a person's work, in the order of `Page.refreshed`."""
        stack = [part for s in self.edit.slots for part in (s.box, s.strength, s.layers, s.on)]
        pad = [self.edit.pad.box, self.edit.pad.across, self.edit.pad.down, self.edit.pad.pad]
        own = [self.picture.seed, self.picture.truncation, self.picture.face, self.find.part]
        return [*self.seen, *stack, *pad, *own, self.export.command, self.canvas.said]


def lay_out(model: str, parts: Sequence[str], methods: Sequence[str], words: bool) -> Layout:
    """Make the page's components, inside a `gr.Blocks`.

    Args:
        methods: that can be compared.
        words: regions can be any words.
    """
    gr.Markdown(f"# Situ\nEdit one part of a picture and leave the rest alone. Model: {model}", elem_id="head")
    with gr.Row():
        with gr.Column(scale=5, min_width=260, elem_id="canvas"):
            canvas = _canvas()
        with gr.Column(scale=4, min_width=260), gr.Tabs():
            with gr.Tab("Edit"):
                edit = _edit()
            with gr.Tab("Find"):
                find = _find(parts, methods, words)
            with gr.Tab("Picture"):
                picture = _picture()
            with gr.Tab("Take away"):
                export = _export()
    return Layout(canvas, edit, find, picture, export)


def _canvas() -> Canvas:
    view = gr.Radio(VIEWS, value=VIEWS[0], show_label=False, container=False, elem_id="view")
    shown: dict[str, Any] = {"show_label": False, "interactive": False, "format": "jpeg", "buttons": ["fullscreen"]}
    picture = gr.Image(elem_id="picture", alt_text="the edited picture", **shown)
    compare = gr.ImageSlider(elem_id="compare", visible=False, **shown)
    tools = surface()
    said = gr.Markdown("", elem_id="said")
    with gr.Row(elem_classes="small"):
        undo, redo, reset = (gr.Button(word, size="sm") for word in ("Undo", "Redo", "Reset"))
        surprise = gr.Button("Surprise me", size="sm", variant="primary")
    return Canvas(view, picture, compare, said, undo, redo, reset, surprise, tools)


def _slot(number: int) -> Slot:
    with gr.Column(visible=False, elem_classes="edit", variant="compact") as box:
        strength = gr.Slider(-5, 5, 0, step=0.05, label="", interactive=True, elem_id=f"strength-{number}")
        with gr.Row(elem_classes="small", equal_height=True):
            on = gr.Checkbox(True, label="On", min_width=56, container=False, scale=1)
            layers = gr.Textbox(
                "", label=f"Layers of edit {number}", placeholder="layers: all, or 4-7", min_width=96, container=False,
                scale=2,
            )  # fmt: skip
            up = gr.Button("Up", size="sm", min_width=50, scale=1)
            remove = gr.Button("Remove", size="sm", min_width=64, scale=1)
    return Slot(box, strength, layers, on, up, remove)


def _pad() -> PadBox:
    with gr.Accordion("Two at once", open=False, visible=False) as box:
        with gr.Row():
            across = gr.Dropdown([], label="Across", min_width=100, interactive=True)
            down = gr.Dropdown([], label="Down", min_width=100, interactive=True)
        square = pad()
    return PadBox(box, across, down, square)


def _edit() -> EditTab:
    slots = [_slot(i + 1) for i in range(MOST)]
    two = _pad()
    gr.Markdown(
        f"**Directions.** Click one to add it: less of it on the left, more on the right. {UNIT} Gain is how much more "
        "the part changes than the rest.",
        elem_classes="quiet",
    )
    with gr.Row():
        part = gr.Dropdown([ALL], value=ALL, label="Part", min_width=90)
        method = gr.Dropdown([ALL], value=ALL, label="Method", min_width=90)
        gain = gr.Number(0, label="Gain from", minimum=0, min_width=80)
    gallery = shelf("Directions", "library")
    with gr.Accordion("Rename, delete, export, import", open=False):
        name, new_name = gr.Dropdown([], value=None, label="Direction"), gr.Textbox(label="New name")
        with gr.Row():
            rename, delete, export = (gr.Button(word, size="sm") for word in ("Rename", "Delete", "Export"))
        exported = gr.File(label="Here it is", interactive=False, visible=False, height=110)
        imported = gr.File(label="Direction file (.safetensors)", file_types=[".safetensors"], height=110)
    return EditTab(slots, two, part, method, gain, gallery, name, new_name, rename, delete, export, exported, imported)


def _find(parts: Sequence[str], methods: Sequence[str], words: bool) -> FindTab:
    ways = ["a part, several with +", "ROW,COLUMN,HEIGHT,WIDTH", *(["any words"] if words else [])]
    part = gr.Dropdown(
        list(parts), value=None, label="Where", allow_custom_value=True, elem_id="where",
        info=f"Mark it on the picture, or write: {', '.join(ways)}",
    )  # fmt: skip
    method = gr.Radio(
        [("Quick: from this picture (ReSeFa)", "resefa"), ("Careful: many pictures (LELSD)", "lelsd")],
        value="resefa", label="How",
        info="Quick solves the picture's Jacobian in seconds; careful optimises for half a minute.",
    )  # fmt: skip
    with gr.Row():
        find = gr.Button("Find directions here", variant="primary", min_width=140)
        stop = gr.Button("Stop and keep", min_width=120)
    with gr.Accordion("Parts that nobody named", open=False):
        gr.Markdown("Clusters of the model's features. Choose one as the region.", elem_classes="quiet")
        low, high = CLUSTERS
        clusters = gr.Number(8, label="Number of clusters", precision=0, minimum=low, maximum=high)
        look = gr.Button("Show clusters", size="sm")
        sheet = shelf("Clusters", "clusters")
    with gr.Accordion("Compare two", open=False):
        gr.Markdown(
            "Methods, or directions of the library: the same eight pictures, edited by the same perceptual distance.",
            elem_classes="quiet",
        )
        with gr.Row():
            first = gr.Dropdown(list(methods), value="resefa", label="First", min_width=100)
            second = gr.Dropdown(list(methods), value="lelsd", label="Second", min_width=100)
        compare = gr.Button("Compare", size="sm")
        compared = gr.Image(
            label="Edits of equal size", show_label=False, interactive=False, visible=False, elem_id="compared",
            buttons=["fullscreen", "download"],
        )  # fmt: skip
    return FindTab(part, method, find, stop, clusters, look, sheet, first, second, compare, compared)


def _picture() -> PictureTab:
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1, min_width=90)
        truncation = gr.Slider(0.1, 1.2, 0.7, step=0.05, label="Variety", info="Truncation ψ", min_width=120)
    gr.Markdown("Choose a picture, or bring your own photo below.", elem_classes="quiet")
    chooser = shelf("Choose a picture", "chooser")
    more = gr.Button("Others", size="sm")
    # a file, not a picture: our own reader opens it
    upload = gr.File(label="Your photo", type="filepath", file_types=["image"], height=130, elem_id="upload")
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
