"""Inversion: the codes whose pictures are given pictures, and the verb that finds them.

The inverters are in `situ.inversion`; all answer to `Inverter` and are judged by the same figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.containers import Container
from situ.core.errors import ImageError, InversionError
from situ.core.generator import Generator
from situ.core.images import Images
from situ.core.latents import Latents, LatentSpace
from situ.core.progress import Progress, silent

INVERSION_FILE = Container("situ-inversion-1", "inversion file", " as `situ invert` writes it", InversionError)


@dataclass(frozen=True)
class Inversion:
    """Codes of some pictures, and how they were found."""

    latents: Latents  # one code a picture
    generator: str  # its name
    found_by: str  # method and settings
    losses: Mapping[str, Float[Tensor, " n"]]  # at the end, each picture's own
    history: Mapping[str, Float[Tensor, "steps n"]] = field(default_factory=dict)  # the same after every step
    noise: Mapping[str, Float[Tensor, "n 1 _ _"]] = field(default_factory=dict)  # layer -> optimised noise map
    complete: bool = True  # False where Ctrl-C ended it early; the best so far is kept
    about: tuple[Mapping[str, Any], ...] = ()  # of each picture: its photo and crop, as JSON can hold it

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: slice) -> "Inversion":
        return replace(
            self,
            latents=self.latents[index],
            losses={name: values[index] for name, values in self.losses.items()},
            history={name: values[:, index] for name, values in self.history.items()},
            noise={name: values[index] for name, values in self.noise.items()},
            about=self.about[index],
        )

    def save(self, path: Path | str) -> None:
        """Write as safetensors, whole or not at all."""
        header = {
            "space": self.latents.space.described(),
            "generator": self.generator,
            "truncation": self.latents.truncation,
            "found_by": self.found_by,
            "complete": self.complete,
            "about": list(self.about),
        }
        tensors = {"values": self.latents.values}
        if self.latents.labels is not None:
            tensors["labels"] = self.latents.labels
        for kind in ("losses", "history", "noise"):
            tensors |= {f"{kind}.{name}": values for name, values in getattr(self, kind).items()}
        INVERSION_FILE.write(path, header, tensors)


def load_inversion(path: Path | str, generator: str | None = None) -> Inversion:
    """Read what `Inversion.save` wrote.

    Args:
        generator: name of the generator that it is for; None takes any.

    Raises:
        InversionError: missing, something else, damaged, or of another generator.
    """

    def build(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Inversion:
        def named(kind: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{kind}."): value for key, value in tensors.items() if key.startswith(f"{kind}.")}

        space = LatentSpace.from_described(header["space"])
        latents = Latents(tensors["values"], space, tensors.get("labels"), float(header["truncation"]))
        found = Inversion(
            latents.require_finite(),
            header["generator"],
            header["found_by"],
            named("losses"),
            named("history"),
            named("noise"),
            bool(header["complete"]),
            tuple(header["about"]),
        )
        if any(len(values) != len(latents) for values in [*found.losses.values(), *found.noise.values()]):
            raise ValueError("losses and codes of different numbers")
        return found

    found = INVERSION_FILE.read(path, build)
    if generator not in (None, found.generator):
        raise InversionError(
            f"{path} holds codes of {found.generator}, this model is {generator}: invert the photo on this model"
        )
    return found


def gathered(parts: Sequence[Inversion]) -> Inversion:
    """Inversions by one method on one generator as one, without their histories."""
    first = parts[0]
    values = torch.cat([each.latents.values for each in parts])
    labels = [each.latents.labels for each in parts if each.latents.labels is not None]
    return replace(
        first,
        latents=replace(first.latents, values=values, labels=torch.cat(labels) if labels else None),
        losses={name: torch.cat([each.losses[name] for each in parts]) for name in first.losses},
        history={},
        noise={name: torch.cat([each.noise[name] for each in parts]) for name in first.noise},
        complete=all(each.complete for each in parts),
        about=tuple(about for each in parts for about in each.about),
    )


@runtime_checkable
class TakesNoise(Protocol):
    """A generator that can be given noise maps of one's own."""

    def with_noise(self, maps: Mapping[str, Tensor]) -> Generator: ...


def with_noise_of(generator: Generator, inversion: Inversion) -> Generator:
    """The generator with the noise maps that an inversion found, as its codes are to be rendered: all of them at once,
    or one alone any number of times.

    Raises:
        InversionError: a generator that takes none.
    """
    if not inversion.noise:
        return generator
    if not isinstance(generator, TakesNoise):
        raise InversionError(f"the inversion has noise maps, {generator.name} takes none: invert on this model")
    return generator.with_noise({name: maps.to(generator.device) for name, maps in inversion.noise.items()})


@runtime_checkable
class Inverter(Protocol):
    """A method and its settings."""

    def invert(
        self, generator: Generator, target: Images, rng: torch.Generator, progress: Progress = silent
    ) -> Inversion:
        """Codes of all the pictures, which share every pass. Ctrl-C after the first step keeps the best so far.

        Args:
            target: (n, 3, R, R) in [-1, 1], of the generator's resolution.
        """
        ...


def invert(
    generator: Generator, target: Images, inverter: Inverter, rng: torch.Generator, progress: Progress = silent
) -> Inversion:
    """Find the codes of some pictures.

    Raises:
        ImageError: no pictures, of another size than the generator's, or not of numbers in [-1, 1].
    """
    size = generator.resolution
    if not len(target) or target.shape[-2:] != (size, size):
        raise ImageError(
            f"{generator.name} inverts pictures of {size} x {size} pixels, got {tuple(target.shape)}: align or crop "
            "the photo to a square and resize it"
        )
    if not target.isfinite().all() or target.abs().max() > 1 + 1e-4:
        raise ImageError("pictures to invert are numbers in [-1, 1], got others")
    return inverter.invert(generator, target.to(generator.device), rng, progress)
