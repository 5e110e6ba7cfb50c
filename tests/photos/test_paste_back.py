"""Laws of putting an edit back: nothing where nothing changed, the edit where it did, the photo's detail kept."""

import math

import pytest
import torch
from torch import Tensor

from situ.core.errors import PhotoError
from situ.core.images import to_bytes
from situ.photos.align import Crop, box_crop, extract
from situ.photos.paste_back import Blend, PasteBack

BLENDS: tuple[Blend, ...] = ("difference", "replace", "poisson")
TURNED = Crop((62.0, 31.0), (118.0, 22.0), (-22.0, 118.0), 96)


def smooth(size: int, phase: float = 0.0) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    wave = torch.sin(x / 11 + phase) * torch.cos(y / 13)
    return torch.stack([wave, 0.5 * wave, -wave])[None] * 0.6


def bump(size: int, height: float = 0.7) -> Tensor:
    """An edit in the middle of a picture."""
    line = (torch.arange(size) + 0.5) / size - 0.5
    near = torch.exp(-(line[:, None] ** 2 + line**2) / (2 * 0.07**2))
    return (height * near * (near > 0.02)).expand(1, 3, -1, -1)


def noisy(rng: torch.Generator, size: int = 220) -> Tensor:
    """A photo of whole bytes with detail."""
    photo = smooth(size) + 0.1 * torch.randn(1, 3, size, size, generator=rng)
    return to_bytes(photo.clamp(-1, 1)).float() / 127.5 - 1


@pytest.mark.parametrize("blend", BLENDS)
def test_no_edit_no_change(blend: Blend, rng: torch.Generator) -> None:
    photo = noisy(rng)
    inverted = smooth(96, 0.4)
    assert torch.equal(PasteBack(blend)(photo, TURNED, inverted, inverted), photo)
    little = inverted + 0.01  # half a percent of the range: less than what counts
    assert torch.equal(PasteBack(blend)(photo, TURNED, inverted, little), photo)


@pytest.mark.parametrize("blend", BLENDS)
def test_what_is_away_from_the_edit_keeps_its_bits(blend: Blend, rng: torch.Generator) -> None:
    photo = noisy(rng)
    before = (extract(photo, TURNED) + 0.2).clamp(-1, 1)  # an inversion with an error everywhere
    result = PasteBack(blend)(photo, TURNED, before, (before + bump(96)).clamp(-1, 1))
    rows, columns = torch.meshgrid(torch.arange(220) + 0.5, torch.arange(220) + 0.5, indexing="ij")
    inside = TURNED.to_crop(torch.stack([columns, rows], dim=-1).reshape(-1, 2)).reshape(220, 220, 2)
    far = (inside - 48).norm(dim=-1) > 96 * 0.30
    assert torch.equal(result[..., far], photo[..., far])
    assert (result - photo)[..., ~far].abs().max() > 0.4


@pytest.mark.parametrize("blend", BLENDS)
def test_paste_then_extract_is_the_edited_crop(blend: Blend) -> None:
    photo = smooth(220)
    before = extract(photo, TURNED)
    after = (before + bump(96)).clamp(-1, 1)
    method = PasteBack(blend)
    again = extract(method(photo, TURNED, before, after), TURNED)
    whole = method.mask(before, after) > 0.99
    assert whole.float().mean() > 0.05
    assert ((again - after).abs() * whole).max() < 0.05
    assert ((again - after).abs() * whole).mean() < 0.003


def test_pixels_that_fit_are_put_back_exactly(rng: torch.Generator) -> None:
    photo = noisy(rng)
    crop = box_crop(photo, 110, 100, 96, 96, 96)
    before = extract(photo, crop)
    after = (before + bump(96)).clamp(-1, 1)
    method = PasteBack("replace")
    again = method(photo, crop, before, after)[..., 62:158, 52:148]
    whole = (method.mask(before, after) >= 1).expand_as(after)
    torch.testing.assert_close(again[whole], after[whole], atol=1e-4, rtol=0)


