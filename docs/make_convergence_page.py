"""Measure `docs/convergence.md`: how soon LELSD's searches reach which score, over parts, subspaces and seeds."""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor

from situ import LELSD, open_model, parse_part
from situ.core.localization import aggregate, localization_scores
from situ.core.region import Region
from situ.discovery.lelsd import _Search
from situ.packs.pack import Pack

mpl.use("Agg")
from matplotlib import pyplot

PARTS = ("hair", "eyes", "mouth", "nose", "brows", "clothes")
SPACES = ("w", "w+:2-9", "s:conv")
MARKS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 100, 200)
FOLDER = Path(__file__).parent
# name -> settings of the search, most steps, seeds
SEARCHES: Mapping[str, tuple[LELSD, int, tuple[int, ...]]] = {
    "as published": (LELSD.as_published(), 200, (0, 1, 2)),
    "published, learning rate 1e-2": (LELSD.as_published(lr=1e-2), 200, (0,)),
    "default": (LELSD(), 30, (0, 1, 2)),
}


class HeldOut:
    """LS of directions on pictures that no search sees, at strengths drawn once as the searches draw theirs."""

    def __init__(self, pack: Pack, space: str, regions: Sequence[Region], n: int) -> None:
        rng = torch.Generator().manual_seed(999)
        probe = _Search(LELSD.as_published(space=space), pack.generator, tuple(regions), rng)
        self.search, self.latents, self.regions = probe, probe._sample(n), regions
        self.alphas = probe._alphas(1, n)[0]
        with torch.no_grad():
            self.before = pack.generator.synthesize(self.latents, probe.names, keep=probe.first)
            self.masks = [region.mask(self.before) for region in regions]

    def scores(self, u: Tensor) -> list[float]:
        """One for each region's direction, (regions, d)."""
        found, probe = [], self.search
        for r, region in enumerate(self.regions):
            moves = self.alphas[:, None] * probe.subspace.lift(u[r])[None]
            with torch.no_grad():
                after = probe.generator.synthesize(
                    self.latents.with_values(self.latents.values + moves), probe.names, resume=self.before.state
                )
                s = aggregate(self.masks[r], region.mask(after))
                before = {name: self.before.features[name] for name in probe.names}
                found.append(float(localization_scores(before, after.features, s).mean()))
        return found


def curve(pack: Pack, method: LELSD, steps: int, seed: int, held_out: HeldOut) -> dict[str, object]:
    """Scores at the marks, and seconds of the start and of a step."""
    started = time.process_time()
    search = _Search(method, pack.generator, tuple(held_out.regions), torch.Generator().manual_seed(seed))
    start, walk, rows = time.process_time() - started, 0.0, {0: held_out.scores(search.found()[0])}
    for i in range(steps):
        started = time.process_time()
        search.step(i)
        walk += time.process_time() - started
        if i + 1 in MARKS or i + 1 == steps:
            rows[i + 1] = held_out.scores(search.found()[0])
    return {"start_seconds": start, "step_seconds": walk / steps, "LS": rows}


def measure(pack: Pack, parts: Sequence[str], n: int, cache: Path) -> dict[str, dict]:
    """All searches; finished ones are read from the cache."""
    found: dict[str, dict] = json.loads(cache.read_text()) if cache.exists() else {}
    regions = [parse_part(part, pack.segmenter) for part in parts]
    held_out = {space: HeldOut(pack, space, regions, n) for space in SPACES}
    jobs = [(seed, name, space) for name, (_, _, seeds) in SEARCHES.items() for seed in seeds for space in SPACES]
    for seed, name, space in sorted(jobs, key=lambda job: (job[1] != "default", job[0])):
        key = f"{space}|{name}|{seed}"
        if key not in found:
            method, steps, _ = SEARCHES[name]
            settings = {**vars(method), "space": space}
            found[key] = json.loads(json.dumps(curve(pack, LELSD(**settings), steps, seed, held_out[space])))
            cache.parent.mkdir(exist_ok=True)
            cache.write_text(json.dumps(found))
            print(key, {k: round(sum(v) / len(v), 4) for k, v in found[key]["LS"].items()}, flush=True)
    return found


def means(found: Mapping[str, dict], space: str, name: str, mark: int) -> list[float]:
    """Mean over parts, one per seed."""
    rows = [run["LS"].get(str(mark)) for run in runs_of(found, space, name)]
    return [sum(row) / len(row) for row in rows if row]


def runs_of(found: Mapping[str, dict], space: str, name: str) -> list[dict]:
    """The finished searches, one per seed."""
    keys = [f"{space}|{name}|{seed}" for seed in SEARCHES[name][2]]
    return [found[key] for key in keys if key in found]


