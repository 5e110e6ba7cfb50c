"""Stacks of edits in words: FILE:STRENGTH@LAYERS, one after the other, and the files that keep them."""

import json
import math
import os
from pathlib import Path

from situ.core.direction import Direction, load_direction
from situ.core.errors import DirectionError
from situ.core.generator import Generator
from situ.core.latents import parse_layers

STACK_FORMAT = "situ-stack-1"


def parse_application(text: str, generator: Generator) -> tuple[Direction, float]:
    """ "hair.safetensors:1.5" or "hair.safetensors:1.5@4-7" -> a direction (on those layers) and a strength."""
    file, strength = text, "1"
    if not Path(text).is_file():
        file, colon, tail = text.rpartition(":")
        file, strength = (file, tail) if colon else (text, "1")
        holder, at, layers_alone = file.rpartition("@")
        if not colon and at:  # FILE@LAYERS
            file, strength = holder, f"1@{layers_alone}"
    strength, _, layers = strength.partition("@")
    number = parse_number(strength, f'the strength in "{text}"')
    direction = load_direction(file)
    if layers:
        spaces = generator.spaces
        wide = spaces.get(f"{direction.subspace.space.name}+", direction.subspace.space)
        space = wide if len(direction.subspace.space.slices) == 1 else direction.subspace.space
        direction = direction.on_layers(parse_layers(layers, space), spaces)
    return direction, number


def parse_number(text: str, what: str) -> float:
    """A finite number. Raises DirectionError naming what was expected."""
    try:
        number = float(text)
    except ValueError:
        raise DirectionError(f'{what} must be a number such as 1.5 or -1, got "{text}"') from None
    if not math.isfinite(number):
        raise DirectionError(f'{what} must be a finite number, got "{text}"')
    return number


def stack_text(texts: list[str], folder: Path) -> str:
    """A stack as JSON; its files are named from the stack's own folder, so that both can move together."""
    here = [os.path.relpath(text, folder) for text in texts]
    return json.dumps({"format": STACK_FORMAT, "apply": here}, indent=2)


def read_stack(path: Path) -> list[str]:
    """The applications of a stack that --save-stack wrote. Raises DirectionError."""
    expected = "expected a stack as `situ edit --save-stack` writes it"
    try:
        content = json.loads(path.read_text())
        if content["format"] != STACK_FORMAT or not isinstance(content["apply"], list):
            raise KeyError(content["format"])
        return [str(path.parent / text) for text in content["apply"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DirectionError(f"{path} cannot be read ({type(error).__name__}: {error}): {expected}") from None
