"""How fast inversion by optimisation is: photos that share each pass beside one at a time, and how far few steps get.

The photos are held-out renders, which the bundled generator never made. Throughput is of whole inversions, what is
computed once for a photo included. The curves are mean losses after so many steps: MAGEC's 200 from the mean code
beside fewer from a start that knows better.

    python -m situ.bench.inversion_speed [--photos 16] [--steps 5] [--start encoder] [--curves 0] [--json]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from situ.core.generator import Generator
from situ.core.images import Images
from situ.core.inversion import Inverter, invert
from situ.inversion.encoder import EncoderInversion
from situ.inversion.magec import MAGEC
from situ.packs.inverters import magec_of
from situ.packs.library import open_model
from situ.packs.pack import Pack
from situ.packs.portraits.renderer import render, sample_factors

BATCHES = (1, 8, 16)
ROUNDS = 3
SEED = 5_000_301  # of the photos; no recipe trains on it
SHOWN = (1, 10, 20, 40, 100, 150, 200)  # steps of a curve that the table prints


def held_out(n: int, resolution: int) -> Images:
    """Renders, as the generator sees pictures."""
    return render(sample_factors(n, torch.Generator().manual_seed(SEED)), resolution).images.clamp(-1, 1)


def throughput(
    generator: Generator, method: MAGEC, target: Images, batches: Sequence[int], rounds: int = ROUNDS
) -> list[dict[str, float]]:
    """Photo-steps a second at each number of photos a pass.

    The batches take turns, so that what else the machine does falls on all of them; the median counts.
    """

    def seconds(batch: int) -> float:
        started = time.perf_counter()
        invert(generator, target, replace(method, batch=batch), torch.Generator().manual_seed(0))
        return time.perf_counter() - started

    for batch in batches:
        seconds(batch)
    times = [[seconds(batch) for batch in batches] for _ in range(rounds)]
    done = len(target) * (method.first_steps + method.second_steps)
    rates = [done / statistics.median(column) for column in zip(*times, strict=True)]
    return [
        {"batch": batch, "photo_steps_a_second": rate, "times_the_first": rate / rates[0]}
        for batch, rate in zip(batches, rates, strict=True)
    ]


def curve(generator: Generator, method: Inverter, target: Images) -> dict[str, list[float]]:
    """Mean loss of every name before each step, and at the end that of the codes that are kept."""
    found = invert(generator, target, method, torch.Generator().manual_seed(0))

    def means(rows: Tensor) -> list[float]:
        return rows.mean(dim=1).tolist()

    return {
        name: [*means(rows), float(found.losses[name].mean())]
        for name, rows in found.history.items()
        if name in ("mse", "perceptual", "identity")
    }


def start_named(name: str, pack: Pack) -> Inverter | None:
    """What an optimisation begins with: "mean" the mean code, "encoder" the pack's."""
    if name == "mean" or pack.encoder is None:
        return None
    return EncoderInversion(pack.encoder)


def measure(photos: int, steps: int, start: str, curves: int) -> dict[str, Any]:
    """Everything.

    Args:
        steps: of the inversions that are timed.
        curves: photos of the curves; 0 for none, since they take 240 steps each.
    """
    pack = open_model("portraits")
    generator, full = pack.generator, magec_of(pack)
    begins = start_named(start, pack)
    target = held_out(max(photos, curves), generator.resolution).to(generator.device)
    timed = replace(full, first_steps=0, second_steps=steps)
    found: dict[str, Any] = {
        "generator": generator.name,
        "threads": torch.get_num_threads(),
        "photos": photos,
        "steps": steps,
        "throughput": throughput(generator, timed, target[:photos], BATCHES),
    }
    if curves:
        few = full.refining(begins) if begins else replace(full, first_steps=20, second_steps=20)
        found["curves"] = {
            "MAGEC as published, 200 steps from the mean code": curve(generator, full, target[:curves]),
            f"MAGEC, 40 steps from {start}": curve(generator, few, target[:curves]),
        }
    return found


def curve_rows(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> list[list[str]]:
    """The shown steps of every curve of "mse" and "perceptual"; the last column is the end."""
    rows = []
    for name, losses in curves.items():
        for loss in ("mse", "perceptual"):
            values = losses[loss]
            steps = len(values) - 1
            shown = [f"{values[s]:.4f}" if s < steps else "" for s in SHOWN[:-1]]
            rows.append([f"{name}, {loss}", *shown, f"{values[-1]:.4f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Time batched inversion beside photo by photo.")
    parser.add_argument("--photos", type=int, default=16, help="photos of the timed inversions")
    parser.add_argument("--steps", type=int, default=5, help="their steps")
    parser.add_argument("--start", choices=("encoder", "mean"), default="encoder", help="where the short curve begins")
    parser.add_argument("--curves", type=int, default=0, help="photos of the curves; 0 leaves them out")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.photos, arguments.steps, arguments.start, arguments.curves)
    if arguments.json:
        json.dump(found, sys.stdout, indent=2)
        return
    console = Console()
    table = Table(title=f"{found['generator']}, {found['threads']} threads, {found['photos']} photos")
    for column in ("photos a pass", "photo-steps a second", "times one at a time"):
        table.add_column(column)
    for row in found["throughput"]:
        table.add_row(str(row["batch"]), f"{row['photo_steps_a_second']:.1f}", f"{row['times_the_first']:.2f}")
    console.print(table)
    if "curves" in found:
        table = Table(title="mean loss after so many steps")
        for column in ("", *map(str, SHOWN[:-1]), "end"):
            table.add_column(column)
        for row in curve_rows(found["curves"]):
            table.add_row(*row)
        console.print(table)


if __name__ == "__main__":
    main()
