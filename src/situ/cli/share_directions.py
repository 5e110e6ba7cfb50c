"""`situ directions push|pull`: direction files on the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from situ.cli.options import Json
from situ.cli.output import describe, emit_json, say
from situ.cli.pack import Offline, Private, Repository, Revision
from situ.core.direction import load_direction
from situ.packs.hub import pull_directions, push_directions

directions_app = typer.Typer(help="Share directions on the Hugging Face hub.", no_args_is_help=True)


@directions_app.command()
def push(
    repository: Repository,
    files: Annotated[list[Path], typer.Argument(help="direction files")],
    private: Private = False,
    as_json: Json = False,
) -> None:
    """Send direction files with a card that names them."""
    address = push_directions(files, repository, private)
    emit_json({"files": list(map(str, files)), "address": address}) if as_json else say(f"sent {len(files)}: {address}")


@directions_app.command()
def pull(
    repository: Repository,
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for the direction files")] = Path("directions"),
    revision: Revision = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Fetch the direction files of a repository."""
    found = pull_directions(repository, out, revision, offline)
    if as_json:
        emit_json([{"file": str(path), **describe(load_direction(path))} for path in found])
        return
    for path in found:
        direction = load_direction(path)
        say(f"{path}: {direction.region} in {direction.subspace} of {direction.generator}")
