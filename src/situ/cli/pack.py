"""`situ pack create|push|pull|remove`: packs of your own models."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from situ.cli.options import Json
from situ.cli.output import emit_json, say
from situ.core.errors import FileError, ModelError
from situ.generators.style_based import Noise
from situ.packs.hub import pull_pack, push_pack
from situ.packs.library import PACKS
from situ.packs.user_packs import PackSources, create_pack, open_pack, require_pack

pack_app = typer.Typer(help="Make packs of your own models and share them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="what the pack is called, and given as --model")]
Repository = Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face hub")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace a pack of that name")]
Revision = Annotated[str | None, typer.Option("--revision", help="branch, tag or commit")]
Offline = Annotated[bool, typer.Option("--offline", help="take what the hub's cache holds already")]
Private = Annotated[bool, typer.Option("--private", help="make a new repository a private one")]


def _require_free(name: str) -> None:
    if name in PACKS:
        raise ModelError(f"{name} is a bundled pack: choose another name")


def _told(folder: Path, as_json: bool) -> None:
    """Say what a pack can do and under which licences."""
    pack = open_pack(folder)
    parts = list(pack.segmenter.parts) if pack.segmenter else []
    if as_json:
        emit_json({"name": folder.name, "folder": str(folder), "generator": pack.generator.name, "parts": parts})
        return
    can = [f"{len(parts)} parts" if parts else "no parts (give boxes or masks)", pack.distance.name]
    can += ["identity"] if pack.embed else []
    say(f"{folder.name}: {pack.generator.name}, {', '.join(can)}; in {folder}")
    say(pack.card.partition("Licences:")[2].strip() or f"licence: {pack.licence}")
    say(f"try: situ sample --model {folder.name} -n 16 -o samples.png")


@pack_app.command()
def create(
    name: Name,
    generator: Annotated[Path, typer.Option("--generator", help="a checkpoint of any known format")],
    segmenter: Annotated[
        Path | None,
        typer.Option(
            "--segmenter",
            help="BiSeNet, DeepLab, a clusters file, a linear head, or the folder of a transformers model",
        ),
    ] = None,
    labels: Annotated[
        str, typer.Option("--labels", help="BiSeNet's order: face-parsing or celebamask-hq")
    ] = "face-parsing",
    grouped: Annotated[
        bool, typer.Option("--grouped/--each-label", help="eyes, brows, lips, sky ... as one part")
    ] = True,
    embedder: Annotated[Path | None, typer.Option("--embedder", help="ArcFace or MoCo, for identity")] = None,
    lpips: Annotated[
        str, typer.Option("--lpips", help="alex or vgg: strengths in LPIPS, whose two files are in the weights folder")
    ] = "",
    licence: Annotated[
        str, typer.Option("--licence", help="of the generator's weights, where its file says none")
    ] = "",
    card: Annotated[Path | None, typer.Option("--card", help="a model card, markdown")] = None,
    half: Annotated[bool, typer.Option("--half", help="store weights in half precision")] = False,
    noise: Annotated[Noise | None, typer.Option("--noise", help="const or none, instead of what the file says")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a named pack of a generator and the networks that go with it, in your data folder."""
    _require_free(name)
    try:
        words = card.read_text(encoding="utf-8") if card else ""
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"the card {card} cannot be read ({type(error).__name__}): expected a text") from None
    sources = PackSources(generator, segmenter, labels, grouped, embedder, lpips, licence, words, half, noise)
    _told(create_pack(name, sources, overwrite), as_json)


@pack_app.command()
def push(name: Name, repository: Repository, private: Private = False, as_json: Json = False) -> None:
    """Send a pack to the Hugging Face hub: safetensors and a card."""
    address = push_pack(name, repository, private)
    emit_json({"pack": name, "address": address}) if as_json else say(f"sent {name}: {address}")


@pack_app.command()
def pull(
    repository: Repository,
    name: Annotated[str | None, typer.Option("--name", help="what to call it here")] = None,
    revision: Revision = None,
    offline: Offline = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fetch a pack from the Hugging Face hub."""
    if name:
        _require_free(name)
    _told(pull_pack(repository, name, revision, offline, overwrite), as_json)


@pack_app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Delete a pack from your data folder."""
    folder = require_pack(name)
    shutil.rmtree(folder)
    emit_json({"removed": str(folder)}) if as_json else say(f"removed {folder}")
