"""The generator contract: what every method may ask of a generator, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.errors import GeneratorError, LatentError
from situ.core.latents import Latents, LatentSpace, Subspace


@dataclass(frozen=True)
class FeatureLayer:
    """One activation h(w) that can be asked for."""

    name: str
    resolution: int
    channels: int
    step: int  # index of the synthesis step that makes it


@dataclass(frozen=True)
class SynthesisState:
    """What a synthesis knows just before step `step`: enough to go on from there with other latents."""

    step: int
    tensors: tuple[Tensor | None, ...]

    def repeat(self, times: int) -> "SynthesisState":
        """The whole batch `times` times over: rows a b -> a b a b."""
        return SynthesisState(
            self.step,
            tuple(t if t is None or times == 1 else t.repeat(times, *[1] * (t.ndim - 1)) for t in self.tensors),
        )


@dataclass(frozen=True)
class Synthesis:
    """Pictures (n, 3, h, w) in [-1, 1] (not clipped), the features asked for, and a state to resume from."""

    pictures: Float[Tensor, "n 3 h w"] | None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    state: SynthesisState | None = None
    _known: dict[object, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def images(self) -> Float[Tensor, "n 3 h w"]:
        """The pictures. Raises GeneratorError when the synthesis was asked to stop before them."""
        if self.pictures is None:
            raise GeneratorError("this synthesis was asked for features only (images=False), so it has no pictures")
        return self.pictures

    def once(self, key: object, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` gives, computed at the first call with this key (several parts share one segmentation)."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]


@runtime_checkable
class Generator(Protocol):
    """A frozen generator. `synthesize` is differentiable in the latents, twice, and in forward mode."""

    name: str  # architecture, resolution and hash of the weights; stamped on every direction
    resolution: int
    spaces: Mapping[str, LatentSpace]
    layers: tuple[FeatureLayer, ...]

    @property
    def device(self) -> torch.device: ...

    def sample(
        self,
        n: int,
        space: LatentSpace,
        rng: torch.Generator,
        truncation: float = 1.0,
        labels: Float[Tensor, "n c"] | None = None,
    ) -> Latents:
        """Draw n codes of a space. `truncation` pulls W towards its mean (1 leaves it, 0 is the mean)."""
        ...

    def convert(self, latents: Latents, space: LatentSpace) -> Latents:
        """Map codes on to a later space (z -> w -> w+ -> s). Raises LatentError for the other way."""
        ...

    def first_step(self, subspace: Subspace) -> int:
        """The first synthesis step that moving in this subspace can change; states before it can be reused."""
        ...

    def synthesize(
        self,
        latents: Latents,
        features: Sequence[str] = (),
        *,
        images: bool = True,
        keep: int | None = None,
        resume: SynthesisState | None = None,
    ) -> Synthesis:
        """Run the synthesis.

        Args:
            latents: codes of any space of this generator.
            features: names of the layers whose activations are wanted.
            images: False stops after the last wanted feature.
            keep: also return the state before this step.
            resume: start from this state, of latents that agree with these in all earlier steps.
        """
        ...


IMAGE = "image"  # the name under which the picture itself counts as a feature layer
Reduction = Callable[[Float[Tensor, "t c h w"]], Tensor]  # linear; keeps of a layer's change what is needed


@runtime_checkable
class Linearization(Protocol):
    """The derivative of the pictures at one latent, with respect to the free coordinates of a subspace."""

    def __call__(self, tangents: Float[Tensor, "t k"]) -> Float[Tensor, "t 3 h w"]:
        """The change of the picture along each tangent, to first order."""
        ...


@runtime_checkable
class Linearizable(Protocol):
    """A generator that knows its own derivative in forward mode; for others it is taken by `torch.func`."""

    def linearize(self, latents: Latents, subspace: Subspace) -> Linearization:
        """The derivative at one latent, of the subspace's space or one that can be converted to it."""
        ...

    def linearize_features(
        self, latents: Latents, subspace: Subspace, reductions: Mapping[str, Reduction]
    ) -> Callable[[Float[Tensor, "t k"]], dict[str, Tensor]]:
        """The same for feature layers, and the picture under the name "image": tangents -> reduced changes (t, ...)."""
        ...


def features_from(generator: Generator, step: int) -> tuple[FeatureLayer, ...]:
    """The feature layers made at or after a step: those an edit starting there can change."""
    return tuple(layer for layer in generator.layers if layer.step >= step)


def require_spaces(generator: Generator, *spaces: LatentSpace) -> None:
    """Raises LatentError for a space that is not the generator's."""
    for wanted in spaces:
        if generator.spaces.get(wanted.name) != wanted:
            sizes = ", ".join(f"{space.name} ({space.dim})" for space in generator.spaces.values())
            raise LatentError(f"{generator.name} has the spaces {sizes}, got {wanted.name} ({wanted.dim})")


def feature_steps(generator: Generator, features: Sequence[str]) -> dict[str, int]:
    """The steps that make the features asked for. Raises GeneratorError for one that the generator does not have."""
    known = {layer.name: layer.step for layer in generator.layers}
    missing = [name for name in features if name not in known]
    if missing:
        raise GeneratorError(f"features of {generator.name} are {', '.join(known)}; got {', '.join(missing)}")
    return {name: known[name] for name in features}
