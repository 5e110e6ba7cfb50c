"""Draw the picture of every method's page: its best directions of the mouth and of the hair.

    python docs/make_method_pictures.py [METHOD...] [--runs runs/bench]

Searched with seed 0 and the settings of the command, several where they cost nothing, best region gain first; what
`situ bench` has searched already is taken from there. Same pictures and strengths for all methods; nothing is chosen by
hand.
"""

import argparse
from pathlib import Path

import torch

from situ import open_model
from situ.bench.demo import direction_grid
from situ.bench.measures import measured, random_measured
from situ.bench.searches import Searches, regions_of_bench
from situ.core.files import write_whole
from situ.figures.sheets import draw_grid, lay_out
from situ.packs.methods import METHODS
from situ.packs.pack import Pack

PAGES = Path(__file__).parent / "methods"
PARTS = ("mouth", "hair")
SEED, SHOWN, MEASURED = 0, 3, 16


def draw(pack: Pack, searches: Searches, name: str, path: Path) -> None:
    """The best direction of each part, measured on pictures that no search saw."""
    held_out = pack.generator.sample(MEASURED, pack.generator.spaces["z"], torch.Generator().manual_seed(7), 0.7)
    regions = regions_of_bench(pack)
    sheets = []
    for part in PARTS:
        best = searches.find(name, regions, part, SEED, METHODS[name].settings).best
        region = regions[part]
        rng = torch.Generator().manual_seed(SEED)
        chance = random_measured(pack, best.subspace, region, held_out, 4, rng)  # pyright: ignore[reportArgumentType]
        row = {"figures": measured(pack, best, region, held_out), "random": chance}
        sheets.append([draw_grid(direction_grid(pack, best, row, held_out[:SHOWN]))])
        print(f"{name}, {part}: {best.name} in {best.subspace}, inside {row['figures']['inside']:.2f}", flush=True)
    page = lay_out(sheets)
    write_whole(path, lambda place: page.save(place, quality=85, optimize=True, progressive=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench"), help="what `situ bench -o` was given")
    arguments = parser.parse_args()
    pack = open_model("portraits")
    searches = Searches(pack, "portraits", arguments.runs / "searches", quick=False)
    PAGES.mkdir(exist_ok=True)
    for name in arguments.methods:
        draw(pack, searches, name, PAGES / f"{name}.jpg")


if __name__ == "__main__":
    main()
