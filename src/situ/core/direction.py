"""Directions and edits: what a discovery finds, and what is done to a latent with it.

An `Edit` is a finite sum of directions with strengths. Within one space edits are vectors, so (a + b)(w) = b(a(w)) and
a - a is the identity; where terms live in different spaces they are applied from the earliest space to the last.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.containers import Container
from situ.core.errors import DirectionError
from situ.core.generator import Generator
from situ.core.images import Images
from situ.core.latents import Latents, LatentSpace, Subspace

DIRECTION_FILE = Container("situ-direction-1", "direction file", " as `situ discover` writes it", DirectionError)

BATCH = 32  # pictures in one pass when distances are measured; bounds memory

PerceptualDistance = Callable[[Images, Images], Float[Tensor, " n"]]


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction u of a subspace, with everything needed to apply it and to know where it came from."""

    vector: Float[Tensor, " k"]  # in the free coordinates of the subspace; raw strength α moves by α u
    subspace: Subspace
    generator: str  # name of the generator, with the hash of its weights
    region: str  # what it edits
    found_by: str  # the method and its settings
    unit: float = 1.0  # raw α of strength 1
    score: float = math.nan  # region gain: mean squared change inside / outside, at strength 1
    figures: Mapping[str, float] = field(default_factory=dict)  # other measures at strength 1
    name: str = ""
    seed: int | None = None
    truncation: float = 1.0  # of the latents that it was searched on
    licence: str = ""

    def __post_init__(self) -> None:
        if tuple(self.vector.shape) != (self.subspace.dim,):
            raise DirectionError(
                f"a direction of {self.subspace} has {self.subspace.dim} numbers, got shape {tuple(self.vector.shape)}"
            )
        if not self.vector.isfinite().all() or not math.isfinite(self.unit):
            raise DirectionError(f"the direction {self.name or self.region} holds NaN or infinity: find it again")

    @cached_property
    def key(self) -> str:
        """Hash of what applying it does; equal for a direction and its reloaded file."""
        content = self.vector.detach().cpu().float().contiguous().numpy().tobytes()
        return hashlib.sha256(content + f"{self.subspace}|{self.generator}|{self.unit}".encode()).hexdigest()[:16]

    def apply(self, generator: Generator, latents: Latents, strength: float | Float[Tensor, " n"]) -> Latents:
        """Move latents by a strength, one for all or one per row, in units of the calibrated strength."""
        return Edit(((self, 1.0),)).apply(generator, latents, strength)

    def on_layers(self, layers: tuple[int, ...], spaces: Mapping[str, LatentSpace]) -> "Direction":
        """The same direction on fewer layers, unmeasured; one of W becomes one of W+, tied on those rows.

        Raises:
            DirectionError: it has nothing on the layers asked for, or its space has no layers.
        """
        subspace, vector = self.subspace, self.vector
        if len(subspace.space.slices) == 1:
            wide = spaces.get(f"{subspace.space.name}+")
            if wide is None:
                raise DirectionError(f"a direction of {subspace.space.name} feeds all layers at once: no layer range")
            return replace(self, subspace=Subspace(wide, layers, tied=True), score=math.nan, figures={})
        common = tuple(i for i in subspace.chosen if i in layers)
        if not common:
            raise DirectionError(
                f"the direction {self.name or self.region} moves {subspace}, nothing on layers {list(layers)}"
            )
        narrow = subspace.on_layers(common)
        if not subspace.tied:
            vector = narrow.restrict(subspace.lift(vector))
        return replace(self, subspace=narrow, vector=vector, score=math.nan, figures={})

    def save(self, path: Path | str) -> None:
        """Write it as safetensors, whole or not at all. Raises FileError where the place cannot be written."""
        header = {
            "name": self.name,
            "space": self.subspace.space.described(),
            "layers": list(self.subspace.chosen),
            "tied": self.subspace.tied,
            "generator": self.generator,
            "region": self.region,
            "found_by": self.found_by,
            "unit": self.unit,
            "score": self.score,
            "figures": dict(self.figures),
            "seed": self.seed,
            "truncation": self.truncation,
            "licence": self.licence,
        }
        DIRECTION_FILE.write(path, header, {"vector": self.vector.float()})


