"""The command line in this process, on an untrained generator: what it writes, prints and refuses."""

import importlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import save_file

from situ.checkpoints.native import save_stylegan2
from situ.cli.main import app, run
from situ.core.direction import Direction, load_direction
from situ.core.images import load_image
from situ.core.latents import Latents, load_latents, parse_subspace, save_latents
from situ.discovery.lelsd import LELSD
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings
from situ.metrics.perceptual import PyramidDistance
from situ.packs.methods import METHODS
from toys import tiny_network, tiny_stylegan2

BOX = "8,8,8,8"
GAN = tiny_stylegan2()


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    def json(self) -> object:
        """Standard output as strict JSON: NaN and Infinity are refused."""

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is no JSON")

        assert self.code == 0, self.err
        return json.loads(self.out, parse_constant=refuse)


Situ = Callable[..., Said]


@pytest.fixture
def situ(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Situ:
    """`situ(words...)` in an empty folder; "MODEL" stands for the generator file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["situ", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run()
        said = capsys.readouterr()
        return Said(int(stop.value.code or 0), said.out, said.err)

    return command


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model and with everything that can be given to a verb, good and bad."""
    folder = tmp_path_factory.mktemp("files")
    save_stylegan2(tiny_network(), folder / "model.safetensors", licence="CC0")

    def direction(name: str, text: str, generator: str = GAN.name, region: str = f"box[{BOX}]", **more: object) -> None:
        subspace = parse_subspace(text, GAN.spaces)
        vector = torch.randn(subspace.dim, generator=torch.Generator().manual_seed(len(name)))
        made = Direction(vector / vector.norm(), subspace, generator, region, "drawn", name=name, **more)
        made.save(folder / f"{name}.safetensors")

    direction("good", "w+:2-5", unit=0.5, figures={"LS": 0.5})
    direction("other", "w", unit=0.5)
    direction("foreign", "w+", generator="stylegan2-16px-someoneelse")
    direction("partly", "w", region="hair")
    torch.manual_seed(0)
    save_latents(
        GAN.sample(2, GAN.spaces["w"], torch.Generator().manual_seed(1)), folder / "codes.safetensors", GAN.name
    )
    other = GAN.sample(1, GAN.spaces["w"], torch.Generator().manual_seed(2))
    save_latents(other, folder / "foreign_codes.safetensors", "stylegan2-16px-someoneelse")
    bad = Latents(torch.full([2, 8], torch.nan), GAN.spaces["w"])
    save_latents(bad, folder / "nan.safetensors", GAN.name)
    (folder / "corrupt.safetensors").write_bytes((folder / "good.safetensors").read_bytes()[:-9])
    save_file({"vector": torch.zeros(3)}, folder / "anything.safetensors")
    (folder / "file").write_text("")
    (folder / "bad.json").write_text("{}")
    Image.new("L", (16, 16), 0).save(folder / "black.png")
    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (0, 0, 16, 16))
    mask.save(folder / "corner.png")
    return folder


@pytest.fixture
def model(files: Path) -> tuple[str, str]:
    return "--model", str(files / "model.safetensors")


# without the shape checks: what is written is tested apart from what the helpers are declared to take and give


def test_sheets_pass_the_shape_checks(situ: Situ, model: tuple[str, str]) -> None:
    assert situ("sample", *model, "-n", "1").code == 0


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_sample_draws_a_sheet_and_keeps_its_codes(situ: Situ, model: tuple[str, str], tmp_path: Path) -> None:
    said = situ("sample", *model, "-n", "3", "--seed", "5", "-o", "s.png", "--latents", "codes.safetensors", "--json")
    assert said.json() == {"out": "s.png", "seeds": [5, 6, 7], "truncation": 0.7, "generator": GAN.name}
    assert written(tmp_path) == ["codes.safetensors", "s.png"]
    assert load_image("s.png").shape[1] == 3
    codes = load_latents("codes.safetensors")
    assert codes.values.shape == (3, 8)
    six = GAN.sample(1, GAN.spaces["z"], torch.Generator().manual_seed(6), 0.7)
    torch.testing.assert_close(codes.values[1:2], six.values)


