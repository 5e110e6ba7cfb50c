"""Descriptors F of pictures, which a latent is asked to explain: attributes, points, parts (MAGEC section 3.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.classifier import AttributeClassifier, attribute_columns
from situ.core.generator import Synthesis
from situ.core.images import Images, resize
from situ.core.region import Segmenter


@runtime_checkable
class Descriptor(Protocol):
    """A frozen describer of pictures, with the loss that such descriptions are learnt with."""

    def describe(self, images: Images) -> Float[Tensor, "n d"]:
        """d = F(x)."""
        ...

    def loss(self, predicted: Float[Tensor, "n d"], wanted: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """L_F, of what a linear layer predicts from a latent: logits, where F gives probabilities."""
        ...


@dataclass(frozen=True)
class Attributes:
    """Probabilities of attributes; binary cross-entropy."""

    classifier: AttributeClassifier
    names: tuple[str, ...] = ()  # none: all

    @property
    def attributes(self) -> tuple[str, ...]:
        return self.names or self.classifier.attributes

    def describe(self, images: Images) -> Float[Tensor, "n d"]:
        """See `Descriptor.describe`."""
        return self.classifier.classify(images)[:, attribute_columns(self.classifier, self.names)]

    def loss(self, predicted: Float[Tensor, "n d"], wanted: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """See `Descriptor.loss`."""
        return functional.binary_cross_entropy_with_logits(predicted, wanted, reduction="none").mean(dim=1)


@dataclass(frozen=True)
class Keypoints:
    """Places of points, or any numbers; squared difference."""

    find: Callable[[Images], Float[Tensor, "n d"]]

    def describe(self, images: Images) -> Float[Tensor, "n d"]:
        """See `Descriptor.describe`."""
        return self.find(images)

    def loss(self, predicted: Float[Tensor, "n d"], wanted: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """See `Descriptor.loss`."""
        return (predicted - wanted).square().mean(dim=1)


@dataclass(frozen=True)
class PartMap:
    """Which part is where, coarsely; cross-entropy at every cell."""

    segmenter: Segmenter
    size: int = 8  # cells on a side

    def describe(self, images: Images) -> Float[Tensor, "n d"]:
        """See `Descriptor.describe`. Parts vary slowest."""
        return resize(self.segmenter.segment(Synthesis(images)), self.size).flatten(1)

    def loss(self, predicted: Float[Tensor, "n d"], wanted: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """See `Descriptor.loss`."""
        shape = (len(self.segmenter.parts), self.size**2)
        logits, shares = predicted.unflatten(1, shape), wanted.unflatten(1, shape)
        return -(shares * logits.log_softmax(dim=1)).sum(dim=1).mean(dim=1)
