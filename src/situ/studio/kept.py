"""What is kept in memory of people's work: bounded in number and in bytes; what was used longest ago goes first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Generic, TypeVar

from torch import Tensor

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def bytes_of(value: object) -> int:
    """Bytes of the tensors and byte strings in a value, inside mappings, sequences and dataclasses too."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, (bytes, str)):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(bytes_of, value.values()))
    if isinstance(value, (tuple, list)):
        return sum(map(bytes_of, value))
    if is_dataclass(value):
        return sum(bytes_of(getattr(value, each.name)) for each in fields(value))
    return 0


class Kept(Generic[K, V]):
    """Values by a key, computed once and kept while there is room. For several threads."""

    def __init__(self, most: int, room: int, dropped: Callable[[V], object] = lambda _: None) -> None:
        """
        Args:
            most: values that are kept.
            room: bytes of them; the newest is kept even where it alone is larger.
            dropped: told of each value that goes.
        """
        self.most, self.room, self.dropped = most, room, dropped
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: K) -> V | None:
        """What is kept under a key, used just now; None where nothing is."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: K, value: V) -> V:
        """Keep a value, and make room for it."""
        with self._lock:
            self._values[key] = (value, bytes_of(value))
            self._values.move_to_end(key)
            while len(self._values) > 1 and (len(self._values) > self.most or self.bytes > self.room):
                self.dropped(self._values.popitem(last=False)[1][0])
        return value

    def once(self, key: K, compute: Callable[[], V]) -> V:
        """The value of a key, computed where it is not kept; by two threads at once, twice."""
        found = self.get(key)
        return self.put(key, compute()) if found is None else found

    def items(self) -> list[tuple[K, V]]:
        """All that is kept, what was used longest ago first."""
        with self._lock:
            return [(key, value) for key, (value, _) in self._values.items()]

    def clear(self) -> None:
        """Forget all of it."""
        with self._lock:
            self._values.clear()

    @property
    def bytes(self) -> int:
        """Of all that is kept."""
        return sum(size for _, size in self._values.values())

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: K) -> bool:
        return key in self._values
