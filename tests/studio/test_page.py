"""The events of the studio's page, without a browser: slow models, people who come and go, what is gone."""

import time
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from situ import open_model
from situ.core.generator import Synthesis
from situ.studio.layout import VIEWS
from situ.studio.page import COMPUTING, DRAFT, SESSIONS, Page
from situ.studio.session import MOST, Work
from situ.studio.verbs import Studio

PACK = open_model("portraits")
EDITED = VIEWS[0]


@pytest.fixture
def events(tmp_path: Path) -> Page:
    return Page(Studio(PACK, "portraits", tmp_path / "work"))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A generator that needs 0.2 s for a picture; when each was asked for."""
    asked: list[float] = []
    real = PACK.generator.synthesize

    def late(*values: Any, **named: Any) -> Synthesis:
        asked.append(time.monotonic())
        time.sleep(0.2)
        return real(*values, **named)

    monkeypatch.setattr(PACK.generator, "synthesize", late)
    return asked


def picture(outputs: list[Any]) -> np.ndarray:
    return np.asarray(outputs[0]["value"]).astype(int)


def test_a_slow_model_is_not_asked_while_a_slider_is_dragged(events: Page, slow: list[float]) -> None:
    who, session = events.named_session("")
    session.do(Work(seed=3).added("hair-1", 2.0))
    at_two = picture(events.refreshed(who, EDITED))
    session.slide({0: -2.0})
    session.settle()
    at_minus_two = picture(events.refreshed(who, EDITED))
    assert events.studio.slow
    asked = len(slow)
    for strength in (-1.0, 0.0):
        *seen, words = events.slide(0, who, EDITED, strength)
        assert words == DRAFT
    assert len(slow) == asked  # nothing was synthesised
    assert np.abs(picture(seen) - (at_two + at_minus_two) / 2).mean() < 1  # half way, and said to be no more
    waiting, ended = events.let_go(0, who, EDITED, 0.5)
    assert waiting[-1] == COMPUTING
    assert len(slow) > asked
    real = events.studio.shown(events.studio.pictures(session, session.now)[1:])[0]
    assert np.array_equal(picture(ended), np.asarray(real).astype(int))
    session.undo()
    assert session.now.stack[0].strength == -2.0  # the whole way is one step


def test_a_quick_model_shows_each_position(events: Page) -> None:
    who, session = events.named_session("")
    session.do(Work(seed=3).added("hair-1", 2.0))
    events.refreshed(who, EDITED)
    events.studio._took.extend([0.01] * 5)  # whatever else the machine is doing
    one, two = (picture(events.slide(0, who, EDITED, strength)) for strength in (1.0, -1.0))
    assert np.abs(one - two).max() > 20


def test_previews_of_a_slow_model_come_one_after_the_other(events: Page, slow: list[float]) -> None:
    who, session = events.named_session("")
    events.refreshed(who, EDITED)
    assert events.studio.slow
    coming = events.shelving(who, "mouth", "all", 0.0)
    made = [sum(bool(card["src"]) for card in next(coming)[0]) for _ in range(3)]
    assert made == [0, 1, 2]
    session.do(Work(seed=9))
    assert not list(coming)  # another picture: those of this one are wanted no more


def test_a_control_is_not_moved_under_the_hand(events: Page) -> None:
    who, session = events.named_session("")
    session.do(Work(seed=3).added("hair-1").added("mouth-1"))
    *_, ended = events.let_go(1, who, EDITED, 0.5)
    assert ended[2 + 4 * 1 + 1] == gr.skip()
    assert ended[2 + 4 * 0 + 1]["value"] == 1.0
    assert ended[2 + 4 * MOST + 3]["y"] == 0.5  # the pad follows the slider
    *_, ended = events.drop(who, EDITED, {"x": 0.25, "y": 9.0})
    assert ended[2 + 4 * MOST + 3] == gr.skip()
    assert [entry.strength for entry in session.now.stack] == [0.25, 3.0]  # at the edge of the pad
    for point in ({}, {"x": "a", "y": 0}, {"x": None, "y": 1}):
        with pytest.raises(gr.Error, match="two numbers"):
            list(events.drop(who, EDITED, point))


def test_as_many_outputs_as_are_said(events: Page) -> None:
    who, session = events.named_session("")
    session.do(Work().added("hair-1").added("mouth-1"))
    assert len(events.refreshed(who, EDITED)) == events.outputs + 1


def test_sessions_in_memory_are_bounded_and_come_back_from_their_files(events: Page) -> None:
    first, session = events.named_session("")
    session.do(Work(seed=5).added("hair-1", 1.0))
    session.slide({0: 2.5})  # under way when it goes
    for _ in range(SESSIONS + 5):
        events.named_session("")
    assert len(events._sessions) == SESSIONS
    assert events.session(first) is not session
    assert events.session(first).now == Work(seed=5).added("hair-1", 2.5)


def test_a_deleted_direction_leaves_the_page_usable(events: Page) -> None:
    who, session = events.named_session("")
    name = events.studio.library.add(events.studio.library.item("hair-1").direction, "mine")
    session.do(Work().added(name).added("mouth-1"))
    ended = events.library_event(events.delete)(who, EDITED, name)
    assert "remove it there" in ended[-1]
    assert ended[3]["label"] == "mine (deleted)"
    who_again, *shown = events.arrive(who)[1:]
    assert who_again == who
    assert shown[3]["label"] == "mine (deleted)"
    events.doing(lambda s: s.now.without(0))(who, EDITED)
    assert [entry.direction for entry in session.now.stack] == ["mouth-1"]


def test_work_that_cannot_be_shown_is_not_a_dead_end(events: Page) -> None:
    who, session = events.named_session("")
    session.do(Work(photo="gone.png"))
    assert "new start" in events.arrive(who)[-1]
    assert session.now == Work()


@pytest.mark.parametrize(
    "mark",
    [
        None,
        {},
        {"kind": "box"},
        {"kind": "box", "corners": [1]},
        {"kind": "part", "row": "x"},
        {"kind": "part", "row": float("nan"), "column": 0},
        {"kind": "brush", "mask": "no"},
    ],
)
def test_marks_that_are_none_are_told(events: Page, mark: Any) -> None:
    who, session = events.named_session("")
    with pytest.raises(gr.Error):
        events.mark(who, EDITED, {"mark": mark})
    assert session.now == Work()


def test_undo_and_redo_of_nothing_do_nothing(events: Page) -> None:
    who, session = events.named_session("")
    for verb in (events.redo, events.undo, events.redo):
        events.doing(verb)(who, EDITED)
        assert session.now == Work()


def test_the_map_names_what_is_under_the_pointer(events: Page) -> None:
    who, _ = events.named_session("")
    told = events.part_map(who, {"asks": "a picture"})
    assert told["of"] == "a picture"
    assert told["map"].startswith("data:image/png")
    assert tuple(told["parts"]) == PACK.segmenter.parts
