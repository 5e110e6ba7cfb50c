"""The bundled pack as it is shipped: its networks know held-out renders, and its faces have their parts."""

from pathlib import Path

import pytest
import torch

from situ import Pack, open_model
from situ.core.generator import Synthesis
from situ.packs.portraits.portraits import FOLDER
from situ.packs.portraits.renderer import Rendering, attributes, render, sample_factors


@pytest.fixture(scope="module")
def pack() -> Pack:
    return open_model("portraits")


@pytest.fixture(scope="module")
def renders() -> Rendering:
    return render(sample_factors(64, torch.Generator().manual_seed(987)), 64)


def test_weights_fit_in_the_package() -> None:
    assert sum(path.stat().st_size for path in Path(FOLDER).glob("*.safetensors")) < 16e6


def test_parser_knows_the_parts(pack: Pack, renders: Rendering) -> None:
    assert pack.segmenter is not None
    with torch.no_grad():
        found = pack.segmenter.segment(Synthesis(renders.images)).argmax(dim=1)
    truth = renders.masks.argmax(dim=1)
    ious = [
        float(((found == i) & (truth == i)).sum() / ((found == i) | (truth == i)).sum())
        for i in range(len(pack.segmenter.parts))
    ]
    assert sum(ious) / len(ious) > 0.87
    assert min(ious) > 0.6


def test_predictor_knows_the_factors(pack: Pack, renders: Rendering) -> None:
    assert pack.reader is not None
    with torch.no_grad():
        factors, scores = pack.reader.predict(renders.images), pack.reader.classify(renders.images)
    for name in ("hair_tone", "mouth_open", "eye_closure", "yaw", "smile"):
        i = pack.reader.factors.index(name)
        assert torch.corrcoef(torch.stack([factors[:, i], renders.factors[:, i]]))[0, 1] > 0.9, name
    assert ((scores > 0.5) == attributes(renders.factors)).float().mean() > 0.93


def test_hues_change_the_short_way_round(pack: Pack) -> None:
    assert pack.reader is not None
    factors = sample_factors(1, torch.Generator().manual_seed(5)).repeat(2, 1)
    hue = pack.reader.factors.index("background_hue")
    factors[:, hue] = torch.tensor([0.03, 0.97])
    images = render(factors, 64).images
    with torch.no_grad():
        change = pack.reader.change(images[:1], images[1:])[0, hue]
    assert abs(change) < 0.3


def test_embedder_knows_the_person(pack: Pack, renders: Rendering) -> None:
    assert pack.embed is not None
    other = renders.factors.clone()
    names = list(pack.reader.factors) if pack.reader else []
    for name, value in (("yaw", 0.35), ("smile", 0.8), ("background_hue", 0.1), ("light_azimuth", 0.9)):
        other[:, names.index(name)] = value
    with torch.no_grad():
        a, b = pack.embed(renders.images), pack.embed(render(other, 64).images)
    same, different = (a * b).sum(dim=1), (a * b.roll(1, dims=0)).sum(dim=1)
    assert same.mean() > different.mean() + 0.5


def test_generated_faces_have_their_parts(pack: Pack, rng: torch.Generator) -> None:
    assert pack.segmenter is not None
    latents = pack.generator.sample(32, pack.generator.spaces["z"], rng, 0.7)
    with torch.no_grad():
        images = pack.generator.synthesize(latents).images
        found = pack.segmenter.segment(Synthesis(images)).argmax(dim=1)
    for part, least in (
        ("hair", 100),
        ("skin", 300),
        ("eyes", 25),
        ("brows", 6),
        ("nose", 15),
        ("mouth", 15),
        ("neck", 20),
    ):
        pixels = (found == pack.segmenter.parts.index(part)).sum(dim=(1, 2))
        assert (pixels >= least).float().mean() > 0.95, part


def test_low_precision_shows_the_same_faces(pack: Pack, rng: torch.Generator) -> None:
    low = open_model("portraits", low_precision=True)
    latents = pack.generator.sample(4, pack.generator.spaces["w+"], rng, 0.7)
    with torch.no_grad():
        a, b = pack.generator.synthesize(latents).images, low.generator.synthesize(latents).images
        assert pack.segmenter is not None
        assert low.segmenter is not None
        agree = pack.segmenter.segment(Synthesis(a)).argmax(dim=1) == low.segmenter.segment(Synthesis(b)).argmax(dim=1)
    assert 0 < (a - b).abs().mean() < 0.02
    assert agree.float().mean() > 0.98
