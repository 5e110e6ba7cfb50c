"""Reading pickles of other projects as plain data, without running anything in them.

A pickle is a program for a small stack machine. This module is such a machine without the dangerous part: it goes
through the opcodes (as `pickletools` decodes them) and knows only the constructors that arrays, tensors and plain
containers need, in versions of its own that check every size. Python's unpickler is not called.
"""

import io
import math
import pickletools
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from situ.core.errors import FileError

LIMIT = 1 << 30  # bytes that one file may take in memory

_MARK = object()
PLAIN_DTYPE = re.compile(r"[<>=|]?(?:[biufc]\d{1,2}|[US][1-9]\d{0,7}|O8?|\?)")
_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}

# what damaged or hostile content makes of the reading of it
UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    SyntaxError,
    RecursionError,
    MemoryError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,  # an encrypted archive
    struct.error,
    zlib.error,
    tokenize.TokenError,  # of NumPy, reading a header
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
)


class Refused(Exception):
    """The file asks for something that is not done; the message says what."""


@dataclass
class Inert:
    """Stands for an object of a class that is not known: what it was called with and what it held, nothing else."""

    name: str  # the class, with its module
    arguments: Sequence[object] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)  # of a subclass of dict
    elements: list[Any] = field(default_factory=list)  # of a subclass of list


def read_pickle(data: bytes | io.BufferedIOBase, *, inert: Sequence[str] = (), limit: int = LIMIT) -> Any:
    """What a pickle holds. A stream is left standing after it. Raises FileError like `read_foreign`."""
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        with quiet():
            return Machine(Budget(limit), inert).run(stream)
    except Refused as refusal:
        raise FileError(f"the pickle is not read: {refusal}") from None
    except UNREADABLE as error:
        raise FileError(f"the pickle cannot be read ({brief(error)}): it is damaged") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without Python's warnings about old or odd content, which is read or refused all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def brief(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:160]}" if words else type(error).__name__


def megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB" if size < 2**50 else f"{size:.1e} bytes"


class Budget:
    """Counts the memory that content takes, so that a small file cannot ask for much by saying things twice."""

    def __init__(self, limit: int) -> None:
        self.limit, self.left = limit, limit

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise Refused(f"its content asks for more than {megabytes(self.limit)} of memory")


# --- the machine


@dataclass(frozen=True)
class Global:
    """An allowed name: what it does with its arguments, or nothing where it only stands for something."""

    name: str
    make: Callable[..., object] | None = None


@dataclass
class _DType:
    """numpy.dtype; the byte order comes in a second step."""

    dtype: np.dtype

    def restore(self, state: Any) -> None:
        if state[1] in ("<", ">") and self.dtype.kind != "O":
            self.dtype = self.dtype.newbyteorder(state[1])


@dataclass(frozen=True)
class Storage:
    """The numbers of a torch storage."""

    values: np.ndarray


