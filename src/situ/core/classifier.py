"""What reads yes-or-no attributes off a picture: any differentiable classifier."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from situ.core.errors import SituError
from situ.core.images import Images


@runtime_checkable
class AttributeClassifier(Protocol):
    """A frozen classifier of named attributes."""

    @property
    def attributes(self) -> tuple[str, ...]: ...

    def classify(self, images: Images, /) -> Float[Tensor, "n a"]:
        """Probability of every attribute; differentiable."""
        ...


def attribute_columns(classifier: AttributeClassifier, names: tuple[str, ...]) -> list[int]:
    """Where the named attributes stand (all of them for no names). Raises SituError for an unknown one."""
    unknown = [name for name in names if name not in classifier.attributes]
    if unknown:
        raise SituError(f"attributes of this model are {', '.join(classifier.attributes)}; got {', '.join(unknown)}")
    return [classifier.attributes.index(name) for name in names or classifier.attributes]
