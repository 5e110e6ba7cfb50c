"""e4e and pSp: the decoder is opened, whatever shape its mean has, and the encoder is reported."""

from pathlib import Path
from typing import Any

import pytest
import torch
from wild_files import network, to_rosinality, torch_file, weights_of, write

from situ.checkpoints.open import read_checkpoint
from situ.generators.stylegan2 import StyleGAN2

MEAN = weights_of(network())["mapping.w_avg"]
DECODER = {f"decoder.{key}": value for key, value in to_rosinality(weights_of(network())).items()}


@pytest.mark.parametrize("mean", [MEAN, MEAN[None], MEAN.repeat(4, 1)])
@pytest.mark.parametrize("encoder", [0, 3])
def test_the_decoder_is_the_generator(mean: Any, encoder: int, tmp_path: Path) -> None:
    weights = {**DECODER, **{f"encoder.body.{i}.weight": torch.zeros(2) for i in range(encoder)}}
    content = {"state_dict": weights, "latent_avg": mean, "opts": {"stylegan_size": 8}, "global_step": 3}
    opened = read_checkpoint(write(tmp_path / "a.pt", torch_file(content)))
    assert opened.format.name == "encoder4editing"
    assert opened.generator.name == StyleGAN2(network()).name
    expected = ("the file's encoder (3 tensors) is not used: its decoder is the generator",) if encoder else ()
    assert opened.notes == expected


def test_a_mean_that_differs_between_layers_is_noted(tmp_path: Path) -> None:
    mean = torch.stack([MEAN, MEAN + 1, MEAN, MEAN])
    opened = read_checkpoint(write(tmp_path / "a.pt", torch_file({"state_dict": DECODER, "latent_avg": mean})))
    assert opened.generator.name == StyleGAN2(network()).name
    assert "differs between layers" in opened.notes[0]
