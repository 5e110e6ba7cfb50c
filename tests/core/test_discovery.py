"""The verb `discover`: repeatable, judged on held-out codes, beside random directions, and stoppable."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from situ.core.direction import Direction
from situ.core.discovery import (
    Calibration,
    Discovery,
    discover,
    held_out_latents,
    judge,
    random_baseline,
    random_directions,
    score,
    spread,
)
from situ.core.errors import DirectionError, LatentError
from situ.core.generator import Generator
from situ.core.latents import Latents, LatentSpace, Slice, Subspace
from situ.core.progress import Progress, silent
from situ.core.region import Part, Region
from situ.discovery.lelsd import LELSD
from toys import TILES, TileGenerator, TileSegmenter, mean_square

TOY = TileGenerator(rotate=False)
W = Subspace(TOY.spaces["w"])
CALIBRATION = Calibration(mean_square, 0.01, 8, 1.0)
QUICK = LELSD.as_published(space="w", samples=64, batch=8, lr=3e-2, truncation=1.0)


def regions(*numbers: int) -> list[Part]:
    segmenter = TileSegmenter()
    return [Part(segmenter, (TILES[i],)) for i in numbers]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class ByHand:
    """For every region, the coordinates given, in this order."""

    coordinates: tuple[int, ...]

    def find(
        self, generator: Generator, regions: Sequence[Region], rng: torch.Generator, progress: Progress = silent
    ) -> list[list[Direction]]:
        eye = torch.eye(12)
        return [
            [
                Direction(eye[i], W, generator.name, r.name, "by hand", figures={"own": float(i)})
                for i in self.coordinates
            ]
            for r in regions
        ]


def test_methods_keep_the_contract() -> None:
    assert isinstance(QUICK, Discovery)
    assert isinstance(ByHand((0,)), Discovery)


def test_the_same_seed_finds_the_same() -> None:
    first, again, other = (
        discover(TOY, regions(0, 3), QUICK, seeded(seed), CALIBRATION, random=2) for seed in (4, 4, 5)
    )
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a[0].vector, b[0].vector)
        assert (a[0].unit, a[0].score, a[0].figures) == (b[0].unit, b[0].score, b[0].figures)
        assert not torch.equal(a[0].vector, c[0].vector)
        assert a[0].seed == 4


def test_directions_come_best_gain_first_with_all_figures() -> None:
    (found,) = discover(TOY, regions(1), ByHand((0, 4, 9)), seeded(), CALIBRATION, random=3)
    assert found[0].figures["own"] == 4, "coordinate 4 paints tile 1, the others paint elsewhere"
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    assert found[0].score > 1e6
    assert found[1].score == found[2].score == 0
    assert [d.figures["LS"] for d in found] == [1, 0, 0]
    for direction in found:
        assert set(direction.figures) == {"own", "LS", "random_LS", "random_gain"}
        assert 0.02 < direction.figures["random_LS"] < 0.9
        assert direction.unit != 1
    assert len({d.figures["random_LS"] for d in found}) == 1, "one set of random directions per subspace"


def test_scores_average_both_signs() -> None:
    """Tile 0 is nearly white: upwards only tile 1 changes, downwards both do."""
    both = Direction(torch.eye(12)[0] + torch.eye(12)[3], W, TOY.name, "tile", "by hand", unit=4.0)
    made = score(TOY, both, regions(0)[0], Latents(4 * torch.eye(12)[:1], TOY.spaces["w"]))
    # tanh: tile 0 goes from 0.964028 to 0.999329 or 0, tile 1 from 0 to +-0.964028; three quarters lie outside
    inside, outside = 0.035301**2 + 0.964028**2, 2 * 0.964028**2 / 3
    assert made.score == pytest.approx(inside / outside, rel=1e-4)


def test_random_figures_are_those_of_each_region() -> None:
    found = discover(TOY, regions(0, 1, 2, 3), ByHand((0,)), seeded(), CALIBRATION, random=2)
    shares = [directions[0].figures["random_LS"] for directions in found]
    assert sum(shares) == pytest.approx(1, abs=1e-4), "the tiles share all of the change"
    assert len(set(shares)) == 4
    (bare,) = discover(TOY, regions(0), ByHand((0,)), seeded(), CALIBRATION, random=0)
    assert set(bare[0].figures) == {"own", "LS"}


def test_the_baseline_is_the_mean_over_random_directions() -> None:
    held_out = held_out_latents(TOY, CALIBRATION, seeded())
    rows = random_baseline(TOY, W, regions(2), held_out, CALIBRATION, 3, seeded(7))
    judged = [judge(TOY, d, regions(2)[0], held_out, CALIBRATION) for d in random_directions(TOY, W, 3, seeded(7))]
    assert rows[0]["random_LS"] == pytest.approx(sum(d.figures["LS"] for d in judged) / 3)
    assert rows[0]["random_gain"] == pytest.approx(sum(d.score for d in judged) / 3)


def test_random_directions_are_unit_and_repeatable() -> None:
    made = random_directions(TOY, W, 5, seeded(1))
    assert len(made) == 5
    assert len({d.name for d in made}) == 5
    for a, b in zip(made, random_directions(TOY, W, 5, seeded(1)), strict=True):
        assert a.vector.norm() == pytest.approx(1)
        assert torch.equal(a.vector, b.vector)
        assert a.generator == TOY.name
    with pytest.raises(DirectionError, match="at least one random direction is needed, got 0"):
        random_directions(TOY, W, 0, seeded())


def test_held_out_codes_are_drawn_apart() -> None:
    rng = seeded(2)
    held_out = held_out_latents(TOY, CALIBRATION, rng)
    assert len(held_out) == 8
    searched = TOY.sample(8, TOY.spaces["z"], rng)
    assert not torch.isclose(held_out.values[:, None], searched.values[None]).all(dim=2).any()


@pytest.mark.parametrize("stop", [2, 5])
def test_ctrl_c_returns_what_is_found_so_far(stop: int) -> None:
    calls = []

    def progress(done: int | float, total: int, message: str = "") -> None:
        calls.append((done, total))
        if done == stop:
            raise KeyboardInterrupt

    (found,) = discover(TOY, regions(0), QUICK, seeded(), CALIBRATION, progress, random=0)
    assert calls[-1] == (stop, 8)
    assert found[0].figures["steps"] == stop
    assert found[0].score > 0
    (whole,) = QUICK.find(TOY, regions(0), seeded())
    assert whole[0].figures["steps"] == 8


def test_ctrl_c_before_anything_is_found_stops() -> None:
    def progress(done: int | float, total: int, message: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        QUICK.find(TOY, regions(0), seeded(), progress)


@pytest.mark.parametrize("stop_in", ["judge", "random_baseline"])
def test_ctrl_c_while_measuring_keeps_what_was_found(stop_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"situ.core.discovery.{stop_in}", interrupted)
    found = discover(TOY, regions(0, 1), QUICK, seeded(), CALIBRATION)
    assert [len(directions) for directions in found] == [1, 1]
    assert math.isfinite(found[0][0].score) == (stop_in == "random_baseline")
    assert math.isnan(found[1][0].score)
    assert "random_LS" not in found[0][0].figures


def test_progress_counts_to_the_end() -> None:
    calls = []
    QUICK.find(TOY, regions(0), seeded(), lambda done, total, message="": calls.append((done, total)))
    assert calls == [(i, 8) for i in range(1, 9)]


def test_spread_is_the_root_mean_square_distance() -> None:
    space = LatentSpace("w+", (Slice("a", 2), Slice("b", 2)))
    latents = Latents(torch.tensor([[0.0, 0, 1, 1], [6, 8, 1, 3]]), space)  # (0, 0) and (6, 8) lie 5 from their mean
    assert float(spread(latents, Subspace(space, (0,)))) == 5
    assert float(spread(latents, Subspace(space, (1,)))) == 1
    assert float(spread(latents, Subspace(space))) == pytest.approx(26**0.5)
    assert float(spread(latents, Subspace(space, tied=True))) == 5
    with pytest.raises(LatentError, match=r"codes of w are needed, got w\+"):
        spread(latents, W)
