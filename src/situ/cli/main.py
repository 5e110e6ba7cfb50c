"""The command `situ`: a table of verbs, each a plain function in a file of its own."""

import sys
from typing import NoReturn

import typer

from situ.cli.bench import bench_app
from situ.cli.clusters import clusters
from situ.cli.compare import compare
from situ.cli.convert import convert
from situ.cli.demo import demo
from situ.cli.discover import discover_app
from situ.cli.edit import edit
from situ.cli.export_directions import export_directions
from situ.cli.import_directions import import_directions
from situ.cli.inspect import inspect
from situ.cli.invert import invert
from situ.cli.measure import measure_direction
from situ.cli.models import models
from situ.cli.output import messages
from situ.cli.pack import pack_app
from situ.cli.palette import palette
from situ.cli.photos import photos
from situ.cli.runs import runs
from situ.cli.sample import sample
from situ.cli.share_directions import directions_app
from situ.cli.studio import studio
from situ.cli.study import study_app
from situ.cli.sweep import sweep
from situ.cli.train_segmenter import train_segmenter
from situ.cli.transfer import transfer
from situ.core.errors import SituError

app = typer.Typer(
    help="Edit one part of a picture through a GAN's latent space and leave the rest alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(models)
app.command()(inspect)
app.command()(sample)
app.add_typer(discover_app, name="discover")
app.command()(edit)
app.command()(invert)
app.command()(photos)
app.command()(runs)
app.command()(palette)
app.command()(sweep)
app.command(name="measure")(measure_direction)
app.command()(compare)
app.command()(studio)
app.add_typer(study_app, name="study")
app.add_typer(bench_app, name="bench")
app.command()(clusters)
app.command(name="train-segmenter")(train_segmenter)
app.command()(transfer)
app.command()(convert)
app.add_typer(pack_app, name="pack")
app.add_typer(directions_app, name="directions")
app.command(name="import")(import_directions)
app.command(name="export")(export_directions)


# the base of every error in the words of a command, wherever typer keeps it
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def run() -> None:
    """Entry point. Exit code 2 and one line for bad input, 130 for Ctrl-C."""
    try:
        code = app(standalone_mode=False)
    except SituError as error:
        _stop(str(error), 2)
    except _UsageError as error:
        message = error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
        if not message.strip():  # a verb was missing, and the help has been shown
            sys.exit(2)
        _stop(f"{message} (situ --help, or situ VERB --help, tells what there is)", 2)
    except (KeyboardInterrupt, typer.Abort):
        _stop("stopped", 130)
    if code == 130:
        _stop("stopped", 130)
    sys.exit(code if isinstance(code, int) else 0)


def _stop(message: str, code: int) -> NoReturn:
    """One line on standard error, and out."""
    messages.print(f"situ: {' '.join(message.split())}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(code)
