"""Inversions side by side on photos that the generator never made: MAGEC's Tables 1 and 3 on the bundled pack.

The photos are held-out renders. Reconstruction is measured against them; the edit-consistency score (eq. 4-5) under the
editor that MAGEC is supervised with (attribute normals) and under one that it never sees (GANSpace), with paired tests.

    python -m situ.bench.inversion_table [-n 100] [--methods refined,refined without MAGEC] -o runs/inversion_table.json

Finished methods are read from the file, so that an interrupted run goes on.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from situ.core.direction import Edit, calibrate
from situ.core.discovery import held_out_latents
from situ.core.files import write_whole
from situ.core.images import Images
from situ.core.inversion import Inversion, Inverter, invert
from situ.core.latents import Latents
from situ.core.region import Box
from situ.discovery.ganspace import GANSpace
from situ.inversion.encoder import EncoderInversion
from situ.inversion.magec import MAGEC
from situ.metrics.consistency import ReversibleEdit, edit_consistency, reversible
from situ.metrics.improved_target import paired_t_test
from situ.packs.inverters import magec_of
from situ.packs.library import open_model
from situ.packs.pack import Pack
from situ.packs.portraits.renderer import render, sample_factors

SEED = 5_000_101  # of the photos; no recipe trains on it
SUPERVISED = ("glasses", "looking_right")  # attributes that are added
EDITS = 2  # by GANSpace
STEP = 2.0  # of a GANSpace edit, in units of strength


def methods_of(pack: Pack) -> dict[str, Inverter]:
    """The rows of the table."""
    assert pack.encoder is not None
    full, start = magec_of(pack), EncoderInversion(pack.encoder)
    refined = full.refining(start)
    return {
        "encoder": start,
        "refined": refined,
        "refined without MAGEC": replace(refined, magec=0.0),
        "MAGEC from the mean code": full,
        "without MAGEC": replace(full, magec=0.0),
        "without MAGEC 300 steps": replace(full, magec=0.0, first_steps=150, second_steps=150),
    }


def edits_of(pack: Pack) -> dict[str, ReversibleEdit]:
    """Edits by the editor that MAGEC knows, and by one that it does not."""
    assert pack.reader is not None
    magec: MAGEC = magec_of(pack)
    assert magec.editor is not None
    edits = {}
    for attribute in SUPERVISED:
        i = pack.reader.attributes.index(attribute)
        step = magec.editor.steps[i]

        def moved(latents: Latents, sign: float, step: Tensor = step) -> Latents:
            return latents.with_values(latents.values + sign * step)

        edits[f"attribute {attribute}"] = ReversibleEdit(
            lambda latents, moved=moved: moved(latents, 1.0), lambda latents, moved=moved: moved(latents, -1.0)
        )
    rng = torch.Generator().manual_seed(0)
    everywhere = Box(32, 32, 62, 62)  # a region for a method that asks for none
    (components,) = GANSpace(k=EDITS, space="w").find(pack.generator, [everywhere], rng)
    codes = held_out_latents(pack.generator, pack.calibration(), rng)
    for direction in components:
        starts = pack.generator.convert(codes, direction.subspace.space)
        unit = calibrate(pack.generator, direction, starts, pack.distance.between, pack.unit_distance)
        edits[f"GANSpace {direction.name}"] = reversible(pack.generator, Edit(((unit, 1.0),)), STEP)
    return edits


def photos(n: int) -> Images:
    """Held-out renders, as the generator sees pictures."""
    return render(sample_factors(n, torch.Generator().manual_seed(SEED)), 64).images.clamp(-1, 1)


def measured(pack: Pack, method: Inverter, target: Images, edits: Mapping[str, ReversibleEdit]) -> dict[str, object]:
    """One row: reconstruction, time, and ecs of every photo under every edit."""

    def project(images: Images) -> Inversion:
        return invert(pack.generator, images, method, torch.Generator().manual_seed(0))

    started = time.process_time()
    found = project(target)
    seconds = (time.process_time() - started) / len(target)
    with torch.no_grad():
        images = pack.generator.synthesize(found.latents).images.clamp(-1, 1)
        assert pack.embed is not None
        row: dict[str, object] = {
            "seconds": seconds,
            "mse": (images - target).square().mean(dim=(1, 2, 3)).tolist(),
            "perceptual": pack.distance.between(images, target).tolist(),
            "identity": (pack.embed(images) * pack.embed(target)).sum(dim=1).tolist(),
        }
    if edits:
        scores = edit_consistency(
            pack.generator,
            found,
            project,
            edits,
            pack.distance.between,
            eligible=without(pack, target, edits),
            batch=64,
        ).scores
        row["ecs"] = {name: scores[:, i].tolist() for i, name in enumerate(edits)}
    return row


def without(pack: Pack, target: Images, edits: Mapping[str, ReversibleEdit]) -> Bool[Tensor, "n e"]:
    """Which photos each edit is judged on: those without the attribute, as in the paper; all, by GANSpace."""
    assert pack.reader is not None
    with torch.no_grad():
        shown = pack.reader.classify(target) > 0.5
    columns = []
    for name in edits:
        attribute = name.removeprefix("attribute ")
        known = attribute in pack.reader.attributes
        columns.append(~shown[:, pack.reader.attributes.index(attribute)] if known else torch.ones(len(target)).bool())
    return torch.stack(columns, dim=1)


def run(n: int, names: Sequence[str], path: Path, say: Callable[[str], None]) -> dict[str, dict]:
    """All rows that are not in the file yet."""
    pack = open_model("portraits")
    target, edits, methods = photos(n), edits_of(pack), methods_of(pack)
    found: dict[str, dict] = json.loads(path.read_text()) if path.exists() else {}
    for name in names or methods:
        key = f"{name}|{n}"
        if key not in found:
            found[key] = json.loads(json.dumps(measured(pack, methods[name], target, edits)))
            text = json.dumps(found)
            write_whole(path, lambda place, text=text: place.write_text(text))
            say(line(name, found[key]))
    return found


def ecs_of(row: Mapping, kind: str) -> Tensor:
    """Each photo's mean ecs over the edits of one kind."""
    columns = [torch.tensor(values) for name, values in row["ecs"].items() if name.startswith(kind)]
    return torch.stack(columns).nanmean(dim=0)


def line(name: str, row: Mapping) -> str:
    figures = {key: sum(row[key]) / len(row[key]) for key in ("mse", "perceptual", "identity")}
    figures |= {f"ECS {kind}": float(ecs_of(row, kind).nanmean()) for kind in ("attribute", "GANSpace")}
    return f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()) + f", {row['seconds']:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description="Inversions side by side.")
    parser.add_argument("-n", type=int, default=100, help="photos")
    parser.add_argument("--methods", default="", help="rows, comma-separated; all by default")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/inversion_table.json"))
    arguments = parser.parse_args()
    names = [name.strip() for name in arguments.methods.split(",") if name.strip()]
    found = run(arguments.n, names, arguments.out, print)
    pairs = [
        ("refined", "refined without MAGEC"),
        ("MAGEC from the mean code", "without MAGEC"),
    ]
    for a, b in pairs:
        one, other = (found.get(f"{name}|{arguments.n}") for name in (a, b))
        if one and other:
            for kind in ("attribute", "GANSpace"):
                ours, theirs = ecs_of(one, kind), ecs_of(other, kind)
                known = ours.isfinite() & theirs.isfinite()
                test = paired_t_test(ours[known], theirs[known])
                print(f"ECS {kind}, {a} less {b}: {test}")


if __name__ == "__main__":
    main()
