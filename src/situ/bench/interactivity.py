"""LELSD section 4.4: whether editing is interactive, and how long a direction takes to find.

The paper has no table: "about two minutes" for a direction (section 4, one V100, 1024 px); the method of Zhu et al.
"requires test-time optimization and hence is not interactive"; StyleSpace "requires a lot of training time as it needs
to separately backpropagate through all 6080 channels", so that LELSD is estimated "three orders of magnitude faster".
Measured here on the model at hand: a frame of a slider, a search of each method, the published schedules, and one
backward pass for each channel and each of 1000 pictures, timed on a few and multiplied.
"""

import statistics
from typing import Any

import numpy as np
import torch

from situ.bench.experiment import Claim, Outcome, Table, Value
from situ.bench.run import Bench, Run, Size
from situ.bench.searches import clock
from situ.core.direction import Direction
from situ.core.errors import SituError
from situ.core.latents import parse_subspace
from situ.discovery.lelsd import LELSD
from situ.figures.plots import Bars, draw_bars
from situ.packs.methods import METHODS, common_subspace

SEARCHED = ("lelsd", "resefa", "lowrankgan", "stylespace", "ganspace", "sefa", "interfacegan", "random")
AT_TEST_TIME = "lowrankgan"  # the paper's [17], which searches anew for each picture and outlined region
FRAMES = 40
INSTANT, FLOW = 0.1, 1.0  # seconds: felt as instantaneous, and as not breaking the flow (Nielsen 1993)
STYLESPACE_PICTURES = 1000  # published
PASSES = 12  # backward passes that are timed
PUBLISHED_STEPS = 200

PUBLISHED = (
    Table(
        "published",
        "What the paper says of speed",
        ("what", "published"),
        (
            ("LELSD, a direction of a part (800 samples), one V100, 1024 px", "about two minutes"),
            ("Zhu et al. [17]", "test-time optimization, hence not interactive"),
            ("StyleSpace", "6080 channels backpropagated through one by one"),
            ("LELSD beside StyleSpace", "three orders of magnitude faster (an estimate)"),
        ),
        "LELSD, sections 4 and 4.4",
    ),
)


def frames(run: Run, direction: Direction) -> dict[str, list[float]]:
    """Seconds of each frame of a slider, the whole synthesis and only what the direction can change."""
    generator, tick = run.pack.generator, clock(run.pack)
    base = generator.convert(run.latents[:1], direction.subspace.space)
    first = generator.first_step(direction.subspace)
    times: dict[str, list[float]] = {"whole": [], "resumed": []}
    with torch.no_grad():
        state = generator.synthesize(base, images=False, keep=first).state
        for i in range(FRAMES + 3):
            moved = direction.apply(generator, base, 4 * (i / FRAMES) - 2)
            for words, resume in (("whole", None), ("resumed", state)):
                started = tick()
                _ = generator.synthesize(moved, resume=resume).images.cpu()
                if i >= 3:  # the first warm up
                    times[words].append(tick() - started)
    return times


def backward_seconds(run: Run) -> float:
    """One backward pass from the picture to the styles (to the last space, where there are none)."""
    generator, tick = run.pack.generator, clock(run.pack)
    space = generator.spaces.get("s") or list(generator.spaces.values())[-1]
    codes = generator.convert(run.latents[:1], space)
    values = codes.values.detach().clone().requires_grad_()
    picture = generator.synthesize(codes.with_values(values)).images
    times = []
    for i in range(PASSES + 2):
        started = tick()
        torch.autograd.grad(picture[0, 0, i % picture.shape[-1], 0], values, retain_graph=True)
        times.append(tick() - started)
    return statistics.median(times[2:])


def channels(run: Run) -> int:
    """Of style that convolutions have; coordinates of the last space where there are no styles."""
    spaces = run.pack.generator.spaces
    try:
        return parse_subspace("s:conv", spaces).dim
    except SituError:
        return list(spaces.values())[-1].dim


def published_lelsd(run: Run) -> float:
    """Seconds of the published schedule for one direction; a quick run times a tenth of its steps."""
    part = next(iter(run.regions))
    steps = PUBLISHED_STEPS // 10 if run.quick else PUBLISHED_STEPS
    method = LELSD.as_published(space=common_subspace(run.pack, [run.regions[part]]), samples=4 * steps)
    tick = clock(run.pack)
    started = tick()
    method.find(run.pack.generator, [run.regions[part]], torch.Generator().manual_seed(run.seed))
    return (tick() - started) * PUBLISHED_STEPS / steps


