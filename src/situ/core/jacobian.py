"""Jacobians of pictures with respect to latents, and their Gram matrices, in forward mode.

A forward pass carries many tangents at once, so the Jacobian of a picture costs as many tangents as the subspace has
coordinates (512 in W), where reverse mode costs a pass per pixel (65,536 at 256 px). Everything that ReSeFa, LowRankGAN
and StyleSpace need follows from it: J itself, kept small enough to solve again for any region, or sums J^T diag(m) J
over the rows of a region, for many regions in one pass and in bounded memory.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vjp, vmap
from torch.nn import functional

from situ.core.containers import Container
from situ.core.errors import JacobianError, RegionError
from situ.core.generator import Generator, Linearizable, Linearization
from situ.core.images import Images, Masks, resize
from situ.core.latents import Latents, LatentSpace, Subspace
from situ.core.progress import Progress, silent

Resample = Literal["area", "nearest"]

MEMORY = 4.0  # GiB that a Jacobian and its Gram matrices may take, if nothing else is said
BLOCK = 1024  # rows that are multiplied at once; bounds the copies in double precision
JACOBIAN_FILE = Container("situ-jacobian-1", "Jacobian file", " as `Jacobian.save` writes it", JacobianError)


@dataclass(frozen=True)
class Rows:
    """What of the picture the rows of a Jacobian are."""

    size: Annotated[int | None, "pixels on a side; None takes the picture's own, at most 256"] = None
    sum_rgb: Annotated[bool, "red, green and blue summed, as published code has it"] = False
    resample: Annotated[Resample, "area: anti-aliased; nearest as published code has it"] = "area"

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise JacobianError(f"rows are pixels of a picture at least 1 px wide, got {self.size}")
        if self.resample not in get_args(Resample):
            raise JacobianError(f'rows are made by {" or ".join(get_args(Resample))}, got "{self.resample}"')

    def side(self, resolution: int) -> int:
        """Pixels on a side, for a generator's resolution."""
        return self.size or min(resolution, 256)

    def of(self, images: Images) -> Float[Tensor, "n c s s"]:
        """The rows of pictures, laid out as pictures of 3 channels or 1; linear, so it takes tangents too."""
        size = self.side(images.shape[-1])
        small = resize(images, size) if self.resample == "area" else functional.interpolate(images, (size, size))
        return small.sum(dim=1, keepdim=True) if self.sum_rgb else small

    def weights(self, mask: Masks, side: int | None = None) -> Float[Tensor, "n 1 s s"]:
        """How far each row lies inside a region.

        Args:
            mask: at any size.
            side: of the rows, in pixels; None takes the mask to be as large as the picture.
        """
        size = side or self.side(mask.shape[-1])
        return resize(mask, size) if self.resample == "area" else functional.interpolate(mask, (size, size))


def linearize(generator: Generator, latents: Latents, subspace: Subspace) -> Linearization:
    """The derivative of the picture of the first of some latents: the generator's own, or torch's."""
    base = generator.convert(latents[:1], subspace.space)
    if isinstance(generator, Linearizable):
        return generator.linearize(base, subspace)
    picture, zero = _picture_of(generator, base, subspace)

    def pushforward(tangents: Float[Tensor, "t k"]) -> Float[Tensor, "t 3 h w"]:
        with torch.no_grad():
            return vmap(lambda u: jvp(picture, (zero,), (u,))[1])(tangents.to(zero))

    return pushforward


def _picture_of(
    generator: Generator, base: Latents, subspace: Subspace
) -> tuple[Callable[[Tensor], Tensor], Float[Tensor, " k"]]:
    """u -> picture (3, h, w) of one latent moved by u, and the origin of u."""

    def picture(u: Tensor) -> Tensor:
        return generator.synthesize(base.with_values(base.values + subspace.lift(u)[None])).images[0]

    return picture, base.values.new_zeros(subspace.dim)


