"""How fast Jacobians are: forward mode beside the row-by-row reverse mode of the published code, on one generator.

The generator is a StyleGAN2 of 256 px with random weights (config-f widths, 16384 / resolution channels): its cost is
that of trained ones. Reverse mode takes one backward pass for each of the 65,536 rows (RGB summed, as published); a few
are timed and the rest follows. Forward mode is timed the same way from some chunks of tangents, and whole where it is
short.

    python -m situ.bench.jacobian_speed [--resolution 256] [--json]
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from situ.core.generator import Generator
from situ.core.jacobian import Jacobian, Rows, linearize, plan_jacobian
from situ.core.latents import Latents, parse_subspace
from situ.discovery.resefa import solve_region
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings

SPACES = ("w", "w+", "s")
ROUNDS = 2


def random_generator(resolution: int) -> StyleGAN2:
    """A generator of random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StyleGAN2(StyleGAN2Network(StyleGAN2Settings(resolution, channel_base=64 * resolution)))


def seconds(run: Callable[[], object]) -> float:
    """Median of some runs, after one that warms up."""
    run()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def reverse_row_seconds(generator: Generator, w: Latents, rows: Rows) -> float:
    """One row of the Jacobian in W by reverse mode, on a graph that is kept, as the published code does it."""
    values = w.values.detach().clone().requires_grad_()
    picture = rows.of(generator.synthesize(w.with_values(values)).images)[0, 0]
    places = iter(range(10**6))

    def row() -> None:
        i = next(places)
        torch.autograd.grad(picture[7 * i % picture.shape[0], 20], values, retain_graph=True)

    return seconds(row)


def tangent_seconds(generator: Generator, w: Latents, space: str, chunk: int) -> float:
    """A tangent of a subspace, the mean over chunks spread over its coordinates (late layers cost less)."""
    subspace = parse_subspace(space, generator.spaces)
    linear = linearize(generator, w, subspace)
    starts = [int(f * (subspace.dim - chunk)) for f in (0.0, 0.5, 1.0)]
    each = []
    for start in starts:
        tangents = torch.zeros(chunk, subspace.dim)
        tangents[:, start : start + chunk].fill_diagonal_(1)
        each.append(seconds(lambda t=tangents: linear(t)) / chunk)
    return statistics.mean(each)


def resolve_seconds(resolution: int) -> dict[str, float]:
    """Solving for a brushed region on a kept Jacobian of 512 coordinates, the first time and again.

    The Jacobian is random: solving costs the same.
    """
    generator = random_generator(16)
    rng = torch.Generator().manual_seed(0)
    subspace = parse_subspace("w", generator.spaces)
    rows = Rows(resolution)
    decay = torch.logspace(0, -3, subspace.dim)[:, None, None, None]
    values = torch.randn(subspace.dim, 3, resolution, resolution, generator=rng) * decay
    kept = Jacobian(values.half(), subspace, generator.name)
    found: dict[str, float] = {}
    mask = torch.zeros(1, 1, resolution, resolution)
    top, left = round(0.65 * resolution), round(0.35 * resolution)
    mask[..., top : top + round(0.12 * resolution), left : left + round(0.27 * resolution)] = 1  # a mouth
    started = time.perf_counter()
    solve_region(kept, mask, rows)
    found["first"] = time.perf_counter() - started
    found["again"] = seconds(lambda: solve_region(kept, mask.roll(3, dims=2), rows))
    return found


def measure(resolution: int) -> dict[str, object]:
    """Everything."""
    generator = random_generator(resolution)
    w = generator.sample(1, generator.spaces["w"], torch.Generator().manual_seed(0))
    rows = Rows(resolution, sum_rgb=True)
    reverse = reverse_row_seconds(generator, w, rows) * resolution**2
    table = []
    for space in SPACES:
        subspace = parse_subspace(space, generator.spaces)
        plan = plan_jacobian(generator, subspace, rows, memory=64)
        whole = tangent_seconds(generator, w, space, min(plan.chunk, 8)) * subspace.dim
        row: dict[str, object] = {"space": space, "tangents": subspace.dim, "passes": plan.passes, "seconds": whole}
        row["planned_gib"] = plan.bytes / 2**30
        if space == "w":
            row["times_reverse"] = reverse / whole
        table.append(row)
    return {
        "generator": generator.name,
        "threads": torch.get_num_threads(),
        "reverse_passes": resolution**2,
        "reverse_seconds": reverse,
        "jacobians": table,
        "resolve_512": {str(size): resolve_seconds(size) for size in (64, 128, 256)},
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time Jacobians beside row-by-row reverse mode.")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.resolution)
    if arguments.json:
        json.dump(found, sys.stdout, indent=2)
        return
    console = Console()
    table = Table(title=f"{found['generator']}, {found['threads']} threads")
    for column in ("Jacobian", "passes", "seconds", "GiB, as planned", "times reverse mode"):
        table.add_column(column)
    table.add_row("w, reverse", str(found["reverse_passes"]), f"{found['reverse_seconds']:.0f}", "", "1")
    for row in found["jacobians"]:  # pyright: ignore[reportGeneralTypeIssues]
        ratio = f"{row['times_reverse']:.0f}" if "times_reverse" in row else ""
        cells = (f"{row['space']}, forward", f"{row['passes']} of up to 32", f"{row['seconds']:.0f}")
        table.add_row(*cells, f"{row['planned_gib']:.1f}", ratio)
    console.print(table)
    console.print(f"solving for a brushed region on a kept Jacobian, seconds by size of rows: {found['resolve_512']}")
    console.print(f"peak memory of this process: {found['peak_memory_gib']:.1f} GiB")


if __name__ == "__main__":
    main()
