"""An inversion in one pass is what the encoder says, whatever the batch; the pack's encoder recovers portraits."""

import time

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from situ.core.errors import InversionError
from situ.core.inversion import Inverter, invert
from situ.core.latents import Latents
from situ.inversion.encoder import EncoderInversion, ImageEncoder
from situ.packs.pack import Pack
from situ.packs.portraits.portraits import open_portraits
from situ.packs.portraits.renderer import render, sample_factors
from toys import TileGenerator, mean_square, tiny_stylegan2

GENERATOR = tiny_stylegan2()
SPACE = GENERATOR.spaces["w+"]


class Told:
    """Knows the codes of some pictures; counts its passes."""

    def __init__(self, images: Tensor, codes: Tensor) -> None:
        self.images, self.codes = images, codes
        self.passes: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        found = [int((self.images - image).abs().amax(dim=(1, 2, 3)).argmin()) for image in images]
        return self.codes[found]


@pytest.fixture(scope="module")
def pack() -> Pack:
    return open_portraits()


@pytest.fixture
def drawn(rng: torch.Generator) -> tuple[Latents, Tensor]:
    latents = GENERATOR.sample(5, SPACE, rng)
    with torch.no_grad():
        images = GENERATOR.synthesize(latents).images
    return latents, images / images.abs().max()


def test_codes_are_the_encoders_and_losses_their_pictures(drawn: tuple[Latents, Tensor], rng: torch.Generator) -> None:
    latents, images = drawn
    told = Told(images, latents.values.unflatten(1, (len(SPACE.slices), -1)))
    seen: list[tuple[int, int]] = []
    inverter = EncoderInversion(told, batch=2)
    found = invert(GENERATOR, images, inverter, rng, lambda done, total, message="": seen.append((done, total)))
    torch.testing.assert_close(found.latents.values, latents.values, rtol=0, atol=0)
    assert found.latents.space == SPACE
    assert found.generator == GENERATOR.name
    torch.testing.assert_close(found.losses["mse"], mean_square(GENERATOR.synthesize(latents).images, images))
    assert told.passes == [2, 2, 1]
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert not found.latents.values.requires_grad


def test_it_answers_to_the_protocols(pack: Pack) -> None:
    assert pack.encoder is not None
    assert isinstance(EncoderInversion(pack.encoder), Inverter)
    assert isinstance(pack.encoder, ImageEncoder)


def test_an_encoder_of_another_generator_is_refused(drawn: tuple[Latents, Tensor], rng: torch.Generator) -> None:
    other = Told(drawn[1], torch.zeros(5, 3, 8))
    with pytest.raises(InversionError, match=r"3 x 8, W\+ of .* has 6 x 8"):
        invert(GENERATOR, drawn[1], EncoderInversion(other), rng)


def test_a_generator_without_rows_is_refused(rng: torch.Generator) -> None:
    tiles = TileGenerator(rotate=False)
    images = torch.zeros(1, 3, 16, 16)
    with pytest.raises(InversionError, match="none"):
        invert(tiles, images, EncoderInversion(Told(images, torch.zeros(1, 3, 8))), rng)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def portraits() -> Tensor:
    return render(sample_factors(24, torch.Generator().manual_seed(77_001)), 64).images


def test_the_packs_encoder_finds_portraits(pack: Pack, portraits: Tensor, rng: torch.Generator) -> None:
    """Portraits that no training has seen: several times nearer than the mean picture, and somebody like them."""
    assert pack.encoder is not None
    assert pack.embed is not None
    generator = pack.generator
    found = invert(generator, portraits, EncoderInversion(pack.encoder), rng)
    with torch.no_grad():
        images = generator.synthesize(found.latents).images
        middle = generator.sample(len(portraits), generator.spaces["w+"], rng, truncation=0.0)
        mean = generator.synthesize(middle).images
        likeness = (pack.embed(images) * pack.embed(portraits)).sum(dim=1)
    assert found.losses["mse"].mean() < mean_square(mean, portraits).mean() / 6
    assert pack.distance.between(images, portraits).mean() < 0.5 * pack.distance.between(mean, portraits).mean()
    assert likeness.mean() > 0.6


def test_the_packs_encoder_looks_at_its_own_size(pack: Pack, portraits: Tensor) -> None:
    assert pack.encoder is not None
    large = functional.interpolate(portraits[:4], scale_factor=2.0, mode="nearest")
    torch.testing.assert_close(pack.encoder(large), pack.encoder(portraits[:4]), rtol=1e-4, atol=1e-4)


def test_the_packs_encoder_is_quick_and_felt(pack: Pack, portraits: Tensor, rng: torch.Generator) -> None:
    assert pack.encoder is not None
    start = time.process_time()
    invert(pack.generator, portraits[:8], EncoderInversion(pack.encoder), rng)
    assert (time.process_time() - start) / 8 < 1.0  # seconds a photo; the bound of the default inverter is five
    x = portraits[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(pack.encoder(x).square().sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    assert not any(p.requires_grad for p in pack.encoder.parameters())  # pyright: ignore[reportAttributeAccessIssue]
