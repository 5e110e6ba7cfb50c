"""LPIPS agrees with the published implementation, and is a distance.

Numbers: richzhang/PerceptualSimilarity at 082bb24, with a sixteenth of the channels and weights drawn from a seed.
"""

import pytest
import torch

from situ.core.errors import ModelError
from situ.networks.lpips import LPIPS, Trunk, lpips_from_state_dict
from toys_networks import golden, narrow_lpips, pictures, require_golden

DISTANCES = {kind: lpips_from_state_dict(*narrow_lpips(kind)) for kind in ("alex", "vgg")}
A, B = pictures(3, 64, 80, 10), pictures(3, 64, 80, 11)
each = pytest.mark.parametrize("kind", ["alex", "vgg"])


@each
def test_it_is_the_published(kind: Trunk) -> None:
    expected, distance = golden("lpips"), DISTANCES[kind]
    require_golden(distance(A, B), expected[f"{kind}_distance"])
    require_golden(distance.between(A.flip(1), B.flip(1)), expected[f"{kind}_swapped"])
    require_golden(distance.maps(A, B), expected[f"{kind}_map"])


@each
def test_it_is_a_distance(kind: Trunk) -> None:
    distance = DISTANCES[kind]
    assert torch.equal(distance(A, A), torch.zeros(3))
    torch.testing.assert_close(distance(A, B), distance(B, A))
    assert (distance(A, B) > 0).all()


def test_the_normalisation_is_imagenets() -> None:
    """Published as a shift and a scale of pictures in [-1, 1]."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    expected = (A - shift[:, None, None]) / scale[:, None, None]
    torch.testing.assert_close(LPIPS.input.prepare(A), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "side"), [("alex", 31), ("vgg", 16)])
def test_small_pictures(kind: Trunk, side: int) -> None:
    DISTANCES[kind](A[..., :side, :side], B[..., :side, :side])
    with pytest.raises(ModelError, match=f"{side} pixels or more"):
        DISTANCES[kind](A[..., : side - 1, :], B[..., : side - 1, :])


def test_heads_of_the_other_trunk_are_refused() -> None:
    trunk, _ = narrow_lpips("alex")
    _, heads = narrow_lpips("vgg")
    with pytest.raises(ModelError, match=r"lin0.*same trunk \(alex\)|same trunk \(alex\)"):
        lpips_from_state_dict(trunk, heads)


def test_a_classifier_is_not_needed() -> None:
    trunk, heads = narrow_lpips("alex")
    lpips_from_state_dict({**trunk, "classifier.1.weight": torch.zeros(4, 4)}, heads)
