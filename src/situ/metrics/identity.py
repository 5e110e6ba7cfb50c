"""Whether an edited picture still shows the same person: cosine similarity of an identity embedding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.images import Images
from situ.core.measurement import EditedImages


@dataclass(frozen=True)
class IdentitySimilarity:
    """Cosine of the embeddings before and after: 1 for the same person."""

    embed: Callable[[Images], Float[Tensor, "n e"]]
    name: str = "identity"
    unit: str = "cosine"
    better: Literal["higher", "lower", ""] = "higher"

    def __call__(self, edited: EditedImages) -> Float[Tensor, " n"]:
        return functional.cosine_similarity(self.embed(edited.before), self.embed(edited.after), dim=1)
