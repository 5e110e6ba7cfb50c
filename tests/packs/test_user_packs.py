"""Packs of one's own models: made whole or not at all, opened by name, shared without pickle."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch

from situ.checkpoints.native import save_stylegan2
from situ.core.direction import Direction
from situ.core.errors import DirectionError, FileError, ModelError, RegionError, SituError
from situ.core.generator import Synthesis
from situ.core.latents import parse_subspace
from situ.core.region import Part
from situ.packs.hub import pull_directions, pull_pack, push_directions, push_pack
from situ.packs.library import open_model
from situ.packs.user_packs import PackSources, create_pack, installed_packs, open_pack, packs_folder, require_pack
from situ.segmenters.clusters import fit_clusters
from toys import tiny_network, tiny_stylegan2
from toys_networks import narrow_arcface, narrow_bisenet

GAN = tiny_stylegan2()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any data."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("SITU_WEIGHTS", raising=False)
    return tmp_path


@pytest.fixture
def sources(tmp_path: Path) -> PackSources:
    save_stylegan2(tiny_network(), tmp_path / "gan.safetensors")
    torch.save(narrow_bisenet(), tmp_path / "parser.pth")
    torch.save(narrow_arcface(), tmp_path / "face.pth")
    return PackSources(
        tmp_path / "gan.safetensors", tmp_path / "parser.pth", embedder=tmp_path / "face.pth", licence="CC0"
    )


def test_a_pack_opens_by_name_with_all_it_was_made_of(sources: PackSources) -> None:
    folder = create_pack("mine", sources)
    assert installed_packs() == {"mine": folder}
    pack = open_model("mine")
    assert (pack.name, pack.licence, pack.generator.name) == ("mine", "CC0", GAN.name)
    assert pack.segmenter is not None
    assert {"eyes", "hair"} <= set(pack.segmenter.parts)
    images = GAN.synthesize(GAN.sample(2, GAN.spaces["z"], torch.Generator().manual_seed(0))).images
    assert Part(pack.segmenter, ("hair",)).mask(Synthesis(images)).shape == (2, 1, 16, 16)
    assert pack.embed is not None
    assert pack.embed(torch.zeros(2, 3, 256, 256)).shape[0] == 2
    assert "CelebAMask-HQ" in pack.card, "the licence of the parser's weights too"
    files = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert files == {".safetensors", ".json", ".md"}
    assert not [path for path in packs_folder().iterdir() if path.name.startswith(".")]


def test_half_precision_names_the_weights_that_are_kept(sources: PackSources) -> None:
    whole, half = create_pack("whole", sources), create_pack("half", replace(sources, half=True))
    assert json.loads((half / "pack.json").read_text())["generator"] == open_pack(half).generator.name
    assert open_pack(half).generator.name != open_pack(whole).generator.name
    size = {folder.name: (folder / "segmenter.safetensors").stat().st_size for folder in (whole, half)}
    assert size["half"] < 0.75 * size["whole"]


def test_our_own_segmenters_come_along_and_must_fit(sources: PackSources, tmp_path: Path) -> None:
    clusters = fit_clusters(GAN, "b8.conv1", 3, rng=torch.Generator().manual_seed(0), pictures=4)
    clusters.save(tmp_path / "clusters.safetensors")
    made = replace(sources, segmenter=tmp_path / "clusters.safetensors")
    assert open_pack(create_pack("parts", made)).segmenter.parts == clusters.parts  # pyright: ignore[reportOptionalMemberAccess]
    save_stylegan2(tiny_network(seed=1), tmp_path / "other.safetensors")
    with pytest.raises(RegionError, match="was made on"):
        create_pack("wrong", replace(made, generator=tmp_path / "other.safetensors"))
    assert list(installed_packs()) == ["parts"], "nothing is left of the other"
    assert [path.name for path in packs_folder().iterdir()] == ["parts"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": ""}, r"under which licence .* \(--licence NAME\)"),
        ({"labels": "alphabetical"}, 'orders of face labels are face-parsing, celebamask-hq; got "alphabetical"'),
        ({"lpips": "squeeze"}, 'alex or vgg, got "squeeze"'),
        ({"lpips": "alex"}, "weights of AlexNet.*are needed.*put it into"),
        ({"generator": Path("nowhere.pkl")}, "no file at nowhere.pkl"),
        ({"segmenter": Path("nowhere.pth")}, "no file at nowhere.pth"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_left(sources: PackSources, change: dict, message: str) -> None:
    with pytest.raises(SituError, match=message):
        create_pack("mine", replace(sources, **change))
    assert not installed_packs()
    assert not list(packs_folder().iterdir())


def test_networks_in_each_others_place_are_refused(sources: PackSources) -> None:
    with pytest.raises(ModelError, match="holds ArcFace, IR-SE-50, which is no segmenter"):
        create_pack("mine", replace(sources, segmenter=sources.embedder))
    with pytest.raises(ModelError, match="which is no embedder"):
        create_pack("mine", replace(sources, embedder=sources.segmenter))


def test_a_name_is_a_name_and_is_taken_once(sources: PackSources) -> None:
    for name in ("", "../up", "a/b", ".hidden", "x" * 65):
        with pytest.raises(ModelError, match="a pack's name is"):
            create_pack(name, sources)
    create_pack("mine", sources)
    with pytest.raises(ModelError, match=r"there is a pack mine already .*--overwrite"):
        create_pack("mine", sources)
    create_pack("mine", replace(sources, licence="MIT"), overwrite=True)
    assert open_model("mine").licence == "MIT"
    with pytest.raises(ModelError, match=r'no pack "yours" in .*there are: mine'):
        require_pack("yours")
    with pytest.raises(
        ModelError, match='no model "yours": give the path of a generator file or one of portraits, mine'
    ):
        open_model("yours")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "situ-pack-9"}', '{"format": "situ-pack-1", "name": 3}'])
def test_a_damaged_pack_is_one_clear_line(sources: PackSources, text: str) -> None:
    folder = create_pack("mine", sources)
    (folder / "pack.json").write_text(text)
    with pytest.raises(ModelError, match="make the pack again"):
        open_model("mine")
    (folder / "pack.json").unlink()
    with pytest.raises(ModelError, match=r"no pack: expected a pack\.json"):
        open_pack(folder)


class LocalHub:
    """The hub, as a folder laid out as its cache is: blobs apart, snapshots that link to them, refs."""

    def __init__(self, root: Path) -> None:
        self.root, self.commits = root, 0

    def create_repo(self, repository: str, private: bool, exist_ok: bool) -> None:
        if "/" not in repository:
            raise ValueError("Repo id must be in the form 'repo_name' or 'namespace/repo_name'")

    def upload_folder(self, repo_id: str, folder_path: Path, allow_patterns: list[str]) -> SimpleNamespace:
        self.commits += 1
        commit = f"{self.commits:040x}"
        repository = self.root / f"models--{repo_id.replace('/', '--')}"
        for path in sorted(Path(folder_path).rglob("*")):
            if path.is_file() and any(path.match(pattern) for pattern in allow_patterns):
                blob = repository / "blobs" / f"{commit[-4:]}-{path.name}"
                place = repository / "snapshots" / commit / path.relative_to(folder_path)
                for each in (blob, place):
                    each.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, blob)
                place.symlink_to(blob)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        return SimpleNamespace(commit_url=f"{repo_id}/commit/{commit}")


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    made = LocalHub(home / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    return made


def test_a_pack_goes_to_the_hub_and_comes_back(sources: PackSources, hub: LocalHub) -> None:
    folder = create_pack("mine", sources)
    (folder / "evil.pkl").write_bytes(b"cos\nsystem\n")
    assert push_pack("mine", "me/mine").startswith("me/mine/commit/")
    pulled = pull_pack("me/mine", name="theirs", offline=True)
    assert not (pulled / "evil.pkl").exists()
    assert not any(path.is_symlink() for path in pulled.rglob("*"))
    assert open_model("theirs").generator.name == GAN.name
    with pytest.raises(ModelError, match="there is a pack mine already"):
        pull_pack("me/mine", offline=True)
    assert pull_pack("me/mine", offline=True, overwrite=True) == folder


def test_what_comes_from_the_hub_must_open(sources: PackSources, hub: LocalHub) -> None:
    folder = create_pack("mine", sources)
    push_pack("mine", "me/mine")
    held = next(hub.root.glob("models--me--mine/blobs/*-pack.json"))
    held.write_text(held.read_text().replace('"mine"', '"../../out"'))
    with pytest.raises(ModelError, match="a pack's name is"):
        pull_pack("me/mine", offline=True)
    next(hub.root.glob("models--me--mine/blobs/*-generator.safetensors")).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot be read"):
        pull_pack("me/mine", name="theirs", offline=True)
    assert installed_packs() == {"mine": folder}


def test_what_the_hub_refuses_is_one_line(sources: PackSources, hub: LocalHub) -> None:
    create_pack("mine", sources)
    with pytest.raises(ModelError, match=r"nowhere on the hub: ValueError: .*OWNER/NAME"):
        push_pack("mine", "nowhere")
    with pytest.raises(ModelError, match="on the hub"):
        pull_pack("me/nothing", offline=True)


def direction(folder: Path, name: str) -> Path:
    subspace = parse_subspace("w", GAN.spaces)
    made = Direction(torch.eye(8)[0], subspace, GAN.name, "hair", "drawn", name=name, unit=0.5)
    made.save(folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def test_directions_go_to_the_hub_and_come_back(hub: LocalHub, tmp_path: Path) -> None:
    files = [direction(tmp_path, "one"), direction(tmp_path, "two")]
    push_directions(files, "me/some")
    card = next(hub.root.glob("models--me--some/blobs/*README.md")).read_text()
    assert "| one.safetensors | hair | w | " in card
    found = pull_directions("me/some", tmp_path / "back", offline=True)
    assert [path.name for path in found] == ["one.safetensors", "two.safetensors"]
    assert found[0].read_bytes() == files[0].read_bytes()
    with pytest.raises(FileError, match="is there already: choose another folder"):
        pull_directions("me/some", tmp_path / "back", offline=True)
    with pytest.raises(DirectionError):
        push_directions([tmp_path / "absent.safetensors"], "me/some")


def test_a_repository_without_directions_says_so(sources: PackSources, hub: LocalHub, tmp_path: Path) -> None:
    create_pack("mine", sources)
    push_pack("mine", "me/mine")
    with pytest.raises(ModelError, match="me/mine holds no direction files"):
        pull_directions("me/mine", tmp_path / "back", offline=True)
