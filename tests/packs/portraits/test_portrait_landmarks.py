"""The renderer's five points, and the pack's finder of portraits in larger pictures."""

import math

import pytest
import torch
from torch import Tensor

from situ.core.errors import PhotoError
from situ.core.images import resize
from situ.packs.pack import Pack
from situ.packs.portraits.landmarks import PORTRAIT
from situ.packs.portraits.portraits import open_portraits
from situ.packs.portraits.renderer import FACTORS, LANDMARKS, PARTS, landmarks, render, sample_factors
from situ.photos.align import Crop, extract, face_crop, face_crops, inverse, resample
from situ.photos.landmarks import LandmarkFinder

NAMES = [factor.name for factor in FACTORS]


@pytest.fixture(scope="module")
def pack() -> Pack:
    return open_portraits()


@pytest.fixture(scope="module")
def factors() -> Tensor:
    return sample_factors(8, torch.Generator().manual_seed(1_000_003))


def errors(found: Tensor, truth: Tensor) -> float:
    """Mean distance of the points, over that of the eyes."""
    return float((found - truth).norm(dim=1).mean() / (truth[1] - truth[0]).norm())


def photo_of(factors: Tensor, size: tuple[int, int], places: list[tuple[float, float, float, float]]) -> tuple:
    """A grey photo with portraits at (x, y) of their centres, their sides and their turns in degrees; and the truth."""
    photo, truth = torch.full((1, 3, *size), 0.2), []
    for row, (x, y, side, degrees) in zip(factors, places, strict=True):
        a, b = side * math.cos(math.radians(degrees)), side * math.sin(math.radians(degrees))
        crop = Crop((x - a / 2 + b / 2, y - b / 2 - a / 2), (a, b), (-b, a), 128)
        drawn = torch.cat([render(row[None], 128).images, torch.ones(1, 1, 128, 128)], dim=1)
        laid = resample(drawn, inverse(crop.matrix()), size, "zeros")
        photo = torch.lerp(photo, laid[:, :3], (laid[:, 3:] > 0.99).float())
        truth.append(crop.to_photo(landmarks(row[None], 128)[0]))
    return photo, truth


def test_points_lie_where_the_masks_say(rng: torch.Generator) -> None:
    factors = sample_factors(24, rng)
    for name, value in (("glasses", 0.0), ("beard", 0.0), ("hair_fringe", 0.0), ("hair_length", 0.1)):
        factors[:, NAMES.index(name)] = value  # nothing in front of what is looked for
    size = 128
    masks, points = render(factors, size).masks, landmarks(factors, size)
    assert points.shape == (24, len(LANDMARKS), 2)
    line = torch.arange(size) + 0.5
    for mask, five in zip(masks, points, strict=True):
        mouth = mask[PARTS.index("mouth")] > 0.5
        columns = mouth.any(dim=0).nonzero()[:, 0]
        assert abs(float(columns.min()) - five[3, 0]) < 2.5
        assert abs(float(columns.max()) + 1 - five[4, 0]) < 2.5
        eyes = mask[PARTS.index("eyes")]
        middle = five[:2, 0].mean()
        for eye, half in ((0, line < middle), (1, line > middle)):
            weight = eyes * half
            centre = torch.stack([(weight.sum(dim=0) * line).sum(), (weight.sum(dim=1) * line).sum()]) / weight.sum()
            assert (centre - five[eye]).norm() < 3
        nose = mask[PARTS.index("nose")]
        x, y = five[2].long()
        assert nose[y, x] > 0.5
        assert nose[min(y + 9, 127) :, :].max() < 0.5  # and it ends a little below


def test_points_scale_with_the_picture_and_follow_the_pose(factors: Tensor) -> None:
    torch.testing.assert_close(landmarks(factors, 64) * 4, landmarks(factors, 256))
    turned = factors[:1].repeat(3, 1)
    turned[:, NAMES.index("roll")] = torch.tensor([0.0, 0.5, 1.0])
    eyes = landmarks(turned, 100)[:, 1] - landmarks(turned, 100)[:, 0]
    degrees = torch.atan2(eyes[:, 1], eyes[:, 0]) * 180 / math.pi
    torch.testing.assert_close(degrees, torch.tensor([-5.0, 0.0, 5.0]), atol=1e-3, rtol=0)


