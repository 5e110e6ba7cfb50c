"""`python -m situ`: the command, for what starts modules (torchrun -m situ discover lelsd ...)."""

from situ.cli.main import run

run()