def test_sample_fills_a_folder(situ: Situ, model: tuple[str, str], tmp_path: Path) -> None:
    said = situ("sample", *model, "-n", "2", "-o", "new/pictures")
    assert (said.code, said.out, said.err) == (0, "", "wrote new/pictures\n")
    assert written(tmp_path) == ["new/pictures/seed0000.png", "new/pictures/seed0001.png"]
    z = GAN.sample(1, GAN.spaces["z"], torch.Generator().manual_seed(1), 0.7)
    picture = GAN.synthesize(z).images[0].clamp(-1, 1)
    torch.testing.assert_close(load_image("new/pictures/seed0001.png")[0], picture, atol=1 / 255 + 1e-4, rtol=0)


DISCOVER = ("discover", "lelsd", "--steps", "3", "--batch", "2", "--space", "w:2-5", "-o", "found")


def test_discover_writes_a_direction_for_each_region(
    situ: Situ, model: tuple[str, str], files: Path, tmp_path: Path
) -> None:
    mask = str(files / "corner.png")
    said = situ(*DISCOVER, *model, "--box", BOX, "--mask", mask, "-k", "2", "--seed", "9", "--json")
    content = said.json()
    assert isinstance(content, dict)
    assert content["generator"] == GAN.name
    names = ["box_8_8_8_8_-1", "box_8_8_8_8_-2", "mask_corner_-1", "mask_corner_-2"]
    assert written(tmp_path) == [f"found/{name}.safetensors" for name in names]
    assert sorted(d["file"] for d in content["directions"]) == written(tmp_path)
    for entry in content["directions"]:
        found = load_direction(entry["file"])
        assert (found.seed, found.truncation, str(found.subspace)) == (9, 0.7, "w:2-5")
        assert entry["region_gain"] == pytest.approx(found.score)
        assert set(entry["figures"]) == {"search_LS", "steps", "LS", "random_LS", "random_gain"}
        assert found.figures["steps"] == 3


def test_discover_tells_people(situ: Situ, model: tuple[str, str]) -> None:
    said = situ(*DISCOVER, *model, "--box", BOX)
    assert said.code == 0
    assert "region gain" in said.out
    assert "found/box_8_8_8_8.safetensors" in said.out
    assert "try: situ sweep found/box_8_8_8_8.safetensors" in said.err


def test_discover_repeats_itself(situ: Situ, model: tuple[str, str]) -> None:
    first, again = (situ(*DISCOVER, *model, "--box", BOX, "--json").json() for _ in range(2))
    assert first == again


def test_inspect_a_model(situ: Situ, model: tuple[str, str]) -> None:
    content = situ("inspect", model[1], "--json").json()
    assert isinstance(content, dict)
    assert content["generator"] == GAN.name
    assert {s["name"]: s["dim"] for s in content["spaces"]} == {name: s.dim for name, s in GAN.spaces.items()}
    assert [layer["name"] for layer in content["layers"]] == [layer.name for layer in GAN.layers]
    assert content["parts"] == []
    shown = situ("inspect", model[1])
    assert shown.code == 0
    assert GAN.name in shown.out
    assert "b16.conv1" in shown.out
    assert "none (give a box or a mask)" in shown.out


def test_inspect_a_direction(situ: Situ, files: Path) -> None:
    content = situ("inspect", str(files / "good.safetensors"), "--json").json()
    assert isinstance(content, dict)
    assert (content["name"], content["subspace"], content["raw_alpha_per_unit"]) == ("good", "w+:2-5", 0.5)
    assert content["region_gain"] is None, "not known is null, not NaN"
    shown = situ("inspect", str(files / "good.safetensors"))
    assert "w+:2-5" in shown.out


