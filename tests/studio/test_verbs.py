"""What the studio does, on the bundled pack, without a browser."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from situ import open_model
from situ.cli.main import run
from situ.core.errors import DirectionError, PhotoError, RegionError
from situ.core.images import load_image, save_image
from situ.core.traversal import synthesize_edits
from situ.packs.portraits.renderer import render, sample_factors
from situ.studio.exports import read_stack
from situ.studio.page import mask_of
from situ.studio.session import Session, Work
from situ.studio.verbs import Studio

PACK = open_model("portraits")


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(PACK, "portraits", tmp_path / "work")


@pytest.fixture
def session(studio: Studio) -> Session:
    return Session(studio.workspace / "sessions" / "me")


def test_live_pictures_are_those_of_the_library(studio: Studio, session: Session) -> None:
    work = Work(seed=4)
    for name, strength in (("hair-1", 1.5), ("mouth-1", -2.0)):
        work = work.added(name, strength)
    for _ in range(2):  # the second time from the kept state
        pair = studio.pictures(session, work)
    expected = synthesize_edits(
        PACK.generator, studio.latents(session, work), [studio.edit(replace(work, stack=())), studio.edit(work)]
    )[0]
    torch.testing.assert_close(pair, expected.clamp(-1, 1), atol=1e-4, rtol=0)
    off = work.with_entry(0, on=False).with_entry(1, strength=0.0)
    torch.testing.assert_close(studio.pictures(session, off)[0], studio.pictures(session, off)[1])


def test_the_command_line_makes_the_same_picture(
    studio: Studio, session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work = Work(seed=4).added("hair-1", 1.5).added("eyes-2", 2.0).with_entry(1, layers="3-5")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", shlex.split(studio.command(session, work)))
    with pytest.raises(SystemExit) as stop:
        run()
    assert not stop.value.code
    ours = np.asarray(studio.finished(session, work)).astype(int)
    assert np.abs(ours - np.asarray(Image.open("edited.png")).astype(int)).max() <= 1


def test_a_painted_region_gets_directions_that_keep_to_it(studio: Studio, session: Session) -> None:
    layer = np.zeros((640, 640, 4), np.uint8)
    layer[440:520, 230:410, 3] = 255  # the mouth, at the size of the page
    mask = mask_of({"layers": [layer]})
    assert mask is not None
    region = studio.region("brush", mask)
    names = studio.find(session, Work(seed=3), region, "resefa", lambda done, total, message="": None)
    best = studio.library.item(names[0]).direction
    assert best.score > 5
    assert len(studio._jacobians) == 1
    studio.find(session, Work(seed=3), studio.region("brush", mask.flip(-2)), "resefa", lambda *_, **__: None)
    assert len(studio._jacobians) == 1  # the same picture's answers for the next region
    assert mask_of({"layers": [np.zeros((8, 8, 4), np.uint8)]}) is None
    assert mask_of(None) is None


def test_a_point_names_its_part(studio: Studio, session: Session) -> None:
    image = studio.pictures(session, Work(seed=0))[1:]
    assert studio.part_at(image, 0.02, 0.02) == "background"
    assert studio.part_at(image, 0.73, 0.5) == "mouth"
    assert studio.part_at(image, 1.0, 0.5) in PACK.segmenter.parts  # the last row is a row


def test_a_photo_comes_in_is_edited_and_put_back(studio: Studio, session: Session, tmp_path: Path) -> None:
    photo = torch.full((3, 160, 200), 0.3)
    photo[:, 16:144, 40:168] = render(sample_factors(1, torch.Generator().manual_seed(5_000_004)), 128).images[0]
    save_image(photo, tmp_path / "photo.png")
    name, faces, words = studio.invert(session, tmp_path / "photo.png", "encoder", lambda *_, **__: None)
    assert faces == 1
    assert ":" in words
    work = Work(photo=name).added("hair-1", 2.0)
    before, after = (load_image(tmp_path / "photo.png"), studio.finished(session, work))
    assert after.size == (200, 160)
    changed = np.abs(np.asarray(after).astype(int) - ((before[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()).max(
        axis=2
    )
    assert changed[:16].max() <= 1  # outside the face the photo is its own
    assert changed[16:144, 40:168].max() > 30
    assert "--photo" in studio.command(session, work)
    (tmp_path / "none.png").write_bytes(b"no photo")
    with pytest.raises(PhotoError):
        studio.invert(session, tmp_path / "none.png", "encoder", lambda *_, **__: None)


def test_what_is_taken_away(studio: Studio, session: Session, tmp_path: Path) -> None:
    work = Work(seed=1).added("hair-1", 2.0)
    with pytest.raises(DirectionError, match="add another to the stack"):
        studio.palette(session, work)
    both = work.added("mouth-1", 1.0)
    assert studio.palette(session, both).size == (5 * 64, 5 * 64)
    assert len(studio.strip(session, both)) == 7
    frames = [np.asarray(frame) for frame in studio.frames(session, both)]
    assert len(frames) == 24
    assert np.abs(frames[0].astype(int) - np.asarray(studio.shown(studio.pictures(session, both)[:1])[0])).max() <= 1
    (tmp_path / "bad.json").write_text('{"format": "situ-studio-stack-1", "apply": [{"direction": "no"}]}')
    for file in ("bad.json", "missing.json"):
        with pytest.raises(Exception, match="no stack as the studio saves it"):
            read_stack(studio, tmp_path / file)


def test_bad_regions_are_told(studio: Studio) -> None:
    with pytest.raises(RegionError, match="nothing is painted"):
        studio.region("brush", None)
    with pytest.raises(RegionError, match="choose a part"):
        studio.region("", None)
    with pytest.raises(RegionError, match="knows the parts"):
        studio.region("tail", None)