def test_the_difference_keeps_detail_that_the_generator_cannot_make(rng: torch.Generator) -> None:
    photo, before = noisy(rng), smooth(96)
    crop = box_crop(photo, 110, 100, 96, 96, 96)
    after = before + bump(96, 0.3)
    kept, lost = (PasteBack(blend)(photo, crop, before, after)[..., 100:120, 90:110] for blend in BLENDS[:2])
    detail = lambda image: (image - image.mean(dim=(2, 3), keepdim=True)).diff().std()  # noqa: E731
    assert detail(kept) > 0.8 * detail(photo[..., 100:120, 90:110])
    assert detail(lost) < 0.3 * detail(kept)


def test_poisson_takes_the_colours_round_it() -> None:
    photo = torch.full((1, 3, 120, 120), -0.4)
    before = torch.full((1, 3, 64, 64), 0.1)  # an inversion that is too light
    after = before + bump(64, 0.5)
    crop = Crop((20.0, 20.0), (80.0, 0.0), (0.0, 80.0), 64)
    replaced, poisson = (PasteBack(blend)(photo, crop, before, after) for blend in BLENDS[1:])
    assert poisson[0, 0, 60, 60] == pytest.approx(0.1, abs=0.03)
    assert replaced[0, 0, 60, 60] == pytest.approx(0.6, abs=0.03)
    assert abs(float(poisson[0, 0, 60, 84]) + 0.4) < 0.02  # at the edge: no halo
    assert (poisson.diff(dim=-1).abs() < 0.08).all()


def test_the_mask_is_soft_and_ends_before_the_border() -> None:
    before, method = torch.zeros(1, 3, 100, 100), PasteBack(feather=0.1)
    after = before.clone()
    after[..., 40:60, 45:55] = 0.5
    mask = method.mask(before, after)
    assert (mask[..., 40:60, 45:55] == 1).all()
    assert mask[..., :30, :].max() == 0
    assert 0 < mask[0, 0, 35, 50] < 1
    assert mask.diff(dim=-1).abs().max() < 0.3
    everywhere = method.mask(before, before + 0.5)
    assert everywhere[..., [0, -1]].max() == 0
    assert everywhere[0, 0, 50, 50] == 1
    hard = PasteBack(feather=0.0).mask(before, after)
    assert hard.unique().tolist() == [0, 1]
    assert hard.sum() == 200


@pytest.mark.parametrize("blend", BLENDS)
def test_crops_that_leave_the_photo(blend: Blend, rng: torch.Generator) -> None:
    photo = noisy(rng, 100)
    for corner in ((-40.0, 60.0), (70.0, -30.0)):
        crop = Crop(corner, (70.0, 0.0), (0.0, 70.0), 64)
        before = extract(photo, crop)
        result = PasteBack(blend)(photo, crop, before, (before + 0.5).clamp(-1, 1))
        assert result.isfinite().all()
        assert not torch.equal(result, photo)
    away = Crop((500.0, 500.0), (70.0, 0.0), (0.0, 70.0), 64)
    assert torch.equal(PasteBack(blend)(photo, away, before, before + 0.5), photo)


def test_larger_and_smaller_pictures_than_the_crop(rng: torch.Generator) -> None:
    photo = smooth(220)
    for size in (32, 96, 400):
        before = extract(photo, TURNED, size)
        again = extract(PasteBack()(photo, TURNED, before, before + bump(size, 0.3)), TURNED, 48)
        expected = extract(photo, TURNED, 48) + bump(48, 0.3)
        assert (again - expected).abs().max() < 0.06


@pytest.mark.usefixtures("unchecked")
def test_wrong_settings_and_pictures() -> None:
    with pytest.raises(PhotoError, match="difference, replace, poisson; got"):
        PasteBack("glue")  # pyright: ignore[reportArgumentType]
    for settings in ({"threshold": -0.1}, {"threshold": math.nan}, {"feather": 0.6}):
        with pytest.raises(PhotoError, match="the threshold is 0 to 1"):
            PasteBack(**settings)
    photo = torch.zeros(1, 3, 200, 200)
    with pytest.raises(PhotoError, match="two square pictures of one size"):
        PasteBack()(photo, TURNED, torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 32, 32))
