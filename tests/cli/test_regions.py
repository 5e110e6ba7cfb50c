"""The verbs about regions: clusters, train-segmenter and transfer, presets and segmenter files; what they refuse."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

from situ.checkpoints.native import save_stylegan2
from situ.cli.main import run
from situ.cli.options import regions_of, with_segmenter
from situ.core.direction import Direction
from situ.core.images import from_pil, load_image
from situ.core.latents import parse_subspace
from situ.core.region import Box, Part
from situ.core.transfer import PartTransfer, transfer_part
from situ.packs.pack import Pack
from situ.packs.segmenters import open_segmenter
from situ.segmenters.clusters import ClusterSegmenter, load_clusters
from situ.segmenters.linear import LinearSegmenter, load_linear
from toys import tiny_network, tiny_stylegan2
from toys_parts import HalvesSegmenter

GAN = tiny_stylegan2()
PACK = Pack("tiny", GAN)


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    def json(self) -> dict:
        assert self.code == 0, self.err
        return json.loads(self.out)


Situ = Callable[..., Said]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, segmenter files good and bad, masks, and folders of label maps good and bad."""
    folder = tmp_path_factory.mktemp("files")
    save_stylegan2(tiny_network(), folder / "model.safetensors", licence="CC0")
    centres = torch.randn(3, GAN.layers[1].channels, generator=torch.Generator().manual_seed(0))
    names = ("one", "two", "three")
    ClusterSegmenter(GAN.name, "b8.conv0", centres, names).save(folder / "clusters.safetensors")
    ClusterSegmenter("stylegan2-other", "b8.conv0", centres, names).save(folder / "foreign.safetensors")
    weights = {"b16.conv1": torch.randn(2, GAN.layers[-1].channels, generator=torch.Generator().manual_seed(0))}
    LinearSegmenter(GAN.name, ("in", "out"), weights, torch.zeros(2), 16).save(folder / "head.safetensors")
    LinearSegmenter("stylegan2-other", ("in", "out"), weights, torch.zeros(2), 16).save(folder / "other.safetensors")
    (folder / "broken.safetensors").write_bytes((folder / "clusters.safetensors").read_bytes()[:-9])
    subspace = parse_subspace("w+:2-5", GAN.spaces)
    Direction(torch.ones(32), subspace, GAN.name, "two", "drawn", unit=0.1).save(folder / "direction.safetensors")

    def mask(name: str, size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
        image = Image.new("L", size, 0)
        image.paste(255, box)
        image.save(folder / f"{name}.png")

    mask("corner", (16, 16), (0, 0, 8, 8))
    mask("large", (64, 32), (0, 0, 32, 16))
    mask("white", (16, 16), (0, 0, 16, 16))
    mask("hair-thin", (256, 256), (8, 0, 10, 256))
    labels(folder / "painted", {0: "#ff0000 #00ff00", 4: "#00ff00 #0000ff"})
    labels(folder / "named", {0: "#ff0000 #00ff00", 4: "#00ff00 #0000ff"})
    (folder / "named" / "names.json").write_text('{"#FF0000": "mouth", "0000ff": "mouth", "#00ff00": "rest"}')
    labels(folder / "one", {1: "#ff0000 #000000"})
    labels(folder / "oblong", {1: "#ff0000 #00ff00"}, size=(32, 16))
    labels(folder / "twice", {1: "#ff0000 #00ff00"})
    (folder / "twice" / "seed1.png").write_bytes((folder / "twice" / "seed0001.png").read_bytes())
    labels(folder / "strange", {1: "#ff0000 #00ff00"})
    (folder / "strange" / "seed0001.png").rename(folder / "strange" / "anna.png")
    labels(folder / "misnamed", {1: "#ff0000 #00ff00"})
    (folder / "misnamed" / "names.json").write_text('{"red": "mouth"}')
    (folder / "photo").mkdir()
    grey = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
    Image.fromarray(grey.numpy()).save(folder / "photo" / "seed0001.png")
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    return folder


def labels(folder: Path, seeds: dict[int, str], size: tuple[int, int] = (16, 16)) -> None:
    """Label maps of two colours, left and right of a black stripe."""
    folder.mkdir()
    for seed, colours in seeds.items():
        left, right = colours.split()
        image = Image.new("RGB", size, left)
        image.paste(right, (size[0] // 2, 0, *size))
        image.paste("#000000", (size[0] // 2, 0, size[0] // 2 + 1, size[1]))
        image.save(folder / f"seed{seed:04d}.png")


@pytest.fixture
def situ(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Situ:
    """`situ("verb --words")` in an empty folder; @x stands for a file above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def command(words: str) -> Said:
        every = [re.sub(r"^@", f"{files}/", word) for word in words.split()]
        monkeypatch.setattr(sys, "argv", ["situ", *every, "--model", str(files / "model.safetensors")])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run()
        said = capsys.readouterr()
        return Said(int(stop.value.code or 0), said.out, said.err)

    return command


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_clusters_are_found_drawn_and_named(situ: Situ, tmp_path: Path) -> None:
    words = "clusters --layer b8.conv1 -k 3 -n 4 --seed 2 --sheet c.png --json"
    content = situ(f"{words} --name cluster-2=mouth").json()
    assert written(tmp_path) == ["c.png", "clusters.safetensors"]
    assert load_image("c.png").shape[-1] > 4 * 128
    assert (content["layer"], content["generator"]) == ("b8.conv1", GAN.name)
    assert [part["name"] for part in content["parts"]] == ["cluster-1", "mouth", "cluster-3"]
    assert sum(part["area"] for part in content["parts"]) == pytest.approx(1)
    first = load_clusters("clusters.safetensors", GAN)
    assert first.parts == ("cluster-1", "mouth", "cluster-3")
    assert situ(words.replace("--json", "-o again.safetensors")).code == 0
    assert torch.equal(load_clusters("again.safetensors").centres, first.centres), "the same seed, the same clusters"


def test_clusters_can_be_named_later(situ: Situ, files: Path, tmp_path: Path) -> None:
    said = situ("clusters --from @clusters.safetensors --name one=left --name three=left -o named.safetensors")
    assert said.code == 0
    assert "left" in said.out
    assert "try: situ discover lelsd --segmenter named.safetensors" in said.err
    named = load_clusters("named.safetensors", GAN)
    assert named.clusters == ("left", "two", "left")
    torch.testing.assert_close(named.centres, load_clusters(files / "clusters.safetensors").centres)


def test_clusters_say_what_they_are_most_like(situ: Situ, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a model with parts of its own."""
    monkeypatch.setattr("situ.cli.clusters.open_on", lambda *_: Pack("tiny", GAN, HalvesSegmenter()))
    parts = situ("clusters --from @clusters.safetensors -o n.safetensors --json").json()["parts"]
    assert all(part["most_like"] in ("left", "right") and 0 <= part["overlap"] <= 1 for part in parts)


def test_a_head_is_trained(situ: Situ, tmp_path: Path) -> None:
    said = situ("train-segmenter --labels @painted --json")
    content = said.json()
    assert [part["name"] for part in content["parts"]] == ["#0000ff", "#00ff00", "#ff0000"]
    assert content["pixels"] == 2 * (256 - 16), "the black stripe is unlabelled"
    assert [part["pixels"] for part in content["parts"]] == [112, 240, 128]
    assert 0.5 < content["agreement"] <= 1
    mean = sum(p["pixels"] * p["agreement"] for p in content["parts"]) / content["pixels"]
    assert content["agreement"] == pytest.approx(mean)
    head = load_linear("head.safetensors", GAN)
    assert head.parts == ("#0000ff", "#00ff00", "#ff0000")
    shown = situ("train-segmenter --labels @painted -o h.safetensors")
    assert "#00ff00" in shown.out
    assert "wrote h.safetensors: agrees with" in shown.err
    assert torch.equal(load_linear("h.safetensors").bias, head.bias)


def test_colours_of_one_name_are_one_part(situ: Situ) -> None:
    content = situ("train-segmenter --labels @named --json").json()
    found = {part["name"]: (part["pixels"], part["colours"]) for part in content["parts"]}
    assert found == {"mouth": (240, ["#ff0000", "#0000ff"]), "rest": (240, ["#00ff00"])}


def test_a_label_map_belongs_to_the_picture_of_its_name(situ: Situ, tmp_path: Path) -> None:
    """Labels of a picture by brightness are learnt well from that picture, and less well from another."""
    assert situ("sample -n 4 -o pictures").code == 0
    for folder, shift in (("right", 0), ("wrong", 1)):
        (tmp_path / folder).mkdir()
        for seed in (0, 1):
            grey = load_image(f"pictures/seed{seed:04d}.png").mean(dim=1)[0]
            bright = (grey > grey.median())[..., None].numpy()
            pixels = bright * torch.tensor([255, 0, 0]).numpy() + (1 - bright) * torch.tensor([0, 255, 0]).numpy()
            Image.fromarray(pixels.astype("uint8")).save(f"{folder}/seed{seed + 2 * shift:04d}.png")
    decay = "--weight-decay 0.01 --json"
    right, wrong = (situ(f"train-segmenter --labels {f} {decay}").json()["agreement"] for f in ("right", "wrong"))
    assert right > wrong + 0.03


def test_label_maps_are_resized_without_mixing_colours(situ: Situ, tmp_path: Path) -> None:
    labels(tmp_path / "big", {3: "#ff0000 #00ff00"}, size=(32, 32))
    said = situ("train-segmenter --labels big --json")
    assert "seed0003.png is 32 x 32 pixels: resized to the model's 16 x 16" in said.err
    assert [part["name"] for part in said.json()["parts"]] == ["#00ff00", "#ff0000"]


def test_transparent_and_indexed_label_maps(situ: Situ, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 255))
    image.paste((0, 255, 0, 255), (0, 0, 4, 16))
    image.paste((9, 9, 9, 0), (4, 0, 8, 16))
    image.save("labels/seed0001.png")
    image.convert("RGB").quantize(8).save("labels/seed0002.png")
    content = situ("train-segmenter --labels labels --json").json()
    found = {part["name"]: part["pixels"] for part in content["parts"]}
    assert found == {"#00ff00": 128, "#090909": 64, "#ff0000": 256}, "of the first, 64 are transparent"


def test_colours_without_a_name_are_left_open(situ: Situ, tmp_path: Path, files: Path) -> None:
    labels(tmp_path / "some", {3: "#ff0000 #00ff00", 4: "#0000ff #010203"})
    Path("some/names.json").write_text('{"#ff0000": "a", "#00ff00": "b"}')
    said = situ("train-segmenter --labels some --json")
    assert said.json()["pixels"] == 240
    assert "240 pixels have colours that names.json does not name (#0000ff, #010203): left open" in said.err


@pytest.mark.parametrize(("by", "settings"), [("activation", PartTransfer()), ("response", PartTransfer.by_response())])
def test_transfer(by: str, settings: PartTransfer, situ: Situ, tmp_path: Path) -> None:
    words = f"transfer --box 8,8,8,8 --seed 3 --reference 7 --strength 0.5 --by {by} --epsilon 0.9 --rho 0.15 -n 4"
    content = situ(f"{words} -o t.png --json").json()
    assert {key: content[key] for key in ("region", "pictures", "reference", "strength", "by")} == {
        "region": "box[8,8,8,8]",
        "pictures": ["seed 3"],
        "reference": 7,
        "strength": 0.5,
        "by": by,
    }
    assert 0 < content["inside"][0] < 1
    assert content["distance"][0] > 0
    target, reference = (GAN.sample(1, GAN.spaces["z"], torch.Generator().manual_seed(s), 0.7) for s in (3, 7))
    chosen = {"rho": 0.15, "epsilon": 0.9, "pictures": 4}
    made = PartTransfer(**{**vars(settings), **chosen})
    rng = torch.Generator().manual_seed(0)
    moved = transfer_part(GAN, Box(8, 8, 8, 8), target, reference, rng, made, strength=0.5)
    picture = GAN.synthesize(moved).images.clamp(-1, 1)
    torch.testing.assert_close(load_image("t.png"), picture, atol=1 / 255 + 1e-4, rtol=0)


def test_transfer_compares_and_takes_several(situ: Situ) -> None:
    said = situ("transfer --box 8,8,8,8 --seed 3 --seed 4 --reference 7 -n 4 --rho 0.1 --compare -o t.png")
    assert said.code == 0
    assert re.search(r"wrote t\.png: \d+% of the change lies inside box\[8,8,8,8\]; moved by", said.err)
    assert load_image("t.png").shape[-1] > 4 * 128


@pytest.mark.parametrize(("file", "part"), [("clusters", "one+three"), ("head", "in")])
def test_segmenter_files_answer_to_part(file: str, part: str, situ: Situ) -> None:
    content = situ(f"transfer --segmenter @{file}.safetensors --part {part} --reference 7 -n 4 --rho 0 --json").json()
    assert content["region"] == part
    figures = situ(
        f"measure @direction.safetensors --segmenter @{file}.safetensors --part {part} -n 4 --random 0 --json"
    )
    assert 0 <= json.loads(figures.out)[0]["figures"]["inside"] <= 1


def test_a_direction_of_a_cluster_is_measured_with_its_file(situ: Situ) -> None:
    words = "measure @direction.safetensors -n 4 --random 0 --json"
    assert situ(words).code == 2
    own = situ(f"{words} --segmenter @clusters.safetensors")
    assert own.out == situ(f"{words} --segmenter @clusters.safetensors --part two").out


def test_directions_are_measured_on_presets(situ: Situ) -> None:
    words = "measure @direction.safetensors -n 4 --random 0 --json"
    assert situ(f"{words} --preset mouth").out == situ(f"{words} --box 12,8,2,4").out


def test_regions_become_objects(files: Path) -> None:
    pack = with_segmenter(PACK, str(files / "clusters.safetensors"))
    assert pack.generator is GAN
    assert with_segmenter(PACK, None) is PACK
    regions = regions_of(pack, ["one+two"], ["8,8,4,4"], [files / "corner.png"], ["nose", "chin"])
    assert isinstance(regions[0], Part)
    assert regions[0].layers == ("b8.conv0",)
    assert [region.name for region in regions[1:]] == [
        "box[9,8,2,3]",
        "box[14,8,3,7]",
        "box[8,8,4,4]",
        "mask[corner]",
    ]
    assert isinstance(open_segmenter(files / "head.safetensors", GAN), LinearSegmenter)


def test_a_mask_of_another_size_is_told_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (brush,) = regions_of(PACK, None, None, [files / "large.png"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "64 x 32 pixels: resized to the model's 16 x 16 pixels, which changes its proportions" in said
    made = GAN.synthesize(GAN.sample(1, GAN.spaces["z"], torch.Generator().manual_seed(0)))
    expected = (from_pil(Image.open(files / "corner.png"))[:, :1] + 1) / 2
    assert torch.equal(brush.mask(made), expected)
    regions_of(PACK, None, None, [files / "corner.png"])
    assert capsys.readouterr().err == ""


BAD = {
    "another generator's clusters": (
        "clusters --from @foreign.safetensors",
        rf"was made on stylegan2-other, this model is {GAN.name}: make it again",
    ),
    "another generator's clusters as parts": (
        "transfer --segmenter @foreign.safetensors --part one --reference 1",
        "was made on stylegan2-other, this model is",
    ),
    "another generator's head": (
        "measure @direction.safetensors --segmenter @other.safetensors",
        "was made on stylegan2-other, this model is",
    ),
    "a head for clusters": (
        "clusters --from @head.safetensors",
        r"something else \(situ-linear-1\): expected a clusters",
    ),
    "a direction for a segmenter": (
        "transfer --segmenter @direction.safetensors --part one --reference 1",
        "is no segmenter: expected a file of `situ clusters` or `situ train-segmenter`",
    ),
    "a picture for a segmenter": ("transfer --segmenter @corner.png --part one --reference 1", "is no segmenter"),
    "no segmenter": ("transfer --segmenter none.x --part one --reference 1", r"no segmenter at none\.x: expected"),
    "a broken segmenter": ("transfer --segmenter @broken.safetensors --part one --reference 1", "is no segmenter"),
    "a part that the file does not know": (
        "transfer --segmenter @clusters.safetensors --part hair --reference 1",
        'knows the parts one, two, three; got "hair"',
    ),
    "an unknown layer": ("clusters --layer b9", 'feature layers of this generator are b4.conv1, .*; got "b9"'),
    "too many clusters": ("clusters --layer b4.conv1 -n 1 -k 17", "from 2 to 16 clusters"),
    "an unknown cluster": ("clusters --from @clusters.safetensors --name x=y", "clusters are one, two, three; got x"),
    "a name without a cluster": ("clusters --name mouth", 'named CLUSTER=NAME, such as .*, got "mouth"'),
    "a name with +": ("clusters --from @clusters.safetensors --name one=a+b", 'a word without "\\+"'),
    "a sheet of no format": ("clusters --sheet c.txt", "written as .png"),
    "an unwritable place": ("clusters -o @file/c.safetensors", "cannot write to the folder"),
    "no label maps": ("train-segmenter --labels @empty", "no label maps in .*: expected a folder with PNG"),
    "no folder": ("train-segmenter --labels nowhere", "no label maps in nowhere"),
    "a single class": ("train-segmenter --labels @one", "tells two or more parts apart, .*only #ff0000: paint more"),
    "an oblong label map": ("train-segmenter --labels @oblong", r"is 32 x 16 pixels, the model's pictures are square"),
    "an unknown name": ("train-segmenter --labels @strange", r"anna\.png stands for no picture: .*seed0003\.png"),
    "one picture twice": ("train-segmenter --labels @twice", "two label maps of one picture"),
    "names of no colours": ("train-segmenter --labels @misnamed", r'names\.json cannot be read \("red": "mouth"\)'),
    "a photograph": ("train-segmenter --labels @photo", "hold 255 colours, at most 64 .*: paint with a hard brush"),
    "no weight decay": ("train-segmenter --labels @painted --weight-decay 0", "must be positive numbers"),
    "no region": ("transfer --reference 1", "say which region: --part NAME, --box .*--preset NAME"),
    "two regions": (
        "transfer --preset nose --preset chin --reference 1",
        "one region is transferred, got .*join parts",
    ),
    "an unknown preset": ("transfer --preset hair --reference 1", 'presets are left_eye, .*; got "hair"'),
    "a rho out of range": ("transfer --preset nose --reference 1 --rho 2", "lie between 0 and 1, got {'rho': 2.0}"),
    "nothing to take over": ("transfer --preset nose --reference 1 --rho 1 -n 2", "no style channel belongs to box"),
    "a strength beyond numbers": ("transfer --preset nose --reference 1 --strength nan", "finite number, got nan"),
    "a whole box": ("transfer --box 8,8,16,16 --reference 1", "is the whole picture, so nothing outside is kept"),
    "a whole mask": ("transfer --mask @white.png --reference 1", r"white\.png is the whole picture, .*leave some"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(case: str, situ: Situ, unchecked: None) -> None:
    words, message = BAD[case]
    said = situ(words)
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(r"situ: [^\n]+\n", said.err), said.err
    assert re.search(message, said.err), said.err
    assert written(Path.cwd()) == []


def test_a_mask_that_vanishes_at_the_models_size_is_refused(situ: Situ) -> None:
    said = situ("transfer --mask @hair-thin.png --reference 1")
    assert said.code == 2
    assert "is empty at 16 x 16 pixels: paint a larger region" in said.err