def page(found: Mapping[str, dict], generator: str, n: int) -> str:
    counts = ", ".join(f"{name}: {len(runs_of(found, SPACES[-1], name))}" for name in SEARCHES)
    lines = [
        "# How soon LELSD gets there",
        "",
        f"LELSD on the bundled portraits ({generator}):",
        f"{', '.join(PARTS)} in one search, LS on {n} held-out pictures, mean over parts and seeds",
        f"({counts}). Made by `make measure`.",
        "",
        "*As published*: random start, Adam, learning rate 1e-3 halved every 50 steps. *Default*: from the first-order optimum",
        "of the same score (`discovery/first_order.py`), natural-gradient steps (`discovery/natural_gradient.py`). A step is four",
        "pictures in both. *Best* is the highest mean that any search of the table reaches at any of its marks. The aim was",
        "the published 200 within 10 steps, and 99 % of the best within 30: `s:conv` misses the second.",
        "",
        "| subspace | published, 200 | default, 0 | 10 | 20 | 30 | lr 1e-2, 200 | best | at 30, of best | steps to published's 200 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for space in SPACES:
        wanted = mean(means(found, space, "as published", 200))
        own = {m: mean(means(found, space, "default", m)) for m in MARKS if m <= 30}
        rival = mean(means(found, space, "published, learning rate 1e-2", 200))
        best = max(
            wanted,
            rival,
            *own.values(),
            *[mean(means(found, space, "published, learning rate 1e-2", m)) for m in MARKS],
        )
        first = next((str(m) for m, value in own.items() if value >= wanted), "more than 30")
        cells = [wanted, own[0], own[10], own[20], own[30], rival, best]
        lines.append(f"| `{space}` | " + " | ".join(f"{c:.3f}" for c in cells) + f" | {own[30] / best:.1%} | {first} |")
    lines += [
        "",
        "## Part by part (mean over seeds)",
        "",
        "| subspace | part | published, 200 | default, 0 | 10 | 30 |",
        "|---|---|---|---|---|---|",
    ]
    for space in SPACES:
        for p, part in enumerate(PARTS):
            cells = [part_mean(found, space, "as published", 200, p)]
            cells += [part_mean(found, space, "default", m, p) for m in (0, 10, 30)]
            lines.append(f"| `{space}` | {part} | " + " | ".join(f"{c:.3f}" for c in cells) + " |")
    lines += [
        "",
        "## Processor time (all six parts in one search)",
        "",
        "| subspace | search | start | a step | whole search |",
        "|---|---|---|---|---|",
    ]
    for space in SPACES:
        for name, steps in (("as published", 200), ("default", 30)):
            runs = runs_of(found, space, name)
            start, step = mean([r["start_seconds"] for r in runs]), mean([r["step_seconds"] for r in runs])
            lines.append(f"| `{space}` | {name} | {start:.1f} s | {step:.2f} s | {start + steps * step:.0f} s |")
    return "\n".join([*lines, "", "![LS over steps](convergence.png)", ""])


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def part_mean(found: Mapping[str, dict], space: str, name: str, mark: int, part: int) -> float:
    return mean([run["LS"][str(mark)][part] for run in runs_of(found, space, name)])


def draw(found: Mapping[str, dict], path: Path) -> None:
    figure, axes = pyplot.subplots(1, len(SPACES), figsize=(12, 3.6), layout="constrained")
    for axis, space in zip(axes, SPACES, strict=True):
        for colour, name in zip(("#6b7280", "#d97706", "#be185d"), SEARCHES, strict=True):
            for i, run in enumerate(runs_of(found, space, name)):
                rows = {int(m): mean(v) for m, v in run["LS"].items()}
                axis.plot(list(rows), list(rows.values()), color=colour, label=None if i else name, linewidth=1.4)
        axis.set(title=space, xlabel="steps", xscale="symlog", xlim=(0, 220))
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("held-out LS, mean of six parts")
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=16, help="held-out pictures")
    parser.add_argument("--page-only", action="store_true", help="write the page from the searches that are finished")
    parser.add_argument("--cache", type=Path, default=Path("runs/convergence.json"), help="finished searches")
    arguments = parser.parse_args()
    pack = open_model("portraits")
    if arguments.page_only:
        found = json.loads(arguments.cache.read_text())
    else:
        found = measure(pack, PARTS, arguments.n, arguments.cache)
    (FOLDER / "convergence.md").write_text(page(found, pack.generator.name, arguments.n))
    draw(found, FOLDER / "convergence.png")


if __name__ == "__main__":
    main()
