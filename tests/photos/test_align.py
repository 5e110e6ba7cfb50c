"""Crops: the published geometry, cutting without aliases, and back again."""

import json
import math

import pytest
import torch
from torch import Tensor

from situ.core.errors import PhotoError
from situ.photos.align import (
    FFHQ,
    Crop,
    Framing,
    box_crop,
    extract,
    face_crop,
    face_crops,
    inverse,
    resample,
)
from situ.photos.landmarks import GivenPoints

FACE = torch.tensor([[40.0, 50.0], [60.0, 50.0], [50.0, 62.0], [43.0, 74.0], [57.0, 74.0]])


def smooth(height: int, width: int, period: float = 40.0) -> Tensor:
    """A picture without fine detail."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    wave = torch.sin(2 * math.pi * x / period) * torch.cos(2 * math.pi * y / (period * 1.3))
    return torch.stack([wave, 0.5 * wave.roll(7, 0), -wave])[None] * 0.8


def turned(points: Tensor, degrees: float, scale: float, shift: Tensor) -> Tensor:
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return scale * points @ turn.T + shift


def test_the_published_square_of_an_upright_face() -> None:
    # eyes 20 apart, mouth 24 below them: half the side is max(2 x 20, 1.8 x 24) = 43.2, the centre 2.4 below the eyes
    crop = face_crop(FACE, 256)
    expected = torch.tensor([[50 - 43.2, 52.4 - 43.2], [50 - 43.2, 52.4 + 43.2], [93.2, 95.6], [93.2, 9.2]])
    torch.testing.assert_close(crop.quad, expected.double(), atol=1e-5, rtol=0)
    assert crop.side == pytest.approx(86.4)
    wide = FACE.clone()
    wide[:2, 0] = torch.tensor([35.0, 65.0])
    assert face_crop(wide, 256).side == pytest.approx(120)  # 4 x 30


def test_a_skewed_face_is_cut_along_the_published_axis() -> None:
    points = torch.tensor([[10.0, 10.0], [30.0, 14.0], [0.0, 0.0], [12.0, 40.0], [24.0, 40.0]])
    e, m = torch.tensor([20.0, 4.0]), torch.tensor([-2.0, 28.0])
    along = torch.tensor([e[0] + m[1], e[1] - m[0]])
    crop = face_crop(points, 64)
    torch.testing.assert_close(torch.tensor(crop.right) / crop.side, along / along.norm())
    assert crop.side == pytest.approx(2 * max(2 * float(e.norm()), 1.8 * float(m.norm())), rel=1e-6)


def test_the_crop_goes_with_the_face(rng: torch.Generator) -> None:
    upright = face_crop(FACE, 128)
    for degrees in (-170, -30, 5, 90):
        points = turned(FACE, degrees, 1.7, torch.tensor([13.0, 200.0]))
        crop = face_crop(points, 128)
        torch.testing.assert_close(crop.to_crop(points), upright.to_crop(FACE), atol=1e-3, rtol=0)
        torch.testing.assert_close(crop.to_photo(crop.to_crop(points)), points, atol=1e-3, rtol=0)


def test_framings_scale_the_square() -> None:
    assert face_crop(FACE, 64, Framing(4.0, 3.6)).side == pytest.approx(2 * face_crop(FACE, 64, FFHQ).side)


def test_crops_are_kept_as_json() -> None:
    crop = face_crop(turned(FACE, 33, 1.1, torch.zeros(2)), 96)
    assert Crop.from_described(json.loads(json.dumps(crop.described()))) == crop
    for wrong in ({}, {**crop.described(), "corner": 3}, {**crop.described(), "right": "ab"}, {"corner": [0, 0]}):
        with pytest.raises(PhotoError, match="expected a crop"):
            Crop.from_described(wrong)
    for wrong in ({**crop.described(), "size": 0}, {**crop.described(), "right": [0, 0]}):
        with pytest.raises(PhotoError, match="at least a pixel"):
            Crop.from_described(wrong)


def test_a_box_of_the_pictures_own_size_is_those_pixels(rng: torch.Generator) -> None:
    photo = torch.rand(1, 3, 60, 90, generator=rng) * 2 - 1
    crop = box_crop(photo, 30, 41, 20, 20, 20)
    torch.testing.assert_close(extract(photo, crop), photo[..., 20:40, 31:51], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("box", "message"),
    [((30, 40, 20, 30), "as high as wide"), ((5, 40, 20, 20), "inside the photo"), ((30, 85, 20, 20), "inside"),
     ((30, 40, 0, 0), "inside"), ((30, 40, 200, 200), "inside")],
)  # fmt: skip
def test_boxes_that_are_none(box: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(PhotoError, match=message):
        box_crop(torch.zeros(1, 3, 60, 90), *box, size=16)


@pytest.mark.parametrize("degrees", [0.0, 20.0, -75.0])
@pytest.mark.parametrize("size", [32, 100, 300])
def test_a_crop_shows_the_photo_where_it_lies(degrees: float, size: int) -> None:
    photo = smooth(260, 300)
    crop = face_crop(turned(FACE, degrees, 1.2, torch.tensor([80.0, 90.0])), size)
    cut = extract(photo, crop)
    pixels = torch.tensor([[0.3, 0.3], [0.5, 0.6], [0.7, 0.4]]) * size
    pixels = pixels.floor() + 0.5
    x, y = crop.to_photo(pixels).T
    expected = 0.8 * torch.sin(2 * math.pi * x / 40) * torch.cos(2 * math.pi * y / 52)
    got = cut[0, 0, pixels[:, 1].long(), pixels[:, 0].long()]
    torch.testing.assert_close(got, expected, atol=0.03, rtol=0)


def test_shrinking_leaves_no_aliases() -> None:
    checks = ((torch.arange(400)[:, None] + torch.arange(400)) % 2 * 2.0 - 1).expand(1, 3, -1, -1)
    for side in (390, 200, 130, 90):
        crop = Crop((5.3, 4.1), (float(side), 0.0), (0.0, float(side)), 60)
        assert extract(checks, crop).abs().max() < 0.35
    grey = torch.full((1, 3, 500, 500), 0.3)
    torch.testing.assert_close(
        extract(grey, Crop((-50.0, -9.0), (400.0, 30.0), (-30.0, 400.0), 33)), grey[..., :33, :33]
    )


def test_borders_are_reflected() -> None:
    photo = smooth(80, 80, 30)
    crop = Crop((-20.0, -20.0), (60.0, 0.0), (0.0, 60.0), 60)
    cut = extract(photo, crop)
    torch.testing.assert_close(cut[..., 20:, 20:], photo[..., :40, :40], atol=1e-4, rtol=0)
    torch.testing.assert_close(cut[..., 20:, :20], photo[..., :40, :20].flip(-1), atol=1e-4, rtol=0)
    far = Crop((-60.0, 0.0), (79.0, 0.0), (0.0, 79.0), 79)  # further out than what of the crop lies in the photo
    torch.testing.assert_close(extract(photo, far)[..., :60], photo[..., :79, :60].flip(-1), atol=1e-4, rtol=0)


def test_the_affine_inverse(rng: torch.Generator) -> None:
    matrix = torch.randn(2, 3, generator=rng, dtype=torch.float64)
    back = inverse(inverse(matrix))
    torch.testing.assert_close(back, matrix)
    point = torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64)
    there = matrix @ point
    torch.testing.assert_close(inverse(matrix) @ torch.cat([there, torch.ones(1)]), point[:2])


def test_resampling_by_the_identity_is_the_identity(rng: torch.Generator) -> None:
    image = torch.rand(1, 1, 17, 23, generator=rng)
    same = resample(image, torch.eye(2, 3, dtype=torch.float64), (17, 23), "border")
    torch.testing.assert_close(same, image, atol=1e-5, rtol=0)


def test_faces_are_chosen_by_number() -> None:
    photo = torch.zeros(1, 3, 400, 900)
    second = FACE + torch.tensor([400.0, 20.0])
    finder = GivenPoints([FACE.tolist(), second.tolist()])
    both = face_crops(photo, finder, 64)
    assert [round(crop.quad[:, 0].mean().item()) for crop in both] == [50, 450]
    assert face_crops(photo, finder, 64, [1]) == [both[1]]
    for wrong in ([2], [-1], []):
        with pytest.raises(PhotoError, match="has 2 faces, numbered from 0"):
            face_crops(photo, finder, 64, wrong)
    with pytest.raises(PhotoError, match=r"no face found.*--crop"):
        face_crops(photo, GivenPoints([]), 64)


def test_faces_too_small_are_left_out_unless_asked_for() -> None:
    photo = torch.zeros(1, 3, 400, 900)
    finder = GivenPoints([(FACE * 0.3).tolist(), FACE.tolist()])
    assert len(face_crops(photo, finder, 64)) == 1
    with pytest.raises(PhotoError, match="too small: its crop has 26 pixels a side, at least 48"):
        face_crops(photo, finder, 64, [0])
    with pytest.raises(PhotoError, match="too small"):
        face_crops(photo, GivenPoints([(FACE * 0.3).tolist()]), 64)
    assert face_crops(photo, finder, 64, [0], smallest=20.0)[0].side == pytest.approx(0.3 * 86.4, rel=1e-5)


def test_points_that_are_no_face() -> None:
    for points in (torch.zeros(5, 2), torch.full((5, 2), torch.nan), torch.ones(5, 2) * 7):
        with pytest.raises(PhotoError, match="no face"):
            face_crop(points, 64)
    with pytest.raises(PhotoError, match="5, 68, 468 or 478 points, got 6"):
        face_crop(torch.rand(6, 2), 64)
