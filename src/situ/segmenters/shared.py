"""What the segmenters on features share: how large they answer, and what they refuse."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from situ.core.errors import RegionError
from situ.core.generator import Generator

LARGEST = 256  # pixels on a side at which parts are told apart, as in the published linear heads
BATCH = 16  # pictures in one pass; bounds memory


def require_names(parts: Sequence[str]) -> None:
    """Raises RegionError for names that could not be asked for: "a+b" means two parts."""
    bad = [part for part in parts if not part.strip() or part != part.strip() or "+" in part]
    if bad:
        raise RegionError(f'a part\'s name is a word without "+" (which joins parts), got "{bad[0]}"')


def require_fit(path: Path | str, made_on: str, channels: Mapping[str, int], generator: Generator) -> None:
    """Raises RegionError unless a file was made on this generator, from layers of so many channels."""
    if made_on != generator.name:
        raise RegionError(f"{path} was made on {made_on}, this model is {generator.name}: make it again on this model")
    known = {layer.name: layer.channels for layer in generator.layers}
    wrong = [name for name, count in channels.items() if known.get(name) != count]
    if wrong:
        raise RegionError(f"{path} does not fit {', '.join(wrong)} of {generator.name}: make it again on this model")
