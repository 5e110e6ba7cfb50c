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
from typing import Annotated, Any, Literal

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

MEMORY = 4.0  # GiB that a Jacobian and its Gram matrices may take, if nothing else is said
JACOBIAN_FILE = Container("situ-jacobian-1", "Jacobian file", " as `Jacobian.save` writes it", JacobianError)


@dataclass(frozen=True)
class Rows:
    """What of the picture the rows of a Jacobian are."""

    size: Annotated[int | None, "pixels on a side; None takes the picture's own, at most 256"] = None
    sum_rgb: Annotated[bool, "red, green and blue summed, as published code has it"] = False
    resample: Annotated[Literal["area", "nearest"], "area: anti-aliased; nearest as published code has it"] = "area"

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise JacobianError(f"rows are pixels of a picture at least 1 px wide, got {self.size}")

    def side(self, resolution: int) -> int:
        """Pixels on a side, for a generator's resolution."""
        return self.size or min(resolution, 256)

    def of(self, images: Images) -> Float[Tensor, "n c s s"]:
        """The rows of pictures, laid out as pictures of 3 channels or 1; linear, so it takes tangents too."""
        size = self.side(images.shape[-1])
        small = resize(images, size) if self.resample == "area" else functional.interpolate(images, (size, size))
        return small.sum(dim=1, keepdim=True) if self.sum_rgb else small

    def weights(self, mask: Masks) -> Float[Tensor, "n 1 s s"]:
        """How far each row lies inside a region."""
        size = self.size or min(mask.shape[-1], 256)
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

    def gram(self, mask: Masks | None = None) -> Float[Tensor, "d d"]:
        """J^T diag(m) J over the rows of a mask at the rows' size (1, 1, s, s), or over all rows; double precision."""
        if mask is None:
            return _gram(self.values.flatten(1), None)
        weights = mask.to(self.values.device, torch.float32).expand(1, *self.values.shape[1:]).flatten()
        if float(weights.mean()) > 0.5:  # the fewer rows cost less
            return self.total - _gram(self.values.flatten(1), 1 - weights)
        return _gram(self.values.flatten(1), weights)

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
        subspace = Subspace(space, tuple(header["layers"]), bool(header["tied"]))
        if tensors["values"].ndim != 4 or len(tensors["values"]) != subspace.dim:
            raise ValueError(f"{subspace} has {subspace.dim} coordinates, got {tuple(tensors['values'].shape)}")
        return Jacobian(tensors["values"], subspace, str(header["generator"]))

    return JACOBIAN_FILE.read(path, build)


def _gram(
    rows: Float[Tensor, "d r"], weights: Float[Tensor, " r"] | None, block: int = 1 << 16
) -> Float[Tensor, "d d"]:
    """sum over rows of weight * row row^T, in blocks of rows; at least single precision inside, double outside."""
    precision = torch.promote_types(rows.dtype, torch.float32)
    gram = rows.new_zeros(len(rows), len(rows), dtype=torch.float64)
    chosen = None if weights is None else weights.nonzero().flatten()
    count = rows.shape[1] if chosen is None else len(chosen)
    for start in range(0, count, block):
        where = slice(start, start + block) if chosen is None else chosen[start : start + block]
        some = rows[:, where].to(precision)
        scaled = some if weights is None else some * weights[where].to(precision)
        gram += scaled @ some.T
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
        regions: Gram matrices (besides that of all rows) to accumulate; 0 keeps J whole instead.

    Raises:
        JacobianError: it does not fit; says what it needs and what to change.
    """
    budget = int(memory * 2**30)
    side, channels, item = rows.side(generator.resolution), 1 if rows.sum_rgb else 3, dtype.itemsize
    widest = max([layer.channels * layer.resolution**2 for layer in generator.layers] or [0])
    widest = max(widest, 3 * generator.resolution**2)
    per_tangent = 4 * 4 * widest  # single precision; an activation, its successor, and two at work
    chunk = max(1, min(32, subspace.dim, budget // 4 // per_tangent))
    line = subspace.dim * channels * side * item
    grams = (regions + 2) * subspace.dim**2 * 8 if regions else 0
    fixed = chunk * per_tangent + grams
    lines = min(side, max(0, budget - fixed) // line)
    if lines < (1 if regions else side):
        needed = (fixed + line * (1 if regions else side)) / 2**30
        what = f"{regions} Gram matrices of" if regions else "the Jacobian of"
        raise JacobianError(
            f"{what} {subspace} ({subspace.dim} coordinates, rows of {side} px) needs {needed:.1f} GiB, the budget is "
            f"{memory:g}: raise it (--memory), take fewer rows (--rows), a smaller subspace (--space), or the "
            "matrix-free solver (--solver lobpcg)"
        )
    bands = math.ceil(side / lines)
    return JacobianPlan(subspace.dim, chunk, bands, lines, fixed + line * lines)


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
        JacobianError: it does not fit into the memory.
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
        part = rows.of(linear(tangents))[:, :, lines].to(dtype)
        if found is None:
            found = part.new_empty(subspace.dim, *part.shape[1:])
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
    weights, inside, outside = _weights(rows, mask, jacobian.values.shape[1], name)
    f = jacobian.gram(weights)
    return Grams(f / inside, (jacobian.total - f) / outside)


def _weights(rows: Rows, mask: Masks, channels: int, name: str) -> tuple[Masks, float, float]:
    """The weights of rows, and how many lie inside and outside. Raises RegionError where either has none."""
    weights = rows.weights(mask.float())
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
    wanted = [i for i, mask in enumerate(masks) if mask is not None]
    plan = plan_jacobian(generator, subspace, rows, memory, max(1, len(wanted)))
    side, channels = rows.side(generator.resolution), 1 if rows.sum_rgb else 3
    names = names or [f"region {i + 1}" for i in range(len(masks))]
    weighed = {i: _weights(rows, m, channels, names[i]) for i, m in enumerate(masks) if m is not None}
    linear = linearize(generator, latents, subspace)
    clock = _Clock(progress, plan.dim * plan.bands)
    total: Tensor | float = 0.0
    inside: dict[int, Tensor | float] = dict.fromkeys(wanted, 0.0)
    for top in range(0, side, plan.lines):
        lines = slice(top, min(top + plan.lines, side))
        band = Jacobian(_columns(linear, subspace, rows, plan, lines, torch.float32, clock), subspace)
        total = total + band.total
        for i in wanted:
            inside[i] = inside[i] + band.gram(weighed[i][0][:, :, lines])
    found: list[Grams | None] = [None] * len(masks)
    for i in wanted:
        _, n_inside, n_outside = weighed[i]
        found[i] = Grams(torch.as_tensor(inside[i]) / n_inside, torch.as_tensor(total - inside[i]) / n_outside)
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
    chunk = plan_jacobian(generator, subspace, replace(rows, size=1), memory, 0).chunk
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
