"""The page of a preference study: a judge's link shows pairs, the organiser's shows what the votes say.

Everything that a page says is fetched after it was opened, by its link: what every visitor gets names no method, and
pictures travel inside the page, so that no file is served.
"""

import base64
import io
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import get_args

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read on import

import gradio as gr
from gradio.blocks import Block
from PIL import Image

from situ.core.errors import FileError, SituError
from situ.studio.serving import LOOPBACK, knows, require_free, require_private
from situ.studio.study import Choice, Preference, Results, Study, Trial
from situ.studio.theme import theme

EVERYWHERE = ("0.0.0.0", "::")
_HERE = Path(__file__)


def pair_html(trial: Trial) -> str:
    """One pair, side by side, and how far the judge is."""
    asked = f'<p class="asked">{escape(trial.caption)}</p>' if trial.caption else ""
    original = _figure("Original", trial.original, "original") if trial.original else ""
    with Image.open(io.BytesIO(trial.left)) as picture:
        ratio = picture.width / picture.height  # so that the page knows how large pictures may be to fit a window
    far = _far(trial.voted, trial.asked)
    return (
        f'<div class="study" style="--ratio: {ratio:.4f}">{far}<h1>{escape(trial.question)}</h1>{asked}{original}'
        f'<div class="pair">{_figure("Left", trial.left)}{_figure("Right", trial.right)}</div></div>'
    )


def _far(done: int, asked: int) -> str:
    words = f"{done} of {asked} judged"
    return (
        f'<div class="far quiet"><progress max="{asked}" value="{done}" aria-label="{words}"></progress>{words}</div>'
    )


def _figure(name: str, png: bytes, kind: str = "") -> str:
    image = f'<img alt="{name}" src="{_inline("image/png", png)}">'
    enlarge = f'<button type="button" class="enlarge" aria-label="{name}: enlarge">{image}</button>'
    return f'<figure class="{kind}"><figcaption>{name}</figcaption>{enlarge}</figure>'


def _inline(kind: str, content: bytes) -> str:
    """An address that is its own content."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def note_html(title: str, text: str) -> str:
    """A page with nothing to do."""
    return (
        f'<div class="study"><div class="end"><h1>{escape(title)}</h1><p class="quiet">{escape(text)}</p></div></div>'
    )


def results_html(study: Study) -> str:
    """What the votes say, for the organiser alone: it names the methods, and has the judges' links."""
    found = study.results()
    some = f"{found.votes} votes" if found.votes != 1 else "1 vote"
    parts = [
        f'<h1>Results</h1><p class="quiet">{escape(found.question)} · {some} on {len(study.pictures)} pictures</p>'
    ]
    if found.votes:
        parts += [_methods_html(found), _comparisons_html(found), _sides_html(found)]
    else:
        parts.append("<p>No votes yet: send the judges their links.</p>")
    return f'<div class="study results">{"".join(parts)}{_judges_html(study, found)}</div>'


def _methods_html(found: Results) -> str:
    rows = [
        [escape(name), _track(each), str(each), str(each.wins), str(each.losses), str(each.ties)]
        for name, each in found.methods.items()
    ]
    head = ["method", "", "preferred", "wins", "losses", "no difference"]
    return f"<h2>How often each was preferred</h2>{_table(head, rows)}"


def _comparisons_html(found: Results) -> str:
    rows = [
        [
            f"{escape(each.first)} over {escape(each.second)}", _track(each.votes), str(each.votes),
            f"{each.votes.wins} : {each.votes.losses}", str(each.votes.ties), each.votes.p_text,
            f"{each.pictures.wins} : {each.pictures.losses}", each.pictures.p_text,
        ]
        for each in found.comparisons
    ]  # fmt: skip
    head = ["", "", "preferred", "votes", "no difference", "p", "pictures", "p"]
    return (
        f"<h2>Against each other</h2>{_table(head, rows)}"
        '<p class="quiet">Shares are of the votes that chose a side, with 95 % intervals (Wilson); p is of the '
        "two-sided sign test. Both take votes as independent, which those on one picture are not quite: the last two "
        "columns count each picture once, by the majority of its votes.</p>"
    )


def _sides_html(found: Results) -> str:
    return (
        f"<h2>Sides</h2><p>The left side was chosen in {found.left} of the votes that chose one "
        f"(p {found.left.p_text}). Each method stood there half of the time, so it should be near 50 %.</p>"
    )


def _judges_html(study: Study, found: Results) -> str:
    rows = []
    for judge, each in zip(study.judges, found.judges, strict=True):
        seconds = "" if each.median_seconds is None else f"{each.median_seconds:.1f}"
        link = f'<a href="?judge={escape(judge.token)}" target="_blank" rel="noreferrer">link</a>'
        rows.append([escape(judge.name), f"{each.voted} of {each.asked}", str(each.ties), seconds, link])
    saved = [
        ("votes.csv", "text/csv", study.votes_as_csv()),
        ("results.json", "application/json", json.dumps(found.described(), indent=2)),
    ]
    links = " · ".join(
        f'<a download="{name}" href="{_inline(kind, text.encode())}">{name}</a>' for name, kind, text in saved
    )
    head = ["judge", "judged", "no difference", "median seconds", "page"]
    return f"<h2>Judges</h2>{_table(head, rows)}<p>Save: {links}</p>"


