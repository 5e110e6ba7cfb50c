"""rosinality's files: the pictures of the published class, and the mean of W that training checkpoints lack."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from situ.checkpoints.open import open_checkpoint, read_checkpoint
from situ.core.errors import ModelError
from situ.generators.stylegan2 import StyleGAN2
from wild_files import (
    PUBLISHED,
    TINY,
    drawn,
    draws_as_published,
    network,
    pictures_of,
    to_rosinality,
    torch_file,
    weights_of,
    write,
)

WEIGHTS = to_rosinality(weights_of(network()))
MEAN = weights_of(network())["mapping.w_avg"]


# Of the same weights, by Generator of github.com/rosinality/stylegan2-pytorch (model.py) at bef283a, its table of
# channels narrowed, with truncation=0.7, truncation_latent=linspace(-1, 1, 8) and randomize_noise=False.
@pytest.mark.parametrize("name", ["rosinality-8", "rosinality-64"])
@pytest.mark.parametrize("legacy", [False, True])
def test_published_pictures(name: str, legacy: bool, tmp_path: Path) -> None:
    content = {"g_ema": drawn(PUBLISHED[name]), "latent_avg": torch.linspace(-1, 1, 8)}
    opened = read_checkpoint(write(tmp_path / "a", torch_file(content, legacy=legacy)))
    assert opened.format.name == "rosinality"
    assert opened.notes == ()
    assert draws_as_published(opened.generator, PUBLISHED[name])


@pytest.mark.parametrize("settings", [replace(TINY, resolution=4), replace(TINY, resolution=32, mapping_layers=5)])
def test_every_size_comes_back(settings: Any, tmp_path: Path) -> None:
    weights = weights_of(network(settings))
    content = {"g_ema": to_rosinality(weights), "latent_avg": weights["mapping.w_avg"]}
    assert open_checkpoint(write(tmp_path / "a", torch_file(content))).name == StyleGAN2(network(settings)).name


@pytest.mark.parametrize("mean", [None, torch.zeros(8)])
def test_a_missing_mean_is_made(mean: Any, tmp_path: Path) -> None:
    content = {
        "g": WEIGHTS,
        "g_ema": WEIGHTS,
        "g_optim": {"state": {}},
        **({} if mean is None else {"latent_avg": mean}),
    }
    opened = read_checkpoint(write(tmp_path / "a", torch_file(content)))
    assert "the file has no mean of W: it is taken over 10,000 seeded codes" in opened.notes
    assert ("the file's mean of W is zero" in opened.notes) == (mean is not None)
    again = open_checkpoint(tmp_path / "a")
    assert again.name == opened.generator.name
    generator = opened.generator
    codes = generator.sample(20_000, generator.spaces["w"], torch.Generator().manual_seed(5)).values
    found = generator.sample(1, generator.spaces["w"], torch.Generator(), truncation=0.0).values[0]
    error = codes.std(dim=0) / 100  # of a mean over ten thousand
    assert ((codes.mean(dim=0) - found).abs() < 6 * error).all()


def test_no_maps_of_noise(tmp_path: Path) -> None:
    weights = {key: value for key, value in WEIGHTS.items() if not key.startswith("noises.")}
    opened = read_checkpoint(write(tmp_path / "a", torch_file({"g_ema": weights, "latent_avg": MEAN})))
    assert opened.notes == ("the file has no maps of noise: they are drawn from a seed",)
    torch.testing.assert_close(pictures_of(opened.generator), pictures_of(open_checkpoint(tmp_path / "a")))
    silent = open_checkpoint(tmp_path / "a", noise="none")
    torch.testing.assert_close(pictures_of(silent), pictures_of(StyleGAN2(network(), noise="none")))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"d": {"final_conv.0.weight": torch.zeros(2, 2)}}, "no generator of a known format"),
        ({"final_conv.0.weight": torch.zeros(2, 2)}, "a discriminator, which draws no pictures"),
        ({"g_ema": {**WEIGHTS, "convs.0.conv.blur.kernel": torch.ones(4, 4)}}, r"not the filter \[1,3,3,1\]"),
        ({"g_ema": {**WEIGHTS, "attention.weight": torch.ones(4)}}, "also has attention.weight"),
        (
            {"g_ema": {k: v for k, v in WEIGHTS.items() if k != "convs.1.activate.bias"}},
            "convs.1.activate.bias is missing",
        ),
        ({"g_ema": {**WEIGHTS, "conv1.conv.weight": torch.ones(6, 6, 3, 3)}}, "expected 5 axes"),
        ({"g_ema": {**WEIGHTS, "convs.1.noise.weight": torch.ones(6)}}, "expected one number"),
        ({"g_ema": WEIGHTS, "latent_avg": torch.ones(5)}, "mapping.w_avg"),
    ],
)
def test_what_is_no_such_generator_is_one_clear_line(content: Any, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=expected) as error:
        open_checkpoint(write(tmp_path / "a", torch_file(content)))
    assert "\n" not in str(error.value)