def test_edit_moves_and_saves_its_stack(situ: Situ, model: tuple[str, str], files: Path, tmp_path: Path) -> None:
    good, other = (str(files / f"{name}.safetensors") for name in ("good", "other"))
    texts = [f"{good}:2", f"{other}:-1@0-1"]
    words = ("edit", *model, "--seed", "3", "-o", "e.png", "--json")
    content = situ(*words, "--apply", texts[0], "--apply", texts[1], "--save-stack", "stack.json").json()
    assert isinstance(content, dict)
    assert [(t["direction"], t["subspace"], t["strength"]) for t in content["apply"]] == [
        ("good", "w+:2-5", 2),
        ("other", "w:0-1", -1),
    ]
    assert content["pictures"] == ["seed 3"]
    assert content["distance"][0] > 0
    assert written(tmp_path) == ["e.png", "stack.json"]
    picture = load_image("e.png")
    again = situ(*words, "--stack", "stack.json").json()
    assert again == content
    assert torch.equal(load_image("e.png"), picture)
    z = GAN.sample(1, GAN.spaces["z"], torch.Generator().manual_seed(3), 0.7)
    moved = load_direction(good).apply(GAN, z, 2.0)
    narrow = load_direction(other).on_layers((0, 1), GAN.spaces)
    expected = GAN.synthesize(narrow.apply(GAN, moved, -1.0)).images.clamp(-1, 1)
    torch.testing.assert_close(picture, expected, atol=1 / 255 + 1e-4, rtol=0)


def test_edit_takes_latents_and_compares(situ: Situ, model: tuple[str, str], files: Path, tmp_path: Path) -> None:
    good, codes = str(files / "good.safetensors"), str(files / "codes.safetensors")
    said = situ("edit", *model, "--apply", good, "--latents", codes, "--compare", "-o", "c.png")
    assert said.code == 0
    assert said.err.startswith("wrote c.png: moved by ")
    assert load_image("c.png").shape[-1] > 3 * 128
    content = situ("edit", *model, "--apply", good, "--latents", codes, "-o", "e.png", "--json").json()
    assert isinstance(content, dict)
    assert content["pictures"] == ["codes 0", "codes 1"]
    latents = load_latents(codes)
    moved = GAN.synthesize(load_direction(good).apply(GAN, latents, 1.0)).images
    expected = PyramidDistance().between(GAN.synthesize(latents).images, moved)
    assert content["distance"] == pytest.approx(expected.tolist(), rel=1e-3)


def test_directions_of_other_weights_go_with_force(situ: Situ, model: tuple[str, str], files: Path) -> None:
    foreign = str(files / "foreign.safetensors")
    for words in (("edit", "--apply", foreign), ("sweep", foreign), ("palette", foreign, foreign)):
        assert situ(*words, *model).code == 2
        assert situ(*words, *model, "--force").code == 0
    assert situ("measure", foreign, *model, "-n", "2", "--random", "0", "--force").code == 0


def test_palette(situ: Situ, model: tuple[str, str], files: Path, tmp_path: Path) -> None:
    good, other = (str(files / f"{name}.safetensors") for name in ("good", "other"))
    words = ("palette", f"{good}:0.5", other, *model, "--strengths", "-1,0,1", "--seed", "2")
    assert situ(*words, "--json").json() == {
        "out": "palette.png",
        "across": "good",
        "down": "other",
        "strengths": [-1, 0, 1],
        "picture": "seed 2",
    }
    assert written(tmp_path) == ["palette.png"]


def test_sweep(situ: Situ, model: tuple[str, str], files: Path, tmp_path: Path) -> None:
    good = str(files / "good.safetensors")
    words = ("sweep", good, *model, "--seed", "0", "--seed", "4", "-o", "s.webp", "--json")
    assert situ(*words).json() == {
        "out": "s.webp",
        "direction": "good",
        "pictures": ["seed 0", "seed 4"],
        "strengths": [-2, -1, 0, 1, 2],
    }
    raw = situ(*words, "--alphas", "-1,3").json()
    assert isinstance(raw, dict)
    assert raw["alphas"] == [-1, 3]
    equal = situ(*words, "--distances", "-0.001,0,0.001,1e12").json()
    assert isinstance(equal, dict)
    assert equal["reached"] == [[True, True, True, False]] * 2
    assert [[a > 0 for a in row[:3]] for row in equal["alpha"]] == [[False, False, True]] * 2
    assert written(tmp_path) == ["s.webp"]
    assert situ(*words, "--alphas", "1", "--strengths", "1").code == 2


