"""Measure `docs/jacobian_speed.md`: Jacobians in forward mode beside row-by-row reverse mode."""

import argparse
import json
from pathlib import Path

from situ.bench.jacobian_speed import measure

PAGE = Path(__file__).parent / "jacobian_speed.md"

TEXT = """# Speed of Jacobians

ReSeFa, LowRankGAN and the start of LELSD need the derivative of a picture with respect to its latent. Published code takes
it row by row in reverse mode: one backward pass for each pixel. Situ takes it column by column in forward mode, many
tangents at a time, which share everything that depends on the picture alone. `make bench` times both on one generator: a
StyleGAN2 of {resolution} px with random weights ({generator}), pixels of {resolution} px with RGB summed, {threads} threads.

| Jacobian | passes | seconds | memory, planned | times faster |
|---|---|---|---|---|
{table}

A few rows and a few chunks of tangents are timed and the rest follows; peak memory of the whole benchmark
{peak_memory_gib:.1f} GiB.

## A new region on a kept Jacobian

Another region of the same picture needs no new Jacobian. Seconds to solve for it, 512 coordinates (the first region also
sums up the picture's total change, once):

| rows | first region | each further one |
|---|---|---|
{again}
"""


def page(found: dict, resolution: int) -> str:
    rows = [f"| `w`, reverse | {found['reverse_passes']} | {found['reverse_seconds']:,.0f} | | 1 |"]
    for row in found["jacobians"]:
        cells = [f"`{row['space']}`, forward", f"{row['passes']} of up to 32 tangents", f"{row['seconds']:,.0f}"]
        cells += [f"{row['planned_gib']:.1f} GiB", f"{row['times_reverse']:.0f}" if "times_reverse" in row else ""]
        rows.append("| " + " | ".join(cells) + " |")
    again = [
        f"| {size} x {size} x 3 | {each['first']:.2f} | {each['again']:.3f} |"
        for size, each in found["resolve_512"].items()
    ]
    return TEXT.format(**found, resolution=resolution, table="\n".join(rows), again="\n".join(again))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--measured", type=Path, help="what `python -m situ.bench.jacobian_speed --json` printed")
    arguments = parser.parse_args()
    found = json.loads(arguments.measured.read_text()) if arguments.measured else measure(arguments.resolution)
    PAGE.write_text(page(found, arguments.resolution))


if __name__ == "__main__":
    main()
