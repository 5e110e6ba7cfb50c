"""BiSeNet and ArcFace agree with their published implementations.

Numbers: zllrunning/face-parsing.PyTorch at d2e684c and omertov/encoder4editing at 99ea505, with their layers made a
sixteenth as wide and weights drawn from a seed.
"""

import pytest
import torch
from torch.nn import functional

from situ.core.errors import ModelError
from situ.core.images import from_bytes, to_bytes
from situ.networks.arcface import arcface_from_state_dict
from situ.networks.bisenet import bisenet_from_state_dict
from toys_networks import golden, narrow_arcface, narrow_bisenet, pictures, require_golden

PARSER = bisenet_from_state_dict(narrow_bisenet())
FACES = arcface_from_state_dict(narrow_arcface())


def test_bisenet_is_the_published() -> None:
    expected = golden("bisenet")
    x = pictures(2, 64, 96)
    require_golden(PARSER(PARSER.input.normalise(x)), expected["logits"])
    require_golden(PARSER(PARSER.input.normalise(x.flip(1))), expected["swapped"])
    require_golden(PARSER(PARSER.input.normalise(pictures(1, 72, 51, 1))), expected["odd"])


def test_bisenet_takes_pictures_the_published_way() -> None:
    """An 8-bit picture of 200 pixels, enlarged by Pillow to 512, whose rounding is the difference."""
    picture = from_bytes(to_bytes(pictures(1, 200, 200, 2)))
    x = PARSER.input.prepare(picture)
    assert x.shape == (1, 3, 512, 512)
    found = PARSER(x).softmax(dim=1).flatten().double()
    expected = torch.tensor(golden("bisenet_route")["probabilities"], dtype=torch.float64)
    places = torch.linspace(0, len(found) - 1, len(expected)).long()
    torch.testing.assert_close(found[places], expected, rtol=0, atol=2e-3)


def test_arcface_is_the_published() -> None:
    expected = golden("arcface")
    require_golden(FACES.embed(pictures(2, 256, 256, 3)), expected["embedded"])
    require_golden(FACES(pictures(2, 112, 112, 4)), expected["aligned"])
    require_golden(FACES(pictures(2, 112, 112, 4).flip(1)), expected["swapped"])
    require_golden(FACES.embed(pictures(1, 512, 512, 5)), expected["large"])


def test_arcface_states_its_input() -> None:
    x = pictures(1, 112, 112)
    torch.testing.assert_close(FACES.input.prepare(x), x, rtol=0, atol=1e-6)
    assert FACES.input.channels == "RGB"
    assert FACES.size == FACES.input.size
    assert FACES.crop(pictures(1, 64, 64)).shape == (1, 3, 112, 112)
    torch.testing.assert_close(FACES.embed(pictures(2, 128, 128)).norm(dim=1), torch.ones(2))


def test_arcface_looks_at_the_face_only() -> None:
    x = pictures(1, 256, 256)
    frame = functional.pad(torch.zeros(1, 1, 188, 188), (32, 36, 35, 33), value=1.0)
    torch.testing.assert_close(FACES.embed(x + frame), FACES.embed(x))
    inside = frame.clone()
    inside[..., 35, 32] = 1
    assert not torch.equal(FACES.crop(x + inside), FACES.crop(x))


def test_arcface_of_an_odd_map_is_refused() -> None:
    tensors = narrow_arcface()
    tensors["output_layer.3.weight"] = torch.zeros(32, 32 * 50)
    with pytest.raises(ModelError, match="50 places"):
        arcface_from_state_dict(tensors)
