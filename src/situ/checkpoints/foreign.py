"""Files of numbers of other projects: .npy, .npz, torch files of both formats, pickles, texts; nothing in them is run.

What a file says of sizes is believed only where the bytes are there; pickles are gone through by `unpickle.Machine`.
Neither `torch.load` nor `numpy.load` is called: both take memory because a file says so, and torch makes tensors that
look beyond their storage. Tensors come out as NumPy arrays, bfloat16 as float32; devices and gradients are ignored.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from situ.checkpoints.unpickle import (
    LIMIT,
    PLAIN_DTYPE,
    TORCH,
    UNREADABLE,
    Budget,
    Global,
    Inert,
    Machine,
    Refused,
    Storage,
    View,
    brief,
    count_of,
    megabytes,
    quiet,
    require,
)
from situ.core.errors import FileError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a torch file from before version 1.6
_Order = Literal["<", ">"]  # of the bytes of a number


@dataclass(frozen=True)
class Foreign:
    """What a file holds, as arrays, numbers, texts, lists, tuples and dictionaries."""

    kind: Literal["npy", "npz", "torch", "pickle", "text"]
    content: Any


def read_foreign(
    path: Path | str,
    *,
    inert: Sequence[str] = (),
    skip: Sequence[str] = (),
    limit: int = LIMIT,
    views: bool = False,
) -> Foreign:
    """Read a file whose kind is told by its first bytes.

    Args:
        inert: beginnings of names of classes ("lelsd.") whose objects become `Inert` instead of being refused.
        skip: arrays of an .npz that are not wanted, however large.
        limit: bytes that the file and its content may take in memory.
        views: tensors share memory with what was read (once) and may be read-only; pickles may hold tensors, as
            NVIDIA's do.

    Raises:
        FileError: missing, damaged, too large, or in need of a Python object other than arrays and containers.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file, quiet():
            start = file.read(16)
            file.seek(0)
            if start.startswith(b"PK\x03\x04"):
                return _read_zip(file, inert, skip, limit, views)
            if size > limit:
                raise Refused(f"it has {megabytes(size)}, more than the {megabytes(limit)} that are read")
            return _read_bytes(file.read(size), inert, limit, views)
    except FileNotFoundError:
        raise FileError(f"no file at {path}") from None
    except IsADirectoryError:
        raise FileError(f"{path} is a folder, expected a file") from None
    except Refused as refusal:
        raise FileError(f"{path} is not read: {refusal}") from None
    except UNREADABLE as error:
        raise FileError(f"{path} cannot be read ({brief(error)}): it is damaged or of an unknown kind") from None


def _read_bytes(data: bytes, inert: Sequence[str], limit: int, views: bool) -> Foreign:
    if data.startswith(b"\x93NUMPY"):
        return Foreign("npy", _read_npy(io.BytesIO(data), len(data), inert, Budget(limit)))
    if data.startswith(b"\x80"):
        budget = Budget(limit)
        stream = View(data) if views else io.BytesIO(data)
        nested = (lambda piece: _nested_storage(piece, budget)) if views else None
        content = Machine(budget, inert, nested=nested, views=views).run(stream)
        if type(content) is int and content == _LEGACY_MAGIC:
            return Foreign("torch", _read_legacy_torch(stream, inert, Budget(limit), views))
        return Foreign("pickle", content)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is not None and not (text.isprintable() or all(c.isprintable() or c.isspace() for c in text)):
        text = None
    if text is not None and not text.rstrip().endswith("."):  # a pickle of protocol 0 is text too, and ends so
        return Foreign("text", text)
    try:
        return Foreign("pickle", Machine(Budget(limit), inert).run(io.BytesIO(data)))
    except UNREADABLE:
        if text is None:
            raise
        return Foreign("text", text)


