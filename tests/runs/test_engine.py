"""Runs in this process: what is finished stays, what fails is named, and the same command goes on."""

import json
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from situ.core.errors import FileError, SituError
from situ.runs.engine import InProcess, Outcome, run_work
from situ.runs.folder import RunFolder, runs_under, state_of
from situ.runs.work import Item
from toys_runs import BROKEN, BUG, GOOD, NAN, STOP, Squares, items


def ran(work: Squares, given: list[Item], **options: object) -> Outcome:
    way = InProcess("cpu")
    return run_work(work, given, RunFolder(work.out), way, "situ squares", **options)  # pyright: ignore


def computations(out: Path) -> int:
    return len(list(out.glob("tried-*")))


def test_every_item_is_done_in_its_batch(tmp_path: Path) -> None:
    told: list[tuple[float, int]] = []
    found = ran(
        Squares(tmp_path), items([GOOD] * 10), progress=lambda done, total, message="": told.append((done, total))
    )
    assert {name: each["square"] for name, each in found.results.items()} == {f"{i:03d}": i**2 for i in range(10)}
    assert (tmp_path / "007.txt").read_text() == "49"
    assert told[0] == (0, 10)
    assert told[-1] == (10, 10)
    state = state_of(tmp_path)
    assert (state.done, state.items, state.words, state.command) == (10, 10, "finished", "situ squares")


def test_the_same_command_does_only_what_is_missing(tmp_path: Path) -> None:
    given = items([GOOD] * 8)
    ran(Squares(tmp_path), given)
    assert computations(tmp_path) == 8
    assert len(ran(Squares(tmp_path), given).results) == 8
    assert computations(tmp_path) == 8
    (tmp_path / "002.txt").unlink()  # a file that was lost is made again, in the same batch as before
    assert len(ran(Squares(tmp_path), given).results) == 8
    assert (tmp_path / "002.txt").read_text() == "4"
    assert computations(tmp_path) == 8 + 4
    changed = [Item(each.name, {**each.given, "number": 100}) if each.name == "006" else each for each in given]
    assert ran(Squares(tmp_path), changed).results["006"]["square"] == 10_000


def test_another_command_is_refused_with_the_difference(tmp_path: Path) -> None:
    ran(Squares(tmp_path, word="this"), items([GOOD]))
    with pytest.raises(SituError, match="word this there, that now"):
        ran(Squares(tmp_path, word="that"), items([GOOD]))
    assert ran(Squares(tmp_path, word="that"), items([GOOD]), anew=True).results
    assert computations(tmp_path) == 2


def test_a_mistake_that_finished_nothing_does_not_hold_the_folder(tmp_path: Path) -> None:
    ran(Squares(tmp_path, word="typo"), items([BROKEN]))
    assert ran(Squares(tmp_path, word="right"), items([GOOD])).results


def test_two_commands_do_not_share_a_folder(tmp_path: Path) -> None:
    ran(Squares(tmp_path), items([GOOD]))
    with FileLock(tmp_path / ".run" / "lock"):
        assert state_of(tmp_path).running
        with pytest.raises(SituError, match="another command works in"):
            ran(Squares(tmp_path), items([GOOD]))
    assert not state_of(tmp_path).running


def test_failures_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    kinds = [GOOD, BROKEN, GOOD, NAN, GOOD, BUG, GOOD]
    found = ran(Squares(tmp_path), items(kinds))
    assert list(found.results) == ["000", "002", "004", "006"]
    assert found.failed["001"] == "001 is broken"
    assert "not finite at step 7" in found.failed["003"]
    assert found.failed["005"] == "unexpected ZeroDivisionError: a bug"
    state = state_of(tmp_path)
    assert state.failed == found.failed
    assert state.words == "finished but for failures"
    before = computations(tmp_path)
    assert set(ran(Squares(tmp_path), items(kinds)).failed) == {"001", "003", "005"}
    log = (tmp_path / ".run" / "failures.jsonl").read_text().splitlines()
    assert len(log) == 6
    assert computations(tmp_path) > before  # the batches of 3 and 5 were tried again
    mended = ran(Squares(tmp_path), items([GOOD] * 7))
    assert len(mended.results) == 7
    assert state_of(tmp_path).failed == {}


