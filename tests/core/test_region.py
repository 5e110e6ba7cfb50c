"""Regions: parts, boxes and brushes give the masks that they say."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from situ.core.errors import ImageError, RegionError
from situ.core.generator import Synthesis
from situ.core.region import PRESETS, Box, Brush, Part, Region, Segmenter, dilate, load_brush, parse_part, preset


class Columns:
    """Labels the columns of a picture by the channel that is largest, with given certainty."""

    name = "columns"
    parts = ("red", "green", "blue")
    layers = ()

    def __init__(self) -> None:
        self.calls = 0

    def segment(self, synthesis: Synthesis) -> torch.Tensor:
        self.calls += 1
        return synthesis.images.softmax(dim=1)


def synthesis() -> Synthesis:
    """One row of three pixels: red, green, blue."""
    return Synthesis(2.0 * torch.eye(3)[None, :, None, :].repeat(2, 1, 3, 1))


def test_hard_masks_are_the_winners() -> None:
    mask = Part(Columns(), ("red", "blue")).mask(synthesis())
    assert mask.shape == (2, 1, 3, 3)
    assert mask[0, 0, 0].tolist() == [1, 0, 1]
    assert Part(Columns(), ("green",)).mask(synthesis())[1, 0, 2].tolist() == [0, 1, 0]


def test_soft_masks_are_summed_probabilities() -> None:
    mask = Part(Columns(), ("red", "blue"), soft=True).mask(synthesis())
    e = 7.389056098930650  # exp(2)
    torch.testing.assert_close(mask[0, 0, 0], torch.tensor([(e + 1) / (e + 2), 2 / (e + 2), (e + 1) / (e + 2)]))


def test_a_part_named_twice_counts_once() -> None:
    twice = Part(Columns(), ("red", "red"), soft=True).mask(synthesis())
    torch.testing.assert_close(twice, Part(Columns(), ("red",), soft=True).mask(synthesis()))


def test_only_soft_masks_carry_gradients() -> None:
    pictures = torch.randn(1, 3, 4, 4, requires_grad=True)
    assert not Part(Columns(), ("red",)).mask(Synthesis(pictures)).requires_grad
    soft = Part(Columns(), ("red",), soft=True).mask(Synthesis(pictures))
    soft.sum().backward()
    assert pictures.grad is not None
    assert pictures.grad.abs().sum() > 0


def test_all_parts_share_one_segmentation() -> None:
    segmenter, made = Columns(), synthesis()
    for labels in (("red",), ("green", "blue"), ("red",)):
        Part(segmenter, labels).mask(made)
    assert segmenter.calls == 1
    Part(segmenter, ("red",), soft=True).mask(made)
    Part(segmenter, ("blue",), soft=True).mask(made)
    assert segmenter.calls == 2
    Part(segmenter, ("red",)).mask(synthesis())
    assert segmenter.calls == 3, "another synthesis is segmented anew"
    Part(Columns(), ("red",)).mask(made)
    assert segmenter.calls == 3, "another segmenter does not use these masks"


def test_names() -> None:
    assert parse_part("red + blue", Columns()).labels == ("red", "blue")
    assert parse_part("red+blue", Columns(), soft=True).name == "red+blue"
    assert parse_part("red", Columns(), soft=True).soft
    assert Box(1, 2, 3, 4).name == "box[1,2,3,4]"
    for region in (parse_part("red", Columns()), Box(1, 1, 1, 1), Brush(torch.ones(1, 1, 2, 2))):
        assert isinstance(region, Region)
    assert isinstance(Columns(), Segmenter)


@pytest.mark.parametrize("text", ["nose", "red+nose", "", "red+"])
def test_unknown_parts_list_the_known_ones(text: str) -> None:
    with pytest.raises(RegionError, match="columns knows the parts red, green, blue; got"):
        parse_part(text, Columns())


def test_a_model_without_segmenter_says_what_to_give() -> None:
    with pytest.raises(RegionError, match='no part "red": give a box or a mask'):
        parse_part("red", None)


def blank(n: int = 2, size: int = 6) -> Synthesis:
    return Synthesis(torch.zeros(n, 3, size, size))


def test_a_box_is_where_its_centre_says() -> None:
    mask = Box(2, 3, 2, 4).mask(blank())
    assert mask.shape == (2, 1, 6, 6)
    assert mask[1, 0].nonzero().tolist() == [[r, c] for r in (1, 2) for c in (1, 2, 3, 4)]
    assert Box(2, 3, 3, 1).mask(blank())[0, 0].nonzero().tolist() == [[1, 3], [2, 3], [3, 3]]
    assert Box(3, 3, 6, 6).mask(blank()).min() == 1


@pytest.mark.parametrize(
    "box", [Box(0, 3, 2, 2), Box(3, 0, 2, 2), Box(6, 3, 2, 2), Box(3, 6, 2, 2), Box(3, 3, 0, 2), Box(3, 3, 2, -1)]
)
def test_boxes_outside_are_refused(box: Box) -> None:
    with pytest.raises(RegionError, match=r"inside 6 x 6 pixels; got box\["):
        box.mask(blank())


def test_presets_are_the_published_boxes() -> None:
    assert preset("mouth", 256) == Box(184, 127, 30, 70)
    assert preset("eyes", 1024) == Box(480, 512, 80, 460)
    assert preset("nose", 64) == Box(36, 33, 10, 12)
    assert preset("left_eye", 256).column < preset("right_eye", 256).column


@pytest.mark.parametrize("resolution", [1, 2, 3, 4, 8, 16, 32, 64, 100, 256, 1024])
@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_every_picture(name: str, resolution: int) -> None:
    box = preset(name, resolution)
    assert min(box.height, box.width) >= 1
    box.require_inside(resolution)
    row, column, height, width = (pixels * resolution / 256 for pixels in PRESETS[name])
    assert abs(box.row - row) <= 1
    assert abs(box.column - column) <= 1
    assert abs(box.height - max(height, 1)) <= 0.5
    assert abs(box.width - max(width, 1)) <= 0.5


def test_unknown_presets_list_the_known_ones() -> None:
    with pytest.raises(RegionError, match=r'presets are left_eye, right_eye, eyes, .* eyebrow; got "hair"'):
        preset("hair", 64)


def test_a_brush_is_scaled_to_the_picture() -> None:
    painted = torch.zeros(1, 1, 12, 12)
    painted[..., :6, :3] = 1
    mask = Brush(painted).mask(blank())
    assert mask.shape == (2, 1, 6, 6)
    assert mask[0, 0, 0].tolist() == [1, 0.5, 0, 0, 0, 0]
    assert mask[0, 0, :, 0].tolist() == [1, 1, 1, 0, 0, 0]


def test_brush_files(tmp_path: Path) -> None:
    image = Image.new("L", (4, 4), 0)
    image.save(tmp_path / "none.png")
    with pytest.raises(RegionError, match="empty: paint the region white on black"):
        load_brush(tmp_path / "none.png")
    image.putpixel((3, 0), 255)
    image.putpixel((2, 0), 51)
    image.save(tmp_path / "corner.png")
    brush = load_brush(tmp_path / "corner.png")
    assert brush.name == "mask[corner]"
    torch.testing.assert_close(brush.painted[0, 0, 0], torch.tensor([0, 0, 0.2, 1]), atol=1e-6, rtol=0)
    with pytest.raises(ImageError, match="no picture"):
        load_brush(tmp_path / "missing.png")


def test_dilation_grows_a_square() -> None:
    mask = torch.zeros(1, 1, 7, 7)
    mask[..., 3, 3] = 1
    assert torch.equal(dilate(mask, 0), mask)
    grown = dilate(mask, 2)
    assert grown.sum() == 25
    assert grown[0, 0, 1:6, 1:6].min() == 1
    assert dilate(mask, 3).min() == 1
