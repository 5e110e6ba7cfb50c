"""Runs on workers that Ray keeps: the same results, models opened once a worker, a dead worker's batch done again."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from situ.core.errors import ModelError, SituError
from situ.runs.engine import InProcess, Outcome, run_work
from situ.runs.folder import RunFolder
from situ.runs.ray_workers import RayWorkers
from toys_runs import BROKEN, DEADLY, FATAL, GOOD, NAN, Squares, items


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find the toys."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


def ran(work: Squares, kinds: list[str], said: list[str] | None = None) -> Outcome:
    say = (lambda text: None) if said is None else said.append
    return run_work(work, items(kinds), RunFolder(work.out), RayWorkers("cpu", 2), "situ squares", say=say)


@pytest.mark.slow
def test_workers_give_what_one_process_gives(tmp_path: Path, importable: None) -> None:
    kinds = [GOOD, BROKEN, GOOD, NAN, *[GOOD] * 12]
    said: list[str] = []
    found = ran(Squares(tmp_path / "two", holds=3), kinds, said)
    alone = run_work(Squares(tmp_path / "one"), items(kinds), RunFolder(tmp_path / "one"), InProcess("cpu"), "")
    assert found.results == alone.results
    assert found.failed == alone.failed
    assert len(list((tmp_path / "two" / "opened").iterdir())) == 2
    assert len(said) == len(set(said)) == 1  # both workers' memory was too small
    again = ran(Squares(tmp_path / "two", holds=3), kinds)
    assert again.results == found.results


@pytest.mark.slow
def test_a_killed_workers_batch_is_done_elsewhere(tmp_path: Path, importable: None) -> None:
    found = ran(Squares(tmp_path, together=2), [GOOD, DEADLY, GOOD, GOOD, FATAL, GOOD, GOOD, GOOD])
    assert list(found.results) == ["000", "001", "002", "003", "006", "007"]
    assert found.results["001"]["square"] == 1
    assert found.failed == dict.fromkeys(["004", "005"], "its worker died 3 times (killed, or out of memory)")


@pytest.mark.parametrize(
    ("there", "device", "asked", "workers", "share"),
    [
        ({"CPU": 2.0}, "auto", None, 2, {"num_cpus": 1}),
        ({"CPU": 16.0, "GPU": 4.0}, "auto", None, 4, {"num_cpus": 4, "num_gpus": 1}),
        ({"CPU": 16.0, "GPU": 1.0}, "cuda", 4, 4, {"num_cpus": 4, "num_gpus": 0.25}),
        ({"CPU": 16.0, "GPU": 4.0}, "cpu", 8, 8, {"num_cpus": 2}),
        ({"CPU": 2.0}, "auto", 4, 4, {"num_cpus": 0.5}),
    ],
)
def test_machines_are_shared_out(there: dict, device: str, asked: int | None, workers: int, share: dict) -> None:
    ray = SimpleNamespace(cluster_resources=lambda: there)
    assert RayWorkers(device, asked)._shares(ray, 100) == (workers, share)
    assert RayWorkers(device, asked)._shares(ray, 1)[0] == 1


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SituError, match="workers are a number from 1, got 0"):
        RayWorkers("cpu", 0)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModelError, match=r"pip install 'situ\[cluster\]'"):
        ran(Squares(tmp_path), [GOOD])
