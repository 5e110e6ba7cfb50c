"""Where the faces of a photo are: finders of points. From a file, given, by mediapipe; a pack may have its own.

Points are (x, y) in pixels, (0, 0) the photo's upper left corner. Left and right are the picture's.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.errors import PhotoError
from situ.core.images import Images, to_bytes

# of which points left eye, right eye, nose tip, left and right corner of the mouth are the means
_FIVE_OF: dict[int, tuple[Sequence[int], ...]] = {
    5: ((0,), (1,), (2,), (3,), (4,)),
    68: (range(36, 42), range(42, 48), (30,), (48,), (54,)),  # iBUG 300-W
    468: ((33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380), (1,), (61,), (291,)),  # mediapipe
}
_FIVE_OF[478] = _FIVE_OF[468]  # mediapipe with irises

COUNTS = tuple(_FIVE_OF)


@runtime_checkable
class LandmarkFinder(Protocol):
    """Finds the faces of a photo."""

    def find(self, photo: Images) -> "list[Float[Tensor, 'k 2']]":
        """One set of 5, 68, 468 or 478 points a face; none where there is no face.

        Args:
            photo: (1, 3, h, w) in [-1, 1].
        """
        ...


def five_points(points: Float[Tensor, "k 2"]) -> Float[Tensor, "5 2"]:
    """Left eye, right eye, nose tip, left and right corner of the mouth, from 5, 68 (iBUG), 468 or 478 (mediapipe).

    Raises:
        PhotoError: another number of points.
    """
    if len(points) not in _FIVE_OF:
        raise PhotoError(f"a face has 5, 68, 468 or 478 points, got {len(points)}")
    return torch.stack([points[list(rows)].mean(dim=0) for rows in _FIVE_OF[len(points)]])


@dataclass(frozen=True)
class GivenPoints:
    """Faces whose points are known: clicked, or from elsewhere."""

    faces: Sequence[Any]  # tensors or lists: of each face 5, 68, 468 or 478 points (x, y)
    source: str = "the points given"  # for messages

    def find(self, photo: Images) -> "list[Float[Tensor, 'k 2']]":
        """See `LandmarkFinder.find`. Raises PhotoError for what are no points, or points of another photo."""
        return [self._checked(face, photo) for face in self.faces]

    def _checked(self, face: Any, photo: Images) -> Float[Tensor, "k 2"]:
        try:
            points = torch.as_tensor(face, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError):
            raise PhotoError(f"a face is a list of points (x, y), but {self.source} hold {str(face)[:80]}") from None
        if points.ndim != 2 or points.shape[1] != 2 or len(points) not in COUNTS:
            raise PhotoError(
                f"a face has 5, 68, 468 or 478 points (x, y), but {self.source} hold some of shape "
                f"{tuple(points.shape)}"
            )
        height, width = photo.shape[-2:]
        middle = points.mean(dim=0)
        inside = 0 <= float(middle[0]) <= width and 0 <= float(middle[1]) <= height
        if not points.isfinite().all() or not inside:
            raise PhotoError(
                f"{self.source} lie outside the photo of {width} x {height} pixels (around {middle.tolist()}): they "
                "belong to another photo, or to it before it was turned upright"
            )
        return points


@dataclass(frozen=True)
class PointsFile:
    """Points in a file: JSON (a face's list of [x, y], a list of faces, or {"faces": faces}) or iBUG's .pts text."""

    path: Path

    def find(self, photo: Images) -> "list[Float[Tensor, 'k 2']]":
        """See `LandmarkFinder.find`. Raises PhotoError for a file that is not such a one."""
        return GivenPoints(self._faces(), f"the points in {self.path}").find(photo)

    def _faces(self) -> list[Any]:
        try:
            text = Path(self.path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PhotoError(f"cannot read the points in {self.path} ({error})") from None
        try:
            faces = json.loads(text) if text.lstrip()[:1] in ("[", "{") else _from_pts(text)
            if isinstance(faces, dict):
                faces = faces["faces"]
            if faces and isinstance(faces[0][0], (int, float)):
                faces = [faces]
            return list(faces)
        except (ValueError, KeyError, TypeError, IndexError):
            raise PhotoError(
                f'{self.path} holds no points: expected JSON {{"faces": [[[x, y], ...], ...]}} or .pts text'
            ) from None


def _from_pts(text: str) -> list[list[list[float]]]:
    """The blocks in braces, one a face, one point a line. Raises ValueError."""
    blocks = text.split("{")[1:]
    if not blocks or any("}" not in block for block in blocks):
        raise ValueError("no block in braces")
    lines = [block.split("}")[0].strip().splitlines() for block in blocks]
    return [[[float(number) for number in line.split()] for line in face] for face in lines]


@dataclass(frozen=True)
class MediapipeLandmarks:
    """Google's mediapipe with the user's own model file (face_landmarker.task); 478 points a face, left to right."""

    model: Path
    most: int = 8  # faces

    def find(self, photo: Images) -> "list[Float[Tensor, 'k 2']]":
        """See `LandmarkFinder.find`. Raises PhotoError where mediapipe or its model is missing."""
        try:
            import mediapipe  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise PhotoError(
                "finding faces with mediapipe needs it: pip install mediapipe; or give the points or a box"
            ) from None
        if not Path(self.model).is_file():
            raise PhotoError(f"no mediapipe model at {self.model}: expected face_landmarker.task")
        tasks = mediapipe.tasks
        options = tasks.vision.FaceLandmarkerOptions(
            base_options=tasks.BaseOptions(model_asset_path=str(self.model)), num_faces=self.most
        )
        pixels = to_bytes(photo)[0].permute(1, 2, 0).contiguous().cpu().numpy()
        try:
            with tasks.vision.FaceLandmarker.create_from_options(options) as landmarker:
                found = landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels))
        except (ValueError, RuntimeError) as error:
            raise PhotoError(f"mediapipe cannot use {self.model} ({error})") from None
        size = torch.tensor([photo.shape[-1], photo.shape[-2]])
        faces = [torch.tensor([[point.x, point.y] for point in face]) * size for face in found.face_landmarks]
        return sorted(faces, key=lambda points: float(points[:, 0].mean()))
