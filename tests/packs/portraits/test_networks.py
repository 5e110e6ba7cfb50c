"""The portraits pack's networks: shapes, sizes, gradients. What they know is measured by their recipes."""

import copy
import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn

from situ.core.images import resize
from situ.packs.portraits.networks import (
    CIRCULAR,
    SIZE,
    EmbedderSettings,
    FactorPredictor,
    IdentityEmbedder,
    ParserSettings,
    PortraitParser,
    PredictorSettings,
)
from situ.packs.portraits.renderer import ATTRIBUTES, FACTORS, PARTS

NETWORKS = (PortraitParser, FactorPredictor, IdentityEmbedder)


def build(cls: type[nn.Module]) -> nn.Module:
    """A network with random weights, run once on some pictures while learning, then frozen."""
    torch.manual_seed(0)
    network = cls()
    network(pictures(4, 64))
    return network.eval().requires_grad_(False)


def pictures(n: int, height: int, width: int | None = None, seed: int = 1) -> Tensor:
    """Smooth random pictures in [-1, 1]."""
    coarse = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, (height, width or height), mode="bicubic").tanh()


def answer(network: nn.Module, images: Tensor) -> Tensor:
    """The network's answer, the predictor's two side by side."""
    found = network(images)
    return torch.cat(found, dim=1) if isinstance(found, tuple) else found


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda cls: cls.__name__)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return build(request.param)


@pytest.fixture(scope="module")
def parser() -> PortraitParser:
    return build(PortraitParser)


@pytest.mark.parametrize("size", [(32, 32), (100, 70)])
def test_takes_any_size(network: nn.Module, size: tuple[int, int]) -> None:
    assert answer(network, pictures(1, *size)).shape == answer(network, pictures(1, 64)).shape


def test_larger_pictures_are_averaged_down(network: nn.Module) -> None:
    images = pictures(2, 192)
    torch.testing.assert_close(answer(network, images), answer(network, resize(images, SIZE)))


def test_same_picture_same_answer(network: nn.Module) -> None:
    images = pictures(3, 64)
    before = images.clone()
    torch.testing.assert_close(answer(network, images), answer(network, images), rtol=0, atol=0)
    torch.testing.assert_close(images, before, rtol=0, atol=0)


def test_a_picture_is_judged_alone(network: nn.Module) -> None:
    images = pictures(3, 64)
    torch.testing.assert_close(answer(network, images)[1:2], answer(network, images[1:2]), rtol=1e-4, atol=1e-5)


def test_gradient_reaches_the_picture(network: nn.Module) -> None:
    images = pictures(2, 128).requires_grad_()
    answer(network, images)[0].square().sum().backward()
    assert images.grad is not None
    assert images.grad[0].abs().sum() > 0
    assert images.grad[1].abs().sum() == 0
    assert torch.isfinite(images.grad).all()


def test_keeps_the_precision_of_its_pictures(network: nn.Module) -> None:
    images = pictures(1, 64)
    precise = answer(copy.deepcopy(network).double(), images.double())
    assert precise.dtype == torch.float64
    torch.testing.assert_close(answer(network, images).double(), precise, rtol=1e-3, atol=1e-4)


def test_parser_answers_every_part_at_every_pixel(parser: PortraitParser) -> None:
    logits = parser(pictures(2, 64))
    assert logits.shape == (2, len(PARTS), SIZE, SIZE)


def test_parser_features(parser: PortraitParser) -> None:
    maps = parser.features(pictures(2, 128))
    assert [tuple(each.shape) for each in maps] == [(2, 24, 64, 64), (2, 48, 32, 32), (2, 96, 16, 16)]
    assert all((each >= 0).all() and each.std() > 0 for each in maps)


def test_parser_sees_where(parser: PortraitParser) -> None:
    images = pictures(1, 64)
    touched = images.clone()
    touched[:, :, :4, :4] *= -1
    change = (parser(images) - parser(touched)).abs().sum(dim=1)[0]
    assert change[:4, :4].mean() > 10 * change[-8:, -8:].mean()


def test_predictor_answers() -> None:
    factors, logits = build(FactorPredictor)(pictures(3, 64))
    assert factors.shape == (3, len(FACTORS))
    assert logits.shape == (3, len(ATTRIBUTES))
    assert factors.min() >= 0
    assert factors.max() <= 1


def test_hues_go_round() -> None:
    assert [FACTORS[i].name for i in CIRCULAR] == ["background_hue", "clothes_hue"]
    network = build(FactorPredictor)
    with torch.no_grad():
        network.answer.weight.zero_()
        network.answer.bias.zero_()
        network.answer.bias[list(CIRCULAR)] = 1.0  # cosine
        for sine, turns in ((0.05, 0.008), (-0.05, 0.992)):  # either side of where the circle closes
            network.answer.bias[len(FACTORS) : len(FACTORS) + len(CIRCULAR)] = sine
            factors, _ = network(pictures(1, 64))
            torch.testing.assert_close(factors[0, list(CIRCULAR)], torch.full([2], turns), rtol=0, atol=1e-3)
            others = [i for i in range(len(FACTORS)) if i not in CIRCULAR]
            torch.testing.assert_close(factors[0, others], torch.full([len(others)], 0.5))


def test_embedder_gives_unit_vectors() -> None:
    vectors = build(IdentityEmbedder)(pictures(3, 64))
    assert vectors.shape == (3, 64)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    assert (vectors[0] - vectors[1]).norm() > 1e-3


def test_settings_shape_the_networks() -> None:
    narrow = PortraitParser(replace(ParserSettings(), widths=(8, 8, 8), parts=3)).eval()
    assert narrow(pictures(1, 64)).shape == (1, 3, 64, 64)
    predictor = FactorPredictor(replace(PredictorSettings(), widths=(8, 8, 16))).eval()
    assert predictor(pictures(1, 64))[0].shape == (1, len(FACTORS))
    embedder = IdentityEmbedder(replace(EmbedderSettings(), widths=(8, 8), dim=5)).eval()
    assert embedder(pictures(1, 64)).shape == (1, 5)


def test_weights_survive_half_precision_storage(network: nn.Module) -> None:
    state = {k: v.half() if v.ndim > 1 else v for k, v in network.state_dict().items()}
    other = type(network)()
    other.load_state_dict(state)
    other.eval()
    images = pictures(2, 64)
    torch.testing.assert_close(answer(other, images), answer(network, images), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("settings", [ParserSettings(), PredictorSettings(), EmbedderSettings()])
def test_settings_come_back_from_json(settings: object) -> None:
    assert type(settings)(**json.loads(json.dumps(asdict(settings)))) == settings
