"""The pickle machine: arrays of every kind and protocol come back; whatever wants to run something is refused."""

import collections
import os
import pickle
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from situ.checkpoints.unpickle import Inert, read_pickle
from situ.core.errors import FileError

ARRAYS = {
    "float64": np.linspace(-1, 1, 12).reshape(3, 4),
    "float32 big-endian": np.arange(6, dtype=">f4").reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "int8": np.arange(-3, 4, dtype=np.int8),
    "bool": np.array([[True, False], [False, True]]),
    "half": np.arange(5, dtype=np.float16),
    "complex": np.array([1 + 2j, 3.0]),
    "empty": np.zeros((0, 512), np.float32),
    "zero-dimensional": np.array(2.5),
    "texts": np.array(["smile", "age"]),
    "bytes": np.array([b"a", b"bcd"]),
}


def same(a: object, b: object) -> bool:
    if isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back(name: str, protocol: int) -> None:
    data = pickle.dumps(ARRAYS[name], protocol)
    found = read_pickle(data)
    assert same(found, pickle.loads(data))
    assert (found == ARRAYS[name]).all()
    found.flags.writeable = True  # an array of its own, not a view of the file


@pytest.mark.parametrize("protocol", range(6))
def test_containers_and_numbers_come_back(protocol: int) -> None:
    shared = [1, 2]
    content = {
        "numbers": [0, -1, 255, 70000, 2**40, -(2**70), 1.5, float("inf"), True, None],
        "texts": ["", "smile", "Lächeln 😀", "two\nlines"],
        "bytes": [b"", b"\x00\xff"],
        "nested": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[], {}]),
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "scalar": np.float32(0.25),
        "shared": (shared, shared),
        3: "a number as key",
    }
    found = read_pickle(pickle.dumps(content, protocol))
    assert found == content
    assert type(found["ordered"]) is collections.OrderedDict
    assert found["shared"][0] is found["shared"][1]
    assert type(found["scalar"]) is np.float32


def test_a_list_that_holds_itself_comes_back() -> None:
    loop: list[object] = []
    loop.append(loop)
    found = read_pickle(pickle.dumps(loop))
    assert found[0] is found


def test_arrays_of_objects_come_back() -> None:
    array = np.array([np.arange(3.0), np.arange(5.0)], dtype=object)
    found = read_pickle(pickle.dumps(array))
    assert found.dtype == object
    assert all(same(a, b) for a, b in zip(found, array, strict=True))


@pytest.mark.parametrize("protocol", range(6))
def test_sets_come_back(protocol: int) -> None:
    assert read_pickle(pickle.dumps({1, 2}, protocol)) == {1, 2}
    assert read_pickle(pickle.dumps(frozenset("ab"), protocol)) == frozenset("ab")


def test_python_2_wrote_bytes_as_texts() -> None:
    numbers = np.array([1.0, -2.0], "<f4")
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01K\x02\x85"
        b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + numbers.tobytes()
        + b"tb."
    )
    assert same(read_pickle(data), numbers)


def test_both_names_of_numpys_core_are_known() -> None:
    data = pickle.dumps(np.arange(3.0), 2)
    assert b"numpy._core" in data
    assert same(read_pickle(data.replace(b"numpy._core", b"numpy.core")), np.arange(3.0))


def test_named_classes_become_inert() -> None:
    class Searched:
        pass

    Searched.__module__, Searched.__qualname__ = "__main__", "Searched"
    globals_of_main = __import__("__main__").__dict__
    globals_of_main["Searched"] = Searched
    one = Searched()
    one.latent_dirs = np.arange(3.0)
    try:
        data = pickle.dumps(one)
    finally:
        del globals_of_main["Searched"]
    with pytest.raises(FileError, match=r"__main__\.Searched"):
        read_pickle(data)
    found = read_pickle(data, inert=["__main__.Searched"])
    assert isinstance(found, Inert)
    assert found.name == "__main__.Searched"
    assert same(found.state["latent_dirs"], np.arange(3.0))


# --- what must not happen


