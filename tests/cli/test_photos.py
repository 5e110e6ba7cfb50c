"""Photos on the command line, on the bundled pack: inverted, edited, put back; one that cannot be used stops nobody."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from situ import open_model
from situ.cli.main import run
from situ.core.direction import Direction
from situ.core.errors import InversionError
from situ.core.images import load_image, save_image
from situ.core.inversion import invert, load_inversion
from situ.core.latents import parse_subspace
from situ.packs.inverters import INVERTERS, inverter_named, magec_of
from situ.packs.pack import Pack
from situ.packs.portraits.renderer import render, sample_factors

PACK = open_model("portraits")
Situ = Callable[..., tuple[int, str, str]]


@pytest.fixture
def situ(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, unchecked: None) -> Situ:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def command(text: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["situ", *text.split()])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A portrait of the generator's size, a photo of two, a photo of nobody, what is no photo, and a direction."""
    photos = tmp_path / "photos"
    photos.mkdir()
    faces = render(sample_factors(2, torch.Generator().manual_seed(5_000_003)), 128).images
    save_image(render(sample_factors(1, torch.Generator().manual_seed(5_000_004)), 64).images[0], photos / "one.png")
    canvas = torch.full((3, 200, 360), 0.2)
    canvas[:, 20:148, 20:148], canvas[:, 50:178, 210:338] = faces
    save_image(canvas, photos / "two.png")
    save_image(torch.full((3, 200, 200), 0.1), photos / "nobody.png")
    (photos / "notes.txt").write_text("no photo")
    subspace = parse_subspace("w+:2-9", PACK.generator.spaces)
    vector = torch.randn(subspace.dim, generator=torch.Generator().manual_seed(0))
    made = Direction(vector / vector.norm(), subspace, PACK.generator.name, "mouth", "drawn", name="d", unit=2.0)
    made.save(tmp_path / "d.safetensors")
    return photos


def test_photos_are_inverted_and_those_that_cannot_be_are_named(situ: Situ, folder: Path, tmp_path: Path) -> None:
    code, out, err = situ(
        "invert photos/one.png photos/two.png photos/nobody.png photos/notes.txt -o i --steps 3 --json"
    )
    assert code == 1
    told = json.loads(out)
    assert [row["photo"] for row in told["faces"]] == ["photos/one.png", "photos/two.png", "photos/two.png"]
    assert set(told["failed"]) == {"photos/nobody.png", "photos/notes.txt"}
    assert "no face found" in told["failed"]["photos/nobody.png"]
    assert "photos/notes.txt: " in err
    for row in told["faces"]:
        found = load_inversion(tmp_path / row["codes"], PACK.generator.name)
        assert len(found) == 1
        assert found.about[0]["crop"] == row["crop"]
        assert row["identity"] > 0.4
    assert {path.name for path in (tmp_path / "i").iterdir()} >= {"one.png", "two-0.png", "two-1.png", "sheet.png"}
    assert not list((tmp_path / "i").glob(".under_way*"))
    assert json.loads((tmp_path / "i" / "report.json").read_text())["faces"] == told["faces"]


def test_an_edit_of_a_photo_leaves_the_rest_of_it_alone(situ: Situ, folder: Path, tmp_path: Path) -> None:
    code, out, err = situ(
        "edit --photo photos/two.png --face 1 --apply d.safetensors:2 --method encoder -o e.png --json"
    )
    assert code == 0, err
    before, after = (load_image(tmp_path / path) for path in ("photos/two.png", "e.png"))
    changed = (after - before).abs().amax(dim=1)[0] > 0
    assert changed.any()
    found_left = changed[:, :180].any()
    found_right = changed[:, 180:].any()
    assert found_left != found_right, "one of the two faces, and none of the other's pixels"
    assert len(json.loads(out)["crops"]) == 1


def test_codes_are_used_again_without_inverting(situ: Situ, folder: Path, tmp_path: Path) -> None:
    assert situ("invert photos/one.png -o i --method encoder")[0] == 0
    words = "edit --photo photos/one.png --latents i/one.safetensors --apply d.safetensors:1 -o"
    assert situ(f"{words} a.png")[0] == 0
    assert situ("edit --photo photos/one.png --method encoder --apply d.safetensors:1 -o b.png")[0] == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert situ("edit --latents i/one.safetensors --apply d.safetensors:1 -o c.png")[0] == 0
    assert situ(f"{words} d.png --compare")[0] == 0
    with Image.open(tmp_path / "d.png") as page:
        assert page.width > 3 * 192


