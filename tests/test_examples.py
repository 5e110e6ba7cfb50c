"""Every example runs as it stands, finds what it says, and writes its picture."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from situ.core.images import load_image

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose time on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def params() -> list[object]:
    """One for each example; those that work on the portraits are slow."""
    slow = pytest.mark.slow
    return [
        pytest.param(path, id=path.stem, marks=slow if "portraits" in path.read_text() else ()) for path in EXAMPLES
    ]


# the checks of shapes are off, as they are for a reader
@pytest.mark.parametrize("path", params())
def test_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unchecked: None
) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    load_image(tmp_path / f"{path.stem}.png")
    if "reader" in path.stem:
        assert "recognised: True" in said
        assert "the same pictures: True" in said
        return
    (score, of_random) = re.findall(r"LS ([\d.]+) \(random directions ([\d.]+)\)", said)[0]
    assert float(score) > 1.5 * float(of_random), said
    (gain, of_random) = re.findall(r"region gain ([\d.]+) \(random directions ([\d.]+)\)", said)[0]
    assert float(gain) > 2 * float(of_random), said


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5
