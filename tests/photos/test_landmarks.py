"""Points from files, from clicks and from mediapipe (a stand-in), and the five that alignment needs."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch

from situ.core.errors import PhotoError
from situ.photos.landmarks import GivenPoints, LandmarkFinder, MediapipeLandmarks, PointsFile, five_points

PHOTO = torch.zeros(1, 3, 100, 200)
FACE = [[40.0, 50.0], [60.0, 50.0], [50.0, 62.0], [43.0, 74.0], [57.0, 74.0]]
OTHER = [[x + 80, y] for x, y in FACE]


def test_five_of_sixty_eight() -> None:
    points = torch.full((68, 2), 1000.0)
    points[36:42] = torch.tensor([40.0, 50.0])
    points[42:48] = torch.tensor([60.0, 50.0])
    points[39] += torch.tensor([6.0, 0.0])  # the eye is the mean of its six
    points[30], points[48], points[54] = (torch.tensor(FACE[i]) for i in (2, 3, 4))
    expected = torch.tensor(FACE)
    expected[0, 0] += 1
    torch.testing.assert_close(five_points(points), expected)
    torch.testing.assert_close(five_points(torch.tensor(FACE)), torch.tensor(FACE))


@pytest.mark.parametrize("count", [468, 478])
def test_five_of_mediapipe(count: int) -> None:
    points = torch.full((count, 2), 1000.0)
    rows = ((33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380), (1,), (61,), (291,))
    for place, these in zip(FACE, rows, strict=True):
        points[list(these)] = torch.tensor(place)
    torch.testing.assert_close(five_points(points), torch.tensor(FACE))


@pytest.mark.parametrize(
    ("text", "faces"),
    [
        (json.dumps({"faces": [FACE, OTHER]}), [FACE, OTHER]),
        (json.dumps([FACE, OTHER]), [FACE, OTHER]),
        ("\n" + json.dumps(FACE), [FACE]),
        ("[]", []),
        ("version: 1\nn_points: 5\n{\n" + "\n".join(f"{x} {y}" for x, y in FACE) + "\n}\n", [FACE]),
        ("".join("version: 1\nn_points: 5\n{\n" + "\n".join(f"{x} {y}" for x, y in face) + "\n}\n"
                 for face in (FACE, OTHER)), [FACE, OTHER]),
    ],
)  # fmt: skip
def test_points_files(text: str, faces: list, tmp_path: Path) -> None:
    (tmp_path / "points").write_text(text)
    found = PointsFile(tmp_path / "points").find(PHOTO)
    assert [face.tolist() for face in found] == faces


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no points"),
        ("hello", "holds no points"),
        ("{\n1 2\n", "holds no points"),
        ("version: 1\n{\n1 two\n}", "holds no points"),
        ("{", "holds no points"),
        ("[1, 2", "holds no points"),
        ('{"points": []}', "holds no points"),
        ('{"faces": 3}', "holds no points"),
        ('{"faces": [[[1, 2, 3]]]}', "5, 68, 468 or 478 points"),
        ('{"faces": [[[1, "a"]]]}', "is a list of points"),
        ('{"faces": [[[1, 2]]]}', "5, 68, 468 or 478 points"),
        (json.dumps([[[x + 500, y] for x, y in FACE]]), "outside the photo of 200 x 100"),
        (json.dumps([[[float("nan"), y] for _, y in FACE]]), "outside the photo"),
        ("version: 1\n{\n1 2\n3\n}", "is a list of points"),
    ],
)
def test_points_files_that_are_none(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "points").write_text(text)
    with pytest.raises(PhotoError, match=message):
        PointsFile(tmp_path / "points").find(PHOTO)


def test_points_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name in ("none", "bytes", "."):
        with pytest.raises(PhotoError, match="cannot read the points"):
            PointsFile(tmp_path / name).find(PHOTO)


def test_clicked_points() -> None:
    found = GivenPoints([FACE, torch.tensor(OTHER)]).find(PHOTO)
    assert [face.tolist() for face in found] == [FACE, OTHER]


def test_mediapipe_is_asked_for_where_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(PhotoError, match="pip install mediapipe"):
        MediapipeLandmarks(tmp_path / "face_landmarker.task").find(PHOTO)


def test_mediapipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with mediapipe's names: two faces, the right one first."""
    seen = {}
    mediapipe = types.ModuleType("mediapipe")

    class FaceLandmarker:
        @staticmethod
        def create_from_options(options: types.SimpleNamespace) -> "FaceLandmarker":
            seen["options"] = options
            if Path(options.base_options.model_asset_path).read_text() != "model":
                raise RuntimeError("Unable to open zip archive.")
            return FaceLandmarker()

        def __enter__(self) -> "FaceLandmarker":
            return self

        def __exit__(self, *_: object) -> None:
            seen["closed"] = True

        def detect(self, image: types.SimpleNamespace) -> types.SimpleNamespace:
            seen["image"] = image
            faces = [[types.SimpleNamespace(x=x, y=0.5, z=0.0)] * 478 for x in (0.75, 0.25)]
            return types.SimpleNamespace(face_landmarks=faces)

    vision = types.SimpleNamespace(FaceLandmarker=FaceLandmarker, FaceLandmarkerOptions=types.SimpleNamespace)
    monkeypatch.setitem(sys.modules, "mediapipe", mediapipe)
    mediapipe.__dict__.update(
        tasks=types.SimpleNamespace(vision=vision, BaseOptions=types.SimpleNamespace),
        Image=types.SimpleNamespace,
        ImageFormat=types.SimpleNamespace(SRGB="srgb"),
    )
    model = tmp_path / "face_landmarker.task"
    with pytest.raises(PhotoError, match="no mediapipe model at"):
        MediapipeLandmarks(model).find(PHOTO)
    model.write_text("model")
    finder = MediapipeLandmarks(model, most=3)
    assert isinstance(finder, LandmarkFinder)
    found = finder.find(PHOTO)
    assert [face.shape for face in found] == [(478, 2)] * 2
    assert [face[0].tolist() for face in found] == [[50, 50], [150, 50]]
    assert seen["options"].num_faces == 3
    assert seen["image"].data.shape == (100, 200, 3)
    assert seen["image"].data.dtype == "uint8"
    assert seen["closed"]
    model.write_text("something else")
    with pytest.raises(PhotoError, match="mediapipe cannot use"):
        finder.find(PHOTO)
