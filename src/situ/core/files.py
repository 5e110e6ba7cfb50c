"""Writing files so that nobody ever meets half of one."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from situ.core.errors import FileError


def write_whole(path: Path | str, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name beside it, then rename: a reader never sees half of it.

    Raises:
        FileError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}; choose another output folder") from None
    temporary = Path(name)
    try:
        write(temporary)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except (OSError, ValueError, SafetensorError) as error:  # Pillow's limits of a format are ValueErrors
        raise FileError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
