"""Pictures: RGB float in [-1, 1] inside, 8-bit at the edges. The only place where the two meet."""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
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


def to_pil(image: Float[Tensor, "3 h w"]) -> Image.Image:
    """One picture in [-1, 1] as a Pillow image."""
    return Image.fromarray(to_bytes(image[None])[0].permute(1, 2, 0).cpu().numpy())


def from_pil(image: Image.Image, transparent: str = "white") -> Float[Tensor, "1 3 h w"]:
    """A Pillow image of any mode (laid over a colour where transparent, EXIF applied) -> one picture in [-1, 1]."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, transparent), rgba)
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    return from_bytes(pixels)


def resize(images: Float[Tensor, "n c h w"], size: int | tuple[int, int]) -> Float[Tensor, "n c h2 w2"]:
    """Resize with an anti-aliased filter: exact area averages for whole factors, bilinear otherwise."""
    height, width = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] == (height, width):
        return images
    if images.shape[-2] % height == 0 and images.shape[-1] % width == 0:
        return functional.avg_pool2d(images, (images.shape[-2] // height, images.shape[-1] // width))
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)


def load_image(path: Path | str, resolution: int | None = None, transparent: str = "white") -> Float[Tensor, "1 3 h w"]:
    """Read a picture file; with `resolution`, cut its central square and resize it to that many pixels.

    Args:
        transparent: the colour that transparent pixels are laid over.

    Raises:
        ImageError: the file is missing, no picture, or too large to be one (decompression bomb).
    """
    try:
        with Image.open(path) as image:
            picture = from_pil(image, transparent)
    except FileNotFoundError:
        raise ImageError(f"no picture at {path}") from None
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise ImageError(f"{path} is not a picture that can be read ({error})") from None
    if resolution is None:
        return picture
    side = min(picture.shape[-2:])
    top, left = (picture.shape[-2] - side) // 2, (picture.shape[-1] - side) // 2
    return resize(picture[..., top : top + side, left : left + side], resolution)


def save_image(image: Float[Tensor, "3 h w"], path: Path | str) -> None:
    """Write one picture; the suffix chooses the format.

    Raises:
        ImageError: the suffix is of no picture format.
        FileError: the place cannot be written.
    """
    if Path(path).suffix.lower() not in WRITTEN:
        raise ImageError(f"pictures are written as .png, .jpg or .webp, got {path}")
    write_whole(path, to_pil(image).save)


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