def _track(of: Preference) -> str:
    """The rate and its interval from 0 to 100 %, with a line at one half."""
    if not of.decided:
        return '<span class="track"></span>'
    low, high = of.interval
    bar = f'<i style="left: {100 * low:.1f}%; width: {100 * (high - low):.1f}%"></i>'
    return f'<span class="track">{bar}<b style="left: {100 * of.rate:.1f}%"></b></span>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Of cells that are HTML. A second column without a name holds bars, which narrow windows leave out."""
    kinds = [' class="share"' if i == 1 and not name else "" for i, name in enumerate(head)]
    top = "".join(f"<th{kind}>{name}</th>" for kind, name in zip(kinds, head, strict=True))
    lines = ["".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def build(study: Study) -> gr.Blocks:
    """The page of a study."""
    with gr.Blocks(title="Preference study", analytics_enabled=False) as page:
        since = gr.State(None)  # when the pair was shown; forgotten where the server was started anew
        position = gr.Textbox(visible="hidden", label="pair")  # the one on the screen, so that no other is voted on
        note = gr.HTML()
        with gr.Column(visible=False, elem_id="judging") as judging:
            pair = gr.HTML()
            with gr.Row(elem_id="answers"):
                left = gr.Button("Left", elem_id="left")
                neither = gr.Button("No difference", elem_id="neither")
                right = gr.Button("Right", elem_id="right")
            gr.HTML(
                '<div class="study"><p class="keys quiet">Keys: <kbd>←</kbd> left, <kbd>↓</kbd> no difference, '
                "<kbd>→</kbd> right. A picture grows when you click it.</p></div>"
            )
        with gr.Column(visible=False, elem_id="finding") as finding:
            results = gr.HTML()
            again = gr.Button("Refresh", size="sm", elem_id="again")

        shown = [since, position, note, judging, pair]

        def show(link: str) -> dict[Block, object]:
            """The next pair of a judge, or thanks after the last."""
            trial = study.next_trial(link)
            if trial is None:
                thanks = note_html("Thank you", "You have judged all your pairs. You can close this page.")
                return {note: thanks, judging: _hidden(), pair: ""}
            return {
                since: time.monotonic(),
                position: str(trial.position),
                note: "",
                judging: gr.Column(visible=True),
                pair: pair_html(trial),
            }

        def refused(title: str, error: Exception) -> dict[Block, object]:
            # what is wrong with a file is the organiser's business: it names the file
            why = "The study cannot be read or written just now." if isinstance(error, FileError) else _sentence(error)
            return {note: note_html(title, f"{why} Reload the page to try again."), judging: _hidden()}

        def enter(request: gr.Request) -> dict[Block, object]:
            asked = request.query_params
            try:
                if study.is_organiser(asked.get("organiser", "")):
                    return {finding: gr.Column(visible=True), results: results_html(study)}
                if "organiser" in asked:
                    return {note: note_html("This does not work", "This link is not the organiser's of this study.")}
                if "judge" in asked:
                    return show(asked["judge"])
            except SituError as error:
                return refused("This does not work", error)
            return {note: note_html("A preference study", "Open it with the link that the organiser sent you.")}

        def voter(choice: Choice) -> Callable[..., dict[Block, object]]:
            def vote(began: float | None, at: str, request: gr.Request) -> dict[Block, object]:
                link = request.query_params.get("judge", "")
                try:
                    study.vote(link, int(at), choice, None if began is None else time.monotonic() - began)
                    return show(link)
                except (SituError, ValueError, OverflowError) as error:
                    return refused("Your answer was not kept", error)

            return vote

        quick = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        everything = [*shown, finding, results]
        page.load(enter, None, everything, **quick)
        again.click(enter, None, everything, **quick)
        for button, choice in zip((left, right, neither), get_args(Choice), strict=True):
            button.click(voter(choice), [since, position], shown, **quick)
    return page


def _hidden() -> gr.Column:
    return gr.Column(visible=False)


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def serve(
    study: Study,
    port: int,
    host: str = LOOPBACK[0],
    password: str = "",
    started: Callable[[str], None] = print,
) -> None:
    """Serve the page of a study until Ctrl-C.

    Args:
        password: asked of everyone beside the link.
        started: told the address once it answers.

    Raises:
        FileError: a host other than this machine without a password, or a port that cannot be had.
    """
    require_private("study", host, password)
    require_free("study", host, port)
    page = build(study)
    page.launch(
        server_name=host,
        server_port=port,
        auth=knows(password),
        auth_message="Any name, and the password that came with your link.",
        quiet=True,
        prevent_thread_lock=True,
        max_file_size=1,  # nothing is ever uploaded
        theme=theme(),
        css_paths=_HERE.with_suffix(".css"),
        js=_HERE.with_suffix(".js").read_text(encoding="utf-8"),
        ssr_mode=False,
        footer_links=[],
    )
    # where it listens on every address, others know the machine by its name
    name = socket.gethostname() if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    started(f"http://{name}:{port}/")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        page.close(verbose=False)
