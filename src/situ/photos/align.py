"""Cutting the part of a photo that a generator knows: a face as FFHQ aligns it, or a box.

The geometry of FFHQ (Karras, Laine, Aila, "A style-based generator architecture for generative adversarial networks",
2019, appendix C): with e the vector from eye to eye and m that from between the eyes to the mouth, the crop is a square
along e - rot90(m), centred a tenth of m below the eyes, with half its side max(2 |e|, 1.8 |m|).

Points are (x, y) in pixels, (0, 0) the photo's upper left corner, so that a pixel's centre is at (0.5, 0.5).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.errors import PhotoError
from situ.core.images import Images
from situ.photos.landmarks import LandmarkFinder, five_points

Pair = tuple[float, float]

SMALLEST = 48.0  # pixels: side of a face's crop below which there is too little to see


@dataclass(frozen=True)
class Framing:
    """How much of a photo goes with a face. The defaults are FFHQ's."""

    eyes: float = 2.0  # half the side over the distance of the eyes, where that is larger than
    mouth: float = 1.8  # half the side over the distance from eyes to mouth
    down: float = 0.1  # centre below the eyes, in distances from eyes to mouth


FFHQ = Framing()


@dataclass(frozen=True)
class Crop:
    """A square picture's place in a photo."""

    corner: Pair  # upper left corner of the crop
    right: Pair  # from there to its upper right corner
    down: Pair  # from there to its lower left corner
    size: int  # pixels of the picture cut there

    def __post_init__(self) -> None:
        values = [*self.corner, *self.right, *self.down]
        area = abs(self.right[0] * self.down[1] - self.right[1] * self.down[0])
        if not all(map(math.isfinite, values)) or area < 1 or self.size < 1:
            raise PhotoError(f"a crop covers at least a pixel and has at least one, got {self.described()}")

    @property
    def side(self) -> float:
        """Pixels of the photo along its upper edge."""
        return math.hypot(*self.right)

    @property
    def quad(self) -> Float[Tensor, "4 2"]:
        """Its corners in the photo: upper left, lower left, lower right, upper right."""
        return self.to_photo(torch.tensor([[0, 0], [0, 1], [1, 1], [1, 0]], dtype=torch.float64) * self.size)

    def matrix(self) -> Float[Tensor, "2 3"]:
        """(x, y, 1) in pixels of the crop -> (x, y) in the photo."""
        (a, b), (c, d), (x, y) = self.right, self.down, self.corner
        unit = torch.tensor([[a, c, x], [b, d, y]], dtype=torch.float64)
        return unit * torch.tensor([1 / self.size, 1 / self.size, 1], dtype=torch.float64)

    def to_photo(self, points: Float[Tensor, "k 2"]) -> Float[Tensor, "k 2"]:
        """Points of the crop in the photo."""
        matrix = self.matrix().to(points)
        return points @ matrix[:, :2].T + matrix[:, 2]

    def to_crop(self, points: Float[Tensor, "k 2"]) -> Float[Tensor, "k 2"]:
        """Points of the photo in the crop."""
        matrix = inverse(self.matrix()).to(points)
        return points @ matrix[:, :2].T + matrix[:, 2]

    def described(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"corner": self.corner, "right": self.right, "down": self.down, "size": self.size}

    @staticmethod
    def from_described(described: Mapping[str, Any]) -> "Crop":
        """What `described` gave.

        Raises:
            PhotoError: something else.
        """
        try:
            corner, right, down = (
                (float(x), float(y)) for x, y in (described[key] for key in ("corner", "right", "down"))
            )
            return Crop(corner, right, down, int(described["size"]))
        except (KeyError, TypeError, ValueError) as error:
            raise PhotoError(f"expected a crop with corner, right, down and size, got {described} ({error})") from None


def face_crop(points: Float[Tensor, "k 2"], size: int, framing: Framing = FFHQ, smallest: float = SMALLEST) -> Crop:
    """The square around a face, upright.

    Args:
        points: 5, 68, 468 or 478, see `five_points`.
        size: pixels of the picture to be cut.
        smallest: pixels of the photo that its side must have.

    Raises:
        PhotoError: too small, or points that are no face.
    """
    left_eye, right_eye, _, left_corner, right_corner = five_points(points).cpu().double()
    eyes, mouth = (left_eye + right_eye) / 2, (left_corner + right_corner) / 2
    e, m = right_eye - left_eye, mouth - eyes
    along = e - torch.stack([-m[1], m[0]])
    half = max(framing.eyes * float(e.norm()), framing.mouth * float(m.norm()))
    if not points.isfinite().all() or along.norm() < 1e-6 or half < 1e-6:
        raise PhotoError(f"these points are no face: eyes at {eyes.tolist()}, mouth at {mouth.tolist()}")
    if 2 * half < smallest:
        raise PhotoError(
            f"the face is too small: its crop has {2 * half:.0f} pixels a side, at least {smallest:.0f} are needed; "
            "give a larger photo"
        )
    right = along / along.norm() * half
    down = torch.stack([-right[1], right[0]])
    corner = eyes + framing.down * m - right - down
    return Crop(_pair(corner), _pair(2 * right), _pair(2 * down), size)


