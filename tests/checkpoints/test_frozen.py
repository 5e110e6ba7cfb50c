"""Helper networks: told by their tensors, kept in files of our own, the same afterwards."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from situ.checkpoints.frozen import KINDS, load_network, read_frozen, save_network
from situ.core.errors import ModelError
from toys_networks import (
    narrow_arcface,
    narrow_bisenet,
    narrow_deeplab_v2,
    narrow_deeplab_v3,
    narrow_lpips,
    narrow_moco,
)

SHALLOW = (1, 1, 1, 1)
FILES: dict[str, Callable[[], dict[str, Tensor]]] = {
    "bisenet": narrow_bisenet,
    "deeplab-v2": lambda: narrow_deeplab_v2(SHALLOW),
    "deeplab-v3": lambda: narrow_deeplab_v3(SHALLOW),
    "arcface": narrow_arcface,
    "moco": lambda: {f"module.encoder_q.{key}": value for key, value in narrow_moco().items()},
}


def published(kind: str, folder: Path) -> Path:
    """A torch file with the published names."""
    path = folder / "weights.pth"
    torch.save({"state_dict": FILES[kind]()} if kind == "moco" else FILES[kind](), path)
    return path


@pytest.mark.parametrize("kind", FILES)
def test_a_network_is_told_by_its_tensors_and_survives_our_file(kind: str, tmp_path: Path) -> None:
    found, network = read_frozen(published(kind, tmp_path), KINDS[kind].serves)
    assert found == kind
    save_network(found, network, tmp_path / "ours.safetensors")
    again, copy = load_network(tmp_path / "ours.safetensors")
    assert again == kind
    assert read_frozen(tmp_path / "ours.safetensors", KINDS[kind].serves)[0] == kind
    here, there = network.state_dict(), copy.state_dict()
    assert here.keys() == there.keys()
    assert all(torch.equal(here[key], there[key]) for key in here)


def test_lpips_keeps_both_of_its_files(tmp_path: Path) -> None:
    trunk, heads = narrow_lpips("alex")
    network = KINDS["lpips"].build({**trunk, **heads})
    save_network("lpips", network, tmp_path / "ours.safetensors")
    a, b = (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in range(2))
    torch.testing.assert_close(load_network(tmp_path / "ours.safetensors")[1](a, b), network(a, b))


def test_half_precision_halves_the_file_and_spares_counters(tmp_path: Path) -> None:
    kind, network = read_frozen(published("bisenet", tmp_path), "segmenter")
    save_network(kind, network, tmp_path / "full.safetensors")
    save_network(kind, network, tmp_path / "half.safetensors", torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.75 * sizes[1]
    _, back = load_network(tmp_path / "half.safetensors")
    assert {value.dtype for value in back.state_dict().values()} == {torch.float32, torch.int64}


def test_what_serves_something_else_is_refused(tmp_path: Path) -> None:
    face = published("arcface", tmp_path)
    with pytest.raises(ModelError, match="holds ArcFace, IR-SE-50, which is no segmenter: expected BiSeNet"):
        read_frozen(face, "segmenter")
    save_network(*read_frozen(face, "embedder"), tmp_path / "ours.safetensors")
    with pytest.raises(ModelError, match="which is no segmenter"):
        read_frozen(tmp_path / "ours.safetensors", "segmenter")


def test_unknown_files_show_their_first_tensors(tmp_path: Path) -> None:
    save_file({"something.weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"no known embedder: expected ArcFace.*first tensors are something\.weight"):
        read_frozen(tmp_path / "x.safetensors", "embedder")
    (tmp_path / "ours.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        load_network(tmp_path / "ours.safetensors")