def test_measure(situ: Situ, model: tuple[str, str], files: Path) -> None:
    good = str(files / "good.safetensors")
    content = situ("measure", f"{good}:2", *model, "-n", "4", "--random", "2", "--json").json()
    assert isinstance(content, list)
    assert [row["name"] for row in content] == ["good", "random in w+:2-5"]
    names = {"LS", "inside", "mse_inside", "mse_outside", "pixel pyramid", "region_gain"}
    for row in content:
        assert set(row["figures"]) == names
        assert 0 <= row["figures"]["LS"] <= 1
    figures = content[0]["figures"]
    assert figures["region_gain"] == pytest.approx(figures["mse_inside"] / figures["mse_outside"])
    shown = situ("measure", good, *model, "-n", "2", "--random", "0", "--box", "4,4,4,4")
    assert shown.code == 0
    assert "mse_inside" in shown.out


def test_measure_takes_a_mask(situ: Situ, model: tuple[str, str], files: Path) -> None:
    """A painted corner is the box over that corner; a direction of an unknown part needs one of them."""
    words = ("measure", str(files / "partly.safetensors"), *model, "-n", "4", "--random", "0", "--json")
    corner = situ(*words, "--mask", str(files / "corner.png")).json()
    assert corner == situ(*words, "--box", "4,4,8,8").json()
    assert corner != situ(*words, "--box", "8,8,8,8").json()