def test_a_folder_of_photos(situ: Situ, folder: Path, tmp_path: Path) -> None:
    code, out, _ = situ("photos photos --apply d.safetensors:2 --method encoder -o many --json")
    assert code == 1
    told = json.loads(out)
    assert set(told["edited"]) == {"one.png", "two.png"}
    assert set(told["failed"]) == {"nobody.png", "notes.txt"}
    assert {path.name for path in (tmp_path / "many").iterdir()} == {".run", "one.png", "two.png"}
    for name in ("nobody.png", "notes.txt"):
        (folder / name).unlink()
    assert situ("photos photos --apply d.safetensors:2 --method encoder -o many")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("invert photos/one.png --method magic", 'encoder, magec, optimization, image2stylegan; got "magic"'),
        ("invert photos/one.png --crop 1,2", "ROW,COLUMN,HEIGHT,WIDTH"),
        ("invert photos/one.png --crop 32,32,64,64 --face 0", "give one or the other"),
        ("edit --photo photos/nobody.png --apply d.safetensors:1", "no face found"),
        ("edit --photo photos/two.png --face 7 --apply d.safetensors:1", "2 faces, numbered from 0"),
        ("edit --photo nowhere.png --apply d.safetensors:1", "nowhere.png"),
        ("edit --photo photos/one.png --latents d.safetensors --apply d.safetensors:1", "holds something else"),
        ("photos nowhere --apply d.safetensors:1", "no folder of photos at nowhere"),
        ("photos photos", "nothing to apply"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(situ: Situ, folder: Path, words: str, message: str) -> None:
    code, _, err = situ(words)
    assert code == 2
    assert message in " ".join(err.split()), err


@pytest.mark.slow
def test_the_default_reaches_the_published_schedule_in_a_fifth_of_its_steps() -> None:
    """On held-out renders: no worse than 200 steps from the mean code, after 40 from the encoder's."""
    target = render(sample_factors(4, torch.Generator().manual_seed(5_000_005)), 64).images
    errors = {}
    for name, method in (("default", inverter_named("refined", PACK)), ("published", magec_of(PACK).as_published())):
        found = invert(PACK.generator, target, method, torch.Generator().manual_seed(0))
        errors[name] = float(found.losses["mse"].mean())
    assert errors["default"] < 1.1 * errors["published"]


def test_a_report_tries_every_attribute_of_a_photo(situ: Situ, folder: Path) -> None:
    code, out, _ = situ("invert photos/one.png --steps 2 --report --json -o tried")
    assert code == 0
    (face,) = json.loads(out)["faces"]
    assert len(face["consistency"]) == len(PACK.reader.attributes)
    assert face["ecs"] == pytest.approx(sum(face["consistency"].values()) / len(face["consistency"]))
    assert 0 < face["realism"] < 2
    shown = {name for name in face["consistency"] if name.startswith("without ")}
    assert 0 < len(shown) < len(face["consistency"])  # what the photo has is taken away, what it has not is added


def test_a_photo_tunes_the_generator_into_a_pack_of_its_own(
    situ: Situ, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    plain = json.loads(situ("invert photos/one.png --steps 2 --json -o plain")[1])["faces"][0]
    code, out, _ = situ("invert photos/one.png --steps 2 --tune own --tune-steps 8 --json -o tuned")
    assert code == 0
    assert json.loads(out)["faces"][0]["mse"] < 0.9 * plain["mse"]
    tuned = open_model("own")
    assert tuned.generator.name != PACK.generator.name
    assert tuned.segmenter is not None  # its base's
    assert load_inversion("tuned/one.safetensors", tuned.generator.name)
    code, _, err = situ("invert photos/one.png --tune own -o again")
    assert code == 2
    assert "there is a pack own already" in err


def test_image2stylegan_is_a_method_like_any_other(situ: Situ, folder: Path) -> None:
    code, out, _ = situ("invert photos/one.png --method image2stylegan --steps 2 --json -o painted")
    assert code == 0
    assert json.loads(out)["complete"]


def test_a_pack_is_asked_only_for_what_it_has() -> None:
    bare = Pack("bare", PACK.generator)
    assert inverter_named("optimization", bare) is not None
    assert inverter_named("refined", bare) is not None
    with pytest.raises(InversionError, match="bare has no encoder"):
        inverter_named("encoder", bare)
    with pytest.raises(InversionError, match="bare has none: --method optimization"):
        inverter_named("magec", bare)
    assert set(INVERTERS) == {"refined", "encoder", "magec", "optimization", "image2stylegan"}