@dataclass(frozen=True)
class Jacobian:
    """The derivative of one picture's rows with respect to the free coordinates of a subspace."""

    values: Float[Tensor, "d c s s"]  # one small picture per coordinate, in the precision it is kept in
    subspace: Subspace
    generator: str = ""

    def gram(self, mask: Masks | None = None, precision: torch.dtype = torch.float64) -> Float[Tensor, "d d"]:
        """J^T diag(m) J over the rows of a mask at the rows' size (1, 1, s, s), or over all rows; in double precision.

        Args:
            precision: of the products; torch.float32 is twice as fast, and good to 1e-7 of the largest eigenvalue.

        Raises:
            JacobianError: the mask is of another size.
        """
        gram = self.values.new_zeros(len(self.values), len(self.values), dtype=torch.float64)
        if mask is None:
            return _add_gram(gram, self.values, None, precision)
        if mask.shape[-2:] != self.values.shape[-2:]:
            side, given = self.values.shape[-1], tuple(mask.shape[-2:])
            raise JacobianError(f"a mask of {side} x {side} rows is needed (Rows.weights makes it), got {given}")
        if _mostly_inside(mask):  # the fewer rows cost less
            return self.total - _add_gram(gram, self.values, 1 - mask, precision)
        return _add_gram(gram, self.values, mask, precision)

    @cached_property
    def total(self) -> Float[Tensor, "d d"]:
        """J^T J, computed once."""
        return self.gram()

    @cached_property
    def spectrum(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Eigenvalues and eigenvectors of J^T J, computed once: what makes solving for the next region fast."""
        values, vectors = torch.linalg.eigh(self.total)
        return values.clamp(min=0), vectors

    def save(self, path: Path | str) -> None:
        """Write it, to solve for other regions later."""
        space = {"space": self.subspace.space.described(), "layers": list(self.subspace.chosen)}
        header = {**space, "tied": self.subspace.tied, "generator": self.generator}
        JACOBIAN_FILE.write(path, header, {"values": self.values})


def load_jacobian(path: Path | str) -> Jacobian:
    """Read a Jacobian. Raises JacobianError where it cannot be read."""

    def build(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Jacobian:
        space = LatentSpace.from_described(header["space"])
        subspace, values = Subspace(space, tuple(header["layers"]), bool(header["tied"])), tensors["values"]
        small_pictures = values.ndim == 4 and values.shape[1] in (1, 3) and values.shape[2] == values.shape[3] > 0
        if not small_pictures or len(values) != subspace.dim:
            raise ValueError(f"{subspace} needs {subspace.dim} small pictures, got shape {tuple(values.shape)}")
        if not values.is_floating_point() or not values.isfinite().all():
            raise ValueError("derivatives are finite numbers")
        return Jacobian(values, subspace, str(header["generator"]))

    return JACOBIAN_FILE.read(path, build)


def _mostly_inside(mask: Masks) -> bool:
    return float(mask.mean()) > 0.5


def _add_gram(
    gram: Float[Tensor, "d d"],
    rows: Float[Tensor, "d c l s"],
    weights: Float[Tensor, "1 1 l s"] | None,
    precision: torch.dtype = torch.float64,
) -> Float[Tensor, "d d"]:
    """Add the sum over rows of weight * row row^T to `gram`, in place, a block of rows at a time.

    The products are in double precision, whatever J is kept in: then the sum has no negative eigenvalues, and B = T - F
    is exact to 1e-16 of T. In single precision it would be to 1e-7, which is more than τ tr(B) where most of the change
    lies inside the region.
    """
    flat = rows.flatten(1)
    chosen, roots = None, None
    if weights is not None:
        spread = weights.to(rows.device, precision).clamp(min=0).expand(1, *rows.shape[1:]).flatten()
        chosen = spread.nonzero().flatten()
        roots = spread[chosen].sqrt()
    for start in range(0, flat.shape[1] if chosen is None else len(chosen), BLOCK):
        where = slice(start, start + BLOCK)
        some = flat[:, where if chosen is None else chosen[where]].to(precision)
        if roots is not None:
            some = some * roots[where]
        if precision == gram.dtype:
            gram.addmm_(some, some.T)
        else:
            gram += some @ some.T
    return gram


@dataclass(frozen=True)
class JacobianPlan:
    """What a Jacobian will cost, known before it starts."""

    dim: int  # tangents of one picture
    chunk: int  # tangents in one pass
    bands: int  # times that all tangents are run, each time for other rows
    lines: int  # lines of the picture in a band
    bytes: int  # peak, of what is kept and of what passes through

    @property
    def passes(self) -> int:
        """Passes of the generator for one picture, `chunk` tangents each."""
        return self.bands * math.ceil(self.dim / self.chunk)


def plan_jacobian(
    generator: Generator,
    subspace: Subspace,
    rows: Rows,
    memory: float = MEMORY,
    regions: int = 0,
    dtype: torch.dtype = torch.float32,
) -> JacobianPlan:
    """Choose chunk and bands within a memory budget.

    Args:
        memory: GiB.
        regions: whose F and B are accumulated; 0 keeps J whole instead.
        dtype: that J is kept in.

    Raises:
        JacobianError: it does not fit; says what it needs and what to change.
    """
    if not 0 < memory < math.inf:
        raise JacobianError(f"the memory for a Jacobian is a positive number of GiB, got {memory}")
    budget, d = int(memory * 2**30), subspace.dim
    side, channels = rows.side(generator.resolution), 1 if rows.sum_rgb else 3
    activations = [layer.channels * layer.resolution**2 for layer in generator.layers]
    picture = 3 * max(generator.resolution, side) ** 2
    primal = 3 * 4 * sum(activations)  # what the derivative of each layer keeps of the picture itself
    # single precision; an activation, its successor and two at work; enlarging a picture makes several of it
    per_tangent = 4 * (4 * max([*activations, subspace.space.dim]) + 9 * picture)
    grams = (2 * regions + 1) * d**2 * 8 if regions else 0  # F and B of each region, and that of all rows

    def taken(chunk: int, lines: int) -> int:
        """Bytes, with so many lines of J at a time, and a block of them in double precision."""
        block = d * min(BLOCK, channels * side * lines) * (2 * 8 + dtype.itemsize) if regions else 0
        return primal + chunk * per_tangent + grams + d * channels * side * lines * dtype.itemsize + block

    fewest = 1 if regions else side
    plans = []
    for chunk in range(min(32, d), 0, -1):
        lines = next((n for n in range(side, fewest - 1, -1) if taken(chunk, n) <= budget), 0)
        if lines:
            plans.append(JacobianPlan(d, chunk, math.ceil(side / lines), lines, taken(chunk, lines)))
    if not plans:
        what = f"F and B of {regions} region{'s' * (regions > 1)} in" if regions else "the Jacobian of"
        raise JacobianError(
            f"{what} {subspace} ({d} coordinates, rows of {side} px) needs {taken(1, fewest) / 2**30:.3g} GiB, the "
            f"budget is {memory:g}: raise it (--memory), take fewer rows (--rows), a smaller subspace (--space), or "
            "the matrix-free solver (--solver lobpcg)"
        )
    return min(plans, key=lambda plan: plan.passes * (plan.chunk + 2))  # a pass costs two tangents besides its own


def jacobian(
    generator: Generator,
    latents: Latents,
    subspace: Subspace,
    rows: Rows | None = None,
    *,
    memory: float = MEMORY,
    dtype: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> Jacobian:
    """The Jacobian of the first of some latents (of the subspace's space, or one that converts to it).

    Args:
        memory: GiB that it may take.
        dtype: that it is kept in; torch.float16 halves it.

    Raises:
        JacobianError: it does not fit into the memory, or is not finite (in half precision, say).
    """
    rows = rows or Rows()
    plan = plan_jacobian(generator, subspace, rows, memory, 0, dtype)
    linear = linearize(generator, latents, subspace)
    side = rows.side(generator.resolution)
    values = _columns(linear, subspace, rows, plan, slice(0, side), dtype, _Clock(progress, plan.dim))
    return Jacobian(values, subspace, generator.name)


class _Clock:
    """Counts tangents, and says how long all of them will take as soon as the first are done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done, self.started = progress, total, 0, time.monotonic()

    def __call__(self, tangents: int) -> None:
        self.done += tangents
        seconds = (time.monotonic() - self.started) / self.done * self.total
        self.progress(self.done, self.total, f"about {seconds:.0f} s in all")


def _columns(
    linear: Linearization,
    subspace: Subspace,
    rows: Rows,
    plan: JacobianPlan,
    lines: slice,
    dtype: torch.dtype,
    clock: _Clock,
) -> Float[Tensor, "d c l s"]:
    """Some lines of J, for all coordinates."""
    found: Tensor | None = None
    for start in range(0, subspace.dim, plan.chunk):
        stop = min(start + plan.chunk, subspace.dim)
        tangents = torch.zeros(stop - start, subspace.dim)
        tangents[:, start:stop].fill_diagonal_(1)
        part = rows.of(linear(tangents))[:, :, lines]
        if not part.to(dtype).isfinite().all():
            remedy = "take pictures that are" if not part.isfinite().all() else f"keep it in float32, not {dtype}"
            raise JacobianError(f"the derivative of the picture along {subspace} is not finite: {remedy}")
        if found is None:
            found = part.new_empty(subspace.dim, *part.shape[1:], dtype=dtype)
        found[start:stop] = part
        clock(stop - start)
    assert found is not None
    return found


@dataclass(frozen=True)
class Grams:
    """F and B of one region: mean squared change per unit step, inside and outside (ReSeFa eq. 3 and 5)."""

    inside: Float[Tensor, "d d"]
    outside: Float[Tensor, "d d"]


def region_grams(jacobian: Jacobian, mask: Masks, rows: Rows, name: str = "the region") -> Grams:
    """F and B of a region of the Jacobian's picture, each divided by its number of rows."""
    weights, inside, outside = _weights(rows, mask, jacobian.values.shape[1], jacobian.values.shape[-1], name)
    f = jacobian.gram(weights)
    return Grams(f / inside, (jacobian.total - f) / outside)


def _weights(
    rows: Rows, mask: Masks, channels: int, side: int, name: str
) -> tuple[Float[Tensor, "1 1 s s"], float, float]:
    """The weights of rows, and how many lie inside and outside. Raises RegionError where either has none."""
    weights = rows.weights(mask.float(), side)
    inside, outside = float(weights.sum()) * channels, float((1 - weights).sum()) * channels
    if inside < 1e-3:
        raise RegionError(f"{name} is empty on this picture: choose another picture (--seed) or a larger region")
    if outside < 1e-3:
        raise RegionError(f"{name} is the whole picture, so nothing lies outside it to be left alone: make it smaller")
    return weights, inside, outside


def gram_matrices(
    generator: Generator,
    latents: Latents,
    masks: Sequence[Masks | None],
    subspace: Subspace,
    rows: Rows | None = None,
    *,
    names: Sequence[str] = (),
    memory: float = MEMORY,
    progress: Progress = silent,
) -> list[Grams | None]:
    """F and B of several regions of one picture, from one pass over its tangents.

    Where J does not fit into the memory, the tangents run once for every band of rows.

    Args:
        masks: of each region, (1, 1, h, w); None for a region that is not wanted on this picture.

    Raises:
        JacobianError: not even the Gram matrices fit. RegionError: a region is empty or the whole picture.
    """
    rows = rows or Rows()
    side, channels = rows.side(generator.resolution), 1 if rows.sum_rgb else 3
    names = names or [f"region {i + 1}" for i in range(len(masks))]
    weighed = {i: _weights(rows, m, channels, side, names[i]) for i, m in enumerate(masks) if m is not None}
    found: list[Grams | None] = [None] * len(masks)
    if not weighed:
        return found
    plan = plan_jacobian(generator, subspace, rows, memory, len(weighed))
    linear = linearize(generator, latents, subspace)
    clock = _Clock(progress, plan.dim * plan.bands)
    total: Tensor | None = None
    smaller: dict[int, Tensor] = {}  # F where it has fewer rows than B, else B; the other follows from all rows
    for top in range(0, side, plan.lines):
        lines = slice(top, min(top + plan.lines, side))
        band = _columns(linear, subspace, rows, plan, lines, torch.float32, clock)
        if total is None:
            total = band.new_zeros(plan.dim, plan.dim, dtype=torch.float64)
            smaller = {i: torch.zeros_like(total) for i in weighed}
        _add_gram(total, band, None)
        for i, (weights, _, _) in weighed.items():
            _add_gram(smaller[i], band, (1 - weights if _mostly_inside(weights) else weights)[:, :, lines])
        del band  # before the next one is made
    assert total is not None
    for i, (weights, n_inside, n_outside) in weighed.items():
        one = smaller.pop(i)
        other = total - one
        inside, outside = (other, one) if _mostly_inside(weights) else (one, other)
        found[i] = Grams(inside.div_(n_inside), outside.div_(n_outside))
    return found


@dataclass(frozen=True)
class JacobianOperator:
    """J of one picture as two maps, never made: for subspaces too large for their Gram matrix."""

    forward: Callable[[Float[Tensor, "k d"]], Float[Tensor, "k c s s"]]  # u -> J u
    transpose: Callable[[Float[Tensor, "k c s s"]], Float[Tensor, "k d"]]  # v -> J^T v
    dim: int


def jacobian_operator(
    generator: Generator, latents: Latents, subspace: Subspace, rows: Rows | None = None, memory: float = MEMORY
) -> JacobianOperator:
    """J and its transpose at the first of some latents, by forward and reverse mode, a chunk of vectors at a time."""
    rows = rows or Rows()
    # half of the memory for vectors at work, as reverse mode keeps more of the picture itself
    chunk = plan_jacobian(generator, subspace, replace(rows, size=1), memory / 2, 0).chunk
    base = generator.convert(latents[:1], subspace.space)
    linear = linearize(generator, base, subspace)
    picture, zero = _picture_of(generator, base, subspace)
    pull = vjp(lambda u: rows.of(picture(u)[None])[0], zero)[1]

    def forward(u: Float[Tensor, "k d"]) -> Float[Tensor, "k c s s"]:
        return torch.cat([rows.of(linear(some)) for some in u.split(chunk)])

    def transpose(v: Float[Tensor, "k c s s"]) -> Float[Tensor, "k d"]:
        with torch.no_grad():
            return torch.cat([vmap(pull)(some.to(zero))[0] for some in v.split(chunk)])

    return JacobianOperator(forward, transpose, subspace.dim)