def load_direction(path: Path | str) -> Direction:
    """Read a direction file.

    Raises:
        DirectionError: missing, not a direction, or damaged.
    """

    def build(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Direction:
        texts = ("generator", "region", "found_by", "name", "licence")
        if not all(isinstance(header[key], str) for key in texts):
            raise TypeError(f"{', '.join(texts)} must be texts")
        return Direction(
            vector=tensors["vector"],
            subspace=Subspace(LatentSpace.from_described(header["space"]), tuple(header["layers"]), header["tied"]),
            figures={str(key): float(value) for key, value in header["figures"].items()},
            unit=float(header["unit"]),
            score=float(header["score"]),
            truncation=float(header["truncation"]),
            seed=header["seed"],
            **{key: header[key] for key in texts},
        )

    return DIRECTION_FILE.read(path, build)


@dataclass(frozen=True)
class Edit:
    """A stack of directions with strengths, applied in order."""

    terms: tuple[tuple[Direction, float], ...] = ()

    def __post_init__(self) -> None:
        for direction, strength in self.terms:
            if not math.isfinite(strength):
                raise DirectionError(
                    f"the strength of {direction.name or direction.region} must be a number, got {strength}"
                )

    def __add__(self, other: "Edit") -> "Edit":
        return Edit(self.terms + other.terms)

    def __mul__(self, factor: float) -> "Edit":
        return Edit(tuple((direction, strength * factor) for direction, strength in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> "Edit":
        return self * -1.0

    def __sub__(self, other: "Edit") -> "Edit":
        return self + -other

    def simplified(self) -> "Edit":
        """Equal directions merged, in the order of their first use; those that cancel are gone."""
        totals: dict[str, tuple[Direction, float]] = {}
        for direction, strength in self.terms:
            before = totals.get(direction.key, (direction, 0.0))[1]
            totals[direction.key] = (direction, before + strength)
        return Edit(tuple(term for term in totals.values() if term[1] != 0))

    def apply(
        self,
        generator: Generator,
        latents: Latents,
        strength: float | Float[Tensor, " n"] = 1.0,
        force: bool = False,
    ) -> Latents:
        """Move latents by the whole stack, times a common strength (one number, or one per row).

        A direction of W moves codes of W+ (inverted photos) by the same step in every row.

        Args:
            force: apply directions of other weights too, where the spaces agree.

        Raises:
            DirectionError: a direction belongs to another generator. LatentError: its space cannot be reached.
        """
        terms = self.simplified().terms
        order = list(generator.spaces)
        for direction, _ in terms:
            require_generator(direction, generator, force)
        if not torch.as_tensor(strength).isfinite().all():
            raise DirectionError(f"the strength of an edit must be a finite number, got {strength}")
        factor = strength if isinstance(strength, (int, float)) else strength[:, None].to(latents.values)
        for direction, amount in sorted(terms, key=lambda term: order.index(term[0].subspace.space.name)):
            wide = latents.space
            if wide.name == f"{direction.subspace.space.name}+":  # inverted codes: the same step in every row
                direction = direction.on_layers(tuple(range(len(wide.slices))), generator.spaces)
            latents = generator.convert(latents, direction.subspace.space)
            move = direction.subspace.lift(direction.vector.to(latents.values))
            latents = latents.with_values(latents.values + factor * (amount * direction.unit) * move)
        return latents


def require_generator(direction: Direction, generator: Generator, force: bool = False) -> None:
    """Raises DirectionError unless the direction belongs to this generator (or, with force, fits its spaces)."""
    label = direction.name or direction.region
    if generator.spaces.get(direction.subspace.space.name) != direction.subspace.space:
        raise DirectionError(
            f"the direction {label} was found on {direction.generator} and its space {direction.subspace.space.name} "
            f"({direction.subspace.space.dim}) does not exist on {generator.name}: find it again on this model"
        )
    if direction.generator != generator.name and not force:
        raise DirectionError(
            f"the direction {label} was found on {direction.generator}, this model is {generator.name}: "
            "find it again on this model, or use --force to apply it all the same"
        )


@dataclass(frozen=True)
class DistanceSolution:
    """Raw strengths that give a wanted perceptual distance."""

    alpha: Float[Tensor, " n"]  # signed; the nearest tried where the distance was not reached
    distance: Float[Tensor, " n"]  # what it really gives
    reached: tuple[bool, ...]


def _distance_at(
    generator: Generator,
    direction: Direction,
    base: Latents,
    before: Images,
    alpha: Tensor,
    distance: PerceptualDistance,
) -> Tensor:
    move = direction.subspace.lift(direction.vector.to(base.values))
    edited = base.with_values(base.values + alpha[:, None].to(base.values) * move)
    parts = range(0, len(base), BATCH)
    after = (generator.synthesize(edited[i : i + BATCH]).images for i in parts)
    return torch.cat([distance(before[i : i + BATCH], images) for i, images in zip(parts, after, strict=True)])


def _pictures(generator: Generator, latents: Latents) -> Images:
    """The pictures of latents, at most BATCH in one pass."""
    parts = range(0, len(latents), BATCH)
    return torch.cat([generator.synthesize(latents[i : i + BATCH]).images for i in parts])


def solve_distance(
    generator: Generator,
    direction: Direction,
    latents: Latents,
    target: float,
    distance: PerceptualDistance,
    sign: int = 1,
    tolerance: float = 0.01,
    steps: int = 40,
    force: bool = False,
) -> DistanceSolution:
    """Find, for every latent, the raw α on one side of 0 whose edit lies at a perceptual distance (LELSD section 4.2).

    The bracket doubles from the direction's unit until the distance is passed, then is halved; all latents at once.

    Args:
        target: the wanted distance, > 0.
        sign: +1 or -1, the side.
        tolerance: relative error of the distance at which a latent is done; twice that still counts as reached.
        steps: most evaluations; a distance not reached after 12 doublings is reported as not reached.
    """
    _require_positive(target)
    require_generator(direction, generator, force)
    base = generator.convert(latents, direction.subspace.space)
    n, unit = len(base), abs(direction.unit)
    low, high = torch.zeros(n), torch.full([n], unit)
    bracketed = torch.zeros(n, dtype=torch.bool)
    best, reached_distance = high.clone(), torch.full([n], math.inf)
    doublings = 0
    with torch.no_grad():
        before = _pictures(generator, base)
        for _ in range(steps):
            alpha = torch.where(bracketed, (low + high) / 2, high)
            d = _distance_at(generator, direction, base, before, sign * alpha, distance).cpu().float()
            nearer = (d - target).abs() < (reached_distance - target).abs()
            best = torch.where(nearer, alpha, best)
            reached_distance = torch.where(nearer, d, reached_distance)
            if bool(((reached_distance - target).abs() <= tolerance * target).all()):
                break
            passed = d >= target
            low = torch.where(passed, low, alpha)
            doublings += int(not bracketed.all())
            high = torch.where(passed, alpha, torch.where(bracketed, high, high * 2))
            bracketed |= passed
            if doublings > 12 and not bracketed.any():
                break
            if doublings > 12:  # those still open cannot be reached: hold them still
                high = torch.where(bracketed, high, alpha)
    reached = (reached_distance - target).abs() <= 2 * tolerance * target
    return DistanceSolution(sign * best, reached_distance, tuple(bool(r) for r in reached))


def _require_positive(target: float) -> None:
    if not target > 0 or not math.isfinite(target):
        raise DirectionError(f"a perceptual distance to reach is a positive number, got {target}")


def calibrate(
    generator: Generator,
    direction: Direction,
    latents: Latents,
    distance: PerceptualDistance,
    target: float,
    tolerance: float = 0.01,
) -> Direction:
    """The same direction with `unit` such that strength +-1 moves pictures by `target` on the average of the latents.

    Secant steps on the logarithms of strength and distance, kept inside the bracket found so far.

    Args:
        tolerance: relative error of the distance that is good enough.

    Raises:
        DirectionError: the distance is not reached, because the direction hardly changes the picture.
    """
    _require_positive(target)
    base = generator.convert(latents, direction.subspace.space)
    both = base.repeat(2)
    signs = torch.cat([torch.ones(len(base)), -torch.ones(len(base))])
    alpha, low, high, reached, tried = abs(direction.unit), 0.0, math.inf, 0.0, 0.0
    power = 2.0  # the distance grows about like α^power; squared features start at 2
    before_last: tuple[float, float] | None = None
    with torch.no_grad():
        before = _pictures(generator, both)
        for _ in range(24):
            reached = float(_distance_at(generator, direction, both, before, signs * alpha, distance).mean())
            if abs(reached - target) <= tolerance * target:
                return replace(direction, unit=alpha)
            low, high = (alpha, high) if reached < target else (low, alpha)
            if before_last is not None and reached > 0 and before_last[1] > 0 and before_last[0] != alpha:
                power = math.log(reached / before_last[1]) / math.log(alpha / before_last[0])
            before_last, tried = (alpha, reached), alpha
            guess = alpha * (target / max(reached, 1e-12)) ** (1 / min(max(power, 0.25), 4.0))
            guess = min(max(guess, alpha / 8), alpha * 8)
            alpha = guess if low < guess < high else (low + high) / 2 if math.isfinite(high) else 2 * low
    raise DirectionError(
        f"the direction {direction.name or direction.region} cannot be calibrated: raw strength {tried:.3g} moves the "
        f"pictures by {reached:.3g}, the unit distance is {target}"
    )