def face_crops(
    photo: Images,
    finder: LandmarkFinder,
    size: int,
    faces: Sequence[int] | None = None,
    framing: Framing = FFHQ,
    smallest: float = SMALLEST,
) -> list[Crop]:
    """The crops of a photo's faces, in the finder's order.

    Args:
        faces: numbers of those wanted, from 0; None takes all that are large enough.

    Raises:
        PhotoError: no face, no such face, or too small (without `faces`, only if all are).
    """
    found = finder.find(photo)
    if not found:
        raise PhotoError("no face found: give its points, or a box (--crop row,column,height,width)")
    if faces is not None:
        missing = [face for face in faces if not 0 <= face < len(found)]
        if missing or not faces:
            raise PhotoError(f"the photo has {len(found)} faces, numbered from 0; asked for {list(faces)}")
        return [face_crop(found[face], size, framing, smallest) for face in faces]
    crops, error = [], None
    for points in found:
        try:
            crops.append(face_crop(points, size, framing, smallest))
        except PhotoError as too_small:
            error = too_small
    if not crops and error:
        raise error
    return crops


def box_crop(photo: Images, row: int, column: int, height: int, width: int, size: int) -> Crop:
    """A square of the photo's pixels, given by the row and column of its centre, its height and width.

    Raises:
        PhotoError: not square, empty, or outside the photo.
    """
    top, left = row - height // 2, column - width // 2
    rows, columns = photo.shape[-2:]
    got = f"got {row},{column},{height},{width} in a photo of {rows} rows and {columns} columns"
    if height != width:
        raise PhotoError(f"a crop is as high as wide, as what the generator makes; {got}")
    if height < 1 or top < 0 or left < 0 or top + height > rows or left + width > columns:
        raise PhotoError(f"a crop is the row and column of its centre, its height and width, inside the photo; {got}")
    return Crop((float(left), float(top)), (float(width), 0.0), (0.0, float(height)), size)


def extract(photo: Images, crop: Crop, size: int | None = None) -> Float[Tensor, "1 c s s"]:
    """The crop's picture, anti-aliased; the photo is reflected at its borders where the crop leaves it.

    Args:
        size: pixels of the picture; the crop's own by default.
    """
    size = size or crop.size
    matrix = crop.matrix() * torch.tensor([crop.size / size, crop.size / size, 1], dtype=torch.float64)
    return resample(photo, matrix, (size, size), "reflection").clamp(-1, 1)


def resample(
    image: Float[Tensor, "1 c h w"], matrix: Float[Tensor, "2 3"], size: tuple[int, int], padding: str
) -> Float[Tensor, "1 c h2 w2"]:
    """The picture that shows at (x, y) what `image` has at matrix (x, y, 1), both in pixels; anti-aliased.

    What is shrunk is first shrunk by area to at most twice the new density, then read bicubically at twice the
    density, then averaged.

    Args:
        size: rows and columns of the new picture.
        padding: what is outside the picture: "reflection", "border" or "zeros".
    """
    rows, columns = size
    corners = torch.tensor([[0, 0, 1], [columns, 0, 1], [0, rows, 1], [columns, rows, 1]], dtype=torch.float64)
    quad = corners @ matrix.T
    shrunk, matrix = _shrunk(*_cut(image, matrix, quad, padding))
    density = float(torch.linalg.svdvals(matrix[:, :2])[0])
    finer = 1 if density < 1.01 else 2
    matrix = matrix * torch.tensor([1 / finer, 1 / finer, 1], dtype=torch.float64)
    height, width = shrunk.shape[-2:]
    # pixels of the new picture and of the old -> both in [-1, 1]
    scale_out = torch.tensor([columns * finer / 2, rows * finer / 2], dtype=torch.float64)
    scale_in = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    linear = matrix[:, :2] * scale_out / scale_in[:, None]
    shift = (matrix[:, :2] @ scale_out + matrix[:, 2]) / scale_in - 1
    theta = torch.cat([linear, shift[:, None]], dim=1)[None].to(image)
    grid = functional.affine_grid(theta, [1, 1, rows * finer, columns * finer], align_corners=False)
    read = functional.grid_sample(shrunk, grid, mode="bicubic", padding_mode=padding, align_corners=False)
    return functional.avg_pool2d(read, finer) if finer > 1 else read


def _cut(image: Tensor, matrix: Tensor, quad: Tensor, padding: str) -> tuple[Tensor, Tensor]:
    """The part of a picture that the four corners need, and the matrix into it: photos are large, crops small."""
    height, width = image.shape[-2:]
    low, high = quad.amin(dim=0), quad.amax(dim=0)
    limit = torch.tensor([width, height], dtype=torch.float64)
    beyond = torch.maximum(-low, high - limit).clamp(min=0) if padding == "reflection" else torch.zeros(2)
    margin = 8 + 0.1 * (high - low) + beyond
    left, top = (low - margin).floor().clamp(min=0).minimum(limit - 1).long().tolist()
    right, bottom = (high + margin).ceil().minimum(limit).clamp(min=1).long().tolist()
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    shift = torch.tensor([[0, 0, left], [0, 0, top]], dtype=torch.float64)
    return image[..., top:bottom, left:right], matrix - shift


def _shrunk(image: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The picture shrunk until a pixel of the new one is two of its own, and the matrix into that."""
    factor = float(torch.linalg.svdvals(matrix[:, :2])[1]) / 2
    if factor <= 1:
        return image, matrix
    height, width = image.shape[-2:]
    size = max(1, round(height / factor)), max(1, round(width / factor))
    small = functional.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
    scale = torch.tensor([[size[1] / width], [size[0] / height]], dtype=torch.float64)
    return small, matrix * scale


def inverse(matrix: Float[Tensor, "2 3"]) -> Float[Tensor, "2 3"]:
    """The affine map the other way."""
    linear = torch.linalg.inv(matrix[:, :2])
    return torch.cat([linear, -(linear @ matrix[:, 2:])], dim=1)


def _pair(vector: Tensor) -> Pair:
    x, y = vector.tolist()
    return x, y
