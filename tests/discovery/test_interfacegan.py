"""InterFaceGAN: which side is which, what conditions take out, and what it cannot separate."""

from collections.abc import Mapping

import pytest
import torch

from situ.core.direction import Direction
from situ.core.errors import SituError
from situ.core.latents import Latents
from situ.core.region import Box
from situ.discovery.interfacegan import InterFaceGAN, _without
from toys import TILES, TileGenerator
from toys_statistics import MixedAttributes, TileBrightness, brighter, tiny_stylegan2

TOY = TileGenerator(rotate=True)
GAN = tiny_stylegan2()
BOX = [Box(4, 4, 8, 8)]
BRIGHTNESS = TileBrightness()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def found(method: InterFaceGAN, generator: object = TOY, seed: int = 0) -> Mapping[str, Direction]:
    """By name."""
    (directions,) = method.find(generator, BOX, seeded(seed))  # pyright: ignore[reportArgumentType]
    return {direction.name: direction for direction in directions}


@pytest.mark.parametrize("boundary", ["svm", "logistic"])
@pytest.mark.parametrize("rotate", [False, True])
def test_the_known_normals_are_found(rotate: bool, boundary: str) -> None:
    generator = TileGenerator(rotate)
    method = InterFaceGAN(BRIGHTNESS, boundary=boundary)  # pyright: ignore[reportArgumentType]
    directions = found(method, generator)
    assert set(directions) == set(TILES)
    for tile, name in enumerate(TILES):
        assert directions[name].vector @ brighter(generator, tile) > 0.95, "towards the attribute"
        assert directions[name].figures["accuracy"] > 0.9
        assert directions[name].vector.norm() == pytest.approx(1, abs=1e-5)


def test_more_certain_codes_separate_better() -> None:
    ends, halves = (found(InterFaceGAN(BRIGHTNESS, TILES[:1], chosen=share))[TILES[0]] for share in (0.1, 0.5))
    assert ends.figures["codes"] == 100
    assert 400 < halves.figures["codes"] <= 500
    assert ends.figures["accuracy"] >= halves.figures["accuracy"] > 0.9


def test_only_codes_with_the_attribute_count_as_with_it() -> None:
    """A rare attribute: as many codes on either side as have it."""
    rare = TileBrightness(gain=20.0, offset=0.4)
    with torch.no_grad():
        codes = torch.cat([TOY.sample(n, TOY.spaces["w"], rng).values for rng in [seeded()] for n in [32] * 31 + [8]])
        have = int((rare.classify(TOY.synthesize(Latents(codes, TOY.spaces["w"])).images)[:, 0] > 0.5).sum())
    assert 4 < have < 200
    assert found(InterFaceGAN(rare, TILES[:1]))[TILES[0]].figures["codes"] == have


@pytest.mark.parametrize("conditions", [(), TILES[1:2], TILES[1:]])
def test_conditions_are_taken_out(conditions: tuple[str, ...]) -> None:
    """Attributes that overlap: the first is seen with a share of each of the others."""
    mixed = MixedAttributes()
    alone = found(InterFaceGAN(mixed))
    direction = found(InterFaceGAN(mixed, TILES[:1], conditions))[TILES[0]]
    others = torch.stack([alone[name].vector for name in TILES[1:]])
    taken_out = [i for i, name in enumerate(TILES[1:]) if name in conditions]
    cosines = others @ direction.vector
    assert cosines[taken_out].abs().max() < 0.1 if taken_out else cosines.abs().min() > 0.2
    n = alone[TILES[0]].vector
    assert direction.vector @ n > 0.3
    assert direction.figures["kept"] == pytest.approx(float(direction.vector @ n), abs=0.1)


def test_conditions_are_exactly_orthogonal() -> None:
    n, *others = torch.randn(4, 12, generator=seeded()).unbind()
    left = _without(n, others)
    assert (torch.stack(others) @ left).abs().max() < 1e-5
    # what was taken out is made of the others
    taken = (n - left)[:, None]
    assert torch.linalg.matrix_rank(torch.cat([torch.stack(others, dim=1), taken], dim=1), atol=1e-4) == 3
    assert torch.equal(_without(n, []), n)
    assert _without(others[0] - 2 * others[2], others).norm() < 1e-5


def test_an_attribute_made_of_the_conditions_is_refused() -> None:
    class Twice(TileBrightness):
        attributes = (*TILES, "bright again")

        def classify(self, images: torch.Tensor) -> torch.Tensor:
            p = super().classify(images)
            return torch.cat([p, p[:, :1]], dim=1)

    class Same(InterFaceGAN):
        def _separate(self, codes: torch.Tensor, score: torch.Tensor, rng: torch.Generator) -> object:
            return super()._separate(codes, score, seeded())  # pyright: ignore[reportReturnType]

    method = Same(Twice(), ("bright again",), TILES[:1], samples=200)
    with pytest.raises(SituError, match="nothing is left of bright again without top-left: leave out a condition"):
        found(method)


