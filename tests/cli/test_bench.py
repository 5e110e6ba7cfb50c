"""`situ bench` in this process: what it lists, prints, refuses and keeps."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from situ.bench.benches import BENCHES
from situ.bench.experiment import Outcome, Table
from situ.bench.run import Run
from situ.cli import bench as cli
from situ.cli.main import run

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """`say(words...)` in an empty folder -> exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["situ", "bench", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run()
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return command


def test_help_has_every_bench_with_its_time(say) -> None:
    code, out, _ = say("--help")
    assert code == 0
    for name in [*BENCHES, "all"]:
        assert f" {name} " in out
    wanted = {
        "lelsd-fig3",
        "lelsd-fig4",
        "lelsd-fig5",
        "lelsd-table1",
        "resefa-table1",
        "resefa-fig5",
        "interactivity",
        "truth",
        "magec-table1",
        "magec-table2",
        "magec-table3",
        "magec-truth",
    }
    assert wanted <= set(BENCHES)
    _, out, _ = say("truth", "--help")
    for option in ("--model", "--out", "--quick", "--pictures", "--seed", "--json"):
        assert option in out
    assert "minutes on one core" in out


def test_bad_input_is_one_line(say, tmp_path: Path) -> None:
    code, _, err = say("truth", "--seed", "-1")
    assert (code, err.count("\n")) == (2, 1)
    assert "a seed is" in err
    assert say("truth", "--pictures", "1")[0] == 2
    code, _, err = say("truth", "--model", "nobody")
    assert code == 2
    assert "nobody" in err
    (tmp_path / "old/truth").mkdir(parents=True)
    (tmp_path / "old/truth/settings.json").write_text(json.dumps({"model": "another"}))
    code, _, err = say("truth", "--quick", "-o", "old")
    assert code == 2
    assert "model another there, portraits now" in err


def counted(run: Run) -> Outcome:
    """Two cells, of which the second is interrupted once."""
    first = run.cell("first", lambda: run.size.pictures)

    def second() -> int:
        mark = Path("interrupted")
        if not mark.exists():
            mark.touch()
            raise KeyboardInterrupt
        return 2

    return Outcome([Table("sums", "Sums", ("sum",), ((first + run.cell("second", second),),))])


def test_ctrl_c_keeps_the_cells_and_the_same_command_goes_on(say, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(BENCHES["truth"], run=counted, plan=lambda run: {})
    monkeypatch.setattr("situ.bench.cell_work.BENCHES", {"truth": small})
    monkeypatch.setattr(cli, "run_bench", lambda bench, *rest: RUN(small, *rest))
    words = ("truth", "--pictures", "7", "-o", "out", "--json")
    code, out, err = say(*words)
    assert (code, out) == (130, "")
    assert "the same command goes on" in err
    assert Path("out/truth/cells/first.json").exists()
    assert not Path("out/truth/report.json").exists()
    code, out, err = say(*words)
    assert code == 0, err
    assert "first" not in err, "what is there is not measured again"
    report = json.loads(out, parse_constant=pytest.fail)
    assert report["tables"][0]["rows"] == [[9]]
    assert report["command"] == "situ bench truth --model portraits --seed 0 --pictures 7"
    assert report == json.loads(Path("out/truth/report.json").read_text())
    assert Path("out/truth/sums.csv").read_text() == "sum\n9\n"
    code, out, err = say(*words[:-1])
    assert code == 0
    assert "Sums" in out
    assert "out/truth" in err


RUN = cli.run_bench


@pytest.mark.slow
def test_a_quick_bench_of_the_bundled_model(say) -> None:
    code, out, err = say("lelsd-fig5", "--quick", "-o", "out")
    assert code == 0, err
    assert "One edit after another" in out
    assert "LELSD, section 4.3" in out
    assert "a quick run measures too little" in err
    files = {path.name for path in Path("out/lelsd-fig5").iterdir()}
    assert {"report.json", "steps.csv", "steps.png", "steps.svg", "sheet.png"} <= files
