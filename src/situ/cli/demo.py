"""`situ demo`: the main job on the bundled model, from one command."""

from pathlib import Path
from typing import Annotated

import typer

from situ.bench.demo import Demo, run_demo
from situ.cli.options import Device, Json, Seed, open_on, require_folder
from situ.cli.output import emit_json, progress_bar, say, table


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="folder for the sheet, the directions and the report")
    ] = Path("demo"),
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find directions for hair, eyes and mouth, edit portraits with them, and show that only those parts changed."""
    require_folder(out)
    report = run_demo(open_on("portraits", device), out, seed, Demo(), progress_bar)
    if as_json:
        emit_json(report)
        return
    rows = []
    for row in report["directions"]:  # pyright: ignore[reportGeneralTypeIssues]
        f, r = row["figures"], row["random"]
        shares = [f"{f['LS']:.2f}", f"{r['LS']:.2f}", f"{f['inside']:.0%}", f"{r['inside']:.0%}"]
        most = next(iter(row["factor_changes"].items()))
        rows.append([row["name"], row["subspace"], *shares, f"{f['identity']:.2f}", f"{most[0]} {most[1]:+.2f}"])
    columns = [
        "direction",
        "space",
        "LS",
        "random",
        "inside",
        "random",
        "identity",
        "factor that changed most",
    ]
    table("On held-out portraits at strength 1, beside random directions", columns, rows)
    checks = [
        [c["part"], c["figure"], c["wanted"], c["reached"], c["random"], "yes" if c["met"] else "NO"]
        for c in report["targets"]  # pyright: ignore[reportGeneralTypeIssues]
    ]
    table("Targets", ["part", "figure", "wanted", "reached", "random", "met"], checks)
    say(f"{report['seconds']:.0f} s; look at {out / 'sheet.png'}; all figures are in {out / 'report.json'}")
