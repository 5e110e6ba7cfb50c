"""`situ runs`: how far long jobs are."""

from pathlib import Path
from typing import Annotated

import typer

from situ.cli.options import Json
from situ.cli.output import emit_json, say, table
from situ.core.errors import FileError
from situ.runs.folder import runs_under, state_of

SHOWN = 10  # failures of a run that are told; --json has all


def runs(
    folders: Annotated[list[Path] | None, typer.Argument(help="folders of runs, or folders that hold some")] = None,
    as_json: Json = False,
) -> None:
    """How far the runs of a folder are: `photos`, `invert`, `discover many` and `bench` leave a record."""
    places = folders or [Path()]
    missing = [str(place) for place in places if not place.is_dir()]
    if missing:
        raise FileError(f"no folder at {', '.join(missing)}")
    states = [state_of(run) for place in places for run in runs_under(place)]
    if as_json:
        told = [
            {
                "folder": str(state.out),
                "kind": state.kind,
                "state": state.words,
                "done": state.done,
                "items": state.items,
                "failed": state.failed,
                "seconds_left": state.seconds_left,
                "command": state.command,
            }
            for state in states
        ]
        emit_json(told)
        return
    if not states:
        say(f"no runs in {', '.join(map(str, places))}")
        return
    rows = [
        [str(s.out), s.kind, s.words, f"{s.done} of {s.items}", len(s.failed), _time(s.seconds_left)] for s in states
    ]
    table("Runs", ["folder", "kind", "state", "done", "failed", "time left"], rows)
    for state in states:
        for name, reason in list(state.failed.items())[:SHOWN]:
            say(f"{state.out}: {name}: {reason}")
        if len(state.failed) > SHOWN:
            say(f"{state.out}: and {len(state.failed) - SHOWN} more failures (--json has all)")
        if state.words == "stopped":
            say(f"{state.out}: goes on with: {state.command}")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
