"""How fast LELSD is: seconds per update and per direction, beside the plain loop of the published code.

Both run on the bundled portraits, in one process, in turns (A B C A B C ...), with one method's settings: what is
compared is the loop alone, and only ratios mean something on a machine that is shared. The plain loop is timed twice:

* *plain*: on a copy of the generator as an ordinary loader gives it (every weight requires a gradient, nothing is
  cached between passes). So it is in the published code for StyleGAN1 and BigGAN.
* *plain, frozen*: on Situ's own generator (no weight requires a gradient, up-convolution kernels cached). NVIDIA's
  StyleGAN2 pickles come frozen, so this is the published loop at its best, and the ratio that Situ's loop itself earns.

    python -m situ.bench.lelsd_speed [--steps 8] [--repeats 3] [--clock wall|cpu] [--json]
"""

import argparse
import copy
import json
import math
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from situ.core.direction import Direction
from situ.core.discovery import Discovery, score
from situ.core.errors import SituError
from situ.core.generator import Generator, Synthesis, features_from
from situ.core.images import Images, Masks, from_pil, to_pil
from situ.core.latents import Subspace, parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region, parse_part
from situ.discovery.lelsd import LELSD
from situ.generators.stylegan2 import StyleGAN2
from situ.packs.library import open_model
from situ.packs.pack import Pack

UPDATES = 200  # of one direction, as published (800 pictures, 4 a step)
LOOPS = {"plain": "plain", "plain_frozen": "plain, frozen", "situ": "Situ", "situ_low": "Situ, bfloat16"}
CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
DESCRIPTION = "Time LELSD beside the plain loop of the published code, on the bundled portraits."
RARE = ("glasses", "beard")  # parts that many portraits lack


@dataclass(frozen=True)
class PublishedLoop:
    """LELSD's plain loop, as the published code does it (and against what LELSD of this package is timed):

    * one region at a time, and one direction a step: k directions of a region take k times as many steps;
    * G(w) and G(w + αu) both with whatever graph the weights ask for, the mapping network included; the graph of G(w)
      is built and never walked; weights that require gradients get them, and nobody reads them;
    * both passes run the whole synthesis, also below the first edited layer, and keep the features of all layers;
    * pictures become 8-bit Pillow images and tensors again, those of x and of x' apart, and are segmented apart;
    * the mask is resized from layer to layer, finest first, bilinear with aligned corners, no anti-aliasing;
    * one α for the batch; Adam; u back to unit norm after each step; R is the mean |Corr - I|, layer by layer.

    Left out, in its favour: the summary that it writes at each step. Its slips that cost no time are not repeated.
    """

    method: LELSD = field(default_factory=LELSD)  # whose space, batch, optimiser, strengths and number of steps it uses

    def find(
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> list[list[Direction]]:
        """See `Discovery.find`; one region after another."""
        if not isinstance(generator, StyleGAN2):
            raise SituError(f"the plain loop knows StyleGAN2, got {type(generator).__name__}")
        steps = math.ceil(self.method.samples / self.method.batch) * self.method.k
        found = []
        for i, region in enumerate(regions):
            subspace = parse_subspace(self.method.space, generator.spaces)
            u = torch.randn(self.method.k, subspace.dim, generator=rng, device=rng.device).to(generator.device)
            u = (u / u.norm(dim=-1, keepdim=True)).requires_grad_()
            optimizer = torch.optim.Adam([u], lr=self.method.lr)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, self.method.halve_every, gamma=0.5)
            for step in range(steps):
                generator.network.zero_grad()
                optimizer.zero_grad()
                ls = self._localization(generator, region, subspace, u[step % self.method.k], rng)
                (-ls - self.method.correlation * self._diversity(u, subspace)).backward()
                optimizer.step()
                schedule.step()
                u.data = u.data / u.data.norm(dim=-1, keepdim=True)
                progress(i * steps + step + 1, len(regions) * steps, f"LS {ls.item():.3f}")
            found.append([self._direction(v, subspace, generator, region) for v in u.detach().cpu()])
        return found

    def _localization(
        self, generator: StyleGAN2, region: Region, subspace: Subspace, u: Tensor, rng: torch.Generator
    ) -> Tensor:
        """LS of one direction on one batch."""
        names = [layer.name for layer in generator.layers]
        latents = generator.sample(self.method.batch, subspace.space, rng, self.method.truncation)
        before = generator.synthesize(latents, names)
        s = region.mask(Synthesis(_through_pillow(before.images)))
        moved = latents.values.detach() + self._alpha(rng) * subspace.lift(u)
        after = generator.synthesize(latents.with_values(moved), names)
        s_edited = region.mask(Synthesis(_through_pillow(after.images)))
        mask = (0.5 * s + 0.5 * s_edited).detach()
        scored = features_from(generator, generator.first_step(subspace))
        score = torch.zeros(len(latents), device=generator.device)
        for layer in reversed(scored):
            mask = _resize_in_cascade(mask, layer.resolution)
            change = (before.features[layer.name].detach() - after.features[layer.name]).square().mean(dim=1)
            score = score + (change * mask[:, 0]).sum(dim=(1, 2)) / (change.sum(dim=(1, 2)) + 1e-6)
        return score.mean() / len(scored)

    def _alpha(self, rng: torch.Generator) -> float:
        low, high = self.method.alpha
        size, sign = torch.rand(2, generator=rng, device=rng.device).tolist()
        return (low + (high - low) * size) * (1 if sign < 0.5 else -1)

    def _diversity(self, u: Tensor, subspace: Subspace) -> Tensor:
        """R: minus the mean |Corr - I| of the directions' rows, averaged over the layers."""
        sizes = [subspace.space.slices[i].size for i in subspace.chosen]
        loss = u.new_zeros([])
        for rows in u.split(sizes[:1] if subspace.tied else sizes, dim=-1):
            normed = rows / rows.norm(dim=-1, keepdim=True)
            loss = loss + (normed @ normed.T - torch.eye(len(u), device=u.device)).abs().mean()
        return -loss / (1 if subspace.tied else len(sizes))

    def _direction(self, vector: Tensor, subspace: Subspace, generator: StyleGAN2, region: Region) -> Direction:
        return Direction(vector, subspace, generator.name, region.name, "PublishedLoop", name=region.name)


