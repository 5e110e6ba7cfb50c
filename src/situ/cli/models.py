"""`situ models`: what can be given as --model."""

from situ.cli.options import Json
from situ.cli.output import emit_json, table
from situ.packs.library import PACKS, open_model


def models(as_json: Json = False) -> None:
    """List the bundled models."""
    packs = [open_model(name) for name in PACKS]
    rows = [
        {
            "name": pack.name,
            "generator": pack.generator.name,
            "resolution": pack.generator.resolution,
            "spaces": {name: space.dim for name, space in pack.generator.spaces.items()},
            "parts": list(pack.segmenter.parts) if pack.segmenter else [],
            "licence": pack.licence,
        }
        for pack in packs
    ]
    if as_json:
        emit_json(rows)
        return
    columns = ["model", "generator", "pixels", "parts", "licence"]
    table(
        "Models",
        columns,
        [[r["name"], r["generator"], r["resolution"], " ".join(r["parts"]), r["licence"]] for r in rows],
    )
