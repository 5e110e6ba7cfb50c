"""Photos of every kind, what is kept of them, and files that are none."""

import contextlib
import struct
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from situ.core.errors import FileError, ImageError, PhotoError
from situ.core.images import load_image, to_bytes
from situ.photos.read import Photo, read_photo

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)
ORIENTATION, MAKER = 0x0112, 0x010F


def colours(photo: Photo) -> np.ndarray:
    return to_bytes(photo.image)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp"])
def test_files_without_loss_come_back_to_the_bit(name: str, tmp_path: Path) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(PIXELS[..., :3]).save(tmp_path / name, **options)
    photo = read_photo(tmp_path / name)
    assert (colours(photo) == PIXELS[..., :3]).all()
    assert photo.alpha is None
    assert photo.size == (6, 9)
    for copy, quality in (("b.png", 95), ("b.webp", 100)):
        photo.save(tmp_path / copy, quality)
        assert (colours(read_photo(tmp_path / copy)) == PIXELS[..., :3]).all()


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_opacity_and_hidden_colours_are_kept(name: str, tmp_path: Path) -> None:
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    Image.fromarray(PIXELS).save(tmp_path / name, **options)
    photo = read_photo(tmp_path / name)
    assert photo.alpha is not None
    photo.save(tmp_path / "b.png")
    photo.save(tmp_path / "b.webp", 100)
    for copy in ("b.png", "b.webp"):
        assert (np.asarray(Image.open(tmp_path / copy)) == PIXELS).all()
    torch.testing.assert_close(photo.over(), load_image(tmp_path / name), atol=1 / 127, rtol=0)
    black = load_image(tmp_path / name, transparent="black")
    torch.testing.assert_close(photo.over(-1.0), black, atol=1 / 127, rtol=0)
    with pytest.raises(PhotoError, match=r"JPEG cannot hold.*\.png"):
        photo.save(tmp_path / "b.jpg")


def test_pictures_of_every_mode(tmp_path: Path) -> None:
    def first(image: Image.Image, suffix: str) -> tuple[list[int], float | None]:
        path = tmp_path / f"{image.mode.replace(';', '_')}{suffix}"
        image.save(path)
        photo = read_photo(path)
        return colours(photo)[0, 0].tolist(), None if photo.alpha is None else round(float(photo.alpha[0, 0, 0, 0]), 3)

    assert first(Image.new("L", (3, 2), 77), ".png") == ([77, 77, 77], None)
    assert first(Image.new("LA", (3, 2), (77, 51)), ".png") == ([77, 77, 77], 0.2)
    assert first(Image.new("1", (3, 2), 1), ".png") == ([255, 255, 255], None)
    assert first(Image.new("CMYK", (3, 2), (255, 0, 0, 0)), ".tif") == ([0, 255, 255], None)
    assert first(Image.fromarray(np.full((2, 3), 32896, np.uint16)), ".png") == ([128, 128, 128], None)
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([0, 0, 0, 40, 50, 60])
    assert first(palette, ".png") == ([40, 50, 60], None)
    palette.info["transparency"] = 1
    assert first(palette, ".gif") == ([40, 50, 60], 0.0)
    near, _ = first(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), ".jpg")
    assert abs(np.array(near) - [255, 0, 0]).max() < 8


