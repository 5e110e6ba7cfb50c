"""The one table of formats: each file is told by its content, as one of them, and what is none is told clearly."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_biggan import SMALL, ajbrock_content, huggingface_content, huggingface_defaults

from situ.checkpoints.native import save_generator
from situ.checkpoints.open import FORMATS, open_checkpoint, read_checkpoint, read_content
from situ.checkpoints.weights import Options
from situ.core.errors import ModelError
from situ.core.generator import Generator
from situ.generators.stylegan2 import StyleGAN2
from situ.packs.library import open_model
from wild_files import network, pictures_of, samples, snapshot, torch_file, weights_of, write

SAMPLES = {
    **samples(),
    "biggan-pytorch": torch_file({k: torch.from_numpy(v) for k, v in ajbrock_content("hierarchical-32").items()}),
}


def test_every_format_has_a_sample() -> None:
    names = [each.name for each in FORMATS]
    assert len(set(names)) == len(names)
    tested = {name.split()[0] for name in SAMPLES} | {"situ", "biggan-huggingface"}
    assert tested == set(names)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_is_of_one_format_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    for ending in (".pkl", ".pth", ".safetensors", ""):
        path = write(tmp_path / f"file{ending}", SAMPLES[name])
        content = read_content(path)
        assert [each.name for each in FORMATS if each.recognise(content)] == [name.split()[0]]
    opened = read_checkpoint(path)
    assert isinstance(opened.generator, Generator)
    assert opened.format.name == name.split()[0]
    again = tmp_path / "again.safetensors"
    save_generator(opened.generator, again)
    found = read_checkpoint(again)
    assert found.format.name == "situ"
    assert found.generator.name == opened.generator.name


def huggingface_folder(path: Path) -> Path:
    config = huggingface_defaults(SMALL)
    content = {key: torch.from_numpy(np.array(value)) for key, value in huggingface_content(config).items()}
    path.mkdir()
    torch.save(content, path / "pytorch_model.bin")
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_a_biggan_is_a_folder_or_the_file_in_it(tmp_path: Path) -> None:
    folder = huggingface_folder(tmp_path / "biggan")
    first, second = read_checkpoint(folder), read_checkpoint(folder / "pytorch_model.bin")
    assert first.format.name == second.format.name == "biggan-huggingface"
    assert first.generator.name == second.generator.name
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json cannot be read"):
        open_checkpoint(folder)
    with pytest.raises(ModelError, match="is a folder, expected a file"):
        open_checkpoint(tmp_path)


def test_options(tmp_path: Path) -> None:
    path, made = write(tmp_path / "a", snapshot(network())), network()
    silent: Any = open_checkpoint(path, noise="none")
    torch.testing.assert_close(pictures_of(silent), pictures_of(StyleGAN2(made, "none")))
    random: Any = open_checkpoint(path, noise="random", rng=torch.Generator().manual_seed(1))
    assert random.noise == "random"
    low: Any = open_checkpoint(path, low_precision=True)
    assert (pictures_of(low) - pictures_of(StyleGAN2(made))).abs().max() > 0
    with pytest.raises(ModelError, match="needs rng"):
        open_checkpoint(path, noise="random")


def test_notes_are_each_callers_own(tmp_path: Path) -> None:
    path = write(tmp_path / "a", torch_file(weights_of(network())))
    assert read_checkpoint(path).notes == read_checkpoint(path).notes
    assert len(read_checkpoint(path).notes) == 1
    options = Options()
    read_checkpoint(path, options)
    assert len(options.notes) == 1


def test_a_pack_of_any_file(tmp_path: Path) -> None:
    path = write(tmp_path / "faces.pt", torch_file(weights_of(network())))
    pack = open_model(str(path))
    assert pack.name == "faces"
    assert pack.generator.name == StyleGAN2(network()).name
    assert pack.card.splitlines() == [
        "Read as a state dict of NVIDIA's StyleGAN2 or StyleGAN3 (.pt, .safetensors).",
        "- a state dict does not say whether activations are clamped: they are not",
    ]
    save_generator(pack.generator, tmp_path / "a.safetensors", licence="CC0")
    assert open_model(str(tmp_path / "a.safetensors")).licence == "CC0"


def test_a_state_dict_in_safetensors(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        save_file({k: v.to(dtype) for k, v in weights_of(network()).items()}, tmp_path / "a.safetensors")
        opened = read_checkpoint(tmp_path / "a.safetensors")
        assert opened.format.name == "nvidia-state-dict"
        assert (opened.generator.name == StyleGAN2(network()).name) == (dtype is torch.float32)


UNKNOWN: dict[str, tuple[Any, str]] = {
    "state dict": ({"conv.weight": torch.zeros(3, 4), "conv.bias": torch.zeros(3)}, r"conv.weight \(3, 4\), conv.bias"),
    "many": ({f"layer{i}": torch.zeros(1) for i in range(9)}, "layer3 .* and 5 more"),
    "nothing": ({}, "first entries: dict"),
    "numbers": ({"epoch": 3, "args": None}, r"epoch \(int\), args \(NoneType\)"),
    "list": ([torch.zeros(3)], "first entries: list"),
    "long key": ({"a" * 10_000: 1}, r"a{60}\. Known"),
    "lines": ({"a\nb": torch.zeros(3)}, r"a b \(3,\)"),
    "tensor": (torch.zeros(3), "first entries: ndarray"),
    "discriminator": ({"b4.out.weight": torch.zeros(3), "b4.conv.weight": torch.zeros(3)}, "holds a discriminator"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_unknown_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    content, expected = UNKNOWN[name]
    with pytest.raises(ModelError, match=expected) as error:
        open_checkpoint(write(tmp_path / "a", torch_file(content)))
    assert "\n" not in str(error.value)
    if name != "discriminator":
        assert all(each.what in str(error.value) for each in FORMATS)
        assert len(str(error.value)) < 2000


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file at"):
        open_checkpoint(tmp_path / "missing.pkl")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="a device or a pipe"):
        open_checkpoint(tmp_path / "pipe")
    with pytest.raises(ModelError, match="a device or a pipe"):
        open_checkpoint("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ModelError, match=r"no file at|cannot be read"):
        open_checkpoint(tmp_path / "loop")
