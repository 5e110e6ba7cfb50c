"""The parts of the studio's page that Gradio does not have: shelves of cards, what lies on the picture, the pad."""

from pathlib import Path
from typing import Any

import gradio as gr

_HERE = Path(__file__).parent

_SURFACE = """<div class="bar" data-now="part">
<button type="button" data-tool="part" aria-pressed="true" title="Choose a part by a click">Part</button>
<button type="button" data-tool="box" aria-pressed="false" title="Mark a rectangle">Box</button>
<button type="button" data-tool="brush" aria-pressed="false" title="Paint the place">Brush</button>
<input class="size" type="range" min="2" max="25" value="8" aria-label="Size of the brush">
<button type="button" class="clear" title="Take the marks off the picture">Clear</button>
<span class="words" aria-live="polite"></span>
</div>"""

_PAD = """<div class="field" tabindex="0" role="application"><img alt="" hidden><div class="dot"></div></div>
<div class="words" aria-hidden="true"></div>"""


def shelf(label: str, elem_id: str, cards: list[dict[str, str]] | None = None) -> gr.HTML:
    """Cards to choose from: its value is a list of `Card`; `select` tells the name of the one that was chosen."""
    return _made("shelf", f'<div class="cards" role="group" aria-label="{label}"></div>', elem_id, cards or [])


def surface() -> gr.HTML:
    """The tools for regions; see surface.js."""
    return _made("surface", _SURFACE, "surface", {"map": "", "parts": []})


def pad() -> gr.HTML:
    """A square for two strengths; see pad.js."""
    return _made("pad", _PAD, "pad", {})


def _made(name: str, template: str, elem_id: str, value: Any) -> gr.HTML:
    script = (_HERE / f"{name}.js").read_text(encoding="utf-8")
    return gr.HTML(
        value, html_template=template, js_on_load=script, apply_default_css=False, elem_id=elem_id, elem_classes=name
    )