def parse_json(text: str) -> Any:
    """JSON of any nesting that Python can hold. Raises FileError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"no JSON ({brief(error)})") from None


# --- the containers


def _read_npy(file: io.BufferedIOBase, size: int, inert: Sequence[str], budget: Budget) -> np.ndarray:
    """An array file of `size` bytes; its header is believed only where the bytes are there."""
    version: Any = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise Refused(f"it is written in version {version} of .npy, expected 1.0 or 2.0")
    shape, fortran, dtype = readers[version](file)
    if not PLAIN_DTYPE.fullmatch(dtype.str):
        raise Refused("arrays of numbers and texts are read, this one has parts of its own kind")
    count = count_of(shape)
    if dtype.kind == "O":
        array = Machine(budget, inert).run(file)
        require(isinstance(array, np.ndarray) and array.size == count, "array of that shape")
        return array
    wanted = count * dtype.itemsize
    there = size - file.tell()
    if wanted != there:
        raise ValueError(f"its header tells of {wanted:,} bytes of numbers, {there:,} are there")
    budget.take(wanted)
    return np.frombuffer(file.read(wanted), dtype).reshape(shape, order="F" if fortran else "C").copy()


def _read_zip(file: io.BufferedIOBase, inert: Sequence[str], skip: Sequence[str], limit: int, views: bool) -> Foreign:
    """A NumPy archive or a torch file. What an archive says of sizes is checked before anything is unpacked."""
    budget = Budget(limit)
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        programs = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(programs) == 1:
            return Foreign("torch", _read_torch(archive, members, programs[0], inert, budget, views))
        arrays = {name.removesuffix(".npy"): info for name, info in members.items() if name.endswith(".npy")}
        if not arrays:
            raise Refused("it is an archive of something else, expected arrays (.npz) or a torch file (.pt)")
        found = {}
        for name, info in arrays.items():
            if name not in skip:
                found[name] = _read_npy(io.BytesIO(_unpack(archive, info, budget)), info.file_size, inert, budget)
        return Foreign("npz", found)


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> bytes:
    """A member of an archive, never more than its stated size."""
    budget.take(info.file_size)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused("it is packed in an unusual way")
    with archive.open(info) as member:
        data = member.read(info.file_size)
    require(len(data) == info.file_size, "member of the stated size")
    return data


def _read_torch(
    archive: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    program: str,
    inert: Sequence[str],
    budget: Budget,
    views: bool,
) -> Any:
    root = program.removesuffix("data.pkl")
    order: _Order = "<"
    if f"{root}byteorder" in members and _unpack(archive, members[f"{root}byteorder"], budget) == b"big":
        order = ">"
    known: dict[tuple[str, str], Storage] = {}

    def storage(kind: str, key: str, count: int) -> Storage:
        if (kind, key) not in known:
            known[kind, key] = _numbers(kind, _unpack(archive, members[f"{root}data/{key}"], budget), count, order)
        return known[kind, key]

    return Machine(budget, inert, storage, views=views).run(io.BytesIO(_unpack(archive, members[program], budget)))


def _nested_storage(data: bytes | memoryview, budget: Budget) -> Storage:
    """A storage as a pickle outside torch's own files holds it: a whole torch file of the old format."""
    stream = View(data) if len(data) > 1 << 16 else io.BytesIO(data)  # copying a little is faster than looking at it
    require(Machine(budget).run(stream) == _LEGACY_MAGIC, "torch file of the old format")
    order = _legacy_order(stream, budget)
    named: list[tuple[str, str, int]] = []
    here = Storage(np.zeros(0, np.int8))

    def note(kind: str, key: str, count: int) -> Storage:
        named.append((kind, key, count))
        return here

    require(Machine(budget, storage=note).run(stream) is here and len(named) == 1, "storage")
    kind, key, _ = named[0]
    require(Machine(budget).run(stream) == [key], "list of that storage")
    return _legacy_numbers(stream, kind, order, budget)


def _read_legacy_torch(stream: io.BufferedIOBase, inert: Sequence[str], budget: Budget, views: bool) -> Any:
    """The format before version 1.6: pickles one after the other, then every storage's count and numbers."""
    order = _legacy_order(stream, budget)
    start = stream.tell()
    kinds: dict[str, str] = {}

    def note(kind: str, key: str, count: int) -> Storage:
        kinds[key] = kind
        return Storage(np.zeros(0, np.int8))

    _Names(budget, inert, note).run(stream)
    keys: list[str] = Machine(budget).run(stream)
    require(isinstance(keys, list) and all(isinstance(key, str) for key in keys), "list of storages")
    known: dict[str, Storage] = {}
    for key in keys:
        known[key] = _legacy_numbers(stream, kinds[key], order, budget)
    stream.seek(start)
    return Machine(budget, inert, lambda kind, key, count: known[key], views=views).run(stream)


def _legacy_order(stream: io.BufferedIOBase, budget: Budget) -> _Order:
    """What comes after the magic number: a version, and a description of the machine that wrote the file."""
    if Machine(budget).run(stream) != 1001:
        raise Refused("it is written in an unknown version of torch's old format")
    system = Machine(budget).run(stream)
    require(type(system) is dict, "dictionary")
    return "<" if system.get("little_endian", True) else ">"


def _legacy_numbers(stream: io.BufferedIOBase, kind: str, order: _Order, budget: Budget) -> Storage:
    count = int.from_bytes(_exactly(stream, 8, budget), "little")
    return _numbers(kind, _exactly(stream, count * _itemsize(kind), budget), count, order)


class _Names(Machine):
    """Goes through a pickle for the storages that it names, before their numbers are known."""

    def _call(self, function: Any, arguments: Any) -> Any:
        return (
            Inert("") if isinstance(function, Global) and function.name in TORCH else super()._call(function, arguments)
        )


def _exactly(stream: io.BufferedIOBase, size: int, budget: Budget) -> bytes | memoryview:
    budget.take(size)
    data = stream.read(size)
    require(len(data) == size, "file as long as it says")
    return data


def _itemsize(kind: str) -> int:
    return 2 if kind == "bf16" else np.dtype(kind).itemsize


def _numbers(kind: str, data: bytes | memoryview, count: int, order: _Order) -> Storage:
    if len(data) < count * _itemsize(kind):
        raise ValueError(f"a storage of {count} numbers has {len(data)} bytes")
    if kind == "bf16":  # the upper half of a float32
        halves = np.frombuffer(data, np.dtype(np.uint16).newbyteorder(order), count).astype(np.uint32)
        return Storage((halves << 16).view(np.float32))
    values = np.frombuffer(data, np.dtype(kind).newbyteorder(order), count)
    return Storage(values.astype(values.dtype.newbyteorder("="), copy=False))