# What is refused: the words, and what the one line must say (expected, got, what to do). @x stands for a file above.
BAD = {
    "direction of another generator": (
        "edit --apply @foreign.safetensors -o e.png",
        r"found on stylegan2-16px-someoneelse, this model is stylegan2-16px-\w+: find it again.*--force",
    ),
    "sweep of another generator's": (
        "sweep @foreign.safetensors -o e.png",
        "found on stylegan2-16px-someoneelse, this model is",
    ),
    "measure of another generator's": (
        "measure @foreign.safetensors -n 2",
        "found on stylegan2-16px-someoneelse, this model is",
    ),
    "unknown part": ("discover lelsd --part nose -o found", 'no segmenter, so no part "nose": give a box or a mask'),
    "part of a direction": ("measure @partly.safetensors -n 2", 'found for "hair", which cannot be made again.*--box'),
    "no region": ("discover lelsd -o found", "say which region: --part NAME, --box"),
    "unwritable folder": (
        "discover lelsd --box 8,8,8,8 -o @file/found",
        r"cannot write to the folder .*file/found: .*choose another with -o",
    ),
    "unwritable place of a picture": ("sample -n 1 -o @file/s.png", "cannot write to the folder .*choose another"),
    "picture of no format": ("sample -n 1 -o s.txt", r"written as \.png, \.jpg or \.webp, got s\.txt"),
    "animation": ("edit --apply @good.safetensors -o e.gif", r"written as \.png, \.jpg or \.webp, got e\.gif"),
    "NaN latents": (
        "edit --apply @good.safetensors --latents @nan.safetensors -o e.png",
        r"must be finite numbers; rows \[0, 1\] hold NaN or infinity: make them again",
    ),
    "latents of another generator": (
        "edit --apply @good.safetensors --latents @foreign_codes.safetensors -o e.png",
        r"foreign_codes\.safetensors holds codes of stylegan2-16px-someoneelse, this model is stylegan2-16px-\w+",
    ),
    "direction as latents": (
        "sweep @good.safetensors --latents @good.safetensors -o e.png",
        r"holds something else \(situ-direction-1\): expected a latents file",
    ),
    "latents and seeds": (
        "sweep @good.safetensors --latents @codes.safetensors --seed 1 -o e.png",
        "give --latents or --seed, not both",
    ),
    "corrupt direction": (
        "edit --apply @corrupt.safetensors -o e.png",
        r"corrupt\.safetensors cannot be read .*expected a direction file .*as `situ discover` writes it",
    ),
    "inspect a corrupt direction": ("inspect @corrupt.safetensors", "cannot be read .*expected a direction file"),
    "strength abc": ("edit --apply @good.safetensors:abc -o e.png", 'must be a number such as 1.5 or -1, got "abc"'),
    "strength nan": ("edit --apply @good.safetensors:nan -o e.png", 'must be a finite number, got "nan"'),
    "strengths of a sweep": (
        "sweep @good.safetensors --strengths 1,abc -o e.png",
        'a strength in --strengths must be a number.*got "abc"',
    ),
    "strengths of a palette": (
        "palette @good.safetensors @other.safetensors --strengths 1,,2 -o e.png",
        'must be a number.*got ""',
    ),
    "no distance": ("sweep @good.safetensors --distances inf -o e.png", "must be a finite number"),
    "picture for a direction": ("edit --apply @black.png:1 -o e.png", r"black\.png cannot be read.*a direction file"),
    "missing direction": ("sweep none.safetensors -o e.png", r"no direction file at none\.safetensors: expected"),
    "something else for a direction": ("sweep @anything.safetensors -o e.png", r"something else \(no format\)"),
    "nothing to apply": ("edit -o e.png", "nothing to apply: give --apply"),
    "missing stack": ("edit --stack none.json -o e.png", "none.json cannot be read.*expected a stack"),
    "stack of something else": ("edit --stack @bad.json -o e.png", "bad.json cannot be read.*expected a stack"),
    "missing model": ("sample -n 1 --model nowhere -o s.png", 'no model "nowhere": give the path .* one of portraits'),
    "direction as a model": (
        "sample -n 1 --model @good.safetensors -o s.png",
        r"holds something else \(situ-direction-1\): expected a generator file",
    ),
    "picture as a model": ("sample -n 1 --model @black.png -o s.png", "cannot be read.*expected a generator file"),
    "unknown device": ("sample -n 1 --device abacus -o s.png", 'no device "abacus": expected auto, cpu, cuda'),
    "negative seed": ("sample -n 1 --seed -3 -o s.png", "a seed is a whole number from 0, got -3"),
    "truncation": ("sample -n 1 --truncation nan -o s.png", "truncation is a number from -2 to 2.*got nan"),
    "box outside": (
        "discover lelsd --box 14,8,8,8 -o found",
        r"a box is .*inside 16 x 16 pixels; got box\[14,8,8,8\]",
    ),
    "box of words": ("discover lelsd --box a,b,c,d -o found", 'written ROW,COLUMN,HEIGHT,WIDTH .* got "a,b,c,d"'),
    "box of three": ("measure @good.safetensors --box 8,8,8", 'written ROW,COLUMN,HEIGHT,WIDTH .* got "8,8,8"'),
    "empty mask": (
        "discover lelsd --mask @black.png -o found",
        r"the mask mask\[black\] is empty: paint the region white",
    ),
    "missing mask": ("discover lelsd --mask none.png -o found", r"no picture at none\.png"),
    "text for a mask": ("discover lelsd --mask @bad.json -o found", "bad.json is not a picture that can be read"),
    "layers outside": (
        "edit --apply @good.safetensors:1@4-9 -o e.png",
        r'layers of w\+ run from 0 to 5, got "4-9"',
    ),
    "layers of nothing": (
        "edit --apply @good.safetensors:1@0-1 -o e.png",
        r"moves w\+:2-5, nothing on layers \[0, 1\]",
    ),
    "layers of words": ("sweep @good.safetensors:1@top -o e.png", 'written like "4-7" or "0,2,5", got "top"'),
    "layer weight": (
        "discover lelsd --box 8,8,8,8 --layer-weight b8.conv1=x -o found",
        'must be a number such as 1.5 or -1, got "x"',
    ),
    "unknown space": (
        "discover lelsd --box 8,8,8,8 --space y -o found",
        r'spaces of this generator are z, w, w\+, s, got "y"',
    ),
    "layers of a space": (
        "discover lelsd --box 8,8,8,8 --space w+:9 -o found",
        r'layers of w\+ run from 0 to 5, got "9"',
    ),
    "unknown aggregation": (
        "discover lelsd --box 8,8,8,8 --aggregation sum -o found",
        "'sum' is not one of 'average', 'union', 'intersection'",
    ),
    "unknown distance": (
        "discover lelsd --box 8,8,8,8 --distance l3 -o found",
        "'l3' is not one of 'l2', 'l1', 'cosine'",
    ),
    "weight of no layer": (
        "discover lelsd --box 8,8,8,8 --layer-weight b9=1 -o found",
        "layer weights name feature layers .*got b9",
    ),
}