def _through_pillow(images: Images) -> Images:
    """To 8-bit Pillow images and back, one by one."""
    pictures = [to_pil(image) for image in images.detach()]
    return torch.cat([from_pil(picture) for picture in pictures]).to(images.device)


def _resize_in_cascade(mask: Masks, size: int) -> Masks:
    if mask.shape[-1] == size:
        return mask
    return functional.interpolate(mask, (size, size), mode="bilinear", align_corners=True)


def plain_copy(generator: Generator) -> StyleGAN2:
    """The generator as an ordinary loader gives it: weights that require gradients, and no cached kernels."""
    if not isinstance(generator, StyleGAN2):
        raise SituError(f"the plain loop knows StyleGAN2, got {type(generator).__name__}")
    plain = copy.deepcopy(generator)
    plain.network.requires_grad_(True)
    for module in plain.network.modules():
        for cached in ("fused", "squares"):
            if hasattr(module, cached):
                module.register_buffer(cached, None, persistent=False)
    return plain


@dataclass(frozen=True)
class Comparison:
    """A job that the plain loop does one direction at a time, and Situ in one search."""

    name: str
    parts: tuple[str, ...]
    space: str = "w+"
    k: int = 1  # directions per part
    wanted: float | None = None  # times as fast as the plain loop

    @property
    def directions(self) -> int:
        return len(self.parts) * self.k


def comparisons(pack: Pack) -> list[Comparison]:
    """The jobs that are timed."""
    if pack.segmenter is None:
        raise SituError(f"LELSD's speed is measured with parts, and {pack.name} has no segmenter")
    parts = tuple(part for part in pack.segmenter.parts if part not in RARE)
    return [
        Comparison("one part, one direction", ("mouth",), wanted=3.0),
        Comparison(f"{len(parts)} parts, 2 directions each", parts, k=2, wanted=8.0),
        Comparison("one part, one direction", ("mouth",), "w:4-9"),
    ]


