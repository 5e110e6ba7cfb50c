"""Gram matrices of feature layers: the derivative that they are made of, and the laws that they obey."""

from functools import partial

import pytest
import torch
from torch import Tensor

from situ.core.feature_jacobian import MIXED, feature_gram_bytes, feature_grams, linearize_features
from situ.core.generator import IMAGE, Generator
from situ.core.latents import Latents, parse_subspace
from toys import TileGenerator, tiny_stylegan2

GAN = tiny_stylegan2()
LAYERS = ("b8.conv1", "b16.conv1", IMAGE)


def picture_of(generator: Generator, seed: int = 0) -> Latents:
    return generator.sample(1, generator.spaces["z"], torch.Generator().manual_seed(seed), 0.7)


def whole(change: Tensor) -> Tensor:
    return change


def box(size: int = 16) -> Tensor:
    mask = torch.zeros(1, 1, size, size)
    mask[..., 4:12, 2:9] = 1
    return mask


@pytest.mark.parametrize("space", ["z", "w", "w+:2-4", "w:1-3", "s:conv"])
def test_tangents_are_differences_of_features(space: str) -> None:
    """Central differences; where a leaky ReLU turns between the two sides they are a little off."""
    subspace = parse_subspace(space, GAN.spaces)
    latents = GAN.convert(picture_of(GAN), subspace.space)
    tangents = torch.randn(3, subspace.dim, generator=torch.Generator().manual_seed(1))
    found = linearize_features(GAN, latents, subspace, dict.fromkeys(LAYERS, whole))(tangents)
    h = 1e-3
    for i, u in enumerate(tangents):
        sides = [
            GAN.synthesize(latents.with_values(latents.values + s * h * subspace.lift(u)[None]), LAYERS[:2])
            for s in (1, -1)
        ]
        for name in LAYERS:
            up, down = (side.images if name == IMAGE else side.features[name] for side in sides)
            expected = (up - down)[0] / (2 * h)
            assert (found[name][i] - expected).norm() <= 0.1 * expected.norm(), name


def test_a_generator_without_its_own_derivative_gives_the_same() -> None:
    """torch.func's path, on the generator that also knows its own."""

    class Plain:  # everything but `linearize`
        def __init__(self) -> None:
            self.name, self.resolution, self.spaces, self.layers = GAN.name, 16, GAN.spaces, GAN.layers
            self.device = GAN.device
            self.sample, self.convert, self.first_step = GAN.sample, GAN.convert, GAN.first_step
            self.synthesize = GAN.synthesize

    subspace = parse_subspace("w", GAN.spaces)
    tangents = torch.eye(subspace.dim)
    made = partial(linearize_features, subspace=subspace, reductions=dict.fromkeys(LAYERS, whole))
    own, plain = made(GAN, picture_of(GAN))(tangents), made(Plain(), picture_of(GAN))(tangents)
    for name in LAYERS:
        torch.testing.assert_close(own[name], plain[name], rtol=1e-4, atol=1e-4)


def test_what_is_inside_and_what_is_not_is_everything() -> None:
    subspace = parse_subspace("w+:2-4", GAN.spaces)
    masks = [box(), 1 - box(), torch.ones(1, 1, 16, 16)]
    grams = feature_grams(
        GAN, picture_of(GAN), masks, subspace, torch.eye(subspace.dim), LAYERS, torch.Generator().manual_seed(0)
    )
    assert grams.inside.shape == (3, 3, 24, 24)
    torch.testing.assert_close(grams.inside[0] + grams.inside[1], grams.total)
    torch.testing.assert_close(grams.inside[2], grams.total)
    torch.testing.assert_close(grams.total.diagonal(dim1=1, dim2=2).sum(dim=1), torch.ones(3))
    assert torch.linalg.eigvalsh(grams.total).min() > -1e-5


def test_mixed_channels_keep_the_expected_change() -> None:
    """Over many draws of the mixing, T is the Gram matrix of all channels."""
    subspace = parse_subspace("w", GAN.spaces)
    tangents = torch.eye(subspace.dim)
    full = linearize_features(GAN, picture_of(GAN), subspace, {"b16.conv1": whole})(tangents)["b16.conv1"].flatten(1)
    expected = full @ full.T
    rng, draws = torch.Generator().manual_seed(0), []
    for _ in range(30):
        draws.append(feature_grams(GAN, picture_of(GAN), [], subspace, tangents, ["b16.conv1"], rng).total[0])
    mean = torch.stack(draws).mean(dim=0)
    assert (mean - expected / expected.trace()).norm() < 0.2 * mean.norm()


def test_regions_may_be_none_and_tangents_few() -> None:
    generator = TileGenerator(rotate=True)
    subspace = parse_subspace("w", generator.spaces)
    rng = torch.Generator().manual_seed(0)
    few = generator.truth(1)
    grams = feature_grams(generator, picture_of(generator), [], subspace, few, ["paint"], rng)
    assert grams.inside.shape == (0, 1, 3, 3)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8, 8:] = 1  # the tile that these steps paint
    inside = feature_grams(generator, picture_of(generator), [mask], subspace, few, ["paint"], rng)
    torch.testing.assert_close(inside.inside[0], inside.total)


def test_the_memory_that_is_planned() -> None:
    rows = MIXED * (8**2 + 2 * 16**2)
    assert feature_gram_bytes(GAN, 24, LAYERS, 2) == 4 * 24 * (rows + 24 * 3 * 3)