def refused(situ: Situ, words: str, files: Path, model: tuple[str, str]) -> str:
    """What it says, once it is known to be an orderly refusal."""
    every = [re.sub(r"^@", f"{files}/", word) for word in words.split()]
    if "--model" not in every and every[0] != "inspect":
        every += model
    before = written(files)
    said = situ(*every)
    assert said.code == 2
    assert said.out == ""
    assert written(files) == before
    assert written(Path.cwd()) == [], "no output is left"
    assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(
    case: str, situ: Situ, files: Path, model: tuple[str, str], unchecked: None
) -> None:
    words, message = BAD[case]
    err = refused(situ, words, files, model)
    assert re.fullmatch(r"situ: [^\n]+\n", err), err
    assert re.search(message, err), err


def test_a_second_output_that_cannot_be_written_leaves_no_first(
    situ: Situ, files: Path, model: tuple[str, str]
) -> None:
    refused(situ, "sample -n 1 -o s.png --latents @file/codes.safetensors", files, model)


@pytest.mark.parametrize("words", ["edit --apply @deeper.safetensors", "palette @deeper.safetensors @good.safetensors"])
def test_a_direction_of_a_deeper_model_is_refused(words: str, situ: Situ, files: Path, model: tuple[str, str]) -> None:
    deeper = tiny_stylegan2(resolution=32)
    subspace = parse_subspace("w+:7", deeper.spaces)
    Direction(torch.ones(8), subspace, deeper.name, "all", "drawn", name="deeper").save(files / "deeper.safetensors")
    assert "does not exist on" in refused(situ, words, files, model)


@pytest.mark.parametrize(
    "words", ["measure @good.safetensors -n 2 --random 0", "discover lelsd --box 8,8,8,8 --steps 2 --space w -o found"]
)
def test_every_truncation_is_checked(words: str, situ: Situ, files: Path, model: tuple[str, str]) -> None:
    assert "truncation is a number" in refused(situ, f"{words} --truncation nan", files, model)


def test_regions_of_one_name_get_files_of_their_own(
    situ: Situ, files: Path, model: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "left").mkdir()
    Image.open(files / "corner.png").transpose(Image.Transpose.ROTATE_180).save(tmp_path / "left" / "corner.png")
    masks = ("--mask", str(files / "corner.png"), "--mask", "left/corner.png")
    assert situ(*DISCOVER, *model, *masks).code in (0, 2)
    assert len(list(Path("found").glob("*.safetensors"))) != 1


def test_advice_can_be_followed(situ: Situ, files: Path, model: tuple[str, str]) -> None:
    err = refused(situ, "measure @partly.safetensors -n 2", files, model)
    options = set(command("measure").params_by_option)
    assert set(re.findall(r"--\w+", err)) <= options


def test_paths_are_printed_as_they_are(situ: Situ, model: tuple[str, str]) -> None:
    said = situ("sample", *model, "-n", "1", "-o", "a[/b].png")
    assert said.err == "wrote a[/b].png\n"


def test_ctrl_c_exits_with_130(situ: Situ, model: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*rest: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("situ.cli.sample"), "open_on", stop)
    said = situ("sample", *model, "-n", "1", "-o", "s.png")
    assert said.code == 130
    assert said.out == ""


class Verb:
    """A command, and its options by name."""

    def __init__(self, found: object) -> None:
        self.found = found
        self.params_by_option = {o for p in found.params for o in (*p.opts, *p.secondary_opts)}  # pyright: ignore


def command(*path: str) -> Verb:
    found = typer.main.get_command(app)
    for word in path:
        found = found.commands[word]  # pyright: ignore[reportAttributeAccessIssue]
    return Verb(found)


