"""Any two or more methods, or directions of the library, on the same pictures at the same perceptual distance."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from situ.bench.compare import compare_methods, draw_comparison
from situ.core.direction import Direction
from situ.core.discovery import Discovery
from situ.core.errors import SituError
from situ.core.generator import Generator
from situ.core.progress import Progress, silent
from situ.core.region import Region
from situ.packs.methods import METHODS, build_method
from situ.packs.pack import Pack
from situ.studio.library import Library

PICTURES = 8  # that every edit is made on
TRUNCATION = 0.7  # of their codes
METHOD_SETTINGS: dict[str, dict[str, Any]] = {"resefa": {"k": 2}, "lelsd": {"k": 2, "layer_weights": {"image": 5.0}}}


@dataclass(frozen=True)
class Given:
    """A direction that is there already, behind the contract of the methods."""

    direction: Direction

    def find(
        self, generator: Generator, regions: Sequence[Region], rng: torch.Generator, progress: Progress = silent
    ) -> list[list[Direction]]:
        """It, for every region."""
        return [[self.direction] for _ in regions]


def comparable(pack: Pack) -> list[str]:
    """The methods that a model can serve."""
    reads = pack.reader is not None
    return [name for name, m in METHODS.items() if reads or "classifier" not in m.build.__dataclass_fields__]


def compared(
    pack: Pack, library: Library, region: Region, names: Sequence[str], seed: int, progress: Progress
) -> tuple[Image.Image, str]:
    """A sheet of the same pictures, edited by each as far as strength 1 goes.

    Args:
        names: of methods, or of directions of the library.

    Returns:
        the sheet, and in words what could not be compared.

    Raises:
        SituError: fewer than two different names; nothing could be compared.
    """
    if len({*names}) < 2 or not all(names):
        raise SituError("choose two different methods or directions to compare")

    def contender(name: str) -> Discovery:
        if name in METHODS:
            return build_method(METHODS[name], METHOD_SETTINGS.get(name, {}), pack, [region])
        return Given(library.item(name).direction)

    made = {name: contender(name) for name in names}
    rows, failed, latents = compare_methods(
        pack, region, made, pack.unit_distance, PICTURES, seed, TRUNCATION, lambda name: nullcontext(progress)
    )
    words = "; ".join(f"{name} is left out: {why}" for name, why in failed.items())
    return draw_comparison(pack, region, rows, latents, pack.unit_distance), words
