"""The methods by name: what their options are made of, and what they are built with."""

import pytest
import torch

from situ.cli.methods import documented, options_of, settings_of
from situ.core.discovery import Discovery
from situ.core.errors import ModelError, SituError
from situ.core.region import Box, Part
from situ.discovery.lelsd import LELSD
from situ.packs.methods import METHODS, attributes_of, build_method, common_subspace, method_named
from situ.packs.pack import FactorReader, Pack
from toys import TILES, TileGenerator, TileSegmenter

TILE = Box(4, 4, 8, 8)


def nothing(images: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(images), 2)


READER = FactorReader(("a", "b"), ("x", "y"), (), ("bright", "round"), (TILES[0], TILES[1]), nothing, nothing)
PACK = Pack("tiles", TileGenerator(False), TileSegmenter(), READER, best_subspaces={TILES[0]: "w", TILES[1]: "z"})


@pytest.mark.parametrize("name", METHODS)
def test_every_documented_setting_is_an_option_and_its_default_is_the_methods(name: str) -> None:
    method = METHODS[name]
    options = options_of(method)
    assert [option.name for option in options] == list(documented(method.build))
    defaults = {option.name: option.default for option in options}
    built = build_method(method, settings_of(method, defaults), PACK, [TILE])
    assert isinstance(built, Discovery)
    plain = method.build(**({"classifier": READER} if "classifier" in method.build.__dataclass_fields__ else {}))
    for setting in documented(method.build):
        if setting not in ("space", "attributes") and setting not in (method.settings or {}):
            assert getattr(built, setting) == getattr(plain, setting), setting


def test_weights_add_to_the_usual_ones() -> None:
    settings = settings_of(METHODS["lelsd"], {"layer_weights": ["paint=2", "image=0"]})
    assert settings["layer_weights"] == {"image": 0.0, "paint": 2.0}
    assert settings_of(METHODS["lelsd"], {})["layer_weights"] == {"image": 5.0}
    with pytest.raises(SituError, match='the weight in "paint"'):
        settings_of(METHODS["lelsd"], {"layer_weights": ["paint"]})


def test_lists_become_tuples_and_silence_keeps_the_default() -> None:
    settings = settings_of(METHODS["interfacegan"], {"attributes": ["bright"], "truncation": None})
    assert settings["attributes"] == ("bright",)
    assert "truncation" not in settings


def test_a_part_is_searched_where_it_scores_best() -> None:
    first, second = (Part(PACK.segmenter, (tile,)) for tile in TILES[:2])  # pyright: ignore[reportArgumentType]
    assert common_subspace(PACK, [first]) == "w"
    assert common_subspace(PACK, [first, second]) == "w+", "they do not agree"
    assert common_subspace(PACK, [TILE]) == "w+"
    assert build_method(METHODS["lelsd"], {}, PACK, [first]).space == "w"  # pyright: ignore[reportAttributeAccessIssue]
    given = build_method(METHODS["lelsd"], {"space": "z"}, PACK, [first])
    assert given.space == "z"  # pyright: ignore[reportAttributeAccessIssue]


def test_attributes_are_those_of_the_part() -> None:
    part = Part(PACK.segmenter, (TILES[1],))  # pyright: ignore[reportArgumentType]
    assert attributes_of(PACK, [part]) == ("round",)
    assert attributes_of(PACK, [TILE]) == ("bright", "round"), "all, where nothing is known of the region"
    built = build_method(METHODS["interfacegan"], {}, PACK, [part])
    assert built.attributes == ("round",)  # pyright: ignore[reportAttributeAccessIssue]


def test_what_cannot_be_built_is_said() -> None:
    with pytest.raises(ModelError, match="GANalyze needs a classifier of attributes, and bare has none"):
        build_method(METHODS["ganalyze"], {}, Pack("bare", PACK.generator), [TILE])
    latents = PACK.generator.sample(1, PACK.generator.spaces["w"], torch.Generator().manual_seed(0))
    with pytest.raises(SituError, match="LELSD draws its own pictures: leave --picture out"):
        build_method(METHODS["lelsd"], {}, PACK, [TILE], latents)
    with pytest.raises(SituError, match=r'methods are lelsd, .*; got "magic"'):
        method_named("magic")
    coded = build_method(METHODS["lelsd"], {"k": 2}, PACK, [TILE], base=LELSD.as_coded)
    assert coded.alternate  # pyright: ignore[reportAttributeAccessIssue]
