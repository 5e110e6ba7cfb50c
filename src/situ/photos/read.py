"""Photos in and out: what must be remembered of a file so that the edited photo can take its place."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import ExifTags, Image
from torch import Tensor

from situ.core.errors import ImageError, PhotoError
from situ.core.images import Images, layers_from_pil, open_picture, save_image

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True)
class Photo:
    """One photo as it is seen: upright, RGB; and what goes back into its file."""

    image: Float[Tensor, "1 3 h w"]  # colours in [-1, 1], also where it is transparent
    alpha: Float[Tensor, "1 1 h w"] | None = None  # opacity in [0, 1]; None where there is none
    name: str = "photo"
    format: str = ""  # as Pillow names it: "JPEG", "PNG"
    profile: bytes = b""  # ICC, of RGB colours
    exif: bytes = b""  # without orientation and thumbnail

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.image.shape[-2], self.image.shape[-1]

    def over(self, colour: float = 1.0) -> Float[Tensor, "1 3 h w"]:
        """The photo laid over a grey (in [-1, 1]; white by default): what an inversion should look at."""
        return self.image if self.alpha is None else torch.lerp(self.image.new_tensor(colour), self.image, self.alpha)

    def with_image(self, image: Images) -> "Photo":
        """The same photo with other pixels.

        Raises:
            PhotoError: of another size.
        """
        if image.shape != self.image.shape:
            raise PhotoError(
                f"{self.name} has {self.size[1]} x {self.size[0]} pixels, the new ones have {tuple(image.shape)}"
            )
        return replace(self, image=image)

    def save(self, path: Path | str, quality: int = 95) -> None:
        """Write as .png, .jpg or .webp, with opacity, colour profile and EXIF. PNG keeps every pixel as it is.

        Args:
            quality: 1 to 100, of JPEG and WebP; WebP at 100 keeps every pixel.

        Raises:
            PhotoError: a format without transparency for a photo that has some, or a quality outside 1 to 100.
            ImageError: the suffix is of no picture format.
            FileError: the place cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if not 1 <= quality <= 100:
            raise PhotoError(f"the quality of a picture file is 1 to 100, got {quality}")
        if self.alpha is not None and suffix in (".jpg", ".jpeg"):
            raise PhotoError(f"{self.name} is transparent in places, which JPEG cannot hold: write .png or .webp")
        options: dict[str, object] = {}
        if suffix in (".jpg", ".jpeg"):
            options = {"quality": quality, "subsampling": 0}
        elif suffix == ".webp":
            options = {"quality": quality, "lossless": quality == 100, "exact": True}
        if self.profile:
            options["icc_profile"] = self.profile
        if self.exif:
            options["exif"] = self.exif
        save_image(self.image[0], path, None if self.alpha is None else self.alpha[0], options)


def read_photo(path: Path | str) -> Photo:
    """Read a photo of any kind that Pillow reads: upright, of an animation the first frame, 16 bits brought to 8.

    CMYK and grey become RGB, and their colour profiles are dropped. HEIC needs the plug-in pillow-heif.

    Raises:
        ImageError: the file is missing, a folder, not to be read, empty, damaged, no picture, or of more than
            PIL.Image.MAX_IMAGE_PIXELS pixels (89 million).
    """
    path = Path(path)
    _prepare_heif(path)
    picture = open_picture(path)
    image, alpha = layers_from_pil(picture)
    profile = picture.info.get("icc_profile") or b""
    exif = picture.info.get("exif") or b""
    return Photo(
        image,
        alpha,
        path.name,
        picture.format or "",
        profile if profile[16:20] == b"RGB " else b"",  # one of CMYK or grey does not describe our pixels
        _for_upright(exif),
    )


def _for_upright(exif: bytes) -> bytes:
    """EXIF without orientation and without the thumbnail, which would show the photo unedited; none if damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            entries = Image.Exif()
            entries.load(exif)
            entries.pop(ExifTags.Base.Orientation, None)
            return entries.tobytes() if entries else b""
    except Exception:  # whatever damaged entries make Pillow raise, the picture is fine
        return b""


def _prepare_heif(path: Path) -> None:
    """Have Pillow read HEIC, if this is one. Raises ImageError where the plug-in is not installed."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return  # the reader says what is wrong
    if start[4:8] != b"ftyp" or start[8:12] not in _HEIF_BRANDS or "HEIF" in Image.OPEN:
        return
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImageError(
            f"{path} is HEIC, which Pillow reads only with a plug-in: pip install pillow-heif, or convert it to JPEG"
        ) from None
    pillow_heif.register_heif_opener()
