"""Every method must find the known directions of the toy generators: one table, one row per method."""

import pytest
import torch

from situ.core.discovery import Calibration, discover
from situ.core.region import Part, Rest
from situ.discovery.lelsd import LELSD
from toys import TILES, TileGenerator, TileSegmenter


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).square().mean(dim=(1, 2, 3))


SHORT = {
    "samples": 16 * 45,
    "batch": 16,
    "lr": 1e-1,
    "halve_every": 15,
    "truncation": 1.0,
    "start": "random",
    "average": False,
}
JUDGED = Calibration(distance, 0.01, 16, 1.0)

METHODS = {
    "lelsd": LELSD(space="w", **SHORT),
    "lelsd-two": LELSD(space="w", k=2, **SHORT),
    "lelsd-z": LELSD(space="z", **SHORT),
    "lelsd-l1": LELSD(space="w", distance="l1", **SHORT),
    "lelsd-cosine": LELSD(space="w", distance="cosine", **SHORT),
    "lelsd-union": LELSD(space="w", aggregation="union", **SHORT),
    "lelsd-intersection": LELSD(space="w", aggregation="intersection", **SHORT),
    "lelsd-as-coded": LELSD.as_coded(space="w", **SHORT),
    "lelsd-soft": LELSD(space="w", **SHORT),
}


@pytest.mark.parametrize("rotate", [False, True], ids=["axis-aligned", "rotated"])
@pytest.mark.parametrize("name", METHODS)
def test_method_finds_the_known_directions(name: str, rotate: bool, rng: torch.Generator) -> None:
    generator = TileGenerator(rotate)
    regions = [Part(TileSegmenter(), (tile,), soft=name == "lelsd-soft") for tile in TILES]
    found = discover(generator, regions, METHODS[name], rng, JUDGED, random=0)
    assert len(found) == len(TILES)
    for tile, directions in enumerate(found):
        for direction in directions:
            inside_span = (generator.truth(tile) @ direction.vector).norm()
            assert inside_span > 0.95, (name, TILES[tile], inside_span)
            assert direction.score > 5
            assert direction.figures["LS"] > 0.9 or name.endswith("cosine")


def test_two_directions_of_one_region_differ(rng: torch.Generator) -> None:
    generator = TileGenerator(True)
    region = Part(TileSegmenter(), (TILES[0],))
    (pair,) = discover(generator, [region], METHODS["lelsd-two"], rng, JUDGED, random=0)
    assert abs(float(pair[0].vector @ pair[1].vector)) < 0.3


def test_background_mode_avoids_the_region(rng: torch.Generator) -> None:
    generator = TileGenerator(True)
    method = LELSD(space="w", **SHORT)
    ((direction,),) = method.find(generator, [Rest(Part(TileSegmenter(), (TILES[2],)))], rng)
    assert (generator.truth(2) @ direction.vector).norm() < 0.1