def run_bench(run: Run) -> Outcome:
    """All of it."""
    part = next(iter(run.regions))
    rows: list[tuple[Value, ...]] = []
    times: dict[str, float] = {}
    edits: dict[str, dict[str, list[float]]] = {}
    failed = []
    for method in [name for name in SEARCHED if name in METHODS]:
        found = [run.find(method, part, seed) for seed in run.seeds]
        if not found[0].directions:
            failed.append(f"{method}: {found[0].failed}")
            continue
        times[method] = float(np.mean([each.seconds for each in found]))
        best = found[0].best
        each = run.cell(f"frames {method}", lambda best=best: frames(run, best))
        edits[method] = each
        whole, resumed = (1000 * np.array(each[words]) for words in ("whole", "resumed"))
        p95 = float(np.percentile(resumed, 95))
        rows.append(
            (method, str(best.subspace), times[method], float(np.median(whole)), float(np.median(resumed)), p95)
        )
    columns = (
        *("method", "space", "seconds to find", "ms of a frame, all layers"),
        *("ms of a frame, edited layers on", "ms, 95th percentile"),
    )
    note = f"{part}, one picture, {FRAMES} strengths from -2 to 2; searches: mean of {len(run.seeds)}."
    search = _schedules(run)
    return Outcome(
        [
            Table("speed", "A slider's frames, and searches", columns, tuple(rows), note=note),
            Table("schedules", "Searches as published, on this machine", ("what", "seconds"), tuple(search.items())),
        ],
        _claims(search, times, edits, channels(run)),
        {"speed": _figure(times, edits)},
        notes=[
            "Seconds are those of this process on a CPU (of the clock elsewhere): other work on the machine does not "
            "lengthen them.",
            *failed,
        ],
    )


LELSD_PUBLISHED = "LELSD, 200 steps of 4 pictures"
STYLESPACE_BACKWARD = "StyleSpace, a backward pass for each channel of 1000 pictures (timed on some, multiplied)"
STYLESPACE_FORWARD = "StyleSpace as it is here, 1000 pictures (timed on some, multiplied)"


def _schedules(run: Run) -> dict[str, Any]:
    part = next(iter(run.regions))
    lelsd = run.cell("published LELSD", lambda: published_lelsd(run))
    backward = run.cell("backward pass", lambda: backward_seconds(run))
    asked = run.searches.settings_of("stylespace").get("pictures", METHODS["stylespace"].build.pictures)
    found = run.find("stylespace", part, run.seed)
    search = {LELSD_PUBLISHED: lelsd, STYLESPACE_BACKWARD: backward * channels(run) * STYLESPACE_PICTURES}
    if not found.failed:
        search[STYLESPACE_FORWARD] = found.seconds / float(str(asked)) * STYLESPACE_PICTURES
    return search


def _claims(
    search: dict[str, Any], times: dict[str, float], edits: dict[str, dict[str, list[float]]], count: int
) -> list[Claim]:
    claims = []
    if "lelsd" in edits:
        slow = float(np.percentile(edits["lelsd"]["resumed"], 95))
        claims.append(
            Claim(
                "With LELSD's directions editing is interactive: a frame feels instantaneous",
                "LELSD, sections 1 and 4.4",
                slow < INSTANT,
                f"95th percentile of {FRAMES} frames below {INSTANT:g} s: {slow:.4f} s",
            )
        )
    if AT_TEST_TIME in times:
        claims.append(
            Claim(
                "A method that searches at test time is not interactive",
                "LELSD, section 4.4, of Zhu et al. [17] (LowRankGAN)",
                times[AT_TEST_TIME] > FLOW,
                f"seconds from an outlined region to its direction above {FLOW:g} s: {times[AT_TEST_TIME]:.2f} s (here "
                "its directions need not be searched anew for other pictures)",
            )
        )
    ratio = search[STYLESPACE_BACKWARD] / search[LELSD_PUBLISHED]
    claims.append(
        Claim(
            "LELSD is three orders of magnitude faster to find than StyleSpace's channels",
            "LELSD, sections 1 and 4.4 (an estimate)",
            ratio >= 1000,
            f"published schedules, 1000 times as fast or more: {ratio:.0f} (a pass a channel and picture, "
            f"{count} channels here and 6080 there; one search of StyleSpace serves all parts)",
        )
    )
    return claims


def _figure(times: dict[str, float], edits: dict[str, dict[str, list[float]]]):
    groups = [
        Bars("Search of one part", "seconds", list(times), [max(t, 1e-3) for t in times.values()], log_x=True),
        Bars(
            "A frame of a slider (95th percentile)",
            "milliseconds",
            list(edits),
            [1000 * float(np.percentile(each["resumed"], 95)) for each in edits.values()],
            marks={"instantaneous": 1000 * INSTANT},
        ),
    ]
    return draw_bars(groups, "How long edits take")


BENCH = Bench(
    "interactivity",
    "LELSD section 4.4: interactive editing",
    "How long does a search take, and a frame of a slider?",
    run_bench,
    full=Size(pictures=2, searches=2, parts=("mouth", "hair", "eyes", "nose"), minutes=3),
    quick=Size(pictures=2, searches=1, parts=("mouth",), minutes=1.5),
    published=PUBLISHED,
)
