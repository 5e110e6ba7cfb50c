"""One option opens every kind of segmenter."""

from pathlib import Path

import pytest
import torch

from situ.core.errors import ModelError, RegionError, SituError
from situ.core.generator import Synthesis
from situ.core.region import Segmenter, parse_part
from situ.packs.segmenters import open_segmenter
from situ.packs.user_packs import PackSources, create_pack, open_pack
from situ.segmenters.clusters import fit_clusters
from toys import tiny_stylegan2
from toys_networks import narrow_arcface, narrow_bisenet
from toys_transformers import clipseg, segformer

GAN = tiny_stylegan2()


def picture() -> Synthesis:
    return Synthesis(GAN.synthesize(GAN.sample(1, GAN.spaces["z"], torch.Generator().manual_seed(0))).images)


def test_published_weights(tmp_path: Path) -> None:
    torch.save(narrow_bisenet(), tmp_path / "parser.pth")
    made = open_segmenter(tmp_path / "parser.pth", GAN)
    assert isinstance(made, Segmenter)
    assert "eyes" in made.parts
    assert parse_part("hair+eyes", made).mask(picture()).shape == (1, 1, 16, 16)


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    made = open_segmenter(segformer(tmp_path / "model"), GAN)
    assert made.segment(picture()).shape[-2:] == (16, 16)


def test_words_are_what_is_asked_for(tmp_path: Path) -> None:
    place = clipseg(tmp_path / "model")
    made = open_segmenter(place, GAN, ["the wheels", "hair"])
    assert made.parts == ("the wheels", "hair", "elsewhere")
    assert parse_part("the wheels", made).mask(picture()).shape == (1, 1, 16, 16)
    with pytest.raises(RegionError, match="parts by words are one or more"):
        open_segmenter(place, GAN)


def test_our_own_files(tmp_path: Path) -> None:
    clusters = fit_clusters(GAN, "b8.conv1", 2, rng=torch.Generator().manual_seed(0), pictures=2)
    clusters.save(tmp_path / "c.safetensors")
    assert open_segmenter(tmp_path / "c.safetensors", GAN).parts == clusters.parts


def test_a_pack_keeps_a_model_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from situ.checkpoints.native import save_generator

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    save_generator(GAN, tmp_path / "gan.safetensors", licence="CC0")
    folder = create_pack("mine", PackSources(tmp_path / "gan.safetensors", segformer(tmp_path / "model")))
    pack = open_pack(folder)
    assert pack.segmenter is not None
    assert pack.segmenter.parts == open_segmenter(tmp_path / "model", GAN).parts
    assert pack.licence == "CC0", "from the generator's own file"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.pth", r"no segmenter at .*nowhere\.pth: expected"),
        ("face.pth", "is no segmenter: expected .*ArcFace"),
        ("text.txt", "is no segmenter: expected"),
        ("empty", "cannot be opened"),
    ],
)
def test_what_is_none_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    torch.save(narrow_arcface(), tmp_path / "face.pth")
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SituError, match=message) as caught:
        open_segmenter(tmp_path / name, GAN)
    assert isinstance(caught.value, (RegionError, ModelError))
