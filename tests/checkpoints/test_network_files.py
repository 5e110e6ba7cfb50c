"""Weights are found in the right places, read without torch, and asked for in words where they are missing."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from situ.checkpoints import networks
from situ.checkpoints.networks import PUBLISHED, find_weights, load_deeplab, load_lpips, read_tensors
from situ.core.errors import FileError, ModelError, SituError
from toys_networks import (
    narrow_arcface,
    narrow_bisenet,
    narrow_deeplab_v2,
    narrow_deeplab_v3,
    narrow_inception,
    narrow_lpips,
    narrow_moco,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own."""
    for name in ("SITU_WEIGHTS", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    return path


def test_places_are_looked_through_in_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = "79999_iter.pth"
    hub = home / ".cache" / "huggingface" / "hub"
    old = put(hub / "models--a--b" / "snapshots" / "1" / file)
    new = put(hub / "models--a--b" / "snapshots" / "2" / file)
    os.utime(old, (1, 1))
    assert find_weights("bisenet") == new
    own = put(home / ".local" / "share" / "situ" / "weights" / file)
    assert find_weights("bisenet") == own
    named = put(home / "elsewhere" / file)
    monkeypatch.setenv("SITU_WEIGHTS", str(home / "elsewhere"))
    assert find_weights("bisenet") == named
    given = put(home / "mine" / "renamed.pth")
    assert find_weights("bisenet", given) == given
    inside = put(home / "mine" / file)
    assert find_weights("bisenet", home / "mine") == inside


@pytest.mark.parametrize(
    ("variable", "place"), [("HF_HOME", "hub/"), ("HF_HUB_CACHE", ""), ("XDG_CACHE_HOME", "huggingface/hub/")]
)
def test_the_hubs_cache_may_be_elsewhere(
    variable: str, place: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(home / "cache"))
    file = put(home / "cache" / f"{place}models--x--y" / "snapshots" / "abc" / "model_ir_se50.pth")
    assert find_weights("arcface") == file


def test_the_users_data_may_be_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    file = put(home / "data" / "situ" / "weights" / "alexnet-owt-4df8aa71.pth")
    assert find_weights("alexnet") == file


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_file_is_asked_for(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = PUBLISHED[name]
    for kind in ("", str(home / "weights")):
        if kind:
            monkeypatch.setenv("SITU_WEIGHTS", kind)
        with pytest.raises(ModelError) as raised:
            find_weights(name)
        message = str(raised.value)
        wanted = (published.files[0], published.source, published.licence, "SITU_WEIGHTS", kind)
        assert all(word in message for word in wanted)
        assert str(home / ".local" / "share" / "situ" / "weights") in message


def test_a_wrong_path_or_name_is_told(home: Path) -> None:
    with pytest.raises(ModelError, match=r"no file at .*nowhere\.pth.*zllrunning"):
        find_weights("bisenet", home / "nowhere.pth")
    with pytest.raises(ModelError, match=r"no 79999_iter\.pth in"):
        find_weights("bisenet", home)
    with pytest.raises(ModelError, match=r"published networks are bisenet.*got .yolo"):
        find_weights("yolo")


def legacy(content: object, tag: bytes = b"cuda:0") -> bytes:
    """A file of a torch before 1.6, whose storages are on another device."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    told = buffer.getvalue().replace(b"X\x03\x00\x00\x00cpu", b"X" + len(tag).to_bytes(4, "little") + tag)
    assert tag in told
    return told


def modern(content: object, tag: bytes = b"cuda:0") -> bytes:
    """The same of a newer one."""
    buffer, told = io.BytesIO(), io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(told, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("data.pkl"):
                data = data.replace(b"X\x03\x00\x00\x00cpu", b"X" + len(tag).to_bytes(4, "little") + tag)
                assert tag in data
            new.writestr(name, data)
    return told.getvalue()


@pytest.mark.parametrize("write", [legacy, modern])
@pytest.mark.parametrize("wrap", ["bare", "state_dict", "module"])
def test_torch_files_are_read(write: Callable[[object], bytes], wrap: str, home: Path) -> None:
    base = torch.randn(4, 6)
    tensors = {"a.weight": base.T, "b.bias": base[1], "c.num_batches_tracked": torch.tensor(3), "d": base.half()}
    content: object = dict(tensors)
    if wrap == "state_dict":
        content = {"epoch": 3, "arch": "resnet50", "state_dict": tensors, "optimizer": {"state": {}}}
    if wrap == "module":
        content = {f"module.{key}": value for key, value in tensors.items()}
    path = home / "weights.pth"
    path.write_bytes(write(content))
    found = read_tensors(path)
    assert found.keys() == tensors.keys()
    for key, value in tensors.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


def test_nothing_in_a_file_is_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    path = home / "net.pth"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(FileError, match=r"torch\.nn\.modules"):
        read_tensors(path)


def test_other_files_are_refused(home: Path) -> None:
    torch.save([1, 2], home / "list.pth")
    with pytest.raises(ModelError, match="no named tensors"):
        read_tensors(home / "list.pth")
    (home / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(FileError, match="cannot be read"):
        read_tensors(home / "bad.safetensors")
    (home / "79999_iter.pth").write_bytes(b"\x80\x02damaged")
    with pytest.raises(FileError):
        networks.load_bisenet(home)


WEIGHTS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "bisenet": narrow_bisenet,
    "deeplab-v3": narrow_deeplab_v3,
    "deeplab-v2": narrow_deeplab_v2,
    "arcface": narrow_arcface,
    "inception": narrow_inception,
    "moco": lambda: {f"module.encoder_q.{key}": value for key, value in narrow_moco().items()},
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_network_is_loaded_from_its_place(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITU_WEIGHTS", str(home))
    tensors = WEIGHTS[name]()
    torch.save({"state_dict": tensors} if name == "moco" else tensors, home / PUBLISHED[name].files[0])
    load = getattr(networks, "load_" + name.replace("-", "_"))
    network = load()
    held = network.state_dict()
    key, value = next(iter(tensors.items()))
    stored = held[key.replace("module.encoder_q.", "trunk.")]
    torch.testing.assert_close(stored, value, rtol=0, atol=0)
    torch.save({"lin0.model.1.weight": torch.zeros(1, 4, 1, 1)}, home / PUBLISHED[name].files[0])
    with pytest.raises(ModelError, match="expected"):
        load()


@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_lpips_is_of_two_files(trunk: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITU_WEIGHTS", str(home))
    features, heads = narrow_lpips(trunk)  # pyright: ignore
    other, _ = narrow_lpips("vgg" if trunk == "alex" else "alex")
    save_file({key: value.contiguous() for key, value in features.items()}, home / "trunk.safetensors")
    with pytest.raises(ModelError, match=r"lpips/weights/v0\.1"):
        load_lpips(trunk, path=home / "trunk.safetensors")  # pyright: ignore
    (home / f"{trunk}.pth").write_bytes(legacy(heads))
    found = load_lpips(trunk, path=home / "trunk.safetensors")  # pyright: ignore
    assert found.name == f"LPIPS ({trunk})"
    torch.save(other, home / "other.pth")
    with pytest.raises(ModelError, match="expected"):
        load_lpips(trunk, path=home / "other.pth")  # pyright: ignore


def test_lpips_knows_two_trunks(unchecked: None) -> None:
    with pytest.raises(SituError, match="alex or vgg"):
        load_lpips("squeeze")  # pyright: ignore


def test_deeplabs_are_told_apart(home: Path) -> None:
    for name, tensors in (("DeepLabV2", narrow_deeplab_v2()), ("DeepLabV3", narrow_deeplab_v3())):
        torch.save(tensors, home / f"{name}.pth")
        assert type(load_deeplab(home / f"{name}.pth")).__name__ == name
