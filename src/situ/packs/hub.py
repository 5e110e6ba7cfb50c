"""Sharing packs and directions through the Hugging Face hub (the extra "hub"): safetensors, JSON and a card, no pickle.

What comes from the hub is only what such a folder may hold; other files of a repository are not fetched.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from situ.core.direction import load_direction
from situ.core.errors import FileError, ModelError
from situ.packs.user_packs import (
    directions_of,
    made_beside,
    open_pack,
    packs_folder,
    read_header,
    require_pack,
    require_pack_name,
)

SHARED = ("*.safetensors", "*.json", "*.txt", "*.md")  # all that is sent and fetched


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ModelError(
            "sharing needs the package huggingface_hub, which is not installed: pip install 'situ[hub]'"
        ) from None
    return huggingface_hub


@contextmanager
def _answering(repository: str) -> Iterator[None]:
    """Turns what the hub or the network say no with into ModelError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:  # the hub's own errors are of these kinds
        words = " ".join(str(error).split())[:240]
        raise ModelError(
            f"{repository} on the hub: {type(error).__name__}: {words}. Is the name OWNER/NAME, is the network there, "
            "and are you logged in (`hf auth login`) where that is needed?"
        ) from None


def push_pack(name: str, repository: str, private: bool = False) -> str:
    """Send one of the user's packs. Returns its address. Raises ModelError."""
    folder = require_pack(name)
    open_pack(folder)  # nothing broken leaves the machine
    return _push(folder, repository, private)


def push_directions(files: Sequence[Path], repository: str, private: bool = False) -> str:
    """Send direction files with a card that names them. Returns the address.

    Raises:
        DirectionError: a file that is none. ModelError: the hub or the network refuse.
    """
    directions = [load_direction(path) for path in files]
    rows = [
        f"| {path.name} | {d.region} | {d.subspace} | {d.generator} | {d.found_by.split('(')[0]} |"
        for path, d in zip(files, directions, strict=True)
    ]
    heading = ["---", "tags: [situ, local-editing]", "---", f"# Directions for {directions[0].generator}", ""]
    columns = ["| file | region | subspace | generator | found by |", "|---|---|---|---|---|"]
    with TemporaryDirectory() as made:
        folder = Path(made)
        names = [path.name for path in files]
        if len(set(names)) < len(names):
            raise FileError(f"direction files that are shared need names of their own, got {', '.join(names)}")
        for path in files:
            shutil.copyfile(path, folder / path.name)
        (folder / "README.md").write_text("\n".join([*heading, *columns, *rows, ""]), encoding="utf-8")
        return _push(folder, repository, private)


def _push(folder: Path, repository: str, private: bool) -> str:
    hub = _hub()
    with _answering(repository):
        api = hub.HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        told = api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=list(SHARED))
    return str(getattr(told, "commit_url", repository))


def _pull(repository: str, revision: str | None, offline: bool) -> Path:
    hub = _hub()
    with _answering(repository):
        found = hub.snapshot_download(
            repository, revision=revision, allow_patterns=list(SHARED), local_files_only=offline
        )
    return Path(found)


def pull_pack(
    repository: str,
    name: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    overwrite: bool = False,
) -> Path:
    """Fetch a pack and put it among the user's, where it opens.

    Args:
        name: what it is to be called here; None for its own name.
        revision: branch, tag or commit.
        offline: take what the hub's cache holds and ask nobody.

    Raises:
        ModelError: no such pack, no pack, a name that is taken, or one that does not open.
    """
    source = _pull(repository, revision, offline)
    header = read_header(source)
    target = packs_folder() / require_pack_name(name or header["name"])
    if target.exists() and not overwrite:
        raise ModelError(f"there is a pack {target.name} already: give another (--name), or replace it (--overwrite)")
    with made_beside(target) as folder:
        for pattern in SHARED:
            for path in source.rglob(pattern):
                place = folder / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)  # the hub's cache has links
        open_pack(folder)
    return target


def pull_directions(repository: str, out: Path, revision: str | None = None, offline: bool = False) -> list[Path]:
    """Fetch the direction files of a repository into a folder. Raises ModelError where there is none."""
    source = _pull(repository, revision, offline)
    files = directions_of(source)
    if not files:
        raise ModelError(f"{repository} holds no direction files")
    taken = [out / path.name for path in files if (out / path.name).exists()]
    if taken:
        raise FileError(f"{taken[0]} is there already: choose another folder with -o")
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copyfile(path, out / path.name)) for path in files]
    except OSError as error:
        raise FileError(f"cannot write to {out}: {error.strerror or error}") from None
