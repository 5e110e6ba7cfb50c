"""The realism score, on points of a line and against its definition."""

import pytest
import torch

from situ.core.errors import SituError
from situ.metrics.realism import fit_realism

LINE = torch.tensor([[0.0], [1], [2], [3], [4], [20]])  # radii to the third neighbour 3, 2, 2, 2, 3, 18


def test_on_a_line() -> None:
    """The median radius squared is 6.5: the half with radius 2 stays, at 1, 2 and 3."""
    realism = fit_realism(LINE)
    assert (realism.real + realism.centre).flatten().tolist() == pytest.approx([1, 2, 3])
    assert realism.radii.tolist() == pytest.approx([2, 2, 2])
    points = torch.tensor([[5.0], [4], [-1], [20], [2.5]])
    assert realism.score(points).tolist() == pytest.approx([1, 2, 1, 2 / 17, 4], rel=1e-4)


def test_it_is_its_definition(rng: torch.Generator) -> None:
    real, made = torch.randn(41, 5, generator=rng).double() + 100, torch.randn(9, 5, generator=rng).double() + 100
    apart = (real[:, None] - real).norm(dim=2).sort(dim=1).values[:, 4]  # column 0 is the picture itself
    kept = apart <= apart.sort().values[20]
    expected = (apart[kept] / (made[:, None] - real[kept]).norm(dim=2)).amax(dim=1)
    for block in (1, 7, 1024):
        realism = fit_realism(real, k=4, block=block)
        assert len(realism.radii) == 21
        assert torch.allclose(realism.score(made, block), expected, rtol=1e-4)


def test_far_from_the_origin_single_precision_suffices(rng: torch.Generator) -> None:
    real, made = torch.randn(60, 8, generator=rng), torch.randn(20, 8, generator=rng)
    near = fit_realism(real).score(made)
    assert torch.allclose(fit_realism(real + 1000).score(made + 1000), near, rtol=1e-2)


def test_neither_shift_nor_scale_matters_and_distance_lowers_it(rng: torch.Generator) -> None:
    real, made = torch.randn(60, 8, generator=rng), torch.randn(20, 8, generator=rng)
    score = fit_realism(real).score(made)
    assert torch.allclose(fit_realism(3 * real - 2).score(3 * made - 2), score, rtol=1e-4)
    away = [float(fit_realism(real).score(made * factor).mean()) for factor in (1, 3, 10)]
    assert away == sorted(away, reverse=True)
    assert 0.8 < away[0] < 1.2  # of the same distribution
    assert away[2] < 0.3


def test_a_real_picture_itself_is_finite_and_twins_have_radius_zero() -> None:
    realism = fit_realism(LINE)
    assert (realism.score(realism.real + realism.centre) > 100).all()
    twins = fit_realism(torch.zeros(5, 2))
    assert twins.radii.tolist() == [0] * 5
    assert twins.score(torch.ones(1, 2)).tolist() == [0]


def test_what_does_not_fit_is_said(unchecked: None) -> None:
    with pytest.raises(SituError, match="more than k"):
        fit_realism(LINE[:3])
    with pytest.raises(SituError, match="k >= 1"):
        fit_realism(LINE, k=0)
    with pytest.raises(SituError, match="finite"):
        fit_realism(LINE * torch.nan)
    with pytest.raises(SituError, match=r"\(pictures, 1\)"):
        fit_realism(LINE).score(torch.zeros(2, 3))
