"""GANSpace against known covariances, and its regression from activations to codes."""

import ast
import inspect
from dataclasses import replace

import pytest
import torch

from situ.core.direction import Direction
from situ.core.discovery import Calibration, discover
from situ.core.errors import SituError
from situ.core.region import Box, Part
from situ.discovery import ganspace, interfacegan
from situ.discovery.ganspace import GANSpace
from toys import TILES, TileSegmenter, mean_square
from toys_statistics import StyledTileGenerator, tiny_stylegan2

GAN = tiny_stylegan2()
TOY = StyledTileGenerator(rotate=True)
BOX = [Box(4, 4, 8, 8)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def found(method: GANSpace, generator: object = GAN) -> list[Direction]:
    return method.find(generator, BOX, seeded())[0]  # pyright: ignore[reportArgumentType]


def stack(directions: list[Direction]) -> torch.Tensor:
    return torch.stack([direction.vector for direction in directions])


def sigmas(directions: list[Direction]) -> list[float]:
    return [direction.figures["sigma"] for direction in directions]


def test_the_principal_axes_of_a_known_covariance() -> None:
    order = TOY.sigma.argsort(descending=True)
    directions = found(GANSpace(k=12, samples=50_000), TOY)
    cosines = (stack(directions) * TOY.rotation[order]).sum(dim=1).abs()
    assert cosines.min() > 0.99
    assert sigmas(directions) == pytest.approx(TOY.sigma[order].tolist(), rel=0.02)
    shares = [direction.figures["explained"] for direction in directions]
    assert shares == pytest.approx((TOY.sigma[order] ** 2 / (TOY.sigma**2).sum()).tolist(), rel=0.04)
    assert sum(shares) == pytest.approx(1, abs=1e-4)


def test_truncation_scales_the_standard_deviations() -> None:
    whole, half = (sigmas(found(GANSpace(k=3, truncation=psi), TOY)) for psi in (1.0, 0.5))
    assert half == pytest.approx([sigma / 2 for sigma in whole], rel=1e-4)


def test_components_are_those_of_the_covariance_of_the_same_codes() -> None:
    codes = GAN.sample(500, GAN.spaces["w"], seeded(), 1.0).values.double()
    values, vectors = torch.linalg.eigh(torch.cov(codes.T))
    directions = found(GANSpace(k=4, samples=500))
    cosines = (stack(directions).double() * vectors.T.flip(0)[:4]).sum(dim=1).abs()
    torch.testing.assert_close(cosines, torch.ones(4).double(), rtol=0, atol=1e-4)
    assert sigmas(directions) == pytest.approx(values.flip(0)[:4].sqrt().tolist(), rel=1e-4)


def test_tied_rows_have_the_components_of_w() -> None:
    plain, tied = found(GANSpace("w", k=4, samples=300)), found(GANSpace("w:2-4", k=4, samples=300))
    torch.testing.assert_close(stack(tied), stack(plain), rtol=0, atol=1e-4)
    assert sigmas(tied) == pytest.approx(sigmas(plain), rel=1e-4)


def test_free_rows_vary_together_as_w_does() -> None:
    """Sampled codes of W+ repeat one code of W: no more components than W has, each the same in every row."""
    plain, free = found(GANSpace("w", k=4, samples=300)), found(GANSpace("w+:2-4", k=4, samples=300))
    for a, b in zip(plain, free, strict=True):
        for row in b.vector.split(8):
            assert abs(float(row @ a.vector)) == pytest.approx(3**-0.5, abs=1e-4)
    assert sigmas(free) == pytest.approx([3**0.5 * sigma for sigma in sigmas(plain)], rel=1e-4)
    with pytest.raises(SituError, match="codes of w\\+:2-4 vary in 8 directions, too few for k=9"):
        found(GANSpace("w+:2-4", k=9, samples=300))


@pytest.mark.parametrize("numbers", [600, 8000], ids=["blocks", "whole"])
def test_blocks_give_what_the_whole_gives(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ganspace, "NUMBERS", numbers)
    reports: list[int] = []
    ((*blocks,),) = GANSpace(k=3, samples=900).find(GAN, BOX, seeded(), lambda done, *_: reports.append(done))
    assert (len(reports) > 5) == (numbers == 600)
    assert reports[-1] == 900
    codes = GAN.sample(1, GAN.spaces["w"], seeded(), 1.0)
    assert len(codes) == 1
    # the same codes, however they are drawn in blocks: a block's draw is one call
    rng = seeded()
    sizes = [b - a for a, b in zip([0, *reports[:-1]], reports, strict=True)]
    drawn = torch.cat([GAN.sample(size, GAN.spaces["w"], rng, 1.0).values for size in sizes]).double()
    values, vectors = torch.linalg.eigh(torch.cov(drawn.T))
    cosines = (stack(blocks).double() * vectors.T.flip(0)[:3]).sum(dim=1).abs()
    torch.testing.assert_close(cosines, torch.ones(3).double(), rtol=0, atol=1e-4)
    assert sigmas(blocks) == pytest.approx(values.flip(0)[:3].sqrt().tolist(), rel=1e-4)


@pytest.mark.parametrize("numbers", [2**25, 120 * 768], ids=["whole", "blocks"])
def test_activations_are_regressed_back(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy's activation is linear in the code, so that its components lead back exactly, also from isotropic z."""
    monkeypatch.setattr(ganspace, "NUMBERS", numbers)
    # an axis i of w paints with gain_i sigma_i z_i
    strength = TOY.gain * TOY.sigma
    order = strength.argsort(descending=True)
    directions = found(GANSpace("z", k=4, layer="paint", samples=240), TOY)
    axes = stack(directions)[:2].abs()
    expected = torch.eye(12)[order[:2]]
    assert (axes * expected).sum(dim=1).min() > 0.7, "in z the axes are the coordinates, up to sampling"
    assert sigmas(directions) == pytest.approx([1.0] * 4, abs=0.15)


def test_the_regression_is_least_squares() -> None:
    """Of a layer that is not linear, against the normal equations."""
    method = GANSpace("w", k=3, layer="b4.conv1", samples=80)
    directions = found(method)
    latents = GAN.sample(80, GAN.spaces["w"], seeded(), 1.0)
    y = GAN.synthesize(latents, ["b4.conv1"]).features["b4.conv1"].flatten(1).double()
    y = y - y.mean(dim=0)
    _, _, V = torch.linalg.svd(y, full_matrices=False)
    x = y @ V[:3].T
    w = latents.values.double() - latents.values.double().mean(dim=0)
    u = torch.linalg.solve(x.T @ x, x.T @ w)
    u = u / u.norm(dim=1, keepdim=True)
    torch.testing.assert_close(
        (stack(directions).double() * u).sum(dim=1).abs(), torch.ones(3).double(), atol=1e-3, rtol=0
    )
    assert sigmas(directions) == pytest.approx((w @ u.T).std(dim=0).tolist(), rel=1e-3)
    shares = (x.square().sum(dim=0) / y.square().sum()).tolist()
    assert [d.figures["explained"] for d in directions] == pytest.approx(shares, rel=1e-3)


def test_passes_of_fewer_pictures_give_the_same() -> None:
    method = GANSpace("w", k=2, layer="b4.conv1", samples=50)
    few = replace(method, max_pictures=7)
    torch.testing.assert_close(stack(found(few)), stack(found(method)), rtol=0, atol=1e-3)


def test_the_best_of_a_region_paints_it() -> None:
    region = Part(TileSegmenter(), (TILES[1],))
    judged = Calibration(mean_square, 0.01, 4, 1.0)
    (directions,) = discover(TOY, [region], GANSpace(k=12, samples=50_000), seeded(), judged, random=0)
    assert (TOY.truth(1) @ directions[0].vector).norm() > 0.99


def test_what_a_direction_says_of_itself() -> None:
    first, second = GANSpace("w:2-4", k=2, samples=40).find(GAN, [*BOX, Box(12, 10, 6, 10)], seeded(11))
    assert [d.name for d in first] == ["component-1", "component-2"]
    assert torch.equal(first[0].vector, second[0].vector)
    assert (first[0].seed, first[0].generator, str(first[0].subspace)) == (11, GAN.name, "w:2-4")
    assert first[0].vector.norm() == pytest.approx(1, abs=1e-5)
    assert second[0].region == "box[12,10,6,10]"
    assert first[0].found_by.startswith("GANSpace(space='w:2-4', k=2")
    again = GANSpace("w:2-4", k=2, samples=40).find(GAN, BOX, seeded(11))[0]
    assert torch.equal(again[1].vector, first[1].vector)


def test_an_interrupted_search_keeps_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ganspace, "NUMBERS", 600)

    def interrupt(done: int | float, total: int, message: str = "") -> None:
        if done > 300:
            raise KeyboardInterrupt

    (stopped,) = GANSpace(k=2, samples=900).find(GAN, BOX, seeded(), interrupt)
    assert 300 < stopped[0].figures["samples"] < 900
    (layer,) = GANSpace(k=2, layer="b4.conv1", samples=60).find(GAN, BOX, seeded(), _after(60))
    assert layer[0].vector.norm() == pytest.approx(1, abs=1e-5)


def _after(most: int) -> object:
    def interrupt(done: int | float, total: int, message: str = "") -> None:
        if done > most:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, r"must be positive, got \{'k': 0\}"),
        ({"samples": 0}, "samples"),
        ({"max_pictures": 0}, "max_pictures"),
        ({"k": 10, "samples": 10}, "10 components need more than 10 samples, got 10"),
        ({"truncation": 0.0}, "truncation is a number other than 0"),
        ({"truncation": float("nan")}, "truncation"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(SituError, match=message):
        GANSpace(**settings)


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SituError, match=r'feature layers of stylegan2.* are b4\.conv1, .*; got "conv9"'):
        found(GANSpace(k=2, layer="conv9"))
    with pytest.raises(SituError, match=r"w:2-4 does not reach the layer b4\.conv1"):
        found(GANSpace("w:2-4", k=2, layer="b4.conv1"))
    with pytest.raises(SituError, match="codes of w vary in 8 directions, too few for k=9"):
        found(GANSpace(k=9))


def test_scikit_learn_is_imported_when_it_is_needed() -> None:
    """It takes a second, which `import situ` must not."""
    for module in (ganspace, interfacegan):
        tree = ast.parse(inspect.getsource(module))
        names = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
        assert not any(name.startswith("sklearn") for name in names)
