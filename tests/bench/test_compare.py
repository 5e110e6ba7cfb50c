"""Methods side by side: equal distance for all, the better one first, and what is finished is kept."""

import json
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from situ.bench.compare import compare_methods, comparison_report, draw_comparison
from situ.core.errors import SituError
from situ.core.generator import Generator
from situ.core.progress import Progress, silent
from situ.core.region import Box, Region
from situ.discovery.baselines import RandomDirections
from situ.discovery.resefa import ReSeFa
from situ.packs.pack import Pack
from toys import TileGenerator, TileSegmenter

GAN = TileGenerator(rotate=True)
PACK = Pack("tiles", GAN, TileSegmenter())
TILE = Box(4, 4, 8, 8)
METHODS = {"random": RandomDirections(space="w"), "resefa": ReSeFa(space="w")}


def no_bar(title: str) -> AbstractContextManager[Progress]:
    return nullcontext(silent)


def test_the_local_method_comes_first_and_both_move_as_far() -> None:
    rows, failed, latents = compare_methods(PACK, TILE, METHODS, 0.004, 6, 0, 0.5, no_bar)
    assert [row.method for row in rows] == ["resefa", "random"], "best region gain first, not in the order given"
    assert not failed
    resefa, other = rows
    assert resefa.figures["region_gain"] > 10 * other.figures["region_gain"]
    assert resefa.figures["inside"] > 0.95
    for row in rows:
        assert row.reached == 1
        assert row.seconds > 0
        assert row.edited.shape == (4, 2, 3, 16, 16)
        before = GAN.synthesize(latents[:4]).images
        for side in range(2):
            moved = PACK.distance.between(before, row.edited[:, side])
            torch.testing.assert_close(moved, torch.full([4], 0.004), rtol=0.05, atol=0)
    page = draw_comparison(PACK, TILE, rows, latents, 0.004)
    assert page.width > 8 * 112
    report = json.loads(json.dumps(comparison_report(PACK, TILE, rows, {"sefa": "no"}, 0.004, 6)))
    assert [row["method"] for row in report["methods"]] == ["resefa", "random"]
    assert report["methods"][0]["subspace"] == "w"
    assert report["failed"] == {"sefa": "no"}


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second = (compare_methods(PACK, TILE, METHODS, 0.01, 3, 5, 1.0, no_bar)[0] for _ in range(2))
    assert [dict(row.figures) for row in first] == [dict(row.figures) for row in second]
    other = compare_methods(PACK, TILE, METHODS, 0.01, 3, 6, 1.0, no_bar)[0]
    assert dict(first[1].figures) != dict(other[1].figures)


class Interrupted:
    def find(self, generator: Generator, regions: list[Region], rng: torch.Generator, progress: Progress) -> object:
        raise KeyboardInterrupt


def test_what_is_finished_is_kept() -> None:
    rows, _, _ = compare_methods(PACK, TILE, {**METHODS, "slow": Interrupted()}, 0.01, 2, 0, 1.0, no_bar)
    assert {row.method for row in rows} == {"random", "resefa"}
    with pytest.raises(KeyboardInterrupt):
        compare_methods(PACK, TILE, {"slow": Interrupted()}, 0.01, 2, 0, 1.0, no_bar)


class Still(TileGenerator):
    """Pictures that nothing changes."""

    def synthesize(self, latents, *rest, **options):
        return super().synthesize(latents.with_values(0 * latents.values), *rest, **options)


def test_a_method_that_cannot_leaves_its_reason_and_the_others_go_on() -> None:
    methods = {"many": ReSeFa(space="w", k=99), **METHODS}
    rows, failed, _ = compare_methods(PACK, TILE, methods, 0.004, 2, 0, 0.5, no_bar)
    assert {row.method for row in rows} == {"random", "resefa"}
    assert "99" in failed["many"]


def test_methods_that_change_nothing_are_named() -> None:
    still = Pack("still", Still(rotate=False))
    with pytest.raises(SituError, match=r"random: it found no direction of .* that changes the pictures"):
        compare_methods(still, TILE, {"random": RandomDirections(space="w")}, 0.01, 2, 0, 1.0, no_bar)
