"""`situ bench NAME`: run a published table or figure again, beside what was published, and say which claims hold."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from situ.bench.benches import BENCHES
from situ.bench.run import Bench, run_bench
from situ.cli.options import Device, Json, Model, Seed, new_rng, open_on, require_folder
from situ.cli.output import emit_json, say, table
from situ.packs.pack import Pack

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
        device: Device = "auto",
        as_json: Json = False,
    ) -> None:
        pack = _open(model, device, seed, out)
        report = _run(bench, pack, model, out, quick, pictures, seed, as_json)
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
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """All of them, one after another; what is finished stays, and the same command goes on."""
    pack = _open(model, device, seed, out)
    reports = {b.name: _run(b, pack, model, out, quick, pictures, seed, as_json) for b in BENCHES.values()}
    if as_json:
        emit_json(reports)


def _open(model: str, device: str, seed: int, out: Path) -> Pack:
    new_rng(seed)  # which refuses a seed that cannot be one
    require_folder(out)
    return open_on(model, device)


def _run(
    bench: Bench, pack: Pack, model: str, out: Path, quick: bool, pictures: int | None, seed: int, as_json: bool
) -> Mapping[str, Any]:
    """Run one, print what it found, and where its files are."""
    words = ["situ", "bench", bench.name, "--model", model, "--seed", str(seed)]
    words += ["--pictures", str(pictures)] if pictures is not None else []
    words += ["--quick"] if quick else []
    try:
        report, outcome, folder = run_bench(
            bench, pack, model, out, seed, pictures, quick, shlex.join(words), lambda text: say(f"{bench.name}: {text}")
        )
    except KeyboardInterrupt:
        say(f"stopped: what was measured is kept in {out / bench.name}, and the same command goes on from there")
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
    if quick:
        say("a quick run measures too little for its verdicts to mean anything: leave --quick out for that")
    say(f"tables, figures and the report are in {folder}")
    return report


for _bench in BENCHES.values():
    bench_app.command(name=_bench.name)(_verb(_bench))
bench_app.command(name="all")(run_all)
