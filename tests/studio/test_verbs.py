"""What the studio does, on the bundled pack, without a browser."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from situ import open_model
from situ.cli.main import run
from situ.core.errors import DirectionError, PhotoError, RegionError, SituError
from situ.core.images import load_image, save_image
from situ.core.progress import silent
from situ.core.traversal import synthesize_edits
from situ.packs.portraits.renderer import render, sample_factors
from situ.studio.cards import data_address
from situ.studio.exports import read_stack
from situ.studio.session import Session, Work
from situ.studio.verbs import MEMORY, Studio

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
    drawn = np.zeros((256, 256, 4), np.uint8)
    drawn[176:208, 92:164, 3] = 255  # the mouth
    names = [
        studio.regions.paint(data_address(Image.fromarray(each), "PNG"), session.folder)
        for each in (drawn, drawn[::-1])
    ]
    found = studio.find(session, Work(seed=3), studio.region(session, names[0]), "resefa", silent)
    best = studio.library.item(found[0]).direction
    assert best.score > 5
    assert best.region == "brush"
    assert len(studio._jacobians) == 1
    studio.find(session, Work(seed=3), studio.region(session, names[1]), "resefa", silent)
    assert len(studio._jacobians) == 1  # the same picture's answers for the next region


def test_a_point_names_its_part(studio: Studio, session: Session) -> None:
    assert studio.part_at(session, Work(seed=0), 0.02, 0.02) == "background"
    assert studio.part_at(session, Work(seed=0), 0.73, 0.5) == "mouth"
    assert studio.part_at(session, Work(seed=0), 1.0, 0.5) in PACK.segmenter.parts  # the last row is a row


def test_clusters_are_parts_too(studio: Studio, session: Session) -> None:
    with pytest.raises(RegionError, match="clusters"):
        studio.region(session, "cluster-1 of 4")
    studio.regions.find_clusters(4, torch.Generator().manual_seed(0), silent)
    cards = studio.cluster_sheet(session, Work(seed=0), 4)
    assert [card["name"] for card in cards] == [f"cluster-{i} of 4" for i in (1, 2, 3, 4)]
    part = studio.part_at(session, Work(seed=0), 0.5, 0.5, clusters=4)
    mask = studio.region(session, part).mask(
        PACK.generator.synthesize(studio.latents(session, Work(seed=0)), studio.region(session, part).layers)
    )
    assert mask[0, 0, mask.shape[-2] // 2, mask.shape[-1] // 2] == 1


def test_deleted_directions_do_nothing_and_do_no_harm(studio: Studio, session: Session) -> None:
    name = studio.library.add(studio.library.item("hair-1").direction, "mine")
    work = Work(seed=2).added(name, 2.0).added("mouth-1")
    with_it = studio.pictures(session, work)
    studio.library.remove(name)
    studio.forget()
    without = studio.pictures(session, work)
    assert (with_it[1] - without[1]).abs().max() > 0.2
    torch.testing.assert_close(without, studio.pictures(session, work.without(0)))
    assert "mine" not in studio.command(session, work)


def test_a_blend_lies_between_the_pictures_that_were_made(studio: Studio, session: Session) -> None:
    weak, strong = (Work(seed=4).added("mouth-1").added("hair-1", strength) for strength in (-1.0, 3.0))
    pairs = [studio.pictures(session, work) for work in (weak, strong)]
    studio.pictures(session, Work(seed=4).added("hair-1", 1.0))  # another stack: not to be blended in
    for work, pair in zip((weak, strong), pairs, strict=True):
        torch.testing.assert_close(studio.blended(session, work, [1]), pair, atol=1e-4, rtol=0)
    middle = studio.blended(session, weak.with_entry(1, strength=1.0), [1])
    torch.testing.assert_close(middle[1], (pairs[0][1] + pairs[1][1]) / 2)
    torch.testing.assert_close(middle[0], pairs[0][0])


def test_what_is_kept_is_bounded(tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (_, room) in MEMORY.items():
        monkeypatch.setitem(cast(dict, MEMORY), name, (2, room))
    studio = Studio(PACK, "portraits", tmp_path)
    for seed in range(4):
        work = Work(seed=seed).added("hair-1", 1.0)
        studio.pictures(session, work)
        studio.part_at(session, work, 0.5, 0.5)
        studio.previews(session, work, studio.library.items()[:1])
    kept = {name: getattr(studio, f"_{name}") for name in MEMORY}
    assert {name: len(each) for name, each in kept.items() if len(each)} == dict.fromkeys(
        ("states", "pairs", "maps", "previews"), 2
    )
    assert all(each.bytes > 0 for each in kept.values() if len(each))  # or the bound in bytes would be none


@pytest.mark.slow
def test_a_method_and_a_direction_are_compared(studio: Studio) -> None:
    mouth = studio.regions.region("mouth", studio.workspace)
    sheet, words = studio.compare(mouth, ["mouth-1", "resefa"], 0, silent)
    assert min(sheet.size) > 200
    assert not words


def test_what_is_compared_is_two_different_ones(studio: Studio) -> None:
    mouth = studio.regions.region("mouth", studio.workspace)
    for names in (["sefa", "sefa"], ["", "sefa"]):
        with pytest.raises(SituError, match="two different"):
            studio.compare(mouth, names, 0, silent)
    with pytest.raises(DirectionError, match='no direction "nothing"'):
        studio.compare(mouth, ["nothing", "sefa"], 0, silent)


def test_a_photo_comes_in_is_edited_and_put_back(studio: Studio, session: Session, tmp_path: Path) -> None:
    photo = torch.full((3, 160, 200), 0.3)
    photo[:, 16:144, 40:168] = render(sample_factors(1, torch.Generator().manual_seed(5_000_004)), 128).images[0]
    save_image(photo, tmp_path / "photo.png")
    name, faces, words = studio.invert(session, tmp_path / "photo.png", "encoder", silent)
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
        studio.invert(session, tmp_path / "none.png", "encoder", silent)


def test_of_two_faces_the_command_line_edits_the_chosen_one(
    studio: Studio, session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    photo = torch.full((3, 160, 300), 0.3)
    faces = render(sample_factors(2, torch.Generator().manual_seed(5_000_004)), 128).images
    photo[:, 16:144, 10:138], photo[:, 16:144, 160:288] = faces
    save_image(photo, tmp_path / "two.png")
    name, count, _ = studio.invert(session, tmp_path / "two.png", "encoder", silent)
    assert count == 2
    work = Work(photo=name, face=1).added("hair-1", 2.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", shlex.split(studio.command(session, work)))
    with pytest.raises(SystemExit) as stop:
        run()
    assert not stop.value.code
    ours = np.asarray(studio.finished(session, work)).astype(int)
    assert np.abs(ours - np.asarray(Image.open("edited.png")).astype(int)).max() <= 1


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