class Calls:
    """Pickles as a call of something."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.reduced


def touching(path: Path) -> str:
    return f"touch {path}"


def calling(module: bytes, name: bytes, text: bytes) -> bytes:
    """Protocol 4: name, called with one text."""
    words = b"".join(b"\x8c" + bytes([len(word)]) + word for word in (module, name))
    return b"\x80\x04" + words + b"\x93X" + struct.pack("<I", len(text)) + text + b"\x85R."


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "os.system": lambda marker: pickle.dumps(Calls(os.system, touching(marker))),
    "os.system, protocol 0": lambda marker: pickle.dumps(Calls(os.system, touching(marker)), 0),
    "nested": lambda marker: pickle.dumps({"comp": [np.zeros(3), ({"a": Calls(os.system, touching(marker))},)]}),
    "eval": lambda marker: pickle.dumps(Calls(eval, f"__import__('os').system('{touching(marker)}')")),
    "exec": lambda marker: pickle.dumps(Calls(exec, f"open({str(marker)!r}, 'w')")),
    "getattr": lambda marker: pickle.dumps(Calls(getattr, "text", "format_map")),
    "__import__": lambda marker: pickle.dumps(Calls(__import__, "os")),
    "a call inside an array": lambda marker: pickle.dumps(
        np.array([Calls(os.system, touching(marker)), None], dtype=object)
    ),
    "dotted name": lambda marker: calling(b"numpy", b"f2py.os.system", touching(marker).encode()),
    "dotted module": lambda marker: calling(b"numpy.core.multiarray", b"sys.modules", b"os"),
    "attribute of an allowed name": lambda marker: calling(b"numpy", b"ndarray.tofile", str(marker).encode()),
    "old instance": lambda marker: b"(S'" + touching(marker).encode() + b"'\nios\nsystem\n.",
    "old object": lambda marker: b"(cos\nsystem\nS'" + touching(marker).encode() + b"'\no.",
    "extension": lambda marker: b"\x80\x02\x82\x01.",
    "persistent": lambda marker: b"Pos.system\n.",
    "persistent tuple": lambda marker: b"\x80\x02(X\x07\x00\x00\x00storagetQ.",
    "state of a number": lambda marker: b"\x80\x02K\x01}b.",
    "call of a text": lambda marker: b"\x80\x02X\x01\x00\x00\x00a)R.",
    "call of a class without use": lambda marker: b"\x80\x02cnumpy\nndarray\n)R.",
    "append to a number": lambda marker: b"\x80\x02K\x01K\x02a.",
    "out-of-band buffer": lambda marker: b"\x80\x05\x97.",
    # its hash takes twice as long for every level
    "tuple as key": lambda marker: b"\x80\x02K\x01\x85q\x00" + b"h\x00h\x00\x86q\x00" * 20 + b"}h\x00K\x01s.",
    "mark as value": lambda marker: b"\x80\x02(.",
    "nothing there": lambda marker: b"\x80\x02.",
    "no memo": lambda marker: b"\x80\x02h\x05.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_do_nothing(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with pytest.raises(FileError) as error:
        read_pickle(HOSTILE[name](marker))
    assert not marker.exists()
    assert "\n" not in str(error.value)
    if name.startswith("os.system"):
        assert f"{os.name}.system" in str(error.value)


def test_these_pickles_are_hostile_indeed(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(HOSTILE["os.system"](marker))
    assert marker.exists()


def complaint_about(data: bytes, limit: int) -> str:
    """The error of reading; empty where there is none."""
    try:
        read_pickle(data, limit=limit)
    except FileError as error:
        return str(error)
    return ""


def claim(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    """An array whose shape, as pickled, does not fit its data."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR(K\x01"
        + shape
        + b"cnumpy\ndtype\n(X"
        + struct.pack("<I", len(dtype))
        + dtype
        + b"K\x00K\x01tR(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + data
        + b"tb."
    )


BILLION = b"\x8a\x06" + (10**12).to_bytes(6, "little")
GREEDY = {
    "array of a trillion": claim(BILLION + b"\x85", b"f8", b"C\x08" + bytes(8)),
    "trillion texts of no length": claim(BILLION + b"\x85", b"S0", b"C\x00"),
    "negative shape": claim(b"J\xff\xff\xff\xff\x85", b"f8", b"C\x00"),
    "huge shape of nothing": claim(BILLION + BILLION + b"K\x00\x87", b"f8", b"C\x00"),
    "objects that are not there": claim(BILLION + b"\x85", b"O8", b"]"),
    "fields": claim(b"K\x01\x85", b"f8,f8", b"C\x10" + bytes(16)),
    "bytes that are not there": b"\x80\x04\x8e" + struct.pack("<Q", 10**15) + b"abc.",
    "text that is not there": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "number that is not there": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "far memo": b"\x80\x02K\x01r\x00\x00\x00\x0c.",
    "copies": b"\x80\x02X\x00\x00\x10\x00"
    + b"a" * 2**20
    + b"q\x00c_codecs\nencode\nq\x01("
    + b"h\x01h\x00\x85R" * 500
    + b"t.",
    "nesting": b"\x80\x02" + b"]" * 4000 + b"a" * 3999 + b".",
    "many values": b"\x80\x02(" + b"N" * 1_000_000 + b"t.",
}


@pytest.mark.parametrize("name", GREEDY)
def test_a_small_file_cannot_take_much_memory(name: str) -> None:
    tracemalloc.start()
    begun = time.monotonic()
    complaint = complaint_about(GREEDY[name], 2**19)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in complaint
    assert peak < 2**24, name
    assert time.monotonic() - begun < 30


DATA = pickle.dumps({"comp": np.arange(6.0).reshape(2, 3), "std": np.float32(1), "name": "a", "layers": (3, [4])}, 2)


def test_a_truncated_pickle_is_one_line() -> None:
    for end in range(len(DATA)):
        with pytest.raises(FileError, match="damaged"):
            read_pickle(DATA[:end])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_damaged_pickle_gives_nothing_but_our_error(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([DATA, pickle.dumps(pickle.loads(DATA), 4)])))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert "\n" not in complaint_about(bytes(content), 2**24)
