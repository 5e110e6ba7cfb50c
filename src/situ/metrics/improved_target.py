"""Whether an edit did what it was asked to: the rise of the edited attribute's probability, and tests between methods.

The improved-target score t and the paired tests of MAGEC ("Editability", Table 2). The paper calls t a net difference
and also says t is in [0, 1], which a net difference need not be. Here it is signed, in [-1, 1]: below 0, the edit
went the wrong way.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from situ.core.classifier import AttributeClassifier, attribute_columns
from situ.core.errors import SituError
from situ.core.images import Images
from situ.core.measurement import EditedImages

CONSTANT = 1e-6  # spread of differences, beside the numbers they come from, that is rounding


@dataclass(frozen=True)
class ImprovedTarget:
    """t: the classifier's probability of the attribute after the edit less that before, or the fall of one removed."""

    classifier: AttributeClassifier
    attribute: str
    removed: bool = False  # the edit is to take the attribute away
    name: str = "improved target"
    unit: str = "probability"
    better: Literal["higher", "lower", ""] = "higher"

    def __post_init__(self) -> None:
        attribute_columns(self.classifier, (self.attribute,))

    def probability(self, images: Images) -> Float[Tensor, " n"]:
        """Of the attribute, in pictures clipped to what can be seen."""
        column = attribute_columns(self.classifier, (self.attribute,))[0]
        return self.classifier.classify(images.clamp(-1, 1))[:, column]

    def __call__(self, edited: EditedImages) -> Float[Tensor, " n"]:
        rise = self.probability(edited.after) - self.probability(edited.before)
        return -rise if self.removed else rise


@dataclass(frozen=True)
class PairedTTest:
    """What Student's paired t-test says of the same pictures under two methods."""

    mean_difference: float  # of a - b
    t: float
    p: float  # two-sided
    interval: tuple[float, float]  # that holds the mean difference with this confidence
    confidence: float
    pairs: int  # that count

    def significant(self, level: float = 0.05) -> bool:
        """Whether p is below a level."""
        return self.p < level


def paired_t_test(a: Float[Tensor, " n"], b: Float[Tensor, " n"], confidence: float = 0.95) -> PairedTTest:
    """Whether the mean of a - b differs from 0. Pairs in which either is NaN (has no score) are left out.

    Differences that are all equal have no spread to test against: p is 1 where they are 0, and 0 elsewhere.

    Raises:
        SituError: fewer than two pairs, lists of unequal lengths, infinite numbers, a confidence outside (0, 1).
    """
    if a.shape != b.shape or a.ndim != 1:
        raise SituError(f"paired scores come in two lists of one length, got {tuple(a.shape)} and {tuple(b.shape)}")
    if not 0 < confidence < 1:
        raise SituError(f"the confidence of an interval lies between 0 and 1, got {confidence}")
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    kept = ~(a.isnan() | b.isnan())
    a, b = a[kept], b[kept]
    if len(a) < 2 or not (a.isfinite() & b.isfinite()).all():
        raise SituError(f"a paired test needs two pairs or more, of finite numbers, got {len(a)} pairs: measure more")
    difference = a - b
    mean, size = float(difference.mean()), float(torch.cat([a, b]).abs().amax())
    if float(difference.std()) <= CONSTANT * size:
        same = abs(mean) <= CONSTANT * size
        t = 0.0 if same else math.copysign(math.inf, mean)
        return PairedTTest(mean, t, 1.0 if same else 0.0, (mean, mean), confidence, len(a))
    result = stats.ttest_rel(a.numpy(), b.numpy())
    low, high = result.confidence_interval(confidence)
    return PairedTTest(
        mean, float(result.statistic), float(result.pvalue), (float(low), float(high)), confidence, len(a)
    )
