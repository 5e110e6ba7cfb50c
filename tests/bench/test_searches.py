"""Searches that benches share: made once, ranked on pictures of their own, and honest about failures and time."""

from pathlib import Path

import pytest
import torch

from situ.bench import searches
from situ.bench.run import MEASURED
from situ.bench.searches import SELECTION, Searches, clock, ranked, regions_of_bench, sampled, timed_derivatives
from situ.core.errors import DirectionError, RegionError
from situ.core.jacobian import Rows, jacobian
from situ.core.latents import Subspace
from situ.core.region import Box, Part
from situ.discovery.resefa import ReSeFa
from situ.packs.pack import Pack
from toys import TILES, TileGenerator, TileSegmenter, tiny_stylegan2

GAN = TileGenerator(rotate=True)
PACK = Pack("tiles", GAN, TileSegmenter(), best_subspaces=dict.fromkeys(TILES, "w"))
REGIONS = {tile: Part(PACK.segmenter, (tile,)) for tile in TILES[:2]}  # pyright: ignore[reportArgumentType]


def test_a_search_is_made_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Searches(PACK, "tiles", tmp_path, quick=False).find("resefa", REGIONS, TILES[0], 3)
    assert len(first.directions) == 4, "the bench asks for several to take the best of"
    gains = [direction.score for direction in first.directions]
    assert gains == sorted(gains, reverse=True)
    assert first.seconds > 0
    truth = GAN.truth(0)
    assert float((truth @ first.best.vector).norm()) > 0.99, "it lies in the span of the tile's own directions"
    monkeypatch.setattr(ReSeFa, "find", lambda *_: pytest.fail("searched again"))
    again = Searches(PACK, "tiles", tmp_path, quick=False).find("resefa", REGIONS, TILES[0], 3)
    assert torch.equal(again.best.vector, first.best.vector)
    assert again.best.unit == first.best.unit
    assert again.seconds == first.seconds


def test_other_settings_and_seeds_are_other_searches(tmp_path: Path) -> None:
    kept = Searches(PACK, "tiles", tmp_path, quick=False)
    kept.find("random", REGIONS, TILES[0], 0)
    kept.find("random", REGIONS, TILES[0], 1)
    kept.find("random", REGIONS, TILES[0], 1, {"k": 2})
    assert len(kept.cells) == 3


def test_methods_that_serve_all_parts_search_once(tmp_path: Path) -> None:
    kept = Searches(PACK, "tiles", tmp_path, quick=False)
    for tile in REGIONS:
        found = kept.find("ganspace", REGIONS, tile, 0)
        assert found.best.region == tile
    assert len(kept.cells) == 1


def test_a_method_that_cannot_leaves_its_reason(tmp_path: Path) -> None:
    found = Searches(PACK, "tiles", tmp_path, quick=False).find("stylespace", REGIONS, TILES[0], 0)
    assert not found.directions
    assert "s:conv" in found.failed
    with pytest.raises(DirectionError, match="s:conv"):
        _ = found.best
    found = Searches(PACK, "tiles", tmp_path, quick=False).find("interfacegan", REGIONS, TILES[0], 0)
    assert "classifier" in found.failed


def test_ranked_directions_have_one_unit_and_leave_out_what_changes_nothing() -> None:
    rows = ReSeFa(space="w", k=2).find(GAN, list(REGIONS.values()), torch.Generator().manual_seed(0))
    still = type(rows[0][0])(torch.zeros(12), rows[0][0].subspace, GAN.name, TILES[0], "nobody")
    found = ranked(PACK, list(REGIONS.values()), [[*rows[0], still], rows[1]])
    assert [len(directions) for directions in found] == [2, 2]
    codes = sampled(PACK, 64, 1)
    for direction in (d for directions in found for d in directions):
        moved = GAN.synthesize(direction.apply(GAN, codes, 1.0)).images
        assert float(PACK.distance.between(GAN.synthesize(codes).images, moved).mean()) == pytest.approx(0.02, rel=0.3)


def test_ranking_is_on_pictures_of_its_own_and_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds, sides, draw, edit = [], [], searches.sampled, searches.edited_images

    def sampled_of(pack: Pack, n: int, seed: int):
        seeds.append(seed)
        return draw(pack, n, seed)

    def edited(generator, direction, region, latents, strength):
        sides.append(strength)
        return edit(generator, direction, region, latents, strength)

    monkeypatch.setattr(searches, "sampled", sampled_of)
    monkeypatch.setattr(searches, "edited_images", edited)
    rows = ReSeFa(space="w", k=1).find(GAN, list(REGIONS.values()), torch.Generator().manual_seed(0))
    ranked(PACK, list(REGIONS.values()), rows)
    assert seeds == [SELECTION]
    assert not MEASURED <= SELECTION < MEASURED + 100_000, "no seed of a bench measures on them"
    assert sides == [1.0, -1.0] * 2


def test_derivatives_are_timed_apart() -> None:
    generator = tiny_stylegan2()
    timed, spent = timed_derivatives(generator, clock(Pack("tiny", generator)))
    codes = generator.sample(1, generator.spaces["w"], torch.Generator().manual_seed(0))
    timed.synthesize(codes)
    assert spent() == 0
    subspace = Subspace(generator.spaces["w"])
    found = jacobian(timed, codes, subspace, Rows())
    assert spent() > 0
    torch.testing.assert_close(found.values, jacobian(generator, codes, subspace, Rows()).values)


def test_parts_of_a_model_and_boxes_where_it_has_none() -> None:
    assert list(regions_of_bench(PACK, ("top-left", "hair"))) == ["top-left"]
    boxes = regions_of_bench(Pack("tiny", tiny_stylegan2()))
    assert list(boxes) == ["eyes", "mouth", "nose"]
    assert all(isinstance(box, Box) for box in boxes.values())
    with pytest.raises(RegionError, match="the bench edits hair, and tiles has none"):
        regions_of_bench(PACK, ("hair",))
