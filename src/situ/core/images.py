"""Pictures: RGB float in [-1, 1] inside, 8-bit at the edges. The only place where the two meet."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from situ.core.errors import ImageError
from situ.core.files import write_whole

Images = Float[Tensor, "n 3 h w"]  # RGB in [-1, 1]
Masks = Float[Tensor, "n 1 h w"]  # 1 inside the region, 0 outside


WRITTEN = (".png", ".jpg", ".jpeg", ".webp")  # suffixes of pictures that can be written


def to_bytes(images: Float[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w"]:
    """[-1, 1] float -> 8-bit, rounded to nearest, clipped."""
    return ((images.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_bytes(pixels: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """8-bit -> [-1, 1] float."""
    return pixels.float() / 127.5 - 1


def to_pil(image: Float[Tensor, "3 h w"], alpha: Float[Tensor, "1 h w"] | None = None) -> Image.Image:
    """One picture in [-1, 1] as a Pillow image; with its opacity in [0, 1], where it has one."""
    pixels = to_bytes(image[None])[0]
    if alpha is not None:
        opacity = (alpha.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)
        pixels = torch.cat([pixels, opacity.to(pixels.device)])
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def from_pil(image: Image.Image, transparent: str = "white") -> Float[Tensor, "1 3 h w"]:
    """A Pillow image of any mode (laid over a colour where transparent, EXIF applied) -> one picture in [-1, 1]."""
    image = _eight_bit(image)
    if _is_transparent(image):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, transparent), rgba)
    return _floats(image.convert("RGB"))


def layers_from_pil(image: Image.Image) -> tuple[Float[Tensor, "1 3 h w"], Float[Tensor, "1 1 h w"] | None]:
    """A Pillow image of any mode (EXIF applied) -> its colours in [-1, 1], and its opacity in [0, 1] if it has one."""
    image = _eight_bit(image)
    if not _is_transparent(image):
        return _floats(image.convert("RGB")), None
    rgba = image.convert("RGBA")
    opacity = torch.from_numpy(np.array(rgba.getchannel("A"))).float() / 255
    return _floats(rgba.convert("RGB")), opacity[None, None]


def _eight_bit(image: Image.Image) -> Image.Image:
    """Upright, and with 16-bit grey, which Pillow would clip at 255, brought to 8 bits."""
    image = _upright(image)
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))


def _is_transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info


def _floats(image: Image.Image) -> Float[Tensor, "1 3 h w"]:
    return from_bytes(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])


def resize(images: Float[Tensor, "n c h w"], size: int | tuple[int, int]) -> Float[Tensor, "n c h2 w2"]:
    """Resize with an anti-aliased filter: exact area averages for whole factors, bilinear otherwise."""
    height, width = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] == (height, width):
        return images
    if images.shape[-2] % height == 0 and images.shape[-1] % width == 0:
        return functional.avg_pool2d(images, (images.shape[-2] // height, images.shape[-1] // width))
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)


def open_picture(path: Path | str) -> Image.Image:
    """Read a picture file whole: upright (EXIF applied), the first frame where it moves; `format` names its format.

    Raises:
        ImageError: the file is missing, a folder, not to be read, empty, damaged, no picture, or of more than
            PIL.Image.MAX_IMAGE_PIXELS pixels (89 million; decompression bombs).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which do no harm to the picture
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                upright = _upright(image)
                upright.format = image.format
                return upright
    except FileNotFoundError:
        raise ImageError(f"no picture at {path}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path} is larger than pictures may be ({error}): shrink it first") from None
    except Exception as error:  # on damaged files, Pillow's readers raise nearly anything
        raise ImageError(f"{path} is not a picture that can be read ({error})") from None


def _upright(image: Image.Image) -> Image.Image:
    """With its EXIF orientation applied, or as it is where the EXIF data are damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged entries raise nearly anything, and do no harm to the picture
        copy = image.copy()
        copy.info.pop("exif", None)
        return copy


def load_image(path: Path | str, resolution: int | None = None, transparent: str = "white") -> Float[Tensor, "1 3 h w"]:
    """Read a picture file; with `resolution`, cut its central square and resize it to that many pixels.

    Args:
        transparent: the colour that transparent pixels are laid over.

    Raises:
        ImageError: see `open_picture`.
    """
    picture = from_pil(open_picture(path), transparent)
    if resolution is None:
        return picture
    side = min(picture.shape[-2:])
    top, left = (picture.shape[-2] - side) // 2, (picture.shape[-1] - side) // 2
    return resize(picture[..., top : top + side, left : left + side], resolution)


def save_image(
    image: Float[Tensor, "3 h w"],
    path: Path | str,
    alpha: Float[Tensor, "1 h w"] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write one picture; the suffix chooses the format.

    Args:
        alpha: opacity in [0, 1].
        options: of Pillow's writer of that format.

    Raises:
        ImageError: the suffix is of no picture format.
        FileError: the place cannot be written.
    """
    if Path(path).suffix.lower() not in WRITTEN:
        raise ImageError(f"pictures are written as .png, .jpg or .webp, got {path}")
    write_whole(path, lambda place: to_pil(image, alpha).save(place, **(options or {})))


def sheet(images: Float[Tensor, "n 3 h w"], columns: int | None = None, gap: int = 2) -> Float[Tensor, "3 H W"]:
    """Lay pictures out in rows on white."""
    n, _, height, width = images.shape
    columns = columns or math.ceil(n**0.5)
    rows = math.ceil(n / columns)
    canvas = images.new_ones(3, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def save_sheet(images: Float[Tensor, "n 3 h w"], path: Path | str, columns: int | None = None) -> None:
    """Write pictures as one sheet."""
    save_image(sheet(images, columns), path)
