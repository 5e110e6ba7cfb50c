"""Every method must find the known directions of the toy generators: one table, one row per method."""

from dataclasses import dataclass
from typing import Annotated, get_origin, get_type_hints

import pytest
import torch

from situ.core.discovery import Calibration, Discovery, discover
from situ.core.region import Part, Rest
from situ.discovery.first_order import FirstOrder
from situ.discovery.ganalyze import GANalyze
from situ.discovery.ganspace import GANSpace
from situ.discovery.interfacegan import InterFaceGAN
from situ.discovery.lelsd import LELSD
from situ.discovery.lowrankgan import LowRankGAN
from situ.discovery.resefa import ReSeFa
from situ.discovery.sefa import SeFa
from situ.discovery.styleflow import StyleFlow
from situ.discovery.stylespace import StyleSpace
from toys import TILES, TileGenerator, TileSegmenter
from toys_statistics import StyledTileGenerator
from toys_styles import BrightnessClassifier


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).square().mean(dim=(1, 2, 3))


SHORT = {
    "samples": 16 * 45,
    "batch": 16,
    "optimizer": "adam",
    "lr": 1e-1,
    "halve_every": 15,
    "truncation": 1.0,
    "start": "random",
}
JUDGED = Calibration(distance, 0.01, 16, 1.0)
BRIGHT = BrightnessClassifier()


@dataclass(frozen=True)
class Solves:
    """A method and the toy problems that it must solve."""

    method: Discovery
    toy: type[TileGenerator] = TileGenerator
    rotated: bool = True  # also where the true directions are no axes
    by_name: bool = False  # its directions are named after tiles and are the same for every region
    unaware: bool = False  # it knows nothing of regions: all 12 directions for each, those of the tile first


METHODS = {
    "lelsd": Solves(LELSD(space="w", truncation=1.0)),
    "lelsd-two": Solves(LELSD(space="w", k=2, truncation=1.0)),
    "lelsd-from-resefa": Solves(LELSD(space="w", start=ReSeFa(space="w"), truncation=1.0)),
    "lelsd-as-published": Solves(LELSD.as_published(space="w", **{**SHORT, "lr": 5e-2})),
    "lelsd-z": Solves(LELSD(space="z", **SHORT)),
    "lelsd-l1": Solves(LELSD(space="w", distance="l1", **SHORT)),
    "lelsd-cosine": Solves(LELSD(space="w", distance="cosine", **SHORT)),
    "lelsd-union": Solves(LELSD(space="w", aggregation="union", **SHORT)),
    "lelsd-intersection": Solves(LELSD(space="w", aggregation="intersection", **SHORT)),
    "lelsd-as-coded": Solves(LELSD.as_coded(space="w", **SHORT)),
    "lelsd-soft": Solves(LELSD(space="w", **SHORT)),
    "first-order": Solves(FirstOrder(space="w", k=3)),
    "resefa": Solves(ReSeFa(space="w", k=3)),
    "resefa-several": Solves(ReSeFa(space="w", pictures=4)),
    "resefa-woodbury": Solves(ReSeFa(space="w", k=3, solver="woodbury")),
    "resefa-lobpcg": Solves(ReSeFa(space="w", solver="lobpcg")),
    "stylespace": Solves(StyleSpace(space="w", k=3, pictures=4, sigma_samples=50), rotated=False),
    "ganspace": Solves(GANSpace(k=12, samples=50_000), StyledTileGenerator, unaware=True),
    "sefa": Solves(SeFa(k=12, to_rgb="all"), StyledTileGenerator, unaware=True),
    "lowrankgan": Solves(LowRankGAN(space="w", k=3, sparse_weight=2.0)),
    "lowrankgan-as-coded": Solves(LowRankGAN.as_coded(space="w", sparse_weight=2.0, size=16, rank_tolerance=1e-5)),
    "interfacegan": Solves(InterFaceGAN(BRIGHT, truncation=1.0), by_name=True),
    "ganalyze": Solves(GANalyze(BRIGHT, truncation=1.0), by_name=True),
    "styleflow": Solves(StyleFlow(BRIGHT, samples=1000, steps=40, batch=64, lr=2e-2, hidden=(32,)), by_name=True),
}


@pytest.mark.parametrize("rotate", [False, True], ids=["axis-aligned", "rotated"])
@pytest.mark.parametrize("name", METHODS)
def test_method_finds_the_known_directions(name: str, rotate: bool, rng: torch.Generator) -> None:
    solves = METHODS[name]
    generator = solves.toy(rotate)
    if rotate and not solves.rotated:
        regions = [Part(TileSegmenter(), (TILES[0],))]
        ((direction, *_),) = discover(generator, regions, solves.method, rng, JUDGED, random=0)
        assert (generator.truth(0) @ direction.vector).norm() < 0.95, "it finds what it is said not to find"
        return
    regions = [Part(TileSegmenter(), (tile,), soft=name == "lelsd-soft") for tile in TILES]
    found = discover(generator, regions, solves.method, rng, JUDGED, random=0)
    assert len(found) == len(TILES)
    for tile, directions in enumerate(found):
        assert not solves.unaware or len(directions) == 12
        for direction in directions[: 1 if solves.by_name else 3]:
            inside_span = (generator.truth(tile) @ direction.vector).norm()
            assert inside_span > 0.95, (name, TILES[tile], inside_span)
            assert direction.score > 5
            assert direction.figures["LS"] > 0.9 or name.endswith("cosine")


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_discoveries_whose_settings_have_words(name: str) -> None:
    method = METHODS[name].method
    assert isinstance(method, Discovery)
    for setting, hint in get_type_hints(type(method), include_extras=True).items():
        if setting not in ("classifier", "latents", "start"):
            assert get_origin(hint) is Annotated, f"{setting} says nothing of itself"


def test_two_directions_of_one_region_differ(rng: torch.Generator) -> None:
    generator = TileGenerator(True)
    region = Part(TileSegmenter(), (TILES[0],))
    (pair,) = discover(generator, [region], METHODS["lelsd-two"].method, rng, JUDGED, random=0)
    assert abs(float(pair[0].vector @ pair[1].vector)) < 0.3


def test_background_mode_avoids_the_region(rng: torch.Generator) -> None:
    generator = TileGenerator(True)
    method = LELSD(space="w", **SHORT)
    ((direction,),) = method.find(generator, [Rest(Part(TileSegmenter(), (TILES[2],)))], rng)
    assert (generator.truth(2) @ direction.vector).norm() < 0.1
