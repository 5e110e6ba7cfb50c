"""A pack: a generator together with the frozen networks that make local editing and its measures possible on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.discovery import Calibration
from situ.core.generator import Generator
from situ.core.images import Images
from situ.core.region import Segmenter
from situ.inversion.encoder import ImageEncoder
from situ.metrics.perceptual import FeatureDistance, PyramidDistance
from situ.photos.align import FFHQ, Framing
from situ.photos.landmarks import LandmarkFinder


@dataclass(frozen=True)
class FactorReader:
    """A predictor of named factors of a picture, each in [0, 1], and of yes-or-no attributes."""

    factors: tuple[str, ...]
    parts: tuple[str, ...]  # the part that each factor shows in
    circular: tuple[str, ...]  # factors that wrap round, 1 next to 0 (hues)
    attributes: tuple[str, ...]
    attribute_parts: tuple[str, ...]  # the part that each attribute shows in
    predict: Callable[[Images], Float[Tensor, "n f"]]
    classify: Callable[[Images], Float[Tensor, "n a"]]  # probabilities

    def change(self, before: Images, after: Images) -> Float[Tensor, "n f"]:
        """Signed change of every factor, hues the short way round."""
        change = self.predict(after) - self.predict(before)
        wraps = torch.tensor([factor in self.circular for factor in self.factors], device=change.device)
        return torch.where(wraps, (change + 0.5) % 1 - 0.5, change)


@dataclass(frozen=True)
class Pack:
    """What `--model` opens. Only the generator is certain to be there."""

    name: str
    generator: Generator
    segmenter: Segmenter | None = None
    reader: FactorReader | None = None
    embed: Callable[[Images], Float[Tensor, "n e"]] | None = None
    encoder: ImageEncoder | None = None  # finds a picture's code of W+ in one pass
    link: Path | None = None  # file of MAGEC's LinkNet and editor, where they come with the pack
    landmarks: LandmarkFinder | None = None  # finds the faces of a photo
    framing: Framing = FFHQ  # how faces lie in the generator's pictures
    distance: FeatureDistance | PyramidDistance = field(default_factory=PyramidDistance)
    unit_distance: float = 0.02  # distance of strength 1
    best_subspaces: Mapping[str, str] = field(default_factory=dict)  # part -> where its directions are best
    directions: Path | None = None  # folder of direction files that come with it
    licence: str = ""
    card: str = ""  # the model card, markdown

    def calibration(self, latents: int = 32, truncation: float = 0.7) -> Calibration:
        """What strength 1 means on this pack."""
        return Calibration(self.distance.between, self.unit_distance, latents, truncation)