def test_sixteen_bit_colours_are_brought_to_eight(tmp_path: Path) -> None:
    """A PNG of 16-bit RGB, which Pillow does not write: made by hand."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">3H", 257 * 10, 257 * 20, 257 * 30) * 2
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row * 2)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(data)
    assert colours(read_photo(tmp_path / "deep.png"))[1, 1].tolist() == [10, 20, 30]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_of_an_animation_the_first_frame(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    assert abs(colours(read_photo(tmp_path / f"a{suffix}"))[4, 4].astype(int) - [255, 0, 0]).max() < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_orientations_are_applied_once(orientation: int, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKER] = orientation, "a camera"
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8] = 255  # where the upper left corner of the stored picture goes
    Image.fromarray(stored).save(tmp_path / f"a{suffix}", exif=exif)
    photo = read_photo(tmp_path / f"a{suffix}")
    assert photo.size == ((16, 32) if orientation < 5 else (32, 16))
    bottom, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    corner = colours(photo)[-4 if bottom else 4, -4 if right else 4]
    assert corner.min() > 250
    photo.save(tmp_path / f"b{suffix}".replace("tif", "png"))
    again = read_photo(tmp_path / f"b{suffix}".replace("tif", "png"))
    assert again.size == photo.size
    torch.testing.assert_close(again.image, photo.image, atol=0.1, rtol=0)


def test_metadata_are_kept(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKER] = 6, "a camera"
    Image.fromarray(PIXELS[..., :3]).save(tmp_path / "a.jpg", exif=exif, icc_profile=profile)
    photo = read_photo(tmp_path / "a.jpg")
    assert (photo.format, photo.name) == ("JPEG", "a.jpg")
    for name in ("b.jpg", "b.png", "b.webp"):
        photo.save(tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.info["icc_profile"] == profile
            assert image.getexif()[MAKER] == "a camera"
            assert ORIENTATION not in image.getexif()


def test_thumbnails_of_the_unedited_photo_are_dropped(tmp_path: Path) -> None:
    thumbnail = b"\xff\xd8unedited\xff\xd9"
    first = struct.pack("<HHHII", 1, MAKER, 2, 4, int.from_bytes(b"cam\0", "little")) + struct.pack("<I", 26)
    second = struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, 56) + struct.pack("<HHII", 0x0202, 4, 1, 12)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + second + struct.pack("<I", 0) + thumbnail
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert b"unedited" in (tmp_path / "a.jpg").read_bytes()
    photo = read_photo(tmp_path / "a.jpg")
    photo.save(tmp_path / "b.jpg")
    assert b"unedited" not in (tmp_path / "b.jpg").read_bytes()
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[MAKER] == "cam"
    Image.new("RGB", (8, 8)).save(tmp_path / "c.jpg", exif=b"Exif\0\0not TIFF at all")
    assert read_photo(tmp_path / "c.jpg").exif == b""


def test_a_grey_profile_is_not_put_on_rgb(tmp_path: Path) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    Image.new("L", (4, 4), 9).save(tmp_path / "a.jpg", icc_profile=bytes(profile))
    assert read_photo(tmp_path / "a.jpg").profile == b""


def test_files_that_are_no_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="no picture at"):
        read_photo(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="can be read"):
        read_photo(tmp_path)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match="can be read"):
        read_photo(tmp_path / "empty.jpg")
    big = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("a.jpg", "a.png", "a.webp", "a.gif", "a.tif"):
        Image.fromarray(big).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ImageError, match="can be read"):
            read_photo(tmp_path / name)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match=r"text\.png is not a picture"):
        read_photo(tmp_path / "text.png")

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ImageError, match="Permission denied"):
        read_photo(tmp_path / "a.png")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_photos_or_one_error(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    suffix, options = [(".jpg", {}), (".png", {}), (".webp", {}), (".tif", {"compression": "tiff_lzw"}), (".gif", {})][
        seed % 5
    ]
    Image.fromarray(np.resize(PIXELS[..., :3], (40, 50, 3))).save(tmp_path / f"a{suffix}", **options)
    data = bytearray((tmp_path / f"a{suffix}").read_bytes())
    for place in rng.integers(0, len(data), 12):
        data[place] = rng.integers(256)
    (tmp_path / f"a{suffix}").write_bytes(data)
    with contextlib.suppress(ImageError):
        assert read_photo(tmp_path / f"a{suffix}").image.isfinite().all()


@pytest.mark.parametrize("limit", [64, 3000])
def test_bombs_are_refused(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # Pillow warns above it, and refuses above twice as much
    with pytest.raises(ImageError, match=r"larger than pictures may be.*decompression bomb"):
        read_photo(tmp_path / "bomb.png")


def test_heic_needs_its_plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"HEIC.*pip install pillow-heif"):
        read_photo(tmp_path / "a.jpg")
    called, stand_in = [], types.ModuleType("pillow_heif")
    stand_in.__dict__["register_heif_opener"] = lambda: called.append(1)
    monkeypatch.setitem(sys.modules, "pillow_heif", stand_in)
    with pytest.raises(ImageError, match="can be read"):  # the stand-in reads nothing
        read_photo(tmp_path / "a.jpg")
    assert called


def test_other_pixels_in_the_same_photo(tmp_path: Path) -> None:
    photo = Photo(torch.zeros(1, 3, 4, 6), torch.ones(1, 1, 4, 6), "a.png", "PNG")
    changed = photo.with_image(photo.image + 0.5)
    assert changed.alpha is photo.alpha
    assert changed.name == "a.png"
    with pytest.raises(PhotoError, match="6 x 4 pixels"):
        photo.with_image(torch.zeros(1, 3, 6, 4))


def test_places_and_qualities_that_cannot_be(tmp_path: Path) -> None:
    photo = Photo(torch.zeros(1, 3, 4, 6))
    with pytest.raises(ImageError, match="written as"):
        photo.save(tmp_path / "a.heic")
    with pytest.raises(PhotoError, match="1 to 100, got 0"):
        photo.save(tmp_path / "a.jpg", 0)
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write"):
        photo.save(tmp_path / "file" / "a.png")
