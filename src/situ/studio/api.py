"""The studio for programs (gradio_client): each call on its own, without a session (docs/studio.md)."""

from pathlib import Path
from typing import Any

import gradio as gr

from situ.core.errors import SituError
from situ.core.progress import silent
from situ.studio import exports
from situ.studio.comparison import METHOD_SETTINGS
from situ.studio.page import Page, told
from situ.studio.session import Entry, Session, Work


def add_api(page: Page, heavy: str) -> None:
    """The calls, inside a `gr.Blocks`.

    Args:
        heavy: name of the queue of what runs one at a time.
    """

    studio = page.studio

    def directions() -> list[dict[str, Any]]:
        return [
            {"name": i.name, "part": i.direction.region, "method": i.method, "score": i.direction.score}
            for i in studio.library.items()
        ]

    def edit(seed: float, truncation: float, apply: list[list[Any]]) -> str:
        try:
            entries = tuple(Entry(str(name), float(strength)) for name, strength in apply)
        except (TypeError, ValueError):
            raise SituError("apply is a list of [name, strength]") from None
        for entry in entries:
            studio.direction(entry)
        session = Session(studio.workspace, Work(int(seed), float(truncation), stack=entries))
        return str(exports.picture(studio, session, Path(page.folder())))

    def find(part: str, method: str, seed: float) -> list[str]:
        if method not in METHOD_SETTINGS:
            raise SituError(f'methods are {" and ".join(METHOD_SETTINGS)}, got "{method}"')
        work = Work(int(seed), part=part)
        session = Session(studio.workspace, work)
        name = studio.regions.read(part, session.folder)
        region = studio.region(session, name)
        return page.jobs.alone(lambda: studio.find(session, work, region, method, silent))

    with gr.Column(visible=False):
        seed, truncation, apply = gr.Number(), gr.Number(), gr.JSON()
        part, method, answer, file = gr.Textbox(), gr.Textbox(), gr.JSON(), gr.File()
        go = gr.Button()
    go.click(
        told(directions), None, answer, api_name="directions",
        api_description="The library: name, part, method and score of every direction, best first.",
    )  # fmt: skip
    go.click(
        told(edit), [seed, truncation, apply], file, api_name="edit",
        api_description="The picture of a seed with directions applied, [[name, strength], ...]: a PNG file.",
    )  # fmt: skip
    go.click(
        told(find), [part, method, seed], answer, api_name="find", concurrency_id=heavy, concurrency_limit=1,
        api_description="Find directions of a part by resefa (on the seed's picture) or lelsd; returns their names.",
    )  # fmt: skip
