"""Write `docs/bench/` from finished runs of `situ bench`: a page for each, an index of all claims, the leaderboard, and
the figures of `docs/methods/index.md`.

    situ bench all -o runs/bench
    python docs/make_bench_pages.py [--runs runs/bench]

Only reports of full runs are taken: a quick run proves nothing. Nothing on the pages is written by hand.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from situ.bench.benches import BENCHES

PAGES = Path(__file__).parent / "bench"
MATRIX = Path(__file__).parent / "methods" / "index.md"
BEGIN, END = "<!-- measured: written by docs/make_bench_pages.py -->\n", "<!-- end -->"
LEADERS = ("share inside", "leakage", "change of the part's factors", "identity", "realism", "repeatability")
VERDICTS = ("holds", "does not hold", "undecided")


def cell(value: object) -> str:
    """A value of a report in a Markdown table."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        bounds = [value["low"], value["high"]]
        if None in bounds:
            return number(value["mean"])
        return f"{number(value['mean'])} [{', '.join(number(bound) for bound in bounds)}]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, float) else str(value).replace("|", "\\|")


def number(value: float | None) -> str:
    """Three figures, without an exponent where that is short."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(name.replace("|", "\\|") for name in columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def described(table: Mapping[str, Any]) -> str:
    """A table of a report, with its title, source and note."""
    source = f" ({table['source']})" if table["source"] else ""
    parts = [f"### {table['title']}{source}", markdown(table["columns"], table["rows"])]
    return "\n\n".join([*parts, *([table["note"]] if table["note"] else [])])


def made_by(report: Mapping[str, Any]) -> str:
    """The run: command, size, machine."""
    s, m = report["settings"], report["machine"]
    seeds = ", ".join(map(str, s["search_seeds"]))
    searches = f", searches of seeds {seeds}" if s["parts"] else ""  # where parts are searched
    return (
        f"`{report['command']}` on {s['generator']}: {s['pictures']} pictures (seed {s['picture_seed']}){searches}; "
        f"{m['date']}, {m['threads']} of {m['cores']} cores ({m['processor']}), Python {m['python']}, torch {m['torch']}."
    )


def page(report: Mapping[str, Any]) -> str:
    """One bench."""
    parts = [f"# {report['title']}", report["question"]]
    if report["claims"]:
        rows = [(c["verdict"], c["text"], c["source"], c["test"]) for c in report["claims"]]
        parts += ["## Claims", markdown(("verdict", "claim", "source", "test"), rows)]
    if report["published"]:
        parts += ["## Published", *map(described, report["published"])]
    parts.append("## Measured")
    images = [name for name in report["pictures"] if name.endswith(".png")]
    parts += [f"![{report['title']}]({report['bench']}-{name})" for name in images]
    parts += map(described, report["tables"])
    if report["notes"]:
        parts += ["## What to know", "\n".join(f"- {note}" for note in report["notes"])]
    parts += ["## Made by", made_by(report), "Written by `docs/make_bench_pages.py`."]
    return "\n\n".join(parts) + "\n"


def index(reports: Sequence[Mapping[str, Any]]) -> str:
    """All claims on one page."""
    parts = [
        "# Which claims hold",
        "Every claim of the papers that `situ bench` tests, on the bundled portraits, with its verdict. A claim holds "
        "where the 95 % interval of the measured difference lies on its side in every part that is tested, does not "
        "hold where one lies on the other side, and is undecided elsewhere. The portraits are small drawn faces: a "
        "claim that fails here may hold on FFHQ. The same command with `--model` tells of your own.",
    ]
    for report in reports:
        counts = [sum(c["verdict"] == verdict for c in report["claims"]) for verdict in VERDICTS]
        words = ", ".join(f"{n} {verdict}" for n, verdict in zip(counts, VERDICTS, strict=True) if n)
        parts.append(f"## [{report['title']}]({report['bench']}.md)\n\n{report['question']} ({words})")
        rows = [(c["verdict"], c["text"]) for c in report["claims"]]
        parts.append(markdown(("verdict", "claim"), rows))
    if any(report["bench"] == "truth" for report in reports):
        parts.insert(2, "[The leaderboard](leaderboard.md) has every method on every part.")
    return "\n\n".join([*parts, "Written by `docs/make_bench_pages.py`."]) + "\n"


def leaderboard(report: Mapping[str, Any]) -> str:
    """The truth table, part by part, best share inside first."""
    (table,) = [each for each in report["tables"] if each["name"] == "truth"]
    columns = table["columns"]
    kept = [columns.index(name) for name in (*LEADERS, "seconds to find")]
    parts = [
        "# Leaderboard",
        "What every method's edit really changed on the bundled portraits, whose factors are known.",
    ]
    parts += [table["note"], "![Share inside and leakage of every method](truth-truth.png)"]
    for part in report["settings"]["parts"]:
        rows = [row for row in table["rows"] if row[0] == part]
        body = [(i + 1, row[1], *[row[j] for j in kept]) for i, row in enumerate(rows)]
        parts += [f"## {part}", markdown(("", "method", *[columns[j] for j in kept]), body)]
    parts += ["All columns, and what they mean: [the truth table](truth.md).", made_by(report)]
    return "\n\n".join([*parts, "Written by `docs/make_bench_pages.py`."]) + "\n"


def mean_of(value: object) -> float:
    """A figure without its interval."""
    return float(value["mean"] if isinstance(value, Mapping) else value)  # pyright: ignore[reportArgumentType]


def figures_of_methods(report: Mapping[str, Any]) -> str:
    """The truth table in short: for each method the share inside every part, and means over the parts."""
    (table,) = [each for each in report["tables"] if each["name"] == "truth"]
    parts: list[str] = report["settings"]["parts"]
    found = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    rows = []
    for method in dict.fromkeys(row["method"] for row in found):
        own = {row["part"]: row for row in found if row["method"] == method}
        inside = [mean_of(own[part]["share inside"]) for part in parts]
        rest = [
            sum(mean_of(own[part][name]) for part in parts) / len(parts)
            for name in ("leakage", "identity", "repeatability", "seconds to find")
        ]
        rows.append((method, inside, rest))
    rows.sort(key=lambda row: -sum(row[1]))
    body = [
        (f"`{method}`", *[f"{value:.0%}" for value in inside], *[f"{value:.2f}" for value in rest[:3]], number(rest[3]))
        for method, inside, rest in rows
    ]
    columns = ("method", *parts, "leakage", "identity", "repeatability", "seconds")
    words = (
        f"On the bundled portraits, {report['settings']['pictures']} pictures, both signs at strength 1: the share of the "
        "change that falls inside each part, best mean first; then means over the parts, and processor seconds to find a "
        "direction. [What the words mean](../words.md#figures); intervals, and all columns: "
        "[the leaderboard](../bench/leaderboard.md)."
    )
    return f"{words}\n\n{markdown(columns, body)}\n\n{made_by(report)}\n"


def write_figures(report: Mapping[str, Any]) -> None:
    """Put them between the marks of the methods' page; what stands around them is written by hand."""
    text = MATRIX.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    MATRIX.write_text(f"{before}\n{figures_of_methods(report)}\n{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/bench"), help="what `situ bench -o` was given")
    runs: Path = parser.parse_args().runs
    PAGES.mkdir(exist_ok=True)
    reports = []
    for name in BENCHES:
        path = runs / name / "report.json"
        report = json.loads(path.read_text()) if path.exists() else None
        if report is None or report["quick"]:
            print(f"{name}: no full run in {runs}, left out")
            continue
        reports.append(report)
        (PAGES / f"{name}.md").write_text(page(report))
        for picture in report["pictures"]:
            if picture.endswith(".png"):
                shutil.copyfile(path.parent / picture, PAGES / f"{name}-{picture}")
        if name == "truth":
            (PAGES / "leaderboard.md").write_text(leaderboard(report))
            write_figures(report)
    (PAGES / "index.md").write_text(index(reports))


if __name__ == "__main__":
    main()
