"""A person's work: undo, sliders, and finding it again."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from situ.core.errors import FileError
from situ.studio.session import MOST, Entry, Session, Work, open_session, secret_of


def test_undo_and_redo_are_each_others_inverse(tmp_path: Path) -> None:
    session = Session(tmp_path)
    works = [session.now]
    for strength in (1.0, 2.0, 3.0):
        session.do(session.now.added("d", strength))
        works.append(session.now)
    for work in reversed(works[:-1]):
        assert session.undo()
        assert session.now == work
    assert not session.undo()
    for work in works[1:]:
        assert session.redo()
        assert session.now == work
    assert not session.redo()
    session.undo()
    session.do(replace(session.now, seed=9))
    assert not session.redo()  # what was taken back is gone once something else is done


def test_all_positions_of_a_slider_are_one_step(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.do(Work().added("d", 1.0))
    for strength in (1.5, 2.0, 2.5):
        session.slide({0: strength})
    session.settle()
    session.slide({0: 2.5})  # the last position once more, late
    assert session.now.stack[0].strength == 2.5
    session.undo()
    assert session.now.stack[0].strength == 1.0
    session.redo()
    session.slide({0: 3.0})
    session.settle()
    session.slide({0: 4.0})
    session.undo()
    assert session.now.stack[0].strength == 3.0


def test_two_sliders_at_once_are_one_step_and_what_is_gone_is_left_out(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.do(Work().added("a").added("b"))
    for place in (0.5, -1.5):
        session.slide({0: place, 1: -place, 5: 1.0})
    session.settle()
    assert [entry.strength for entry in session.now.stack] == [-1.5, 1.5]
    session.undo()
    assert [entry.strength for entry in session.now.stack] == [1.0, 1.0]


def test_the_pad_moves_two_different_edits_of_the_stack(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.do(replace(Work(), stack=tuple(Entry(name) for name in "abc")))
    assert session.aim(2, 0) == (2, 0)
    assert session.aim(1, 1) == (0, 2)  # turned round
    assert session.aim(0, 9) == (0, 2)
    session.do(session.now.without(2))
    assert session.aim() == (0, 1)


def test_a_renamed_direction_is_renamed_in_all_that_undo_knows(tmp_path: Path) -> None:
    session = Session(tmp_path)
    for strength in (1.0, 2.0):
        session.do(Work().added("old", strength).added("other"))
    session.undo()
    session.rename("old", "new")
    for _ in range(2):
        assert session.now.stack[0].direction == "new"
        assert session.now.stack[1].direction == "other"
        session.redo()
    assert open_session(tmp_path.parent, "x" * 30)[1].now == Work()  # nobody else's


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(-5, 5)), max_size=MOST), st.integers(0, MOST - 1))
def test_the_stack_keeps_its_edits_whatever_their_order(entries: list[tuple[str, float]], index: int) -> None:
    work = Work(stack=tuple(Entry(name, strength) for name, strength in entries))
    if index < len(work.stack):
        assert sorted(map(str, work.raised(index).stack)) == sorted(map(str, work.stack))
        assert len(work.without(index).stack) == len(work.stack) - 1
        assert work.with_entry(index, on=False).stack[index].on is False
    if len(work.stack) == MOST:
        with pytest.raises(FileError, match="remove one first"):
            work.added("c")


def test_a_session_is_found_again_and_nobody_elses(tmp_path: Path) -> None:
    name, session = open_session(tmp_path, "")
    session.do(Work(seed=5).added("d", 2.0))
    assert open_session(tmp_path, name)[1].now == session.now
    other, theirs = open_session(tmp_path, "")
    assert other != name
    assert theirs.now == Work()


@pytest.mark.parametrize("name", ["../../etc", "short", "a" * 300, "x/../../../../y" * 3])
def test_a_name_that_is_none_gets_a_new_session_inside_the_workspace(tmp_path: Path, name: str) -> None:
    got, session = open_session(tmp_path, name)
    assert got != name
    assert session.folder.resolve().is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize("text", ["", "{}", "[" * 5000, '{"format": "situ-session-1", "now": {"photo": "../x"}}'])
def test_a_damaged_session_starts_anew(tmp_path: Path, text: str) -> None:
    name, session = open_session(tmp_path, "")
    session.do(Work(seed=5))
    (session.folder / "session.json").write_text(text)
    assert open_session(tmp_path, name) == (name, Session(session.folder))


def test_the_secret_stays_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    first = secret_of(tmp_path / "new")
    assert len(first) > 20
    assert secret_of(tmp_path / "new") == first
    assert (tmp_path / "new" / "secret").stat().st_mode & 0o077 == 0