def test_a_batch_of_nothing_but_broken_items_is_not_computed_again(tmp_path: Path) -> None:
    given = items([GOOD, BROKEN, GOOD, GOOD])
    ran(Squares(tmp_path), given)
    before = computations(tmp_path)
    ran(Squares(tmp_path), given)
    assert computations(tmp_path) == before


def test_a_memory_that_is_too_small_halves_the_batch_and_says_so_once(tmp_path: Path) -> None:
    said: list[str] = []
    found = ran(Squares(tmp_path, together=8, holds=3), items([GOOD] * 24), say=said.append)
    assert len(found.results) == 24
    assert said == ["the memory of cpu does not hold 8 at once: going on with 4"]
    (failed,) = ran(Squares(tmp_path / "none", holds=0), items([GOOD])).failed.values()
    assert "does not hold it alone" in failed


def test_an_interrupted_batch_is_not_taken_for_finished(tmp_path: Path) -> None:
    """Methods keep what they have on Ctrl-C and go on as if they had finished."""
    given = items([GOOD] * 4 + [STOP, GOOD, GOOD, GOOD] + [GOOD] * 4)
    found = ran(Squares(tmp_path), given)
    assert found.stopped
    assert list(found.results) == ["000", "001", "002", "003"]
    assert not (tmp_path / "004.txt").exists()
    assert state_of(tmp_path).words == "stopped"
    assert len(ran(Squares(tmp_path), given).results) == 12
    assert (tmp_path / "004.txt").read_text() == "16"


def test_what_an_interrupt_leaves_is_written_where_it_is_of_use(tmp_path: Path) -> None:
    found = ran(Squares(tmp_path, keeps_partial=True), items([STOP]))
    assert found.stopped
    assert not found.results
    assert found.partial["000"]["square"] == -1
    assert ran(Squares(tmp_path, keeps_partial=True), items([STOP])).results["000"]["square"] == 0


def test_an_interrupt_is_that_of_the_program_again_afterwards(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    ran(Squares(tmp_path), items([GOOD]))
    assert signal.getsignal(signal.SIGINT) is before


def test_names_are_safe_and_their_own(tmp_path: Path) -> None:
    given = [Item("a/b", {"kind": GOOD, "number": 1}), Item("a_b", {"kind": GOOD, "number": 2})]
    folder = RunFolder(tmp_path)
    assert folder.path(given[0]) != folder.path(given[1])
    assert folder.path(Item("../../etc", {})).parent == tmp_path / ".run" / "items"
    with pytest.raises(SituError, match="got twice: a_b"):
        ran(Squares(tmp_path), [given[1], given[1]])


def test_records_that_are_damaged_say_what_to_do(tmp_path: Path) -> None:
    ran(Squares(tmp_path), items([GOOD]))
    record = next((tmp_path / ".run" / "items").iterdir())
    record.write_text("{")
    with pytest.raises(SituError, match="delete it, and what it tells is made again"):
        ran(Squares(tmp_path), items([GOOD]))
    (tmp_path / ".run" / "failures.jsonl").write_text('{"item": "000", "rea')
    assert RunFolder(tmp_path).failures() == {}


def test_runs_are_found(tmp_path: Path) -> None:
    for name in ("b", "a/deep"):
        ran(Squares(tmp_path / name), items([GOOD]))
    assert runs_under(tmp_path) == [tmp_path / "a" / "deep", tmp_path / "b"]
    assert runs_under(tmp_path / "b") == [tmp_path / "b"]


def test_the_manifest_says_what_was_asked(tmp_path: Path) -> None:
    ran(Squares(tmp_path, word="this"), items([GOOD, BROKEN]))
    manifest = json.loads((tmp_path / ".run" / "run.json").read_text())
    assert manifest["settings"] == {"word": "this"}
    assert [each["name"] for each in manifest["items"]] == ["000", "001"]
    assert set(manifest["versions"]) == {"situ", "torch", "python"}


def test_a_place_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(FileError, match="choose another folder"):
        run_work(Squares(tmp_path), items([GOOD]), RunFolder(blocked / "out"), InProcess("cpu"), "")
