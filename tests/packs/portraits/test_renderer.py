"""The renderer: exact masks, the same picture for the same factors, and every factor in its own part."""

import pytest
import torch

from situ.core.region import dilate
from situ.packs.portraits.renderer import ATTRIBUTES, FACTORS, PARTS, attributes, render, sample_factors

NAMES = [factor.name for factor in FACTORS]


def test_masks_cover_every_pixel_once(rng: torch.Generator) -> None:
    drawn = render(sample_factors(8, rng), 32)
    assert drawn.images.shape == (8, 3, 32, 32)
    assert drawn.masks.shape == (8, len(PARTS), 32, 32)
    assert drawn.images.abs().max() <= 1
    assert drawn.masks.min() >= 0
    torch.testing.assert_close(drawn.masks.sum(dim=1), torch.ones(8, 32, 32))


def test_a_picture_depends_on_its_factors_alone(rng: torch.Generator) -> None:
    factors = sample_factors(6, rng)
    whole, part = render(factors, 32).images, render(factors[[4, 1]], 32).images
    assert torch.equal(whole[[4, 1]], part)


def test_same_seed_same_factors() -> None:
    first, second = (sample_factors(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize(
    "name", ["hair_tone", "eye_closure", "gaze_x", "mouth_open", "smile", "brow_height", "nose_width"]
)
def test_a_factor_shows_in_its_part(name: str, rng: torch.Generator) -> None:
    low, high = (sample_factors(8, torch.Generator().manual_seed(1)) for _ in range(2))
    low[:, NAMES.index(name)], high[:, NAMES.index(name)] = 0.2, 0.8
    a, b = render(low, 64), render(high, 64)
    part = PARTS.index(next(factor.part for factor in FACTORS if factor.name == name))
    mask = dilate((torch.maximum(a.masks, b.masks)[:, part : part + 1] > 0.02).float(), 2)
    change = (a.images - b.images).square().sum(dim=1, keepdim=True)
    assert change.mean() > 1e-5
    assert (change * mask).sum() / change.sum() > 0.95


def test_parts_are_where_an_aligned_face_has_them(rng: torch.Generator) -> None:
    masks = render(sample_factors(64, rng), 64).masks.mean(dim=0)
    rows = torch.linspace(0, 1, 64)[:, None]
    for part, row in (("eyes", 0.47), ("nose", 0.57), ("mouth", 0.72)):
        mask = masks[PARTS.index(part)]
        assert abs(float((mask * rows).sum() / mask.sum()) - row) < 0.05


def test_attributes_are_neither_rare_nor_common(rng: torch.Generator) -> None:
    share = attributes(sample_factors(2000, rng)).float().mean(dim=0)
    assert len(ATTRIBUTES) >= 12
    assert share.min() > 0.05
    assert share.max() < 0.7
