"""What an edit did to the factors of the picture, as a predictor of factors sees it: the target's, and all others'."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.images import Images
from situ.core.measurement import EditedImages


@dataclass(frozen=True)
class FactorChange:
    """Mean absolute change of some factors (each on a scale of 0 to 1) as a predictor reads them."""

    name: str
    change: Callable[[Images, Images], Float[Tensor, "n f"]]  # pictures before and after -> signed changes
    factors: tuple[int, ...]
    better: Literal["higher", "lower", ""] = ""
    unit: str = "of the factor's range"

    def __call__(self, edited: EditedImages) -> Float[Tensor, " n"]:
        return self.change(edited.before, edited.after)[:, list(self.factors)].abs().mean(dim=1)


def factor_changes(
    change: Callable[[Images, Images], Float[Tensor, "n f"]], names: Sequence[str], edited: EditedImages
) -> dict[str, float]:
    """Mean signed change of every factor over the pictures."""
    with torch.no_grad():
        mean = change(edited.before, edited.after).mean(dim=0)
    return dict(zip(names, mean.tolist(), strict=True))
