"""A pack: a generator together with the frozen networks that make local editing and its measures possible on it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from situ.checkpoints.native import load_stylegan2
from situ.core.discovery import Calibration
from situ.core.errors import ModelError
from situ.core.generator import Generator
from situ.core.images import Images
from situ.core.region import Segmenter
from situ.metrics.perceptual import FeatureDistance


@dataclass(frozen=True)
class FactorReader:
    """A predictor of named factors of a picture, each in [0, 1], and of yes-or-no attributes."""

    factors: tuple[str, ...]
    parts: tuple[str, ...]  # the part that each factor shows in
    attributes: tuple[str, ...]
    predict: Callable[[Images], Float[Tensor, "n f"]]
    classify: Callable[[Images], Float[Tensor, "n a"]]  # probabilities


@dataclass(frozen=True)
class Pack:
    """What `--model` opens. Only the generator is certain to be there."""

    name: str
    generator: Generator
    segmenter: Segmenter | None = None
    reader: FactorReader | None = None
    embed: Callable[[Images], Float[Tensor, "n e"]] | None = None
    distance: FeatureDistance | None = None
    unit_distance: float = 0.1  # perceptual distance of strength 1
    best_subspaces: Mapping[str, str] = field(default_factory=dict)  # part -> where its directions are best
    licence: str = ""
    card: str = ""  # the model card, markdown

    def calibration(self, latents: int = 32, truncation: float = 0.7) -> Calibration:
        """What strength 1 means on this pack. Raises ModelError where the pack has no perceptual distance."""
        if self.distance is None:
            raise ModelError(f"the model {self.name} has no perceptual distance, so strengths cannot be calibrated")
        return Calibration(self.distance.between, self.unit_distance, latents, truncation)
