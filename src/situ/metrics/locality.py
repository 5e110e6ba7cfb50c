"""Locality of an edit: how much of the change falls inside its region, in features and in pixels.

The share in features is LELSD's localisation score (eq. 2); inside and outside mean squared changes are those of
ReSeFa's figure 5, and their ratio is the region gain that every direction carries as its score.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from situ.core.errors import SituError
from situ.core.measurement import EditedImages, mean_under, squared_change
from situ.core.region import dilate


@dataclass(frozen=True)
class LocalizationScore:
    """LS of equation 2: mean over the feature layers that the edit can change."""

    name: str = "LS"
    unit: str = "share"
    better: Literal["higher", "lower", ""] = "higher"

    def __call__(self, edited: EditedImages) -> Float[Tensor, " n"]:
        if edited.localization is None:
            raise SituError("the localisation score needs the generator's features: use situ.core.measurement.measure")
        return edited.localization.mean(dim=0)


@dataclass(frozen=True)
class InsideShare:
    """Share of the squared pixel change that falls inside the region, dilated."""

    dilation: int = 2  # pixels
    name: str = "inside"
    unit: str = "share"
    better: Literal["higher", "lower", ""] = "higher"

    def __call__(self, edited: EditedImages) -> Float[Tensor, " n"]:
        change = squared_change(edited)
        inside = (change * dilate(edited.mask, self.dilation)).sum(dim=(1, 2, 3))
        return inside / change.sum(dim=(1, 2, 3)).clamp(min=1e-12)


@dataclass(frozen=True)
class ChangeInside:
    """Mean squared pixel change inside the region, of pictures in [-1, 1]."""

    name: str = "mse_inside"
    unit: str = "squared intensity"
    better: Literal["higher", "lower", ""] = ""

    def __call__(self, edited: EditedImages) -> Float[Tensor, " n"]:
        return mean_under(squared_change(edited), edited.mask)


@dataclass(frozen=True)
class ChangeOutside:
    """Mean squared pixel change outside the region, of pictures in [-1, 1]."""

    name: str = "mse_outside"
    unit: str = "squared intensity"
    better: Literal["higher", "lower", ""] = "lower"

    def __call__(self, edited: EditedImages) -> Float[Tensor, " n"]:
        return mean_under(squared_change(edited), 1 - edited.mask)


LOCALITY = (LocalizationScore(), InsideShare(), ChangeInside(), ChangeOutside())
