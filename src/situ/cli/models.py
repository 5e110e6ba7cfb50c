"""`situ models`: what can be given as --model, and what each can do."""

from situ.cli.options import Json
from situ.cli.output import emit_json, say, table
from situ.core.errors import SituError
from situ.packs.library import PACKS, open_model
from situ.packs.pack import Pack
from situ.packs.user_packs import installed_packs


def models(as_json: Json = False) -> None:
    """List the bundled models and your packs: what they can do, and their licences."""
    rows: list[dict[str, object]] = []
    broken: dict[str, str] = {}
    for name in [*PACKS, *installed_packs()]:
        try:
            rows.append(_row(name, open_model(name)))
        except SituError as error:
            broken[name] = str(error)
    if as_json:
        emit_json([*rows, *({"name": name, "error": reason} for name, reason in broken.items())])
        return
    columns = {
        "model": "name",
        "generator": "generator",
        "pixels": "resolution",
        "parts": "parts",
        "attributes": "attributes",
        "identity": "identity",
        "licence": "licence",
    }
    table("Models", list(columns), [[_shown(row[key]) for key in columns.values()] for row in rows])
    for name, reason in broken.items():
        say(f"{name} does not open: {reason}")


def _row(name: str, pack: Pack) -> dict[str, object]:
    generator = pack.generator
    return {
        "name": name,
        "generator": generator.name,
        "resolution": generator.resolution,
        "spaces": {space.name: space.dim for space in generator.spaces.values()},
        "parts": list(pack.segmenter.parts) if pack.segmenter else [],
        "attributes": list(pack.reader.attributes) if pack.reader else [],
        "identity": pack.embed is not None,
        "distance": pack.distance.name,
        "licence": pack.licence,
    }


def _shown(value: object) -> object:
    """Lists by their beginning."""
    if isinstance(value, list):
        return " ".join(value[:12]) + (f" ... ({len(value)})" if len(value) > 12 else "")
    return {True: "yes", False: ""}.get(value, value) if isinstance(value, bool) else value
