"""e4e and pSp: the decoder is opened, whatever shape its mean has; the encoder is reported, or read beside it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from situ.checkpoints.encoder4editing import EncoderCheckpoint, read_encoder_checkpoint
from situ.checkpoints.open import read_checkpoint, read_content
from situ.checkpoints.weights import Options
from situ.core.errors import ModelError
from situ.core.inversion import invert
from situ.generators.stylegan2 import StyleGAN2
from situ.inversion.encoder import EncoderInversion
from situ.networks.encoder import Encoder4Editing, encoder_from_state_dict
from situ.packs.library import open_model
from toys_networks import pictures, seeded, shapes_of
from wild_files import network, to_rosinality, torch_file, weights_of, write

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


SHAPES = shapes_of(lambda: Encoder4Editing(4, 8, 4, [4, 6, 8], [2, 2, 2], halvings=1))
ENCODER = seeded(SHAPES, gain=1.0)


def file_of(**entries: Any) -> dict[str, Any]:
    """As the projects write it, with a small encoder."""
    encoder = {f"encoder.{key}": value for key, value in ENCODER.items()}
    opts = {"stylegan_size": 8, "encoder_type": "Encoder4Editing", "start_from_latent_avg": True}
    return {"state_dict": {**encoder, **DECODER}, "latent_avg": MEAN.repeat(4, 1), "opts": opts, **entries}


def read(content: dict[str, Any], tmp_path: Path, options: Options | None = None) -> EncoderCheckpoint:
    path = write(tmp_path / "a.pt", torch_file(content))
    return read_encoder_checkpoint(read_content(path), options or Options())


def test_generator_encoder_and_mean_come_from_one_file(tmp_path: Path) -> None:
    options = Options()
    opened = read(file_of(), tmp_path, options)
    x = pictures(2, 16, 16)
    assert opened.generator.name == StyleGAN2(network()).name
    torch.testing.assert_close(opened.latent_avg, MEAN.repeat(4, 1))
    torch.testing.assert_close(opened.encoder(x), encoder_from_state_dict(ENCODER, MEAN[None])(x))
    assert options.notes == []
    found = invert(opened.generator, pictures(1, 8, 8), EncoderInversion(opened.encoder), torch.Generator())
    assert found.latents.space == opened.generator.spaces["w+"]


def test_the_kind_of_the_encoder_is_the_files(tmp_path: Path) -> None:
    x = pictures(1, 16, 16)
    opts = {"encoder_type": "GradualStyleEncoder", "dataset_type": "ffhq_encode"}
    torch.testing.assert_close(
        read(file_of(opts=opts), tmp_path).encoder(x), encoder_from_state_dict(ENCODER, MEAN[None], shared=False)(x)
    )
    cars = {"encoder_type": "Encoder4Editing", "dataset_type": "cars_encode"}
    assert read(file_of(opts=cars), tmp_path).encoder.input.size == (12, 16)
    options = Options()
    read(file_of(opts={}), tmp_path, options)
    assert options.notes == ["the file does not say what kind its encoder is: e4e is assumed"]
    with pytest.raises(ModelError, match="this file has SingleStyleCodeEncoder"):
        read(file_of(opts={"encoder_type": "SingleStyleCodeEncoder"}), tmp_path)


@pytest.mark.parametrize("starts", [True, False])
def test_a_file_without_a_mean_has_the_generators_or_none(starts: bool, tmp_path: Path) -> None:
    opts = {"encoder_type": "Encoder4Editing", "start_from_latent_avg": starts}
    opened = read(file_of(latent_avg=None, opts=opts), tmp_path)
    expected = opened.generator.mapping.w_avg if starts else torch.zeros(8)
    torch.testing.assert_close(opened.latent_avg, expected.expand(4, 8))


def test_an_encoder_that_is_none_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no encoder"):
        read(file_of(state_dict=DECODER), tmp_path)
    fewer = {f"encoder.{key}": value for key, value in ENCODER.items() if not key.startswith("styles.3.")}
    with pytest.raises(ModelError, match="3 x 8, W\\+ of the decoder"):
        read(file_of(state_dict={**fewer, **DECODER}, latent_avg=MEAN), tmp_path)
    damaged = {**file_of()["state_dict"], "encoder.latlayer1.bias": torch.full((8,), torch.nan)}
    with pytest.raises(ModelError, match=r"encoder\.latlayer1\.bias holds NaN"):
        read(file_of(state_dict=damaged), tmp_path)


def test_a_model_of_such_a_file_inverts_with_its_encoder(tmp_path: Path) -> None:
    pack = open_model(str(write(tmp_path / "a.pt", torch_file(file_of()))))
    assert pack.encoder is not None
    assert "not used" not in pack.card
    opts = {**file_of()["opts"], "encoder_type": "SingleStyleCodeEncoder"}
    pack = open_model(str(write(tmp_path / "b.pt", torch_file(file_of(opts=opts)))))
    assert pack.encoder is None
    assert "its encoder is not read: " in pack.card
