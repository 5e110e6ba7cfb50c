"""Regions by their names, and what comes from the browser for one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from situ import open_model
from situ.core.errors import RegionError
from situ.core.region import Box
from situ.studio.cards import data_address
from situ.studio.regions import LONGEST, Regions

PACK = open_model("portraits")


@pytest.fixture
def regions(tmp_path: Path) -> Regions:
    return Regions(PACK, tmp_path)


def test_a_mask_is_a_file_of_the_person_alone(regions: Regions, tmp_path: Path) -> None:
    (tmp_path / "me" / "brush-..").mkdir(parents=True)
    Image.new("L", (8, 8), 255).save(tmp_path / "me" / "secret.png")
    with pytest.raises(RegionError, match="nothing is painted"):
        regions.region("brush-../../secret", tmp_path / "me")


def painting(size: int = 256, opaque: bool = True) -> str:
    drawn = np.zeros((size, size, 4), np.uint8)
    drawn[10:30, 20:50, 3] = 255 * opaque
    return data_address(Image.fromarray(drawn), "PNG")


def test_names_are_read_as_people_write_them(regions: Regions, tmp_path: Path) -> None:
    assert regions.read(" eyes+brows ", tmp_path) == "eyes+brows"
    assert regions.read("46, 32,8,18", tmp_path) == "box[46,32,8,18]"
    assert regions.region("box[46,32,8,18]", tmp_path) == Box(46, 32, 8, 18)
    assert regions.read("", tmp_path) == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "choose a part"),
        ("tail", "knows the parts"),
        ("brush", "nothing is painted"),
        ("brush-../../secret", "nothing is painted"),
        ("box[60,60,30,30]", "inside 64 x 64"),
        ("cluster-1 of 3", "clusters"),
        ("cluster-1 of 99999999999999", "clusters"),
    ],
)
def test_what_is_no_region_is_refused(regions: Regions, tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(RegionError, match=words):
        regions.region(name, tmp_path)


@pytest.mark.parametrize(
    ("corners", "box"),
    [
        ((0.25, 0.5, 0.49, 0.99), Box(24, 48, 16, 32)),
        ((0.49, 0.99, 0.25, 0.5), Box(24, 48, 16, 32)),  # from the other corner
        ((0.0, 0.0, 1.0, 1.0), Box(32, 32, 64, 64)),
        ((0.5, 0.5, 0.5, 0.5), Box(32, 32, 1, 1)),
        ((-3.0, 0.5, 7.0, 0.5), Box(32, 32, 64, 1)),
    ],
)
def test_corners_make_a_box_inside_the_picture(
    regions: Regions, tmp_path: Path, corners: tuple[float, ...], box: Box
) -> None:
    assert regions.region(regions.box(corners), tmp_path) == box


def test_what_is_painted_is_kept_and_found_again(regions: Regions, tmp_path: Path) -> None:
    name = regions.paint(painting(), tmp_path)
    assert regions.paint(painting(), tmp_path) == name
    mask = Regions(PACK, tmp_path).region(name, tmp_path).painted  # after a new start
    assert mask.shape == (1, 1, 256, 256)
    assert mask.sum() == 20 * 30
    with pytest.raises(RegionError, match="nothing is painted"):
        regions.region(name, tmp_path / "somebody else")


@pytest.mark.parametrize(
    "drawn",
    [
        "",
        "data:image/png;base64,AAAA",
        "data:image/png;base64,?",
        "data:image/svg+xml;base64,AAAA",
        painting(opaque=False),
        painting(size=1024),
        painting()[:400],
        "data:image/png;base64," + "A" * LONGEST,
    ],
    ids=["empty", "no png", "no base64", "svg", "nothing", "large", "cut off", "long"],
)
def test_paintings_that_are_none_are_refused_and_leave_no_file(regions: Regions, tmp_path: Path, drawn: str) -> None:
    with pytest.raises(RegionError):
        regions.paint(drawn, tmp_path)
    assert not list(tmp_path.glob("*"))


def test_words_need_a_model_that_goes_by_them(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from toys_transformers import clipseg

    regions = Regions(PACK, tmp_path, str(clipseg(tmp_path / "clipseg")))
    assert regions.region("mouth", tmp_path).segmenter is PACK.segmenter
    spoken = regions.region("sky+wheel", tmp_path)
    assert spoken.labels == ("sky", "wheel")
    assert "CLIPSeg" in spoken.segmenter.name
    assert regions.region("sky+wheel", tmp_path).segmenter is spoken.segmenter  # opened once
    with pytest.raises(RegionError, match="up to 80 letters"):
        regions.region("x" * 81, tmp_path)
