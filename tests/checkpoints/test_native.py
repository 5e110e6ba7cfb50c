"""Situ's own generator files: every architecture comes back, and damaged ones are one line."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_biggan import SMALL, ajbrock_content, huggingface_content, huggingface_defaults

from situ.checkpoints.biggan import build_ajbrock_biggan, build_huggingface_biggan
from situ.checkpoints.native import (
    ARCHITECTURES,
    format_of,
    is_safetensors,
    load_generator,
    load_stylegan2,
    save_generator,
    save_stylegan2,
)
from situ.checkpoints.open import read_checkpoint
from situ.checkpoints.weights import Options
from situ.core.errors import GeneratorError, ModelError
from situ.core.generator import Generator
from situ.generators.style_based import Noise
from situ.generators.stylegan1 import StyleGAN1
from situ.generators.stylegan1_network import StyleGAN1Network, StyleGAN1Settings
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan3 import StyleGAN3
from situ.generators.stylegan3_network import StyleGAN3Network, StyleGAN3Settings
from situ.packs.portraits.portraits import FOLDER
from toys import TileGenerator
from wild_files import TINY, draw_weights, network, pictures_of


def stylegan1() -> StyleGAN1:
    made = StyleGAN1Network(StyleGAN1Settings(16, 8, 8, 3, 2, 64, 6, 1e-5))
    draw_weights(made, 0)
    return StyleGAN1(made)


def stylegan3() -> StyleGAN3:
    settings = StyleGAN3Settings(16, 8, 8, channel_base=64, channel_max=8, num_layers=5, conv_clamp=None)
    made = StyleGAN3Network(settings)
    draw_weights(made, 0)
    return StyleGAN3(made)


def biggan_deep() -> Any:
    config = huggingface_defaults(SMALL)
    return build_huggingface_biggan(huggingface_content(config), config)


GENERATORS: dict[str, Any] = {
    "situ-stylegan2-1": lambda: StyleGAN2(network(replace(TINY, c_dim=3, conv_clamp=2.0))),
    "situ-stylegan1-1": stylegan1,
    "situ-stylegan3-1": stylegan3,
    "situ-biggan-1": lambda: build_ajbrock_biggan(ajbrock_content("hierarchical-32")),
    "situ-biggan-deep-1": biggan_deep,
}


def classes_of(generator: Any) -> int:
    return getattr(generator.settings, "c_dim", None) or getattr(generator.settings, "classes", 0)


def test_every_architecture_is_tested() -> None:
    assert list(GENERATORS) == [each.format for each in ARCHITECTURES]


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_generators_come_back(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    generator: Generator = GENERATORS[name]()
    save_generator(generator, tmp_path / "a.safetensors", dtype, licence="CC0")
    assert is_safetensors(tmp_path / "a.safetensors")
    assert format_of(tmp_path / "a.safetensors") == name
    opened = read_checkpoint(tmp_path / "a.safetensors")
    assert opened.format.name == "situ"
    assert opened.licence == "CC0"
    found: Any = opened.generator
    assert type(found) is type(generator)
    assert found.settings == generator.settings  # pyright: ignore[reportAttributeAccessIssue]
    pictures = [pictures_of(each, classes=classes_of(each), truncation=0.5) for each in (generator, found)]
    if dtype is torch.float32:
        assert found.name == generator.name
        torch.testing.assert_close(*pictures, rtol=0, atol=0)
    else:
        assert (pictures[0] - pictures[1]).abs().max() < 0.05 * pictures[0].abs().max()


def test_widths_that_follow_no_rule_are_kept(tmp_path: Path) -> None:
    made = network(replace(TINY, widths=(3, 5)))
    save_stylegan2(made, tmp_path / "a.safetensors")
    assert load_stylegan2(tmp_path / "a.safetensors").settings == made.settings


def test_names_of_classes_are_kept(tmp_path: Path) -> None:
    generator = GENERATORS["situ-biggan-1"]()
    names = [f"class {i}" for i in range(generator.settings.classes)]
    named = type(generator)(generator.network, names)
    save_generator(named, tmp_path / "a.safetensors")
    found: Any = load_generator(tmp_path / "a.safetensors")[0]
    assert found.names == tuple(names)


def test_the_noise_of_a_generator_is_kept(tmp_path: Path) -> None:
    made = network()
    cases: list[tuple[Noise, Noise]] = [("none", "none"), ("const", "const"), ("random", "const")]
    for noise, kept in cases:
        save_generator(StyleGAN2(made, noise, torch.Generator()), tmp_path / "a.safetensors")
        assert load_stylegan2(tmp_path / "a.safetensors").noise == kept
    save_stylegan2(made, tmp_path / "a.safetensors", noise="none")
    assert load_stylegan2(tmp_path / "a.safetensors").noise == "none"
    assert load_stylegan2(tmp_path / "a.safetensors", noise="const").noise == "const"
    random = load_generator(tmp_path / "a.safetensors", Options(noise="random", rng=torch.Generator()))[0]
    assert random.noise == "random"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_bundled_file_is_of_the_first_format() -> None:
    with safe_open(FOLDER / "generator.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["situ"])
    assert header["format"] == "situ-stylegan2-1"
    assert "widths" not in header["settings"]
    assert load_stylegan2(FOLDER / "generator.safetensors").resolution == header["settings"]["resolution"]


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    tiles: Any = TileGenerator(rotate=False)
    with pytest.raises(ModelError, match="hold StyleGANs and BigGANs, got NoneType"):
        save_generator(tiles, tmp_path / "a.safetensors")
    made = network()
    with torch.no_grad():
        made.mapping.get_parameter("fc0.bias")[0] = 1e6
    with pytest.raises(ModelError, match=r"mapping.fc0.bias does not fit float16"):
        save_generator(StyleGAN2(made), tmp_path / "a.safetensors", torch.float16)
    assert not list(tmp_path.iterdir())


def test_another_architecture_is_no_stylegan2(tmp_path: Path) -> None:
    save_generator(stylegan1(), tmp_path / "a.safetensors")
    with pytest.raises(GeneratorError, match=r"holds stylegan1-16px-.*expected a StyleGAN2"):
        load_stylegan2(tmp_path / "a.safetensors")


def rewritten(path: Path, header: dict[str, Any], **tensors: torch.Tensor) -> None:
    """The file with parts of its header and some tensors exchanged."""
    with safe_open(path, framework="pt") as file:
        said = json.loads(file.metadata()["situ"])
    said.update(header)
    save_file({**load_file(path), **tensors}, path, {"situ": json.dumps(said)})


@pytest.mark.parametrize("name", GENERATORS)
def test_a_header_that_claims_much_takes_no_memory(name: str, tmp_path: Path) -> None:
    generator = GENERATORS[name]()
    save_generator(generator, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        settings = json.loads(file.metadata()["situ"])["settings"]
    for key in ("w_dim", "z_dim", "channel_base", "channel_max", "classes", "embedding_dim"):
        if key in settings:
            both = ("channel_base", "channel_max") if key.startswith("channel") else (key,)
            rewritten(tmp_path / "a.safetensors", {"settings": {**settings, **dict.fromkeys(both, 2**40)}})
            tracemalloc.start()
            with pytest.raises(ModelError) as error:
                load_generator(tmp_path / "a.safetensors")
            assert tracemalloc.get_traced_memory()[1] < 2**24
            tracemalloc.stop()
            assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "header",
    [
        {"settings": None},
        {"settings": {}},
        {"settings": {"resolution": 12}},
        {"settings": {"colour": "red"}},
        {"noise": "loud"},
        {"format": "situ-stylegan9-1"},
        {"format": "situ-stylegan1-1"},
        {"format": None},
    ],
)
def test_wrong_headers_are_one_line(header: dict[str, Any], tmp_path: Path, unchecked: None) -> None:
    save_stylegan2(network(), tmp_path / "a.safetensors")
    rewritten(tmp_path / "a.safetensors", header)
    with pytest.raises(ModelError, match="expected a generator file") as error:
        load_generator(tmp_path / "a.safetensors")
    assert "\n" not in str(error.value)


def test_damaged_weights_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for tensors in (
        {"mapping.w_avg": torch.full([8], torch.nan)},
        {"mapping.w_avg": torch.zeros(9)},
        {"mapping.extra": torch.zeros(9)},
    ):
        save_stylegan2(network(), path)
        rewritten(path, {}, **tensors)
        with pytest.raises(ModelError, match=r"mapping.*expected a generator file"):
            load_generator(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ModelError, match="cannot be read"):
        load_generator(path)
    with pytest.raises(ModelError, match="no generator file at"):
        load_generator(tmp_path / "missing.safetensors")