def test_what_all_or_none_have_is_refused_by_name() -> None:
    dark, bright = TileBrightness(offset=1.1), TileBrightness(offset=-1.1)
    for classifier, have in ((dark, 0), (bright, 200)):
        with pytest.raises(SituError, match=f"of 200 pictures so many have it: top-right {have}. Draw more"):
            found(InterFaceGAN(classifier, TILES[1:2], samples=200))
        with pytest.raises(SituError, match=f"top-left {have}, top-right {have}, bottom-left {have}"):
            found(InterFaceGAN(classifier, samples=200))
    with pytest.raises(SituError, match="top-left 0"):
        found(InterFaceGAN(dark, TILES[1:2], TILES[:1], samples=200))


def test_without_names_what_cannot_be_separated_is_left_out() -> None:
    class Some(TileBrightness):
        def classify(self, images: torch.Tensor) -> torch.Tensor:
            p = super().classify(images)
            return torch.cat([torch.ones_like(p[:, :1]), p[:, 1:]], dim=1)

    assert set(found(InterFaceGAN(Some(), samples=300))) == set(TILES[1:])
    assert set(found(InterFaceGAN(Some(), conditions=TILES[1:2], samples=300))) == set(TILES[2:])


def test_tied_rows_have_the_normal_of_w() -> None:
    """And free rows have it in each, since sampled codes repeat one code of W."""
    bright = TileBrightness(offset=_middle())
    plain, tied, free = (
        found(InterFaceGAN(bright, TILES[:1], space=space, samples=100), GAN)[TILES[0]].vector
        for space in ("w", "w:2-4", "w+:2-4")
    )
    torch.testing.assert_close(tied, plain, rtol=0, atol=0.01)
    rows = torch.stack(free.split(8))
    torch.testing.assert_close(rows, rows[:1].expand(3, -1), rtol=0, atol=1e-4)


def _middle() -> float:
    """About the median brightness of the network's first tile."""
    images = GAN.synthesize(GAN.sample(200, GAN.spaces["w"], seeded(1))).images
    return float(images[:, :, :8, :8].mean(dim=(1, 2, 3)).median())


def test_best_separated_first_and_named() -> None:
    first, second = InterFaceGAN(BRIGHTNESS, samples=200).find(TOY, [*BOX, Box(12, 10, 6, 10)], seeded(11))
    accuracies = [direction.figures["accuracy"] for direction in first]
    assert accuracies == sorted(accuracies, reverse=True)
    assert [d.name for d in first] == [d.name for d in second]
    assert torch.equal(first[0].vector, second[0].vector)
    assert (first[0].seed, str(first[0].subspace), second[0].region) == (11, "w", "box[12,10,6,10]")
    again = InterFaceGAN(BRIGHTNESS, samples=200).find(TOY, BOX, seeded(11))[0]
    assert torch.equal(again[0].vector, first[0].vector)


def test_pictures_come_in_bounded_passes_and_an_interruption_keeps_them() -> None:
    reports: list[tuple[int, int]] = []

    def interrupt(done: int | float, total: int, message: str = "") -> None:
        reports.append((done, total))
        if done == 240:
            raise KeyboardInterrupt

    method = InterFaceGAN(BRIGHTNESS, samples=1000, max_pictures=40)
    (stopped,) = method.find(TOY, BOX, seeded(), interrupt)
    assert reports == [(done, 1000) for done in range(40, 241, 40)]
    assert len(stopped) == 4
    assert all(direction.figures["codes"] <= 120 for direction in stopped)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attributes": ("smile",)}, "attributes of this model are top-left, .*; got smile"),
        ({"conditions": ("smile",)}, "got smile"),
        ({"attributes": TILES[:2], "conditions": TILES[1:3]}, "found or left alone, not both; got top-right twice"),
        ({"samples": 0}, r"must be positive, got \{'samples': 0\}"),
        ({"C": -1.0}, "C"),
        ({"C": float("nan")}, "C"),
        ({"max_pictures": 0}, "max_pictures"),
        ({"chosen": 0.0}, "chosen is a share of the samples from either end, above 0 to 0.5, got 0.0"),
        ({"chosen": 0.6}, "chosen"),
        ({"held_out": 1.0}, "held_out is a share between 0 and 1"),
        ({"held_out": 0.0}, "held_out"),
        ({"truncation": 0.0}, "truncation is a number other than 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(SituError, match=message):
        InterFaceGAN(BRIGHTNESS, **settings)


def test_what_is_no_classifier_or_no_word_is_refused(unchecked: None) -> None:
    with pytest.raises(SituError, match=r"needs a classifier \(attributes, classify\), got NoneType"):
        InterFaceGAN(None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SituError, match='boundary is one of svm, logistic, got "tree"'):
        InterFaceGAN(BRIGHTNESS, boundary="tree")  # pyright: ignore[reportArgumentType]


def test_as_coded_has_the_published_numbers() -> None:
    coded = InterFaceGAN.as_coded(BRIGHTNESS, space="z")
    assert (coded.samples, coded.chosen, coded.held_out, coded.C, coded.space) == (500_000, 0.02, 0.3, 1.0, "z")
    with pytest.raises(TypeError):
        InterFaceGAN.as_coded(BRIGHTNESS, sampels=3)
