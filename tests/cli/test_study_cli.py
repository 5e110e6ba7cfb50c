"""`situ study`: what it makes, prints and refuses."""

import importlib.util
import json
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from situ.checkpoints.native import save_stylegan2
from situ.cli.main import run
from situ.core.direction import Direction
from situ.core.images import load_image
from situ.core.latents import parse_subspace
from situ.metrics.perceptual import PyramidDistance
from situ.studio.study import Study
from toys import tiny_network, tiny_stylegan2
from toys_study import methods_folder

GAN = tiny_stylegan2()

Situ = Callable[..., tuple[int, str, str]]


@pytest.fixture
def situ(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Situ:
    """`situ(words...)` -> exit code and what was said, in a folder with a folder of methods."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    methods_folder(tmp_path / "methods", ("lelsd", "resefa"))

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["situ", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return command


def vote_on_all(path: str, choice: str = "left") -> None:
    study = Study(path)
    for judge in study.judges:
        while trial := study.next_trial(judge.token):
            study.vote(judge.token, trial.position, choice, 3.0)


def test_a_study_is_made_voted_on_and_told(situ: Situ, tmp_path: Path) -> None:
    code, out, err = situ("study", "create", "methods", "-o", "new/study.sqlite", "--judges", "2", "--pairs", "2")
    assert code == 0, err
    assert out == ""
    assert "new/study.sqlite: lelsd, resefa on 4 pictures; 2 pairs for each of 2 judges" in err
    assert "next: situ study serve new/study.sqlite" in err

    code, out, err = situ("study", "results", "new/study.sqlite")
    assert code == 2
    assert re.fullmatch(r"situ: nobody has voted in new/study.sqlite yet: .*\n", err)

    vote_on_all("new/study.sqlite")
    code, out, err = situ("study", "results", "new/study.sqlite", "--votes", "votes.csv")
    assert code == 0, err
    assert "50 % [15, 85]" in out
    assert "2 of 2" in out
    assert "left side was chosen in 100 %" in err
    assert len((tmp_path / "votes.csv").read_text().splitlines()) == 5

    code, out, err = situ("study", "results", "new/study.sqlite", "--json")
    assert code == 0, err
    found = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert found["votes"] == 4
    assert found["methods"][0]["rate"] == 0.5
    assert [judge["voted"] for judge in found["judges"]] == [2, 2]


def test_links_are_told_again_and_judges_added(situ: Situ) -> None:
    code, out, err = situ("study", "create", "methods", "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "study": "study.sqlite", "methods": ["lelsd", "resefa"], "pictures": [f"{i}.png" for i in range(4)],
        "pairs_per_judge": 4, "judges": 1,
    }  # fmt: skip
    study = Study("study.sqlite")
    code, out, err = situ("study", "judges", "study.sqlite", "--add", "2", "--address", "https://study.example/")
    assert code == 0, err
    assert f"judge 1 (0 of 4): https://study.example/?judge={study.judges[0].token}\n" in err
    assert err.count("?judge=") == len(study.judges) == 3
    assert f"results, for you alone: https://study.example/?organiser={study.organiser}" in err
    code, out, err = situ("study", "judges", "study.sqlite", "--json")
    assert [row["link"].partition("=")[2] for row in json.loads(out)["judges"]] == [j.token for j in study.judges]


@pytest.fixture
def directions(tmp_path: Path) -> tuple[str, ...]:
    """Two direction files of one name, and a model that they fit."""
    save_stylegan2(tiny_network(), tmp_path / "model.safetensors", licence="CC0")
    for i, folder in enumerate(("a", "b")):
        subspace = parse_subspace("w+:2-5", GAN.spaces)
        vector = torch.randn(subspace.dim, generator=torch.Generator().manual_seed(i))
        made = Direction(vector / vector.norm(), subspace, GAN.name, "hair", "drawn", name="hair", unit=0.5)
        made.save(tmp_path / folder / "hair.safetensors")
    return "a/hair.safetensors", "b/hair.safetensors", "model.safetensors"


def test_directions_become_a_folder_of_methods(
    situ: Situ, tmp_path: Path, directions: tuple[str, ...], unchecked: None
) -> None:
    a, b, model = directions
    code, out, err = situ(
        "study", "edits", f"lelsd={a}", b, "-m", model, "-n", "2", "--seed", "3", "-o", "new", "--json"
    )
    assert code == 0, err
    said = json.loads(out)
    assert said["methods"] == ["lelsd", "hair"]
    assert said["pictures"] == ["seed_3.png", "seed_4.png"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["edits.json", "hair", "lelsd", "original"]
    for method in ("lelsd", "hair"):
        before, after = (load_image(tmp_path / "new" / name / "seed_3.png") for name in ("original", method))
        moved = float(PyramidDistance().between(before, after))
        assert moved == pytest.approx(said["distance"], rel=0.3), "of pictures cut to 8 bits"
    asked = json.loads((tmp_path / "new" / "edits.json").read_text())
    assert asked["seed_4.png"] == "To be changed: hair, and nothing else"
    assert situ("study", "create", "new")[0] == 0
    assert Study("study.sqlite").methods == ["hair", "lelsd"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{a}"], "two methods at least, got 1"),
        (["{a}", "{b}"], "two methods are called hair: name them apart"),
        (["original={a}", "{b}"], 'cannot be called "original"'),
        (["../x={a}", "{b}"], 'cannot be called "../x"'),
        (["x={a}", "none.safetensors"], "none.safetensors"),
        (["x={a}", "{b}", "-o", "methods"], "methods is there already"),
        (["x={a}", "{b}", "--distance", "0"], "a number other than 0"),
        (["x={a}", "{b}", "--distance", "nan"], "a number other than 0"),
    ],
)
def test_directions_that_become_none(
    situ: Situ, tmp_path: Path, directions: tuple[str, ...], words: list[str], said: str, unchecked: None
) -> None:
    before = sorted(tmp_path.rglob("*"))
    a, b, model = directions
    code, _, err = situ("study", "edits", "-m", model, "-o", "new", *[word.format(a=a, b=b) for word in words])
    assert code == 2
    assert said in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "nothing"], "no folder at nothing: expected METHOD/PICTURE.png"),
        (["create", "methods/lelsd"], "two methods at least"),
        (["create", "methods", "--pairs", "5"], "1 to 4 pairs of this folder, got 5"),
        (["create", "methods", "--seed", "-1"], "a seed is a whole number from 0"),
        (["create", "methods", "-o", "methods/lelsd/0.png/study.sqlite"], "cannot write to the folder"),
        (["create", "methods", "-o", "methods/lelsd/0.png"], "is there already and may hold votes"),
        (["results", "none.sqlite"], "no study at none.sqlite: make one with situ study create"),
        (["results", "methods/lelsd/0.png"], "cannot be used"),
        (["judges", "none.sqlite"], "no study at none.sqlite"),
        (["serve", "none.sqlite"], "no study at none.sqlite"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(situ: Situ, tmp_path: Path, words: list[str], said: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, err = situ("study", *words)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert said in err
    assert sorted(tmp_path.rglob("*")) == before


def test_others_cannot_reach_it_without_a_password(situ: Situ) -> None:
    pytest.importorskip("gradio")
    situ("study", "create", "methods")
    code, _, err = situ("study", "serve", "study.sqlite", "--host", "0.0.0.0")
    assert code == 2
    assert "others could reach the study on 0.0.0.0: give it a --password" in err


def test_a_port_that_is_taken(situ: Situ) -> None:
    pytest.importorskip("gradio")
    situ("study", "create", "methods")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, _, err = situ("study", "serve", "study.sqlite", "--port", str(port))
    assert code == 2
    assert f"port {port} (Address already in use): choose another --port" in err


def test_without_gradio_it_says_how_to_get_it(situ: Situ, monkeypatch: pytest.MonkeyPatch) -> None:
    situ("study", "create", "methods")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, err = situ("study", "serve", "study.sqlite")
    assert code == 2
    assert "needs Gradio: pip install 'situ[studio]'" in err
