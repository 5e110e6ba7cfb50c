"""`situ convert` and `situ inspect` on files of other projects: what they write and say, and what they refuse."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from situ.checkpoints.native import load_generator
from situ.cli.main import run
from situ.generators.stylegan2 import StyleGAN2
from wild_files import network, pictures_of, snapshot, torch_file, weights_of

NAME = StyleGAN2(network()).name
Situ = Callable[..., tuple[int, str, str]]


@pytest.fixture
def situ(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Situ:
    """`situ(words...)` -> exit code and what was said, in a folder with two files of NVIDIA's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "faces.pkl").write_bytes(snapshot(network()))
    (tmp_path / "faces.pt").write_bytes(torch_file(weights_of(network())))
    (tmp_path / "text.pkl").write_text("hello")

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["situ", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return command


def test_a_converted_file_is_the_same_generator(situ: Situ, tmp_path: Path) -> None:
    code, out, err = situ("convert", "faces.pkl", "new/faces.safetensors", "--licence", "CC BY-NC 4.0")
    assert code == 0, err
    assert out == ""
    assert "read faces.pkl: a snapshot of stylegan2-ada-pytorch or stylegan3 (.pkl)" in err
    assert f"wrote new/faces.safetensors: {NAME}" in err
    generator, licence = load_generator(tmp_path / "new" / "faces.safetensors")
    assert generator.name == NAME
    assert licence == "CC BY-NC 4.0"
    code, out, err = situ("inspect", "new/faces.safetensors", "--json")
    assert code == 0, err
    assert json.loads(out)["generator"] == NAME
    assert json.loads(out)["licence"] == "CC BY-NC 4.0"


def test_json_and_half_precision(situ: Situ, tmp_path: Path) -> None:
    code, out, err = situ("convert", "faces.pt", "a.safetensors", "--half", "--json")
    assert code == 0, err
    said = json.loads(out)
    generator, _ = load_generator(tmp_path / "a.safetensors")
    assert said["generator"] == generator.name != NAME
    assert said["format"] == "nvidia-state-dict"
    assert said["notes"] == ["a state dict does not say whether activations are clamped: they are not"]
    assert said["bytes"] == (tmp_path / "a.safetensors").stat().st_size
    assert said["spaces"]["w+"] == 32
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert file.get_tensor("mapping.w_avg").dtype == torch.float16
    difference = (pictures_of(generator) - pictures_of(StyleGAN2(network()))).abs().max()
    assert 0 < difference < 0.1


def test_a_licence_is_kept(situ: Situ) -> None:
    situ("convert", "faces.pkl", "a.safetensors", "--licence", "CC0")
    assert json.loads(situ("convert", "a.safetensors", "b.safetensors", "--json")[1])["licence"] == "CC0"


def test_notes_are_told(situ: Situ) -> None:
    assert "note: a state dict does not say" in situ("convert", "faces.pt", "a.safetensors")[2]
    code, out, _ = situ("inspect", "faces.pt")
    assert code == 0
    assert NAME in out
    assert "Read as a state dict of NVIDIA's" in out
    assert "does not say whether activations are clamped" in out
    assert "a state dict does not say" in situ("inspect", "faces.pt", "--card")[1]


def test_any_file_is_a_model_for_the_other_verbs(situ: Situ, tmp_path: Path) -> None:
    code, _, err = situ("sample", "--model", "faces.pkl", "-n", "1", "-o", "s.png")
    assert code == 0, err
    assert (tmp_path / "s.png").is_file()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("convert faces.pkl out.pt", "generator files end in .safetensors, got out.pt"),
        ("convert missing.pkl out.safetensors", "no file at missing.pkl"),
        ("convert text.pkl out.safetensors", "text.pkl holds no generator of a known format"),
        ("convert . out.safetensors", "is a folder, expected a file"),
        ("convert faces.pkl text.pkl/out.safetensors", "cannot write to the folder"),
        ("convert faces.pkl", "Missing argument"),
        ("inspect text.pkl", "text.pkl holds no generator of a known format"),
        ("inspect .", "is a folder, expected a file"),
        ("inspect missing.pkl", 'no model "missing.pkl"'),
    ],
)
def test_bad_input_is_one_line(words: str, expected: str, situ: Situ, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    code, out, err = situ(*words.split())
    assert code == 2
    assert out == ""
    assert err.startswith("situ: ")
    assert err.count("\n") == 1
    assert expected in err
    assert sorted(tmp_path.iterdir()) == before
