"""Random directions and interpolation: where they lead, and that they repeat."""

from dataclasses import replace

import pytest
import torch

from situ.core.discovery import Calibration, discover
from situ.core.errors import LatentError, SituError
from situ.core.region import Box, Part
from situ.discovery.baselines import Interpolation, RandomDirections
from toys import TileGenerator, TileSegmenter, mean_square
from toys_statistics import StyledTileGenerator, tiny_stylegan2

GAN = tiny_stylegan2()
TOY = StyledTileGenerator(rotate=True)
BOXES = (Box(4, 4, 8, 8), Box(12, 10, 6, 10))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("method", [RandomDirections(k=3), Interpolation(k=3, samples=50)], ids=str)
@pytest.mark.parametrize("space", ["z", "w", "w:2-4", "w+:1,3", "s:conv"])
def test_every_region_gets_the_same_unit_directions(method: RandomDirections | Interpolation, space: str) -> None:
    method = replace(method, space=space)
    first, second = method.find(GAN, BOXES, seeded(5))
    again = method.find(GAN, BOXES, seeded(5))[0]
    other = method.find(GAN, BOXES, seeded(6))[0]
    assert [d.region for d in (first[0], second[0])] == [box.name for box in BOXES]
    for a, b, c, d in zip(first, second, again, other, strict=True):
        assert a.vector.norm() == pytest.approx(1, abs=1e-5)
        assert (str(a.subspace), a.seed, a.name) == (space, 5, b.name)
        assert torch.equal(a.vector, b.vector)
        assert torch.equal(a.vector, c.vector)
        assert not torch.allclose(a.vector, d.vector)
    assert len({d.name for d in first}) == 3


def test_random_directions_are_uniform() -> None:
    (found,) = RandomDirections("w", k=2000).find(GAN, BOXES[:1], seeded())
    vectors = torch.stack([d.vector for d in found])
    torch.testing.assert_close(vectors.T @ vectors / 2000, torch.eye(8) / 8, rtol=0, atol=0.012)
    assert vectors.mean(dim=0).abs().max() < 0.03


def test_interpolation_leads_from_the_mean_to_a_drawn_code() -> None:
    (found,) = Interpolation(k=2, samples=20_000).find(TOY, BOXES[:1], seeded(3))
    drawn = TOY.sample(2, TOY.spaces["w"], seeded(3)).values
    for direction, code in zip(found, drawn, strict=True):
        reached = TOY.mean + direction.figures["distance"] * direction.vector
        torch.testing.assert_close(reached, code, rtol=0, atol=0.05)


def test_interpolation_leads_from_one_drawn_code_to_another() -> None:
    (found,) = Interpolation(k=2, between="pair").find(TOY, BOXES[:1], seeded(3))
    rng = seeded(3)
    ends, starts = (TOY.sample(2, TOY.spaces["w"], rng).values for _ in range(2))
    for direction, start, end in zip(found, starts, ends, strict=True):
        torch.testing.assert_close(start + direction.figures["distance"] * direction.vector, end)


def test_tied_rows_move_as_one_code_of_w() -> None:
    """The strength that leads to the code of W leads every tied row there."""
    tied, plain = (
        Interpolation(space, k=1, between="pair").find(GAN, BOXES[:1], seeded(2))[0][0] for space in ("w:2-4", "w")
    )
    torch.testing.assert_close(tied.vector, plain.vector)
    assert tied.figures["distance"] == pytest.approx(plain.figures["distance"], rel=1e-5)


def test_they_can_be_judged() -> None:
    generator = TileGenerator(rotate=True)
    region = Part(TileSegmenter(), ("top-left",))
    for method in (RandomDirections("w", k=2), Interpolation("w", k=2, samples=100)):
        (found,) = discover(generator, [region], method, seeded(), Calibration(mean_square, 0.01, 8, 1.0), random=0)
        assert all(0 < direction.score < 5 for direction in found)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandomDirections(k=0), "at least one random direction is needed, got k=0"),
        (lambda: Interpolation(k=0), r"must be positive, got \{'k': 0\}"),
        (lambda: Interpolation(samples=-3), "samples"),
        (lambda: Interpolation(truncation=0.0), "truncation is a number other than 0"),
        (lambda: Interpolation(truncation=float("nan")), "truncation"),
    ],
)
def test_impossible_settings_are_refused(build: object, message: str) -> None:
    with pytest.raises(SituError, match=message):
        build()  # pyright: ignore[reportCallIssue]


def test_words_that_mean_nothing_are_refused(unchecked: None) -> None:
    with pytest.raises(SituError, match='between is one of mean, pair, got "both"'):
        Interpolation(between="both")  # pyright: ignore[reportArgumentType]


def test_unknown_spaces_are_refused() -> None:
    with pytest.raises(LatentError, match="spaces of this generator are z, w"):
        RandomDirections("y").find(GAN, BOXES, seeded())