class Machine:
    """Runs the opcodes of one pickle."""

    def __init__(
        self,
        budget: Budget,
        inert: Sequence[str] = (),
        storage: Callable[[str, str, int], Storage] | None = None,
        nested: Callable[[Any], Storage] | None = None,
        views: bool = False,
    ) -> None:
        """
        Args:
            storage: gives the numbers of a torch storage by its type ("f4"), key and count; None outside torch files.
            nested: reads a storage out of the bytes of a torch file inside a pickle; None where there are none.
            views: tensors share the memory of what was read, and may be read-only.
        """
        self.budget, self.inert, self.storage, self.nested, self.views = budget, tuple(inert), storage, nested, views
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: io.BufferedIOBase) -> Any:
        for opcode, argument, _ in _opcodes(stream):
            self.budget.take(64)  # about what a value costs, besides its own bytes
            if opcode == "STOP":
                return self._pop()
            self._step(opcode, argument)
        raise ValueError("the pickle ends too early")

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark stands where a value should")
        return value

    def _pop_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                values = self.stack[i + 1 :]
                del self.stack[i:]
                return values
        raise ValueError("a mark is missing")

    def _step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        if opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _LITERALS:
            stack.append(argument)
        elif opcode in _EMPTY:
            stack.append(_EMPTY[opcode]())
        elif opcode == "MARK":
            stack.append(_MARK)
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif opcode == "DUP":
            stack.append(stack[-1])
        elif opcode == "POP":
            stack.pop()
        elif opcode == "POP_MARK":
            self._pop_mark()
        elif opcode in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple([self._pop() for _ in range(int(opcode[-1]))][::-1]))
        elif opcode in ("LIST", "TUPLE"):
            values = self._pop_mark()
            stack.append(values if opcode == "LIST" else tuple(values))
        elif opcode == "DICT":
            stack.append(self._set_items({}, self._pop_mark()))
        elif opcode == "FROZENSET":
            stack.append(frozenset(_keys(self._pop_mark())))
        elif opcode in ("APPEND", "APPENDS"):
            values = [self._pop()] if opcode == "APPEND" else self._pop_mark()
            target = stack[-1].elements if isinstance(stack[-1], Inert) else stack[-1]
            require(type(target) is list, "list")
            target.extend(values)
        elif opcode in ("SETITEM", "SETITEMS"):
            values = [self._pop(), self._pop()][::-1] if opcode == "SETITEM" else self._pop_mark()
            target = stack[-1].items if isinstance(stack[-1], Inert) else stack[-1]
            require(type(target) in (dict, OrderedDict), "dictionary")
            self._set_items(target, values)
        elif opcode == "ADDITEMS":
            values = self._pop_mark()
            require(type(stack[-1]) is set, "set")
            stack[-1].update(_keys(values))
        elif opcode in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(self._global(argument, opcode))
        elif opcode in ("REDUCE", "NEWOBJ"):
            arguments = self._pop()
            stack.append(self._call(self._pop(), arguments))
        elif opcode == "NEWOBJ_EX":
            named, arguments = self._pop(), self._pop()
            require(type(named) is dict and not named, "empty dictionary")
            stack.append(self._call(self._pop(), arguments))
        elif opcode == "BUILD":
            state = self._pop()
            self._build(stack[-1], state)
        elif opcode == "BINPERSID":
            stack.append(self._persistent(self._pop()))
        elif opcode not in ("PROTO", "FRAME"):
            raise Refused(f"the pickle operation {opcode} is not done, and nothing was run")

    @staticmethod
    def _set_items(target: dict[Any, Any], values: list[Any]) -> dict[Any, Any]:
        require(len(values) % 2 == 0, "value for every key")
        for key, value in zip(_keys(values[::2]), values[1::2], strict=True):
            target[key] = value
        return target

    def _global(self, argument: Any, opcode: str) -> Global:
        if opcode == "GLOBAL":
            module, _, name = argument.partition(" ")
        else:
            name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a name that is no text")
        module = "builtins" if module == "__builtin__" else module.replace("numpy._core", "numpy.core", 1)
        full = f"{module}.{name}"
        if module == "torch" and name in _STORAGES and self.storage is not None:
            return Global(full)
        if full in _NUMPY:
            return Global(full, _NUMPY[full])
        if full in TORCH and (self.storage is not None or self.nested is not None):
            return Global(full, TORCH[full])
        if full in _NESTED and self.nested is not None:
            return Global(full, _NESTED[full])
        if full.startswith(self.inert) and self.inert:
            return Global(full, lambda machine, *arguments: Inert(full, arguments))
        if self.inert and full in _RECONSTRUCTOR:
            return Global(full, _RECONSTRUCTOR[full])
        shown = re.sub(r"[^\w.+<>-]", "?", full)[:80]
        raise Refused(
            f"it needs the Python object {shown}; only arrays, numbers, texts and their lists and dictionaries "
            "are taken from a pickle, and nothing was run: ask for the numbers as .npy"
        )

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Global) or function.make is None or type(arguments) is not tuple:
            raise ValueError("something is called that cannot be")
        return function.make(self, *arguments)

    def _build(self, target: Any, state: Any) -> None:
        if isinstance(target, Inert):
            target.state = state
        elif isinstance(target, _DType):
            target.restore(state)
        elif isinstance(target, np.ndarray):
            self._fill(target, state)
        elif type(target) is not OrderedDict:  # whose state are attributes such as _metadata, not needed
            raise ValueError("state is set on something that has none")

    def _fill(self, target: np.ndarray, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        require(isinstance(dtype, _DType), "dtype")
        count = count_of(shape)
        if dtype.dtype.kind == "O":
            require(type(data) is list and len(data) == count, "list as long as the array")
            self.budget.take(8 * count)
        else:
            data = data.encode("latin-1") if isinstance(data, str) else bytes(data)  # texts are of Python 2
            if len(data) != count * dtype.dtype.itemsize:
                raise ValueError(f"an array of {tuple(shape)} numbers has {len(data)} bytes")
            self.budget.take(len(data))
        cast(Any, target).__setstate__((1, tuple(shape), dtype.dtype, bool(fortran), data))

    def _persistent(self, key: Any) -> Storage:
        if self.storage is None or type(key) is not tuple or len(key) < 5 or key[0] != "storage":
            raise Refused("it refers to things outside itself, and nothing was run")
        if len(key) > 5 and key[5] is not None:
            raise Refused("it was written by a torch before 0.4: save it again with a newer one")
        _, kind, name, _, count = key[:5]
        require(isinstance(kind, Global) and kind.name.startswith("torch."), "type of storage")
        require(type(name) is str and type(count) is int and count >= 0, "storage")
        return self.storage(_STORAGES[kind.name.removeprefix("torch.")], name, count)


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


class View(io.BufferedIOBase):
    """Bytes as a stream whose longer pieces are views of them, so that large arrays are in memory once."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data, self.place = memoryview(data), 0

    def read(self, size: int | None = -1, /) -> Any:
        size = len(self.data) if size is None or size < 0 else size
        piece = self.data[self.place : self.place + size]
        self.place += len(piece)
        return bytes(piece) if len(piece) < 4096 else piece

    def readline(self, size: int | None = -1, /) -> bytes:
        start = self.place
        while self.place < len(self.data):
            piece = bytes(self.data[self.place : self.place + 128])
            end = piece.find(b"\n") + 1
            self.place += end or len(piece)
            if end:
                break
        return bytes(self.data[start : self.place])

    def tell(self) -> int:
        return self.place

    def seek(self, place: int, whence: int = 0, /) -> int:
        require(whence == 0, "place from the start")
        self.place = place
        return place


def _opcodes(stream: io.BufferedIOBase) -> Iterator[tuple[str, Any, int | None]]:
    for opcode, argument, position in pickletools.genops(cast(Any, stream)):
        yield opcode.name, argument, position


def require(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"expected a {what}, got something else")


def _keys(values: list[Any]) -> list[Any]:
    """Values that can be keys. Nested tuples are none: their hash can take for ever."""
    if not all(value is None or type(value) in (str, int, float, bool, bytes) for value in values):
        raise Refused("keys are texts or numbers, these are not")
    return values


def count_of(shape: Any) -> int:
    """How many numbers an array of a shape has."""
    require(type(shape) in (tuple, list) and all(type(n) is int and n >= 0 for n in shape), "shape")
    require(len(shape) <= 32, "shape of at most 32 axes")
    return math.prod(shape)


# --- the constructors, each taking the machine first


def _dtype(machine: Machine, code: Any, *_: object) -> _DType:
    if not isinstance(code, str) or not PLAIN_DTYPE.fullmatch(code):
        raise Refused("arrays of numbers and texts are read, this one has parts of its own kind")
    return _DType(np.dtype(code))


def _empty_array(machine: Machine, kind: Any, *_: object) -> np.ndarray:
    require(isinstance(kind, Global) and kind.name == "numpy.ndarray", "numpy.ndarray")
    return np.zeros(0, np.int8)


def _scalar(machine: Machine, dtype: Any, data: Any = b"") -> Any:
    require(isinstance(dtype, _DType) and dtype.dtype.kind != "O", "number")
    data = data.encode("latin-1") if isinstance(data, str) else bytes(data)
    require(len(data) == dtype.dtype.itemsize, "number of the right size")
    machine.budget.take(len(data))
    return np.frombuffer(data, dtype.dtype)[0]


def _from_buffer(machine: Machine, data: Any, dtype: Any, shape: Any, order: Any = "C", *_: object) -> np.ndarray:
    require(isinstance(data, (bytes, bytearray)), "buffer")
    require(isinstance(dtype, _DType) and dtype.dtype.kind != "O", "dtype of numbers")
    require(count_of(shape) * dtype.dtype.itemsize == len(data), "buffer as long as the array")
    machine.budget.take(len(data))
    return np.frombuffer(data, dtype.dtype).reshape(tuple(shape), order="F" if order == "F" else "C").copy()


def _ordered_dict(machine: Machine, pairs: Any = ()) -> OrderedDict[Any, Any]:
    require(type(pairs) in (tuple, list) and all(type(p) in (tuple, list) and len(p) == 2 for p in pairs), "pairs")
    machine.budget.take(128 * len(pairs))
    return OrderedDict(zip(_keys([key for key, _ in pairs]), [value for _, value in pairs], strict=True))


def _encode(machine: Machine, text: Any, how: Any = "latin1") -> bytes:
    """Bytes as Python 3 writes them in protocols up to 2."""
    require(isinstance(text, str) and how in ("latin1", "latin-1"), "text in latin1")
    machine.budget.take(len(text))
    return text.encode("latin-1")


def _no_bytes(machine: Machine) -> bytes:
    """Protocols up to 2 write b"" so."""
    return b""


def _set(machine: Machine, values: Any = ()) -> set[Any]:
    require(type(values) in (tuple, list), "list")
    machine.budget.take(64 * len(values))
    return set(_keys(list(values)))


def _tensor(machine: Machine, storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> np.ndarray:
    """A strided view, copied; torch itself would let a view be larger than what it looks at."""
    require(isinstance(storage, Storage), "storage")
    count = count_of(size)
    count_of(stride)
    require(len(size) == len(stride) and type(offset) is int and offset >= 0, "stride for every axis")
    values = storage.values
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and last >= len(values):
        raise ValueError(f"a tensor of {tuple(size)} looks beyond the {len(values)} numbers of its storage")
    machine.budget.take(count * values.itemsize)  # of a view too: whoever uses it will copy it
    if not count:
        return np.zeros(tuple(size), values.dtype)
    steps = tuple(step * values.itemsize for step in stride)
    view = np.lib.stride_tricks.as_strided(values[offset:], tuple(size), steps)
    return view if machine.views else view.copy()


def _parameter(machine: Machine, data: Any, *_: object) -> Any:
    require(isinstance(data, np.ndarray), "tensor")
    return data


def _load_from_bytes(machine: Machine, data: Any) -> Storage:
    """The storage in a torch file within a pickle. torch itself would unpickle those bytes without any limits."""
    require(isinstance(data, (bytes, memoryview)) and machine.nested is not None, "torch file in bytes")
    return cast(Any, machine.nested)(data)


def _reconstruct(machine: Machine, kind: Any, base: Any, state: Any = None) -> Any:
    """An object as protocols 0 and 1 write it."""
    require(isinstance(kind, Global) and kind.name.startswith(machine.inert), "class that stays inert")
    require(isinstance(base, Global) and base.name in _RECONSTRUCTOR, "plain base class")
    made = Inert(kind.name)
    if isinstance(state, dict):
        made.items.update(state)
    return made


_NUMPY: Mapping[str, Callable[..., object] | None] = {
    "numpy.ndarray": None,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray._reconstruct": _empty_array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "collections.OrderedDict": _ordered_dict,
    "_codecs.encode": _encode,
    "builtins.bytes": _no_bytes,
    "builtins.set": _set,
    "builtins.frozenset": _set,
}
TORCH: Mapping[str, Callable[..., object] | None] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
_NESTED: Mapping[str, Callable[..., object] | None] = {"torch.storage._load_from_bytes": _load_from_bytes}
_RECONSTRUCTOR: Mapping[str, Callable[..., object] | None] = {  # of objects in protocols 0 and 1
    "copyreg._reconstructor": _reconstruct,
    "copy_reg._reconstructor": _reconstruct,
    "builtins.object": None,
    "builtins.dict": None,
}