def options_in(help_text: str) -> set[str]:
    """The option names that a help page lists at the start of its lines."""
    lines = re.sub(r"[│|]", " ", help_text).splitlines()
    return {
        name for line in lines if re.match(r"\s*\*?\s*-", line) for name in re.findall(r"(?<!\S)--?[a-z][a-z-]*", line)
    }


def test_help_lists_the_verbs(situ: Situ) -> None:
    said = situ("--help")
    assert said.code == 0
    verbs = {"demo", "models", "inspect", "sample", "discover", "edit", "palette", "sweep", "measure"}
    verbs |= {"compare", "clusters", "train-segmenter", "transfer", "convert", "pack", "directions", "import", "export"}
    verbs |= {"invert", "photos", "runs", "bench", "studio", "study"}
    assert set(command().found.commands) == verbs  # pyright: ignore[reportAttributeAccessIssue]
    for verb in verbs:
        assert re.search(rf"^[\s│|]*{verb}\s+[A-Z]", said.out, re.MULTILINE), f"{verb} has a line of help"


def test_help_of_lelsd(situ: Situ) -> None:
    said = situ("discover", "lelsd", "--help")
    assert said.code == 0
    expected = {
        "--out", "-o", "--part", "--box", "--mask", "--preset", "--segmenter", "--background", "--no-background",
        "--random", "--low-precision", "--no-low-precision", "--model", "-m", "--device", "--seed", "--json",
        "--class", "--class-names", "--no-json",
        "--steps", "--start", "--as-coded", "--no-as-coded", "--as-published", "--no-as-published", "-k",
    }  # fmt: skip
    settings = {each.name for each in fields(LELSD)} - {"k", "start", "layer_weights"}
    expected |= {f"--{name.replace('_', '-')}" for name in settings} | {"--layer-weight"}
    expected |= {f"--no-{each.name.replace('_', '-')}" for each in fields(LELSD) if isinstance(each.default, bool)}
    on_off = {option for option in expected if option.startswith("--no-")}
    assert command("discover", "lelsd").params_by_option - on_off == expected - on_off
    shown = options_in(said.out) - {"-h", "--help"}
    assert expected - on_off <= shown
    assert shown <= expected


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_verb_whose_help_says_what_it_does(situ: Situ, method: str) -> None:
    said = situ("discover", method, "--help")
    assert said.code == 0
    assert METHODS[method].words.split(":")[0] in said.out
    assert "--part" in said.out


@pytest.mark.parametrize("verb", ["sample", "edit", "palette", "sweep", "measure"])
def test_verbs_share_their_options(verb: str) -> None:
    assert {"--model", "-m", "--device", "--seed", "--truncation", "--json"} <= command(verb).params_by_option


def test_every_verb_speaks_json() -> None:
    for path in (("demo",), ("models",), ("inspect",), ("discover", "lelsd"), ("edit",)):
        assert "--json" in command(*path).params_by_option


@pytest.mark.parametrize("words", ["edit --nope", "sample --seed abc", "sample -n 0", "palette one.safetensors", "fly"])
def test_wrong_words_get_one_line(situ: Situ, words: str) -> None:
    said = situ(*words.split())
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("situ: ")
    assert len(said.err.strip().splitlines()) == 1


