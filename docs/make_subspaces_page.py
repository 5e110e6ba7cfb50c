"""Measure `docs/subspaces.md`: LELSD's directions over subspaces, steps and layer weights, on the bundled portraits."""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from situ import LELSD, Pack, discover, open_model, parse_part
from situ.bench.measures import measured, random_measured

PARTS = ("hair", "eyes", "mouth")
SPACES = ("z", "w", "w+", "w+:2-9", "w+:5-9", "s", "s:conv", "s:5-13")
PAGE = Path(__file__).parent / "subspaces.md"

HEAD = """# Subspaces, steps and layer weights

LELSD on the bundled portraits ({generator}), seed 0, {n} held-out pictures, at strength ±1. Each cell: LS / share of
the squared pixel change inside the part (dilated by 2 px). Made by `make measure`.

Small parts cannot score high at 4 x 4 features, so a subspace that leaves the coarse layers alone has a higher LS: its
mean runs over the layers that can change. And LS and the pixels can part ways, because the feature layers do not see
ToRGB, which tints the whole picture: look at both. A weight on the picture itself (`layer_weights={{"image": 5}}`, the last
table) buys pixels inside the part for a little LS; the searches of the first two tables have it.

"""


def row(pack: Pack, method: LELSD, n: int, baseline: bool) -> tuple[list[str], float]:
    """The cells of one method's directions, and the seconds that finding them took."""
    rng = torch.Generator().manual_seed(0)
    regions = [parse_part(part, pack.segmenter) for part in PARTS]
    started = time.monotonic()
    found = discover(pack.generator, regions, method, rng, pack.calibration(16), random=0)
    seconds = time.monotonic() - started
    held_out = pack.generator.sample(n, pack.generator.spaces["z"], rng, method.truncation)
    cells = []
    for region, (direction,) in zip(regions, found, strict=True):
        f = measured(pack, direction, region, held_out)
        cells.append(f"{f['LS']:.2f} / {f['inside']:.0%}")
        if baseline:
            r = random_measured(pack, direction.subspace, region, held_out, 2, rng)
            cells.append(f"{r['LS']:.3f} / {r['inside']:.0%}")
    print(method.space, method.steps, dict(method.layer_weights), cells, f"{seconds:.0f} s", flush=True)
    return cells, seconds


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows]) + "\n\n"


def weights(pack: Pack) -> Mapping[str, Mapping[str, float]]:
    layers = pack.generator.layers
    return {
        "all layers alike": {},
        "16 px and finer only": {layer.name: float(layer.resolution >= 16) for layer in layers},
        "all layers, and the picture 1": {"image": 1.0},
        "all layers, and the picture 5": {"image": 5.0},
        "all layers, and the picture 20": {"image": 20.0},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=32, help="held-out pictures")
    parser.add_argument("--quick", action="store_true", help="20 steps of three subspaces, printed only")
    arguments = parser.parse_args()
    pack = open_model("portraits")
    method = LELSD(layer_weights={"image": 5.0})
    spaces, n = (SPACES[2:5], 8) if arguments.quick else (SPACES, arguments.n)
    if arguments.quick:
        method = replace(method, samples=80)
    both = [name for part in PARTS for name in (part, "random")]
    page = HEAD.format(generator=pack.generator.name, n=n)
    rows = []
    for space in spaces:
        cells, seconds = row(pack, replace(method, space=space), n, True)
        rows.append([f"`{space}`", *cells, f"{seconds:.0f}"])
    page += "## Subspaces (200 steps)\n\n" + table(["subspace", *both, "seconds, all three"], rows)
    best = pack.best_subspaces["mouth"]
    if not arguments.quick:
        rows = [
            [str(steps), *row(pack, replace(method, space=best, samples=4 * steps), n, False)[0]]
            for steps in (5, 20, 50, 100, 200)
        ]
        page += f"## Steps (`{best}`, the learning rate halved every 50)\n\n" + table(["steps", *PARTS], rows)
        rows = [
            [name, *row(pack, replace(method, space=best, layer_weights=chosen), n, False)[0]]
            for name, chosen in weights(pack).items()
        ]
        page += (
            f"## Layer weights (`{best}`, 200 steps)\n\n"
            "The search maximises the weighted score; LS here is the unweighted one.\n\n"
            + table(["weights", *PARTS], rows)
        )
        PAGE.write_text(page.rstrip() + "\n")
    print(page)


if __name__ == "__main__":
    main()