def test_the_framing_is_that_of_the_renders(rng: torch.Generator) -> None:
    crops = [face_crop(points, 64, PORTRAIT) for points in landmarks(sample_factors(300, rng), 100)]
    middle = torch.stack([crop.quad.mean(dim=0) for crop in crops]).mean(dim=0)
    assert sum(crop.side for crop in crops) / 300 == pytest.approx(100, abs=1)
    torch.testing.assert_close(middle, torch.tensor([50.0, 50.0], dtype=torch.float64), atol=0.5, rtol=0)


def test_every_portrait_alone_is_found(pack: Pack, factors: Tensor) -> None:
    assert isinstance(pack.landmarks, LandmarkFinder)
    size = 96
    truth, far = landmarks(factors, size), []
    for image, points in zip(render(factors, size).images, truth, strict=True):
        found = pack.landmarks.find(image[None])
        assert len(found) == 1
        far.append(errors(found[0], points))
    assert sum(far) / len(far) < 0.05


def test_generated_portraits_are_found(pack: Pack, rng: torch.Generator) -> None:
    latents = pack.generator.sample(6, pack.generator.spaces["w"], rng, truncation=0.7)
    with torch.no_grad():
        images = pack.generator.synthesize(latents).images
    assert pack.landmarks is not None
    assert [len(pack.landmarks.find(image[None])) for image in images] == [1] * 6


def test_several_faces_of_several_sizes_from_left_to_right(pack: Pack, factors: Tensor) -> None:
    places = [(120.0, 130.0, 200.0, 12.0), (330.0, 100.0, 60.0, -20.0), (470.0, 220.0, 110.0, 0.0)]
    photo, truth = photo_of(factors[:3], (360, 560), places)
    assert pack.landmarks is not None
    found = pack.landmarks.find(photo)
    assert len(found) == 3
    assert max(errors(a, b) for a, b in zip(found, truth, strict=True)) < 0.09
    for crop, (x, y, side, _) in zip(face_crops(photo, pack.landmarks, 64, framing=pack.framing), places, strict=True):
        assert crop.side == pytest.approx(side, rel=0.12)
        assert (crop.quad.mean(dim=0) - torch.tensor([x, y])).norm() < 0.08 * side


def test_an_aligned_portrait_is_the_portrait(pack: Pack, factors: Tensor) -> None:
    level = factors[:4].clone()
    for name in ("yaw", "pitch", "roll", "scale"):
        level[:, NAMES.index(name)] = 0.5
    assert pack.landmarks is not None
    for i in range(4):
        photo, _ = photo_of(level[i : i + 1], (300, 260), [(130.0, 140.0, 150.0, 15.0)])
        crop = face_crops(photo, pack.landmarks, 64, framing=pack.framing)[0]
        alike = (extract(photo, crop) - resize(render(level[i : i + 1], 128).images, 64)).square().mean()
        unlike = (extract(photo, crop) - resize(render(level[(i + 1) % 4][None], 128).images, 64)).square().mean()
        assert alike < 0.03
        assert alike < unlike / 3


def test_no_face_where_there_is_none(pack: Pack, rng: torch.Generator) -> None:
    assert pack.landmarks is not None
    assert pack.landmarks.find(torch.zeros(1, 3, 90, 200)) == []
    assert pack.landmarks.find(torch.rand(1, 3, 130, 70, generator=rng) * 2 - 1) == []
    with pytest.raises(PhotoError, match="no face found"):
        face_crops(torch.zeros(1, 3, 64, 64), pack.landmarks, 64)
    with pytest.raises(PhotoError, match="5 x 90 pixels shows no face"):
        pack.landmarks.find(torch.zeros(1, 3, 90, 5))
