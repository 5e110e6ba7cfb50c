"""What the style-based generators share: spaces z, w, w+ and s, truncation, and a synthesis of styled layers in a row.

Karras et al., "A style-based generator architecture for generative adversarial networks" (2019) and its successors. A
network says which styled layers it has and how to run one; everything else of the generator contract is here.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from situ.core.classes import class_labels, one_hot_classes
from situ.core.errors import GeneratorError, LatentError
from situ.core.generator import FeatureLayer, Synthesis, SynthesisState, feature_steps, require_spaces
from situ.core.latents import Latents, LatentSpace, Slice, Subspace

Noise = Literal["const", "random", "none"]
Activations = tuple[Tensor | None, ...]  # what is handed from one styled layer to the next, the features first


@dataclass(frozen=True)
class StyledLayer:
    """One styled layer, in the order of execution: the slices of S are these."""

    name: str  # as in the state dict
    resolution: int  # side of the features that it gives
    inputs: int  # width of its style
    outputs: int  # channels
    row: int  # the row of W+ that feeds it
    kind: str  # "conv", "rgb" or "input"; only "conv" gives features


@runtime_checkable
class StyleBasedSettings(Protocol):
    """What the sizes of every style-based network have in common."""

    @property
    def resolution(self) -> int: ...
    @property
    def z_dim(self) -> int: ...
    @property
    def w_dim(self) -> int: ...
    @property
    def c_dim(self) -> int: ...
    @property
    def num_ws(self) -> int: ...


class StyleBasedGenerator(ABC):
    """A frozen style-based generator.

    Spaces: "z" (one slice), "w" (one slice), "w+" (one slice per row), "s" (one slice per styled layer). Feature
    layers: the output of every styled layer of kind "conv". Noise is part of the generator, not of a latent.
    """

    def __init__(
        self,
        architecture: str,
        network: nn.Module,
        settings: StyleBasedSettings,
        steps: Sequence[StyledLayer],
        noise: Noise = "const",
        rng: torch.Generator | None = None,
    ) -> None:
        """
        Args:
            architecture: the beginning of the name ("stylegan2").
            network: the weights, with a `mapping` that holds `w_avg`; they are frozen in place.
            steps: the styled layers in order.
            noise: "const" the stored noise maps, "random" fresh ones from `rng`, "none".
            rng: needed by noise="random".
        """
        if noise not in ("const", "random", "none"):
            raise GeneratorError(f'noise is "const", "random" or "none", got "{noise}"')
        if noise == "random" and rng is None:
            raise GeneratorError('noise="random" needs rng, a torch.Generator')
        network.eval().requires_grad_(False)
        self.mapping: Any = network.mapping
        self.settings: Any = settings
        self.steps = tuple(steps)
        self.noise, self.rng = noise, rng
        self.names: tuple[str, ...] = ()  # of the classes
        self.usual_labels: Tensor | None = None
        self.resolution = settings.resolution
        self.name = f"{architecture}-{self.resolution}px-{weights_hash(network)}"
        self.spaces: Mapping[str, LatentSpace] = {
            "z": LatentSpace("z", (Slice("z", settings.z_dim),)),
            "w": LatentSpace("w", (Slice("w", settings.w_dim),)),
            "w+": LatentSpace("w+", tuple(Slice(n, settings.w_dim) for n in _row_names(steps, settings.num_ws))),
            "s": LatentSpace("s", tuple(Slice(step.name, step.inputs, step.kind) for step in steps)),
        }
        self.layers = tuple(
            FeatureLayer(s.name, s.resolution, s.outputs, i) for i, s in enumerate(steps) if s.kind == "conv"
        )

    @abstractmethod
    def styles(self, ws: Float[Tensor, "n rows w"]) -> list[Tensor]:
        """W+ -> S: every step's style, (n, inputs) each."""

    @abstractmethod
    def start(self, n: int) -> Activations:
        """What the first step is given."""

    @abstractmethod
    def step(self, index: int, activations: Activations, style: Float[Tensor, "n inputs"]) -> Activations:
        """Run one styled layer. The last one leaves the pictures (n, 3, R, R) as the last of its activations."""

    def feature(self, index: int, activations: Activations) -> Tensor:
        """The features of a step, (n, outputs, resolution, resolution): the first of its activations."""
        x = activations[0]
        assert x is not None
        return x

    @property
    def device(self) -> torch.device:
        return self.mapping.w_avg.device

    def one_hot(self, classes: int | str | Sequence[int | str]) -> Float[Tensor, "n c"]:
        """Classes by number, or by name where `names` has them, as rows for labels. Raises GeneratorError."""
        return one_hot_classes(classes, self.settings.c_dim, self.names, self.name).to(self.device)

    def sample(
        self,
        n: int,
        space: LatentSpace,
        rng: torch.Generator,
        truncation: float = 1.0,
        labels: Float[Tensor, "n c"] | None = None,
    ) -> Latents:
        """See `Generator.sample`. Without labels, a conditional generator takes `usual_labels` (1, classes), or draws a
        class for each code."""
        if not math.isfinite(truncation):
            raise LatentError(f"truncation is a number, 0 the mean picture and 1 full variety, got {truncation}")
        z = torch.randn(n, self.settings.z_dim, generator=rng, device=rng.device).to(self.device)
        labels = class_labels(n, self.settings.c_dim, rng, labels, self.usual_labels)
        labels = None if labels is None else labels.to(self.device)
        return self.convert(Latents(z, self.spaces["z"], labels, truncation), space)

    def convert(self, latents: Latents, space: LatentSpace) -> Latents:
        """See `Generator.convert`."""
        order = list(self.spaces)
        require_spaces(self, latents.space, space)
        first, last = order.index(latents.space.name), order.index(space.name)
        if first > last:
            raise LatentError(
                f"latents go z -> w -> w+ -> s, so {latents.space.name} has no unique code in {space.name}: "
                f"use a direction of {latents.space.name} or start from latents of {space.name}"
            )
        for name in order[first + 1 : last + 1]:
            latents = self._advance(latents, name)
        return latents

    def _advance(self, latents: Latents, name: str) -> Latents:
        """One conversion, to the named space from the one before it."""
        values = latents.values
        if name == "w":
            w_avg = self.mapping.w_avg
            values = w_avg + latents.truncation * (self.mapping(values, latents.labels) - w_avg)
        elif name == "w+":
            values = values.repeat(1, self.settings.num_ws)
        else:
            values = torch.cat(self.styles(values.reshape(len(values), self.settings.num_ws, -1)), dim=1)
        return Latents(values, self.spaces[name], latents.labels)

    def first_step(self, subspace: Subspace) -> int:
        """See `Generator.first_step`."""
        first = subspace.chosen[0]
        if subspace.space.name == "s":
            return first
        if subspace.space.name == "w+":
            return next(i for i, step in enumerate(self.steps) if step.row == first)
        return 0

    def synthesize(
        self,
        latents: Latents,
        features: Sequence[str] = (),
        *,
        images: bool = True,
        keep: int | None = None,
        resume: SynthesisState | None = None,
    ) -> Synthesis:
        """See `Generator.synthesize`. Memory: the activations of one layer, plus the features asked for."""
        first = 0 if resume is None else resume.step
        wanted = feature_steps(self, features)
        if any(step < first for step in wanted.values()) or (keep is not None and keep < first):
            raise GeneratorError(f"a synthesis resumed at {self.steps[first].name} cannot give what lies before it")
        last = len(self.steps) if images else max([*wanted.values(), (keep or 0) - 1, first - 1]) + 1
        styles = self.spaces["s"].split(self.convert(latents, self.spaces["s"]).values)
        activations = self.start(len(latents)) if resume is None else resume.tensors
        state, found = None, {}
        for i in range(first, last):
            if i == keep:
                state = SynthesisState(i, activations)
            activations = self.step(i, activations, styles[i])
            if self.steps[i].name in wanted:
                found[self.steps[i].name] = self.feature(i, activations)
        if last == keep:
            state = SynthesisState(last, activations)
        return Synthesis(activations[-1] if images else None, found, state)

    def noise_map(self, stored: Tensor | None, n: int) -> Tensor | None:
        """The noise of one layer, as this generator was told: stored (r, r), drawn (n, 1, r, r), or none."""
        if stored is None or self.noise == "none":
            return None
        if self.noise == "const":
            return stored
        assert self.rng is not None
        shape = (n, 1, *stored.shape)
        return torch.randn(shape, generator=self.rng, device=self.rng.device).to(stored.device)


def _row_names(steps: Sequence[StyledLayer], rows: int) -> list[str]:
    """A row of W+ is called after the layer that it feeds, a ToRGB only where it feeds nothing else."""
    names = {step.row: step.name for step in reversed(steps) if step.kind != "rgb"}
    return [names.get(row, steps[-1].name) for row in range(rows)]


def weights_hash(network: nn.Module) -> str:
    """Twelve hexadecimal digits that name the weights."""
    digest = hashlib.sha256()
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:12]
