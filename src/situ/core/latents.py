"""Latent codes as flat vectors in a space made of layer slices, and the subspaces that are searched and edited.

Z, W, W+, S, S without ToRGB, one layer of S, "W on layers 4-7" and BigGAN's Z+ are all a `Subspace`: a space, the
slices that may move, and whether they move together. No method branches on the space or on the generator.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.containers import Container
from situ.core.errors import LatentError


@dataclass(frozen=True)
class Slice:
    """The part of a latent vector that feeds one layer."""

    name: str  # the layer, as the generator calls it
    size: int
    kind: str = ""  # a class of layers that can be chosen by this word ("conv", "rgb")


@dataclass(frozen=True)
class LatentSpace:
    """A named space of flat vectors: the concatenation of its slices."""

    name: str
    slices: tuple[Slice, ...]

    @property
    def dim(self) -> int:
        return sum(s.size for s in self.slices)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each slice starts, and the end of the last."""
        offsets = [0]
        for s in self.slices:
            offsets.append(offsets[-1] + s.size)
        return tuple(offsets)

    def described(self) -> dict[str, object]:
        """The space as JSON can hold it."""
        return {"name": self.name, "slices": [[s.name, s.size, s.kind] for s in self.slices]}

    @classmethod
    def from_described(cls, description: Mapping[str, Any]) -> "LatentSpace":
        """The space of a description."""
        return cls(description["name"], tuple(Slice(*s) for s in description["slices"]))

    def split(self, values: Float[Tensor, "*n d"]) -> tuple[Tensor, ...]:
        """(..., dim) -> one (..., size) view per slice."""
        return values.split([s.size for s in self.slices], dim=-1)


@dataclass(frozen=True)
class Subspace:
    """The slices of a space that may move; `tied` ones share one vector. `layers=None` means every slice."""

    space: LatentSpace
    layers: tuple[int, ...] | None = None
    tied: bool = False

    def __post_init__(self) -> None:
        if self.layers is None:
            object.__setattr__(self, "layers", tuple(range(len(self.space.slices))))
        count = len(self.space.slices)
        assert self.layers is not None
        if not self.layers:
            raise LatentError(f"a subspace of {self.space.name} needs at least one layer, got none")
        bad = [i for i in self.layers if not 0 <= i < count]
        if bad or len(set(self.layers)) < len(self.layers):
            raise LatentError(
                f"layers of {self.space.name} run from 0 to {count - 1} without repeats, got {list(self.layers)}"
            )
        object.__setattr__(self, "layers", tuple(sorted(self.layers)))
        if self.tied and len({self.space.slices[i].size for i in self.layers}) > 1:
            raise LatentError(f"tied layers must be of one width, those of {self.space.name} chosen here are not")

    @property
    def chosen(self) -> tuple[int, ...]:
        """The indices of the slices that may move, ascending."""
        assert self.layers is not None
        return self.layers

    @property
    def dim(self) -> int:
        """Number of free coordinates."""
        sizes = [self.space.slices[i].size for i in self.chosen]
        return sizes[0] if self.tied else sum(sizes)

    def lift(self, u: Float[Tensor, "*n k"]) -> Float[Tensor, "*n d"]:
        """Free coordinates (..., dim) -> full vectors of the space (..., space.dim), zero on the other slices."""
        if u.shape[-1] != self.dim:
            raise LatentError(f"{self} has {self.dim} free coordinates, got a vector of {u.shape[-1]}")
        sizes = [s.size for s in self.space.slices]
        parts = [u] * len(self.chosen) if self.tied else u.split([sizes[i] for i in self.chosen], dim=-1)
        full = [u.new_zeros(*u.shape[:-1], size) for size in sizes]
        for i, part in zip(self.chosen, parts, strict=True):
            full[i] = part
        return torch.cat(full, dim=-1)

    def restrict(self, v: Float[Tensor, "*n d"]) -> Float[Tensor, "*n k"]:
        """Full vectors -> free coordinates: the transpose of `lift` (sum over tied slices)."""
        parts = self.space.split(v)
        chosen = [parts[i] for i in self.chosen]
        return torch.stack(chosen).sum(dim=0) if self.tied else torch.cat(chosen, dim=-1)

    def coordinates(self, v: Float[Tensor, "*n d"]) -> Float[Tensor, "*n k"]:
        """Full vectors -> free coordinates that lift back to them: as `restrict`, but the mean over tied slices."""
        return self.restrict(v) / (len(self.chosen) if self.tied else 1)

    def on_layers(self, layers: tuple[int, ...]) -> "Subspace":
        """The same kind of subspace on other slices of the space."""
        return replace(self, layers=layers)

    def __str__(self) -> str:
        if len(self.chosen) == len(self.space.slices) and not self.tied:
            return self.space.name
        name = self.space.name.removesuffix("+") if self.tied else self.space.name
        kinds = {s.kind for i, s in enumerate(self.space.slices) if i in self.chosen}
        kind = next(iter(kinds)) if len(kinds) == 1 else ""
        if kind and self.chosen == tuple(i for i, s in enumerate(self.space.slices) if s.kind == kind):
            return f"{name}:{kind}"
        return f"{name}:{_ranges(self.chosen)}"


