"""Situ's own files: safetensors with a JSON header. Written whole or not at all, read without pickle."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from situ.core.errors import SituError
from situ.core.files import write_whole

_Content = TypeVar("_Content")

# what damaged or foreign content makes of the reading of it
_UNREADABLE = (
    SafetensorError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    SituError,
)


@dataclass(frozen=True)
class Container:
    """One kind of file."""

    format: str  # written in the header, with a version
    noun: str  # what people call such a file
    written_by: str  # where one comes from, for the error message
    error: type[SituError]

    def write(self, path: Path | str, header: Mapping[str, object], tensors: Mapping[str, Tensor]) -> None:
        """Write a header and tensors. Raises FileError where the place cannot be written."""
        text = json.dumps({"format": self.format, **header})
        plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        write_whole(path, lambda place: save_file(plain, place, {"situ": text}))

    def read(self, path: Path | str, build: Callable[[Mapping[str, Any], Mapping[str, Tensor]], _Content]) -> _Content:
        """What `build` makes of the header and the tensors.

        Raises:
            `self.error`: no such file, another kind of file, or one that `build` cannot make anything of.
        """
        expected = f"expected a {self.noun} ({self.format}, .safetensors){self.written_by}"
        if not Path(path).is_file():
            raise self.error(f"no {self.noun} at {path}: {expected}")
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("situ", "{}"))
                found = header.get("format", "no format")
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            if found == self.format:
                return build(header, tensors)
        except _UNREADABLE as error:
            raise self.error(f"{path} cannot be read ({type(error).__name__}: {error}): {expected}") from None
        raise self.error(f"{path} holds something else ({found}): {expected}")
