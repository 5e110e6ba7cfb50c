"""Pictures: bytes and floats, files of every kind, and resizing that loses no light."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from situ.core.errors import FileError, ImageError
from situ.core.files import write_whole
from situ.core.images import from_bytes, from_pil, load_image, resize, save_image, save_sheet, sheet, to_bytes, to_pil


def test_every_byte_survives_the_round_trip() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, -1, -1)
    assert torch.equal(to_bytes(from_bytes(pixels)), pixels)
    assert from_bytes(pixels).min() == -1
    assert from_bytes(pixels).max() == 1


def test_floats_are_rounded_and_clipped() -> None:
    values = torch.tensor([-3.0, -1.0, 0.0039, 0.0041, 1.0, 9.0])  # 0.0039 is 127.997 of 255, 0.0041 128.02
    image = values.reshape(1, 1, 1, 6).expand(1, 3, -1, -1)
    assert to_bytes(image)[0, 0, 0].tolist() == [0, 0, 128, 128, 255, 255]
    assert to_bytes(torch.full([1, 3, 1, 1], 0.0125)).unique().tolist() == [129]  # 129.09
    assert to_bytes(torch.full([1, 3, 1, 1], 0.015)).unique().tolist() == [129]  # 129.41
    assert to_bytes(torch.full([1, 3, 1, 1], 0.017)).unique().tolist() == [130]  # 129.67


def colours(image: Image.Image) -> list[int]:
    """RGB of the first pixel as bytes."""
    return to_bytes(from_pil(image))[0, :, 0, 0].tolist()


def test_pictures_of_every_mode() -> None:
    assert colours(Image.new("RGB", (2, 2), (10, 20, 30))) == [10, 20, 30]
    assert colours(Image.new("L", (2, 2), 77)) == [77, 77, 77]
    assert colours(Image.new("1", (2, 2), 1)) == [255, 255, 255]
    assert colours(Image.new("RGBA", (2, 2), (10, 20, 30, 0))) == [255, 255, 255]
    assert colours(Image.new("RGBA", (2, 2), (10, 20, 30, 255))) == [10, 20, 30]
    half = colours(Image.new("RGBA", (2, 2), (0, 100, 200, 51)))  # one fifth of it over white
    assert half == [204, 224, 244]
    assert colours(Image.new("LA", (2, 2), (0, 0))) == [255, 255, 255]
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 40, 50, 60])
    assert colours(palette) == [40, 50, 60]
    palette.info["transparency"] = 1
    assert colours(palette) == [255, 255, 255]


def test_pictures_of_sixteen_bits() -> None:
    assert colours(Image.fromarray(np.full((2, 2), 32896, np.uint16))) == [128, 128, 128]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image.save(tmp_path / "turned.png", exif=exif)
    loaded = load_image(tmp_path / "turned.png")
    assert loaded.shape == (1, 3, 4, 2)
    assert (loaded[0, 0] > 0).nonzero().tolist() == [[0, 1]]


def test_rows_and_channels_keep_their_places(tmp_path: Path) -> None:
    image = torch.linspace(-1, 1, 3 * 4 * 5).reshape(3, 4, 5)
    assert to_pil(image).size == (5, 4)
    save_image(image, tmp_path / "deep" / "a.png")
    torch.testing.assert_close(load_image(tmp_path / "deep" / "a.png")[0], image, atol=1 / 255 + 1e-6, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 3, 6, (3, 4), (12, 6)])
def test_whole_factors_average_areas_exactly(size: int | tuple[int, int]) -> None:
    image = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small = resize(image, size)
    torch.testing.assert_close(small.mean(dim=(2, 3)), image.mean(dim=(2, 3)))
    height, width = small.shape[-2:]
    first = image[..., : 12 // height, : 12 // width].mean(dim=(2, 3))
    torch.testing.assert_close(small[..., 0, 0], first)


def test_other_factors_are_anti_aliased() -> None:
    stripes = (torch.arange(64) % 2 * 2.0 - 1).expand(1, 3, 64, 64)  # finer than the small picture can show
    assert resize(stripes, 20).abs().max() < 0.3
    assert resize(stripes, 64) is stripes
    torch.testing.assert_close(resize(torch.full([1, 3, 7, 7], 0.25), 5), torch.full([1, 3, 5, 5], 0.25))
    assert resize(torch.zeros(1, 1, 4, 4), 10).shape == (1, 1, 10, 10)


def test_loading_at_a_resolution_takes_the_central_square(tmp_path: Path) -> None:
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 4:8] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    loaded = load_image(tmp_path / "wide.png", 2)
    assert loaded.shape == (1, 3, 2, 2)
    assert (loaded == 1).all()


def test_files_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no picture at"):
        load_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match=r"text\.png is not a picture"):
        load_image(tmp_path / "text.png")
    with pytest.raises(ImageError, match="is not a picture"):
        load_image(tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "half.png")
    whole = (tmp_path / "half.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="is not a picture"):
        load_image(tmp_path / "half.png")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    with pytest.raises(ImageError, match="decompression bomb"):
        load_image(tmp_path / "bomb.png")


def test_a_suffix_chooses_the_format(tmp_path: Path) -> None:
    image = torch.zeros(3, 4, 4)
    save_image(image, tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    for name in ("a.txt", "a"):
        with pytest.raises(ImageError, match=r"\.png, \.jpg or \.webp, got"):
            save_image(image, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_a_format_that_is_only_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="written as"):
        save_image(torch.zeros(3, 4, 4), tmp_path / "a.psd")


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    place.write_text("old")

    def fail(path: Path) -> None:
        path.write_text("ne")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_whole(place, fail)
    assert place.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    seen = []

    def write(path: Path) -> None:
        path.write_text("half")
        seen.append(place.exists())
        path.write_text("whole")

    write_whole(place, write)
    assert seen == [False]
    assert place.read_text() == "whole"
    assert place.stat().st_mode & 0o444, "others may read it, as any new file"


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot write .*file/a\.png.*another output folder"):
        save_image(torch.zeros(3, 2, 2), tmp_path / "file" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(FileError, match=r"cannot write .*folder\.png"):
        save_image(torch.zeros(3, 2, 2), tmp_path / "folder.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_sheets(tmp_path: Path) -> None:
    images = torch.stack([torch.full([3, 2, 3], value) for value in (-1.0, -0.5, 0.0)])
    page = sheet(images, columns=2, gap=1)
    assert page.shape == (3, 5, 7)
    assert page[0, 0].tolist() == [-1, -1, -1, 1, -0.5, -0.5, -0.5]
    assert page[0, 2].tolist() == [1] * 7
    assert page[0, 4].tolist() == [0, 0, 0, 1, 1, 1, 1]
    save_sheet(images, tmp_path / "sheet.png")
    assert load_image(tmp_path / "sheet.png").shape == (1, 3, 2 * 2 + 2, 2 * 3 + 2)