def update_seconds(
    method: Discovery,
    generator: Generator,
    regions: Sequence[Region],
    seed: int,
    per_step: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Median seconds per update of one direction, when a step updates `per_step`. The first step warms up."""
    stamps: list[float] = []

    def stamp(done: int | float, total: int, message: str = "") -> None:
        stamps.append(clock())

    method.find(generator, regions, torch.Generator().manual_seed(seed), stamp)
    return statistics.median(b - a for a, b in pairwise(stamps)) / per_step


def measure_speed(
    pack: Pack,
    steps: int,
    repeats: int,
    seed: int,
    clock: str = "wall",
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, object]:
    """Time every comparison. Seconds are medians over the rounds; so are ratios, each taken within one round."""
    frozen, plain = pack.generator, plain_copy(pack.generator)
    low = open_model(pack.name, frozen.device, low_precision=True)
    rows = []
    for job in comparisons(pack):
        regions = [parse_part(part, pack.segmenter) for part in job.parts]
        situ = LELSD.as_published(space=job.space, k=job.k, samples=LELSD.batch * (steps + 1))
        # a step of the plain loop updates one direction of one part, whatever it is asked for
        published = PublishedLoop(replace(situ, samples=LELSD.batch * math.ceil((steps + 1) / job.k)))
        contestants: Mapping[str, tuple[Discovery, Generator, Sequence[Region], int]] = {
            "plain": (published, plain, regions[:1], 1),
            "plain_frozen": (published, frozen, regions[:1], 1),
            "situ": (situ, frozen, regions, job.directions),
            "situ_low": (situ, low.generator, [parse_part(p, low.segmenter) for p in job.parts], job.directions),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for i in range(repeats):
            for name, (method, generator, on, per_step) in contestants.items():
                say(f"{job.name}, {job.space}: round {i + 1} of {repeats}, {LOOPS[name]}")
                seconds[name].append(update_seconds(method, generator, on, seed + i, per_step, CLOCKS[clock]))
        rows.append(_row(job, seconds))
    return {
        "generator": pack.generator.name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()} {pack.generator.device.type}",
        "clock": clock,
        "batch": LELSD.batch,
        "steps": steps,
        "repeats": repeats,
        "comparisons": rows,
        "equal_LS": [equal_score(pack, part, seed) for part in ("hair", "mouth")],
        "peak_memory_mib": peak_memory_mib(),
    }


def equal_score(pack: Pack, part: str, seed: int, space: str = "w+", lr: float = 1e-2) -> dict[str, object]:
    """How many updates with a better step size (`lr`) reach the held-out LS of the plain loop's 200 at the paper's.

    LS is measured at raw strength 2, on 64 pictures that neither has seen.
    """
    generator, region = pack.generator, parse_part(part, pack.segmenter)
    plain = PublishedLoop(LELSD.as_published(space=space))
    subspace = parse_subspace(space, generator.spaces)
    held_out = generator.sample(64, subspace.space, torch.Generator().manual_seed(seed + 1000), 0.7)

    def held_out_score(method: Discovery) -> float:
        ((direction,),) = method.find(generator, [region], torch.Generator().manual_seed(seed))
        return score(generator, replace(direction, unit=2.0), region, held_out).figures["LS"]

    wanted = held_out_score(plain)
    found: dict[int, float] = {}
    for updates in (5, 10, 15, 20, 30, 50, 100, UPDATES):
        found[updates] = held_out_score(LELSD(space=space, lr=lr, samples=LELSD.batch * updates))
        if found[updates] >= wanted:
            break
    return {"part": part, "space": space, "lr": lr, "plain_LS": wanted, "plain_updates": UPDATES, "situ_LS": found}


def _row(job: Comparison, seconds: Mapping[str, Sequence[float]]) -> dict[str, object]:
    row: dict[str, object] = {
        "name": job.name,
        "space": job.space,
        "parts": list(job.parts),
        "directions": job.directions,
    }
    for name, values in seconds.items():
        middle = statistics.median(values)
        row[name] = {
            "seconds_per_update": middle,
            "seconds_per_step": middle * (job.directions if name.startswith("situ") else 1),
            "seconds_per_direction": middle * UPDATES,
        }
    for fast in ("situ", "situ_low"):
        for slow in ("plain", "plain_frozen"):
            ratios = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
            row[f"{slow}_over_{fast}"] = {
                "median": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
            }
    row["wanted"] = job.wanted
    return row


def peak_memory_mib() -> float:
    """The most memory that this process has held, all contestants together."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def draw(report: Mapping) -> Table:
    """The report for people."""
    table = Table(title="LELSD beside the plain loop as published", title_justify="left")
    table.add_column("job")
    for column in ("loop", "s/step", "s/direction", "than plain", "than frozen", "wanted"):
        table.add_column(column, justify="left" if column == "loop" else "right")
    for row in report["comparisons"]:
        for i, name in enumerate(LOOPS):
            ratios = [row.get(f"{slow}_over_{name}") for slow in ("plain", "plain_frozen")]
            faster = [f"{r['median']:.2f} x ({r['least']:.2f}-{r['most']:.2f})" if r else "" for r in ratios]
            wanted = f"{row['wanted']:g} x" if name.startswith("situ") and row["wanted"] else ""
            job = f"{row['name']}, {row['space']}" if i == 0 else ""
            seconds = (f"{row[name]['seconds_per_step']:.3f}", f"{row[name]['seconds_per_direction']:.1f}")
            table.add_row(job, LOOPS[name], *seconds, *faster, wanted, end_section=name == "situ_low")
    for row in report["equal_LS"]:
        updates, reached = list(row["situ_LS"].items())[-1]
        table.add_row(
            f"{row['part']}, {row['space']}: held-out LS",
            f"plain, lr 1e-3: {row['plain_LS']:.3f} after {UPDATES} updates",
        )
        table.add_row("", f"Situ, lr {row['lr']:g}: {reached:.3f} after {updates} updates", end_section=True)
    table.caption = (
        f"a direction is {UPDATES} updates; a step of Situ updates all directions of the job, one of the plain loop a "
        f"single one; batch {report['batch']}, medians of {report['repeats']} rounds of {report['steps']} steps; "
        f"{report['clock']} clock, torch {report['torch']}, {report['threads']} threads, {report['machine']}, "
        f"peak memory {report['peak_memory_mib']:.0f} MiB, {report['generator']}"
    )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m situ.bench.lelsd_speed", description=DESCRIPTION)
    parser.add_argument("--steps", type=int, default=8, help="timed steps in a round, after one to warm up")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each comparison")
    parser.add_argument("--seed", type=int, default=0, help="of latents and first directions")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: for a processor that others use as well")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    if options.steps < 1 or options.repeats < 1:
        parser.error(f"steps and repeats are at least 1, got {options.steps} and {options.repeats}")
    messages = Console(stderr=True)
    with messages.status("opening the portraits") as status:
        pack = open_model("portraits")
        report = measure_speed(pack, options.steps, options.repeats, options.seed, options.clock, status.update)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        Console().print(draw(report))


if __name__ == "__main__":
    main()
