"""Foreign files: equal to what NumPy and torch read of honest ones, one line and no memory for the others."""

import argparse
import io
import json
import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from situ.checkpoints.foreign import read_foreign
from situ.core.errors import FileError


def complaint_about(path: Path, **settings: Any) -> str:
    """The one line that reading gives; empty where there is none."""
    try:
        read_foreign(path, **settings)
    except FileError as error:
        assert "\n" not in str(error)  # noqa: PT017 (whatever else is said)
        return str(error)
    return ""


# --- honest files


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "f8", "i8", "u1", "?", "U5"])
@pytest.mark.parametrize("shape", [(512,), (1, 512), (3, 18, 8), ()])
def test_npy_is_what_numpy_reads(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    found = read_foreign(tmp_path / "a.npy")
    assert found.kind == "npy"
    assert found.content.dtype == array.dtype
    assert (found.content == array).all()
    assert found.content.shape == shape


def test_npy_in_other_orders_and_versions(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    np.save(tmp_path / "a.npy", array)
    assert (read_foreign(tmp_path / "a.npy").content == array).all()
    with (tmp_path / "b.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version=(2, 0))
    assert (read_foreign(tmp_path / "b.npy").content == array).all()
    old = (tmp_path / "a.npy").read_bytes().replace(b"(3, 4), }  ", b"(3L, 4L), }")  # as Python 2 wrote it
    (tmp_path / "c.npy").write_bytes(old)
    assert (read_foreign(tmp_path / "c.npy").content == array).all()


def test_npy_of_objects(tmp_path: Path) -> None:
    array = np.array([np.arange(3.0), np.arange(5.0)], dtype=object)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    found = read_foreign(tmp_path / "a.npy").content
    assert [part.tolist() for part in found] == [part.tolist() for part in array]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_what_numpy_reads(tmp_path: Path, save: Callable[..., None]) -> None:
    arrays = {"lat_comp": np.random.default_rng(0).standard_normal((80, 1, 16)), "lat_stdev": np.arange(80.0)}
    save(tmp_path / "a.npz", **arrays, act_comp=np.zeros((80, 1000)))
    found = read_foreign(tmp_path / "a.npz", skip=["act_comp"], limit=200_000)
    assert found.kind == "npz"
    assert found.content.keys() == arrays.keys()
    assert all((found.content[key] == arrays[key]).all() for key in arrays)


BASE = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
TENSORS: dict[str, Any] = {
    "bare": BASE,
    "transposed": BASE.T,
    "part": BASE[1:4, ::2],
    "expanded": BASE[:1].expand(5, 8),
    "half": BASE.half(),
    "double": BASE.double(),
    "long": torch.arange(5),
    "bool": torch.tensor([True, False]),
    "number": torch.tensor(2.5),
    "empty": torch.zeros(0, 512),
    "parameter": torch.nn.Parameter(BASE.clone()),
    "needs gradient": BASE.clone().requires_grad_(),
    "components": {"mean": BASE[:1], "comp": BASE[:, None], "std": BASE[:, 0].abs(), "n": 6},
    "shared": {"a": BASE, "b": [BASE, (BASE[0], None, "text", 1.5)]},
    "state dict": torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict(),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(b, torch.Tensor):
        return isinstance(a, np.ndarray) and a.shape == b.shape and torch.equal(torch.from_numpy(a), b.detach())
    if isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in b)
    if isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", TENSORS)
def test_torch_files_are_what_torch_reads(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / "a.pt"
    torch.save(TENSORS[name], path, _use_new_zipfile_serialization=zipped)
    found = read_foreign(path)
    assert found.kind == "torch"
    assert same(found.content, torch.load(path, weights_only=True))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_bfloat16_becomes_float32(tmp_path: Path, zipped: bool) -> None:
    torch.save(BASE.bfloat16(), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert same(read_foreign(tmp_path / "a.pt").content, BASE.bfloat16().float())


def repacked(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """A torch file with changed members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, change(name, data))


def test_the_device_of_a_tensor_does_not_matter(tmp_path: Path) -> None:
    torch.save(BASE, tmp_path / "a.pt")
    on_gpu = b"X\x06\x00\x00\x00cuda:0"
    repacked(tmp_path / "a.pt", lambda name, data: data.replace(b"X\x03\x00\x00\x00cpu", on_gpu))
    with pytest.raises(RuntimeError):
        torch.load(tmp_path / "a.pt", weights_only=True)
    assert same(read_foreign(tmp_path / "a.pt").content, BASE)


def test_numbers_of_a_big_endian_machine(tmp_path: Path) -> None:
    torch.save(BASE, tmp_path / "a.pt")

    def turn(name: str, data: bytes) -> bytes:
        if name.endswith("byteorder"):
            return b"big"
        return np.frombuffer(data, "<f4").astype(">f4").tobytes() if "/data/" in name else data

    repacked(tmp_path / "a.pt", turn)
    assert same(read_foreign(tmp_path / "a.pt").content, BASE)


def test_pickles_and_texts(tmp_path: Path) -> None:
    content = {"lat_comp": np.arange(4.0)}
    for protocol in range(6):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
        found = read_foreign(tmp_path / "a.pkl")
        assert found.kind == "pickle"
        assert (found.content["lat_comp"] == content["lat_comp"]).all()
    for text in ["9_409\n12_479", json.dumps([[9, 409]]), "9_409 # the smile.", "Lächeln."]:
        (tmp_path / "a.txt").write_text(text)
        assert read_foreign(tmp_path / "a.txt").content == text
        assert read_foreign(tmp_path / "a.txt").kind == "text"


# --- the others


class Calls:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.reduced


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


def bad_torch(path: Path, what: object, zipped: bool = True) -> Path:
    torch.save(what, path, _use_new_zipfile_serialization=zipped)
    return path


def test_files_that_want_to_run_something(tmp_path: Path, marker: Path) -> None:
    call = Calls(os.system, f"touch {marker}")
    objects = np.empty(1, dtype=object)
    objects[0] = call
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", lat_comp=objects)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"lat_comp": [call]}))
    bad_torch(tmp_path / "a.pt", {"comp": call})
    bad_torch(tmp_path / "old.pt", {"comp": call}, zipped=False)
    for name in ("a.npy", "a.npz", "a.pkl", "a.pt", "old.pt"):
        complaint = complaint_about(tmp_path / name)
        assert f"{os.name}.system" in complaint, name
        assert "nothing was run" in complaint
    assert not marker.exists()
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert marker.exists()


def test_a_torch_file_of_another_class_names_it(tmp_path: Path) -> None:
    bad_torch(tmp_path / "a.pt", {"args": argparse.Namespace(size=256), "g": BASE})
    assert "argparse.Namespace" in complaint_about(tmp_path / "a.pt")
    found = read_foreign(tmp_path / "a.pt", inert=["argparse."]).content
    assert found["args"].state == {"size": 256}
    assert same(found["g"], BASE)


def test_bytes_in_a_pickle_are_no_torch_file(tmp_path: Path, marker: Path) -> None:
    inner = io.BytesIO()
    torch.save(Calls(os.system, f"touch {marker}"), inner, _use_new_zipfile_serialization=False)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Calls(torch.storage._load_from_bytes, inner.getvalue())))
    assert "torch.storage._load_from_bytes" in complaint_about(tmp_path / "a.pkl")
    assert not marker.exists()


def npy(shape: str, data: bytes, descr: str = "'<f8'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + data


HEADERS = {
    "a trillion numbers": npy("(1000000000000,)", bytes(64)),
    "more than there is": npy("(9,)", bytes(64)),
    "less than there is": npy("(7,)", bytes(64)),
    "negative": npy("(-8,)", bytes(64)),
    "negative twice": npy("(-2, -4)", bytes(64)),
    "no numbers": npy("(8.0,)", bytes(64)),
    "many axes": npy("(" + "1, " * 60 + "8)", bytes(64)),
    "fields": npy("(8,)", bytes(64), "[('a', '<f4'), ('b', '<f4')]"),
    "a trillion of nothing": npy("(1000000000000,)", b"", "'<U0'"),
    "dates": npy("(8,)", bytes(64), "'<M8[s]'"),
    "a program": npy("(8,)", bytes(64), "__import__('os').system('true')"),
    "nesting": npy("(" * 4000 + ")" * 4000, bytes(64)),
    "objects without a pickle": npy("(8,)", bytes(64), "'|O'"),
    "a trillion objects": npy("(1000000000000,)", pickle.dumps(np.array([None])), "'|O'"),
    "another version": b"\x93NUMPY\x09\x00" + bytes(64),
    "cut in the header": npy("(8,)", b"")[:30],
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_are_not_believed(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(HEADERS[name])
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lat_comp.npy", HEADERS[name])
    tracemalloc.start()
    assert complaint_about(tmp_path / "a.npy")
    assert complaint_about(tmp_path / "a.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_an_archive_of_zeros_is_not_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", lat_comp=np.zeros(2**23))  # 64 MiB in 64 KiB
    tracemalloc.start()
    complaint = complaint_about(tmp_path / "a.npz", limit=2**22)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "more than 4 MiB" in complaint
    assert peak < 2**22


def test_an_archive_that_lies_about_its_sizes(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", lat_comp=np.zeros(2**18))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24
    for size in (0, 1000, 2**20, 2**31, 2**32 - 2):
        data[place : place + 4] = struct.pack("<I", size)
        (tmp_path / "b.npz").write_bytes(data)
        tracemalloc.start()
        assert complaint_about(tmp_path / "b.npz", limit=2**23), size
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**24, size


def claiming(path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, count: int = 4) -> None:
    """A torch file of four numbers whose tensor claims to be larger."""

    class Claim:
        def __reduce__(self) -> tuple[object, ...]:
            return torch._utils._rebuild_tensor_v2, ("STORAGE", offset, size, stride, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if obj == "STORAGE" else None

    data = io.BytesIO()
    Pickler(data, protocol=2).dump(Claim())
    torch.save(torch.zeros(4), path)
    repacked(path, lambda name, content: data.getvalue() if name.endswith("data.pkl") else content)


@pytest.mark.parametrize(
    ("size", "stride", "offset", "count"),
    [
        ((10**8,), (1,), 0, 4),
        ((10**6, 10**6), (0, 0), 0, 4),
        ((4,), (1,), 1, 4),
        ((2,), (4,), 0, 4),
        ((4,), (1,), -1, 4),
        ((4,), (-1,), 3, 4),
        ((-4,), (1,), 0, 4),
        ((4, 1), (1,), 0, 4),
        ((4,), (1,), 0, 10**9),
        ((4,), (1,), 0, -4),
    ],
)
def test_tensors_stay_within_their_storage(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int, count: int
) -> None:
    claiming(tmp_path / "a.pt", size, stride, offset, count)
    tracemalloc.start()
    assert complaint_about(tmp_path / "a.pt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_the_claims_would_be_honest_within_the_storage(tmp_path: Path) -> None:
    claiming(tmp_path / "a.pt", (2, 2), (2, 1))
    assert read_foreign(tmp_path / "a.pt").content.shape == (2, 2)


def test_no_file_a_folder_and_other_things(tmp_path: Path) -> None:
    assert "no file" in complaint_about(tmp_path / "missing.npy")
    assert "folder" in complaint_about(tmp_path)
    for name, data in {
        "empty archive": b"PK\x05\x06" + bytes(18),
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(20),
        "zeros": bytes(100),
        "beginning of an archive": b"PK\x03\x04",
    }.items():
        (tmp_path / "a").write_bytes(data)
        assert complaint_about(tmp_path / "a"), name
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "archive of something else" in complaint_about(tmp_path / "a.zip")
    np.save(tmp_path / "a.npy", np.zeros(1000))
    assert "more than" in complaint_about(tmp_path / "a.npy", limit=1000)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """One honest file of every kind."""
    folder = tmp_path_factory.mktemp("honest")
    np.save(folder / "a.npy", np.arange(6.0).reshape(2, 3))
    np.savez_compressed(folder / "a.npz", lat_comp=np.arange(6.0), lat_stdev=np.ones(1))
    torch.save({"comp": BASE[:2], "std": BASE[0]}, folder / "a.pt")
    torch.save({"comp": BASE[:2], "std": BASE[0]}, folder / "old.pt", _use_new_zipfile_serialization=False)
    (folder / "a.pkl").write_bytes(pickle.dumps({"lat_comp": np.arange(6.0)}))
    return [(folder / name).read_bytes() for name in ("a.npy", "a.npz", "a.pt", "old.pt", "a.pkl")]


def test_truncated_files_are_one_line(tmp_path: Path, files: list[bytes]) -> None:
    for data in files:
        for end in {*range(16, len(data), max(1, len(data) // 40)), len(data) - 1}:
            (tmp_path / "cut").write_bytes(data[:end])
            assert complaint_about(tmp_path / "cut"), (data[:4], end)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_give_nothing_but_our_error(tmp_path: Path, files: list[bytes], data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged").write_bytes(content)
    begun = time.monotonic()
    complaint_about(tmp_path / "damaged", limit=2**24)
    assert time.monotonic() - begun < 20
