"""`situ import` and `situ export`: what they write, say and refuse."""

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from situ.checkpoints.native import save_stylegan2
from situ.cli import import_directions as verb
from situ.cli.export_directions import export_directions
from situ.cli.import_directions import import_directions
from situ.core.direction import Direction, load_direction
from situ.core.errors import DirectionError, SituError
from situ.core.latents import parse_subspace
from situ.metrics.perceptual import PyramidDistance
from toys import tiny_network, tiny_stylegan2

GAN = tiny_stylegan2()
APP = typer.Typer()
APP.command(name="import")(import_directions)
APP.command(name="export")(export_directions)

Situ = Callable[..., str]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose time on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_stylegan2(tiny_network(), path, licence="CC0")
    return str(path)


@pytest.fixture
def situ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str) -> Situ:
    """`situ(words...)` in an empty folder gives standard output; "MODEL" stands for the generator file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: str) -> str:
        result = CliRunner().invoke(APP, [model if word == "MODEL" else word for word in words])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return command


def refused(situ: Situ, *words: str) -> str:
    with pytest.raises(SituError) as error:
        situ(*words)
    assert "\n" not in str(error.value)
    return str(error.value)


def vectors(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


IMPORT = ("import", "--model", "MODEL", "--device", "cpu", "-o", "d")


def test_import_calibrates_and_says_what_it_assumed(situ: Situ, tmp_path: Path) -> None:
    np.save("smile.npy", vectors(1, 8))
    said = json.loads(situ(*IMPORT, "smile.npy", "--space", "w", "--licence", "MIT", "--json"))
    assert said["read"] == {"file": "smile.npy", "kind": "array", "shape": [1, 8]}
    assert said["assumed"] == ['region "everything", as none was given']
    assert said["generator"] == GAN.name
    (row,) = said["directions"]
    assert row["file"] == "d/smile.safetensors"
    direction = load_direction(row["file"])
    wanted = vectors(1, 8)[0]
    assert np.allclose(direction.vector.numpy(), wanted / np.linalg.norm(wanted), atol=1e-6)
    assert (str(direction.subspace), direction.generator, direction.licence) == ("w", GAN.name, "MIT")
    assert np.isnan(direction.score)
    codes = GAN.sample(64, GAN.spaces["z"], torch.Generator().manual_seed(5), 0.7)
    moved = direction.apply(GAN, codes, 1.0)
    distance = PyramidDistance().between(GAN.synthesize(codes).images, GAN.synthesize(moved).images)
    assert float(distance.mean()) == pytest.approx(0.02, rel=0.5)  # strength 1 is calibrated


def test_import_measures_where_there_is_a_region(situ: Situ) -> None:
    np.save("smile.npy", vectors(1, 8))
    words = (*IMPORT, "smile.npy", "--space", "w", "--layers", "2-3", "--box", "8,8,8,8", "--name", "grin")
    (row,) = json.loads(situ(*words, "--json"))["directions"]
    assert (row["name"], row["subspace"], row["region"]) == ("grin", "w:2-3", "box[8,8,8,8]")
    assert row["region_gain"] > 0
    assert 0 < row["figures"]["LS"] < 1
    assert "region gain" in situ(*words)
    (row,) = json.loads(situ(*IMPORT, "smile.npy", "--space", "w", "--region-name", "mouth", "--json"))["directions"]
    assert (row["region"], row["region_gain"]) == ("mouth", None)


def test_import_of_rows_channels_and_edits(situ: Situ) -> None:
    np.save("many.npy", vectors(5, 8))
    rows = json.loads(situ(*IMPORT, "many.npy", "--space", "w", "--row", "0,2-3", "--json"))["directions"]
    assert [Path(row["file"]).name for row in rows] == [f"many-{i}.safetensors" for i in (0, 2, 3)]
    rows = json.loads(situ(*IMPORT, "many.npy", "--space", "w", "--row", "0-1", "--name", "a/b", "--json"))[
        "directions"
    ]
    assert [row["file"] for row in rows] == ["d/a_b-0.safetensors", "d/a_b-1.safetensors"]
    (row,) = json.loads(situ(*IMPORT, "3_7", "--json"))["directions"]
    assert (row["subspace"], row["name"]) == ("s:3", "3_7")
    edit = {"lat_comp": vectors(1, 8), "latent_space": "W", "edit_type": "latent", "edit_start": 1, "edit_end": 3}
    Path("edit.pkl").write_bytes(pickle.dumps({**edit, "name": "Light direction", "truncation": 0.9}))
    said = json.loads(situ(*IMPORT, "edit.pkl", "--json"))
    assert said["assumed"][0] == "space w:1-2, as the file says"
    assert said["directions"][0]["file"] == "d/Light_direction.safetensors"
    (row,) = json.loads(situ(*IMPORT, "edit.pkl", "--layers", "0-1", "--json"))["directions"]
    assert row["subspace"] == "w:0-1"


def test_import_leaves_out_what_changes_nothing(situ: Situ, monkeypatch: pytest.MonkeyPatch) -> None:
    real = verb.calibrate

    def hardly(generator: object, direction: Direction, *rest: object) -> Direction:
        if direction.name == "many-1":
            raise DirectionError("the direction many-1 cannot be calibrated")
        return real(generator, direction, *rest)

    monkeypatch.setattr(verb, "calibrate", hardly)
    np.save("many.npy", vectors(2, 8))
    said = json.loads(situ(*IMPORT, "many.npy", "--space", "w", "--row", "all", "--json"))
    assert [row["name"] for row in said["directions"]] == ["many-0"]
    assert said["left_out"] == ["the direction many-1 cannot be calibrated"]
    assert "none of" not in situ(*IMPORT, "many.npy", "--space", "w", "--row", "0")
    alone = ("many.npy", "--space", "w", "--row", "1", "--name", "many-1")
    assert "cannot be calibrated" in refused(situ, *IMPORT, *alone)


def test_ctrl_c_keeps_what_is_calibrated(situ: Situ, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = verb.calibrate, []

    def interrupted(*arguments: object) -> Direction:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(verb, "calibrate", interrupted)
    np.save("many.npy", vectors(5, 8))
    said = json.loads(situ(*IMPORT, "many.npy", "--space", "w", "--row", "all", "--json"))
    assert len(said["directions"]) == 2
    assert said["left_out"] == ["stopped after 2 of 5"]


def test_import_refuses_in_one_line(situ: Situ) -> None:
    np.save("one.npy", vectors(1, 8))
    np.save("many.npy", vectors(5, 8))
    Path("bad.pkl").write_bytes(pickle.dumps({"lat_comp": os.getcwd}))
    cases = {
        ("one.npy",): "does not say its space",
        ("one.npy", "--layers", "1"): "needs --space",
        ("one.npy", "--space", "w:1", "--layers", "2"): "said twice",
        ("one.npy", "--space", "v"): "spaces of this generator",
        ("one.npy", "--space", "s"): r"8 numbers fit z (8), w (8), w:LAYERS",
        ("one.npy", "--space", "w", "--box", "8,8,8,8", "--region-name", "a"): "not both",
        ("one.npy", "--space", "w", "--box", "8,8,8,8", "--box", "4,4,4,4"): "one region",
        ("one.npy", "--space", "w", "--part", "mouth"): "",
        ("one.npy", "--space", "w", "--row", "1"): "from 0 to 0",
        ("one.npy", "--space", "w", "--row", "first"): "or all",
        ("one.npy", "--space", "w", "--truncation", "9"): "truncation",
        ("many.npy", "--space", "w"): "--row 0,2 or --row all",
        ("bad.pkl", "--space", "w"): "getcwd",
        ("missing.npy", "--space", "w"): "no file",
        ("one.npy", "--space", "w", "--model", "nothing"): "no model",
    }
    for words, wanted in cases.items():
        assert wanted in refused(situ, *IMPORT, *words), words
    assert not Path("d").exists()
    Path("d").write_text("a file")
    assert "cannot write" in refused(situ, *IMPORT, "one.npy", "--space", "w")


def drawn(name: str, space: str) -> None:
    subspace = parse_subspace(space, GAN.spaces)
    vector = torch.randn(subspace.dim, generator=torch.Generator().manual_seed(len(name)))
    Direction(vector / vector.norm(), subspace, GAN.name, "mouth", "drawn", 0.4, name=name).save(f"{name}.safetensors")


@pytest.mark.parametrize("out", ["o.npy", "o.npz"])
@pytest.mark.parametrize("full", [(), ("--full",)], ids=["free", "full"])
def test_export_then_import_is_the_same(situ: Situ, out: str, full: tuple[str, ...]) -> None:
    drawn("a", "w+:2-5")
    drawn("ab", "w+:1-4")
    said = json.loads(situ("export", "a.safetensors", "ab.safetensors", "-o", out, *full, "--json"))
    assert said["shape"] == [2, 48 if full else 32]
    assert [row["name"] for row in said["directions"]] == ["a", "ab"]
    assert all(Path(file).exists() for file in said["files"])
    again = json.loads(situ(*IMPORT, out, "--row", "all", "--json"))
    for row in again["directions"]:
        before, after = load_direction(f"{row['name']}.safetensors"), load_direction(row["file"])
        assert torch.allclose(before.vector, after.vector, atol=1e-6)
        assert (before.subspace, before.region) == (after.subspace, after.region)


def test_export_refuses_in_one_line(situ: Situ) -> None:
    drawn("a", "w+:2-5")
    drawn("ab", "w")
    assert "no pickle is ever written" in refused(situ, "export", "a.safetensors", "-o", "o.pt")
    assert "one length" in refused(situ, "export", "a.safetensors", "ab.safetensors", "-o", "o.npy")
    assert "no direction file" in refused(situ, "export", "missing.safetensors", "-o", "o.npy")
    np.save("x.npy", vectors(1, 8))
    assert "cannot be read" in refused(situ, "export", "x.npy", "-o", "o.npy")
    assert not Path("o.npy").exists()
