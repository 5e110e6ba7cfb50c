"""The command `situ`: a table of verbs, each a plain function in a file of its own."""

import sys

import typer

from situ.cli.demo import demo
from situ.cli.discover import discover_app
from situ.cli.edit import edit
from situ.cli.inspect import inspect
from situ.cli.measure import measure_direction
from situ.cli.models import models
from situ.cli.output import messages
from situ.cli.palette import palette
from situ.cli.sample import sample
from situ.cli.sweep import sweep
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
app.command()(palette)
app.command()(sweep)
app.command(name="measure")(measure_direction)


def run() -> None:
    """Entry point. Exit code 2 and one line for bad input, 130 for Ctrl-C."""
    try:
        app()
    except SituError as error:
        messages.print(f"situ: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        messages.print("situ: stopped", style="red")
        sys.exit(130)
