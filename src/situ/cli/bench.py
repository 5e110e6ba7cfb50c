"""`situ bench NAME`: run a published table or figure again, beside what was published, and say which claims hold."""

import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from situ.bench.benches import BENCHES
from situ.bench.cell_work import BenchCells
from situ.bench.run import Asked, Bench, run_bench
from situ.cli.options import Device, Json, Model, RayAddress, Seed, Workers, new_rng, open_on, require_folder, way_of
from situ.cli.output import command_line, emit_json, progress_bar, say, table, tell_failures
from situ.core.errors import SituError
from situ.packs.pack import Pack
from situ.runs.engine import remembered_interrupts, run_work
from situ.runs.folder import RunFolder

bench_app = typer.Typer(
    help="Run the tables and figures of the papers again, and say which claims hold.", no_args_is_help=True
)

Out = Annotated[Path, typer.Option("-o", "--out", help="folder; each bench has one of its own in it")]
Quick = Annotated[bool, typer.Option("--quick", help="under two minutes: shows that it works, proves nothing")]
Pictures = Annotated[
    int | None, typer.Option("--pictures", min=2, help="pictures that are measured (default: the bench's)")
]


def _verb(bench: Bench) -> Callable[..., None]:
    def verb(
        model: Model = "portraits",
        out: Out = Path("bench"),
        quick: Quick = False,
        pictures: Pictures = None,
        seed: Seed = 0,
        workers: Workers = None,
        ray: RayAddress = None,
        device: Device = "auto",
        as_json: Json = False,
    ) -> None:
        pack, asked = _open(model, device, seed, out), Asked(model, out.absolute(), seed, pictures, quick)
        report = _run(bench, pack, asked, workers, ray, device, as_json)
        if as_json:
            emit_json(report)

    minutes = f"about {bench.full.minutes:g} minutes on one core"
    verb.__doc__ = f"{bench.title}. {bench.question} ({minutes})"
    verb.__name__ = bench.name.replace("-", "_")
    return verb


def run_all(
    model: Model = "portraits",
    out: Out = Path("bench"),
    quick: Quick = False,
    pictures: Pictures = None,
    seed: Seed = 0,
    workers: Workers = None,
    ray: RayAddress = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """All of them, one after another; what is finished stays, and the same command goes on."""
    pack, asked = _open(model, device, seed, out), Asked(model, out.absolute(), seed, pictures, quick)
    reports, failed = {}, {}
    for bench in BENCHES.values():
        try:
            reports[bench.name] = _run(bench, pack, asked, workers, ray, device, as_json)
        except SituError as error:  # a model without parts, say, which one needs and the others do not
            failed[bench.name] = str(error)
    if as_json:
        emit_json({**reports, **{name: {"failed": reason} for name, reason in failed.items()}})
    tell_failures(failed)


def _open(model: str, device: str, seed: int, out: Path) -> Pack:
    new_rng(seed)  # which refuses a seed that cannot be one
    require_folder(out)
    return open_on(model, device)


def _tell(bench: Bench, text: str) -> None:
    say(f"{bench.name}: {text}")


def _make_cells(bench: Bench, pack: Pack, asked: Asked, workers: int | None, ray: str | None, device: str) -> None:
    """Make the cells that need no other, on workers where some are asked for."""
    work, folder = BenchCells(bench.name, asked), RunFolder(asked.out / bench.name)
    with remembered_interrupts() as stopped, progress_bar(bench.name) as progress:
        opened = work.on(pack, partial(_tell, bench), stopped)
        items, way = opened.items(), way_of(workers, ray, device, opened)
        if not items and (workers or ray):
            _tell(bench, "no part of it can be given to workers, so it is done here")
        if items and run_work(work, items, folder, way, command_line(), progress=progress, say=say).stopped:
            raise KeyboardInterrupt


def _run(
    bench: Bench, pack: Pack, asked: Asked, workers: int | None, ray: str | None, device: str, as_json: bool
) -> Mapping[str, Any]:
    """Run one, print what it found, and where its files are."""
    words = ["situ", "bench", bench.name, "--model", asked.model, "--seed", str(asked.seed)]
    words += ["--pictures", str(asked.pictures)] if asked.pictures is not None else []
    words += ["--quick"] if asked.quick else []
    try:
        _make_cells(bench, pack, asked, workers, ray, device)
        report, outcome, folder = run_bench(bench, pack, asked, shlex.join(words), partial(_tell, bench))
    except KeyboardInterrupt:
        say(f"stopped: what was measured is kept in {asked.out / bench.name}, and the same command goes on from there")
        raise
    if as_json:
        return report
    for each in (*bench.published, *outcome.tables):
        title = f"{each.title} ({each.source})" if each.source else each.title
        table(title, each.columns, [["" if cell is None else cell for cell in row] for row in each.rows])
    if outcome.claims:
        claims = [[c.verdict, c.text, c.source, c.test] for c in outcome.claims]
        table("Claims", ["verdict", "claim", "source", "test"], claims)
    for note in outcome.notes:
        say(note)
    if asked.quick:
        say("a quick run measures too little for its verdicts to mean anything: leave --quick out for that")
    say(f"tables, figures and the report are in {folder}")
    return report


for _bench in BENCHES.values():
    bench_app.command(name=_bench.name)(_verb(_bench))
bench_app.command(name="all")(run_all)