def test_a_stack_moves_with_its_directions(
    situ: Situ, files: Path, model: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stacks"
    folder.mkdir()
    shutil.copy(files / "good.safetensors", folder / "good.safetensors")
    monkeypatch.chdir(tmp_path)
    words = ("--apply", "stacks/good.safetensors:2", "--save-stack", "stacks/stack.json", "-o", "a.png")
    assert situ("edit", *model, *words).code == 0
    folder.rename(tmp_path / "moved")
    assert situ("edit", *model, "--stack", "moved/stack.json", "-o", "b.png").code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_a_strength_beyond_numbers_is_refused(situ: Situ, files: Path, model: tuple[str, str], tmp_path: Path) -> None:
    said = situ("edit", *model, "--apply", f"{files}/good.safetensors:1e39", "-o", str(tmp_path / "a.png"))
    assert said.code == 2
    assert "lower the strength" in said.err
    assert not (tmp_path / "a.png").exists()


def test_compare_writes_a_sheet_a_table_and_the_directions(
    situ: Situ, model: tuple[str, str], tmp_path: Path, unchecked: None
) -> None:
    words = ("compare", *model, "--box", BOX, "--methods", "random,resefa", "-n", "2", "--distance", "0.01", "-o", "c")
    report = situ(*words, "--json").json()
    assert isinstance(report, dict)
    assert (report["pictures"], report["distance"]) == (2, 0.01)
    assert {row["method"] for row in report["methods"]} == {"random", "resefa"}
    assert json.loads((tmp_path / "c" / "report.json").read_text()) == report
    for name in ("random", "resefa"):
        assert load_direction(tmp_path / "c" / f"{name}.safetensors").generator == GAN.name
    with Image.open(tmp_path / "c" / "sheet.png") as page:
        assert page.width > 200
    assert "region gain" in situ(*words).out
    some = situ(*[word.replace("resefa", "sefa") for word in words])
    assert some.code == 1, "what could be done is done, and it is said what could not"
    assert "sefa is left out: w has 8 dimensions, too few for k=10 eigenvectors" in some.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--box", BOX, "--methods", "resefa,magic"), 'got "magic"'),
        (("--box", BOX, "--methods", " , "), "name at least one method"),
        (("--box", BOX, "--box", "4,4,4,4"), r"one region.*join parts with \+"),
        (("--box", BOX, "--distance", "0"), "positive number, got 0"),
        (("--box", BOX, "--methods", "interfacegan"), "needs a classifier of attributes, and model has none"),
        (("--part", "mouth"), "has no segmenter"),
    ],
)
def test_compare_refuses(situ: Situ, model: tuple[str, str], words: tuple[str, ...], message: str) -> None:
    said = situ("compare", *model, *words)
    assert said.code == 2
    assert re.search(message, " ".join(said.err.split())), said.err
    assert not Path("compared").exists()


def test_a_class_is_chosen_by_number_or_name(situ: Situ, tmp_path: Path, unchecked: None) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = StyleGAN2Network(StyleGAN2Settings(8, 8, 8, 3, 2, 64, 12))
    save_stylegan2(network, tmp_path / "model.safetensors")
    (tmp_path / "names.txt").write_text("cat\ndog, hound\nowl\n")
    words = ("sample", "--model", "model.safetensors", "-n", "2", "-o", "s.png", "--latents", "codes.safetensors")
    named = ("--class-names", "names.txt", "--class", "hound")
    rows = {}
    for key, more in {"number": ("--class", "1"), "name": named, "other": ("--class", "2"), "drawn": ()}.items():
        assert situ(*words, *more).code == 0
        codes = load_latents(tmp_path / "codes.safetensors")
        assert codes.labels is not None
        rows[key] = codes.labels.argmax(dim=1).tolist()
    assert (rows["number"], rows["name"], rows["other"]) == ([1, 1], [1, 1], [2, 2])
    assert "numbered from 0 to 2, got 7" in situ(*words, "--class", "7").err
    assert "the nearest are" in situ(*words, "--class-names", "names.txt", "--class", "hond").err
    assert "does not know the names" in situ(*words, "--class", "dog").err


def test_a_class_of_a_model_without_any_is_refused(situ: Situ, model: tuple[str, str]) -> None:
    said = situ("sample", *model, "--class", "1")
    assert said.code == 2
    assert "has no classes" in said.err


def test_without_an_accelerator_the_cpu_does_and_it_is_said_once(
    situ: Situ, model: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = torch.zeros

    def refusing(*size: object, **options: object) -> torch.Tensor:
        if "cuda" in str(options.get("device", "")):
            raise RuntimeError("Found no NVIDIA driver on your system")
        return zeros(*size, **options)  # pyright: ignore[reportArgumentType, reportCallIssue]

    monkeypatch.setattr(torch, "zeros", refusing)
    said = situ("sample", *model, "-n", "1", "--device", "cuda:1", "-o", "s.png", "--json")
    assert said.code == 0
    assert said.err.count("there is no cuda:1 on this machine: working on the CPU") == 1
