"""Measure `docs/speed.md`: LELSD beside the plain loop as published."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from situ import open_model
from situ.bench.lelsd_speed import CLOCKS, LOOPS, UPDATES, measure_speed

PAGE = Path(__file__).parent / "speed.md"

TEXT = """# Speed of LELSD

`make bench` times LELSD beside a plain loop written as the published code works: both passes with a graph and all layers
kept, one part and one direction at a time, pictures through 8-bit for the segmenter, no layer reused. *Plain* also has
weights that ask for gradients; *plain, frozen* runs the same loop on Situ's frozen generator with its cached kernels. Same
pictures per update (4), same generator ({generator}), one process, loops in turns; only ratios mean something.

{table}

A direction is {updates} updates. {clock} clock, {repeats} rounds of {steps} steps, torch {torch}, {threads} threads,
{machine}; peak memory of all loops together {peak_memory_mib:.0f} MiB.

## Why not more

An update of one direction needs x, x' and a backward pass through x'. Counted in passes of the generator, the plain loop
takes 4 (with weight gradients), the frozen one 3, Situ 3 for a single direction and about 2 for each of many that share
x. That bounds the gain of the loop itself at 1.3 times for one direction and 2 for many; the rest comes from cached
kernels, one scoring operation for all directions, chunks that stay in the cache, a segmenter without normalisation layers, and
bfloat16 (`--low-precision`).

## To an equal score

What a user waits for is a direction, not an update. A unit-norm u takes a step size ten times the paper's, so far fewer
updates reach the score that the plain loop has after {updates}:

{equal}

LS on 64 held-out pictures at raw strength 2.
"""


def faster(ratio: Mapping[str, float] | None) -> str:
    return f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})" if ratio else ""


def page(report: Mapping) -> str:
    lines = ["| job | loop | s/step | s/direction | times plain | times plain, frozen | aim |", "|" + "---|" * 7]
    for row in report["comparisons"]:
        for name, label in LOOPS.items():
            ratios = [faster(row.get(f"{slow}_over_{name}")) for slow in ("plain", "plain_frozen")]
            wanted = f"{row['wanted']:g}" if name.startswith("situ") and row["wanted"] else ""
            cells = [f"{row['name']}, `{row['space']}`", label, f"{row[name]['seconds_per_step']:.3f}"]
            cells += [f"{row[name]['seconds_per_direction']:.1f}", *ratios, wanted]
            lines.append("| " + " | ".join(cells) + " |")
    equal = ["| part | plain, lr 1e-3, 200 updates | Situ, lr 1e-2 | updates | times faster |", "|" + "---|" * 5]
    one = report["comparisons"][0]
    for row in report["equal_LS"]:
        updates, reached = list(row["situ_LS"].items())[-1]
        gain = UPDATES / updates * one["plain_over_situ"]["median"]
        equal.append(f"| {row['part']} | {row['plain_LS']:.3f} | {reached:.3f} | {updates} | {gain:.0f} |")
    return TEXT.format(**report, table="\n".join(lines), equal="\n".join(equal), updates=UPDATES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: for a processor that others use as well")
    arguments = parser.parse_args()
    report = measure_speed(open_model("portraits"), arguments.steps, arguments.repeats, 0, arguments.clock)
    PAGE.write_text(page(report))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
