"""The studio's directions: added, brought in, renamed, deleted; nothing else is touched."""

from pathlib import Path

import pytest
import torch

from situ.core.direction import Direction
from situ.core.errors import DirectionError, SituError
from situ.core.latents import LatentSpace, Slice, Subspace
from situ.studio.library import Library

SPACE = LatentSpace("w", (Slice("w", 4, "w"),))


def direction(name: str = "d", generator: str = "g", score: float = 1.0) -> Direction:
    return Direction(torch.ones(4), Subspace(SPACE), generator, "eyes", "ReSeFa(k=1)", name=name, score=score)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    direction("given", score=3.0).save(bundled / "given.safetensors")
    direction("foreign", generator="other").save(bundled / "foreign.safetensors")
    (bundled / "broken.safetensors").write_bytes(b"no direction")
    return Library(tmp_path / "own", "g", bundled)


def test_what_is_added_is_listed_best_first(library: Library) -> None:
    assert library.add(direction(score=5.0)) == "d"
    assert library.add(direction(score=1.0)) == "d-2"
    assert [(item.name, item.own) for item in library.items()] == [("d", True), ("given", False), ("d-2", True)]
    assert library.items(part="mouth") == []
    assert len(library.items(part="eyes", method="ReSeFa")) == 3
    assert library.items(method="LELSD") == []
    assert [item.name for item in library.items(gain=2.0)] == ["d", "given"]
    assert library.item("d").described() == "eyes, ReSeFa, gain 5"


def test_names_stay_inside_the_folder(library: Library, tmp_path: Path) -> None:
    for name in ("../../escaped", "/etc/x", "..", "a/b", "x" * 300, "\0", "über"):
        got = library.add(direction(), name)
        assert (library.folder / f"{got}.safetensors").resolve().parent == library.folder.resolve()
    assert {path.name for path in tmp_path.iterdir()} == {"bundled", "own"}


def test_files_are_read_and_written_anew_and_others_refused(library: Library, tmp_path: Path) -> None:
    direction().save(tmp_path / "mine.safetensors")
    assert library.bring_in(tmp_path / "mine.safetensors") == "mine"
    direction(generator="other").save(tmp_path / "theirs.safetensors")
    with pytest.raises(DirectionError, match="is a direction of other, this model is g"):
        library.bring_in(tmp_path / "theirs.safetensors")
    (tmp_path / "evil.safetensors").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(SituError):
        library.bring_in(tmp_path / "evil.safetensors")


def test_own_directions_are_renamed_and_deleted_and_given_ones_stay(library: Library) -> None:
    library.add(direction())
    assert library.rename("d", "wink") == "wink"
    assert {item.name for item in library.items()} == {"given", "wink"}
    library.remove("wink")
    for verb in (library.remove, lambda name: library.rename(name, "x")):
        with pytest.raises(DirectionError, match="came with the model"):
            verb("given")
        with pytest.raises(DirectionError, match='no direction "nothing"'):
            verb("nothing")
