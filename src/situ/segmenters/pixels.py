"""What the segmenters of pictures share: a network's logits become probabilities of named parts."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.errors import RegionError
from situ.core.generator import Synthesis
from situ.segmenters.shared import require_names


def softmax(scores: Tensor) -> Tensor:
    """Logits -> probabilities of the parts."""
    return scores.softmax(dim=1)


class PixelSegmenter:
    """A published network behind the segmenter contract; it looks at the picture alone."""

    layers: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        scores: Callable[[Float[Tensor, "n 3 h w"]], Float[Tensor, "n c h2 w2"]],
        *,
        groups: Mapping[str, Sequence[str]] | None = None,
        size: int | None = None,
        normalise: Callable[[Tensor], Tensor] = softmax,
    ) -> None:
        """
        Args:
            labels: the network's classes, in the order of its channels.
            scores: pictures in [-1, 1] -> a logit for every class at every pixel.
            groups: classes that are to be one part of a new name. Their probabilities are added, so that a pixel may be
                sky where neither "clouds" nor "sky-other" alone would win; for the union of the winners, as published
                code takes it, ask for "clouds+sky-other" without groups.
            size: pixels on the longer side of the answer; None for the network's. Every part of every picture takes a
                number a pixel: 182 of them at 513 pixels are 190 MB a picture.
            normalise: scores at their final size -> probabilities.

        Raises:
            RegionError: groups of classes that the network does not know, or that are in two groups.
        """
        require_names(labels)
        groups = groups or {}
        grouped = [label for group in groups.values() for label in group]
        unknown = [label for label in grouped if label not in labels]
        if unknown or len(set(grouped)) < len(grouped):
            wrong = f"{unknown[0]}, which it does not know" if unknown else "a class that is in two of them"
            raise RegionError(f"groups of {name} are of its classes, each in one; got {wrong}")
        if size is not None and size < 1:
            raise RegionError(f"the size of an answer is a number of pixels, got {size}")
        rest = tuple(label for label in labels if label not in grouped)
        self.name, self.size, self._scores = name, size, scores
        self._normalise = normalise
        self.parts = (*groups, *rest)
        if len(set(self.parts)) < len(self.parts):
            raise RegionError(f"parts of {name} need names of their own, got {', '.join(self.parts)}")
        owner = {label: part for part, group in groups.items() for label in group}
        self._owners = [self.parts.index(owner.get(label, label)) for label in labels]
        self._grouped = bool(groups)

    def segment(self, synthesis: Synthesis) -> Float[Tensor, "n p h w"]:
        """See `Segmenter.segment`. Pictures are clipped to [-1, 1] first, as they are when they are saved."""
        scores = self._scores(synthesis.images.clamp(-1, 1))
        if self.size is not None:
            height, width = scores.shape[-2:]
            longer = max(height, width)
            target = (max(round(self.size * height / longer), 1), max(round(self.size * width / longer), 1))
            scores = functional.interpolate(scores, target, mode="bilinear", align_corners=False)
        probabilities = self._normalise(scores)
        if not self._grouped:
            return probabilities
        n, _, height, width = probabilities.shape
        owners = torch.tensor(self._owners, device=probabilities.device)
        return probabilities.new_zeros(n, len(self.parts), height, width).index_add(1, owners, probabilities)