def _ranges(numbers: tuple[int, ...]) -> str:
    """(0, 1, 2, 5) -> "0-2,5"."""
    runs: list[list[int]] = []
    for i in numbers:
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def parse_layers(text: str, space: LatentSpace) -> tuple[int, ...]:
    """ "4-7", "0,2,5-6" or a kind of layer ("conv") -> slice indices.

    Raises:
        LatentError: the text is none of these.
    """
    of_kind = tuple(i for i, s in enumerate(space.slices) if s.kind == text and text)
    if of_kind:
        return of_kind
    layers: list[int] = []
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", item)
        if not match:
            kinds = sorted({s.kind for s in space.slices if s.kind})
            words = f" or one of {', '.join(kinds)}" if kinds else ""
            raise LatentError(f'layers are written like "4-7" or "0,2,5"{words}, got "{text}"')
        first = int(match[1])
        last = int(match[2] or first)
        if last >= len(space.slices):
            raise LatentError(f'layers of {space.name} run from 0 to {len(space.slices) - 1}, got "{text}"')
        layers += range(first, last + 1)
    return Subspace(space, tuple(layers)).chosen


def parse_subspace(text: str, spaces: Mapping[str, LatentSpace]) -> Subspace:
    """ "w+", "w+:4-7", "s:conv", "s:10" free; "w:4-7" tied (one W vector on those rows of W+).

    Raises:
        LatentError: the space is unknown or the layers do not fit it.
    """
    name, _, layers = text.lower().partition(":")
    if name not in spaces:
        raise LatentError(f'spaces of this generator are {", ".join(spaces)}, got "{text}"')
    if not layers:
        return Subspace(spaces[name])
    tied = len(spaces[name].slices) == 1 and f"{name}+" in spaces
    space = spaces[f"{name}+"] if tied else spaces[name]
    return Subspace(space, parse_layers(layers, space), tied)


@dataclass(frozen=True)
class Latents:
    """A batch of latent codes, (n, space.dim), with their classes where the generator has any.

    `truncation` is what is still to be applied when codes of Z are mapped on; in the other spaces it has been.
    """

    values: Float[Tensor, "n d"]
    space: LatentSpace
    labels: Float[Tensor, "n c"] | None = None  # one-hot rows
    truncation: float = 1.0

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != self.space.dim:
            raise LatentError(
                f"latents of {self.space.name} have shape (n, {self.space.dim}), got {tuple(self.values.shape)}"
            )
        if self.labels is not None and len(self.labels) != len(self.values):
            raise LatentError(f"{len(self.values)} latents need as many labels, got {len(self.labels)}")

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: slice) -> "Latents":
        return replace(self, values=self.values[index], labels=None if self.labels is None else self.labels[index])

    def with_values(self, values: Float[Tensor, "n d"]) -> "Latents":
        """The same codes with other numbers, for instance moved ones."""
        return replace(self, values=values)

    def repeat(self, times: int) -> "Latents":
        """The whole batch `times` times over: rows a b -> a b a b."""
        labels = None if self.labels is None else self.labels.repeat(times, 1)
        return replace(self, values=self.values.repeat(times, 1), labels=labels)

    def require_finite(self) -> "Latents":
        """Raises LatentError where a code holds NaN or infinity."""
        bad = (~self.values.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if bad:
            raise LatentError(f"latents must be finite numbers; rows {bad[:8]} hold NaN or infinity: make them again")
        return self


LATENTS_FILE = Container("situ-latents-1", "latents file", " as `situ sample --latents` writes it", LatentError)


def save_latents(latents: Latents, path: Path | str, generator: str) -> None:
    """Write codes as safetensors, whole or not at all, with the name of their generator."""
    header = {"space": latents.space.described(), "generator": generator, "truncation": latents.truncation}
    tensors = {"values": latents.values}
    if latents.labels is not None:
        tensors["labels"] = latents.labels
    LATENTS_FILE.write(path, header, tensors)


def load_latents(path: Path | str, generator: str | None = None) -> Latents:
    """Read codes.

    Args:
        generator: name of the generator that they are for; None takes any.

    Raises:
        LatentError: missing, foreign or damaged file, another generator's codes, or codes that are not finite.
    """

    def build(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Latents, str]:
        space, truncation = LatentSpace.from_described(header["space"]), float(header["truncation"])
        latents = Latents(tensors["values"], space, tensors.get("labels"), truncation)
        if not len(latents) or not math.isfinite(truncation):
            raise ValueError(f"{len(latents)} codes, truncation {truncation}")
        return latents, header["generator"]

    latents, made_by = LATENTS_FILE.read(path, build)
    if generator not in (None, made_by):
        raise LatentError(f"{path} holds codes of {made_by}, this model is {generator}: sample or invert on this model")
    return latents.require_finite()
