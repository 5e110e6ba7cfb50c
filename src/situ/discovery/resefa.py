"""ReSeFa: directions of any region in closed form, from the Jacobian of a picture.

Zhu, Shen, Xu, Zhao, Chen, "Region-based semantic factorization in GANs" (2022). With F and B the mean squared change of
the picture per unit step, inside and outside the region, the directions are the top eigenvectors of

    F n = λ B' n,   B' = B + a I,   a = τ tr(B)                                  (eq. 8, 10 and 11)

solved as the symmetric-definite problem that it is, in double precision: through the Cholesky factor of B' (eq. 9),
through the truncated SVD of J_b and the Woodbury identity (eq. 12), or without any matrix (LOBPCG) for large subspaces.
To first order, and per unit step, λ is the mean squared change inside over that outside plus a: the region gain where a
is small beside the change outside, and less than it elsewhere. Eq. 12 is misprinted; the inverse is

    (B + a I)^-1 = (1/a) (I - V D~ V^T),   D~ = D^2 / (D^2 + a)
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import LinAlgError, eigh
from scipy.sparse.linalg import LinearOperator, lobpcg
from torch import Tensor

from situ.core.direction import Direction
from situ.core.discovery import as_directions
from situ.core.errors import JacobianError, RegionError, SituError
from situ.core.generator import Generator
from situ.core.images import Masks
from situ.core.jacobian import (
    MEMORY,
    Grams,
    Jacobian,
    JacobianOperator,
    Resample,
    Rows,
    gram_matrices,
    jacobian_operator,
)
from situ.core.latents import Latents, Subspace, parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region

Solver = Literal["auto", "cholesky", "woodbury", "lobpcg", "as_coded"]

LARGE = 3000  # coordinates from which on Gram matrices cost more than operators
POOL = 32  # pictures that are looked through for one that shows the region
PROBES = 16  # random vectors that sketch B where it is never made, and as many that estimate the rest of tr(B)
ROUND = 10  # iterations of LOBPCG between two looks at the residuals
SINGULAR = 1e-12  # smallest over largest eigenvalue of B that single-precision derivatives can tell from 0

Solution = tuple[Float[Tensor, " k"], Float[Tensor, "k d"]]  # λ, largest first, and unit vectors


@dataclass(frozen=True)
class ReSeFa:
    """The method and its settings; the paper's values are the defaults.

    `figures` of a direction: "lambda" (λ of eq. 11), "pictures" (those that F and B are the means of).
    """

    space: Annotated[str, "subspace: w, w+, w+:4-7, w:4-7 (tied), s, s:conv, s:9, z"] = "w"
    k: Annotated[int, "directions per region"] = 1
    pictures: Annotated[int, "pictures whose F and B are averaged"] = 1
    tau: Annotated[float, "τ of eq. 10: B is lifted by τ tr(B); 0 leaves it as it is"] = 1e-3
    rows: Annotated[int | None, "pixels on a side at which change is counted; the picture's own, at most 256"] = None
    sum_rgb: Annotated[bool, "red, green and blue summed to one row, as published code has it"] = False
    resample: Annotated[Resample, "how pictures become rows; nearest as coded"] = "area"
    solver: Annotated[Solver, "auto is cholesky up to 3000 coordinates, lobpcg (matrix-free) above"] = "auto"
    truncation: Annotated[float, "of the pictures"] = 0.7
    memory: Annotated[float, "GiB that the Jacobian may take"] = MEMORY
    latents: Latents | None = None  # the pictures themselves, all of them, instead of random ones

    def __post_init__(self) -> None:
        counts = {"k": self.k, "pictures": self.pictures, "memory": self.memory}
        bad = {name: value for name, value in counts.items() if not 0 < value < math.inf}
        if not 0 <= self.tau < math.inf:
            bad["tau"] = self.tau
        if bad:
            raise SituError(f"ReSeFa settings must be positive numbers (tau may be 0), got {bad}")
        if not math.isfinite(self.truncation):
            raise SituError(f"truncation is a number, 0 the mean picture and 1 full variety, got {self.truncation}")
        if self.solver not in get_args(Solver):
            raise SituError(f'solver is one of {", ".join(get_args(Solver))}, got "{self.solver}"')
        if self.latents is not None and not len(self.latents):
            raise SituError("the latents of no picture were given: give one at least, or None for random ones")
        _ = self.layout  # which checks the settings of the rows
        if self.solver in ("woodbury", "lobpcg") and self.tau == 0:
            raise SituError(f"the solver {self.solver} needs tau above 0 (eq. 10): give a small one, or take cholesky")

    @classmethod
    def as_coded(cls, **settings: object) -> "ReSeFa":
        """The published code: rows of 256 px by nearest sampling, RGB summed, no τ, single-precision eig(inv(B) F)."""
        coded = cls(tau=0.0, rows=256, sum_rgb=True, resample="nearest", solver="as_coded")
        return replace(coded, **settings)  # pyright: ignore[reportArgumentType]

    @property
    def layout(self) -> Rows:
        """The rows of the Jacobian."""
        return Rows(self.rows, self.sum_rgb, self.resample)

    def find(
        self, generator: Generator, regions: Sequence[Region], rng: torch.Generator, progress: Progress = silent
    ) -> list[list[Direction]]:
        """See `Discovery.find`. One Jacobian a picture serves all regions that the picture shows.

        Ctrl-C keeps what the finished pictures give (the finished regions, without matrices); a region that has nothing
        yet gets no directions.

        Raises:
            RegionError: a region that no picture shows, or that fills them all.
            JacobianError: too large for the memory, B is singular and τ is 0, or nothing changes inside or outside.
        """
        subspace = parse_subspace(self.space, generator.spaces)
        seed = rng.initial_seed()
        if self.k > subspace.dim:
            raise SituError(f"{subspace} has {subspace.dim} dimensions, too few for k={self.k} directions")
        latents, masks = self._pictures(generator, regions, rng)
        if self._solver(subspace) == "lobpcg":
            solutions = self._operators(generator, subspace, regions, latents, masks, rng, progress)
        else:
            solutions = self._matrices(generator, subspace, regions, latents, masks, progress)
        return [
            as_directions(
                self, generator, subspace, region, vectors.float(), seed=seed, truncation=self.truncation,
                figures=[{"lambda": float(gain), "pictures": float(n)} for gain in gains],
            )
            for region, ((gains, vectors), n) in zip(regions, solutions, strict=True)
        ]  # fmt: skip

    def _solver(self, subspace: Subspace) -> Solver:
        if self.solver != "auto":
            return self.solver
        return "cholesky" if subspace.dim <= LARGE or self.tau == 0 else "lobpcg"

    def _pictures(
        self, generator: Generator, regions: Sequence[Region], rng: torch.Generator
    ) -> tuple[list[Latents], list[list[Masks | None]]]:
        """Pictures, and the masks on each of the regions that still want one; few pictures serve all regions."""
        pool, wanted = self.latents, self.pictures
        if pool is None:
            with torch.no_grad():
                pool = generator.sample(max(POOL, 4 * wanted), generator.spaces["z"], rng, self.truncation)
        else:
            wanted = len(pool)
        features = list({name: None for region in regions for name in region.layers})
        count, filled = [0] * len(regions), [0] * len(regions)
        latents: list[Latents] = []
        masks: list[list[Masks | None]] = []
        for i in range(len(pool)):
            with torch.no_grad():
                seen = generator.synthesize(pool[i : i + 1], features)
                here = [region.mask(seen).detach() for region in regions]
            sides = [self._sides(mask, generator) for mask in here]
            usable = [inside >= 1 and outside >= 1 for inside, outside in sides]
            shown = [m if count[r] < wanted and usable[r] else None for r, m in enumerate(here)]
            filled = [n + (outside < 1) for n, (_, outside) in zip(filled, sides, strict=True)]
            if any(m is not None for m in shown):
                latents.append(pool[i : i + 1])
                masks.append(shown)
                count = [n + (m is not None) for n, m in zip(count, shown, strict=True)]
            if all(n == wanted for n in count):
                break
        whole = [region.name for region, n in zip(regions, filled, strict=True) if n == len(pool)]
        if whole:
            raise RegionError(
                f"{', '.join(whole)}: the whole picture on all {len(pool)} looked at, so that nothing lies outside to "
                "be left alone; take a smaller region"
            )
        missing = [region.name for region, n in zip(regions, count, strict=True) if n == 0]
        if missing:
            raise RegionError(
                f"{', '.join(missing)}: empty, or less than a pixel of the rows, on all {len(pool)} pictures looked "
                "at; take pictures that show it (--seed, --truncation) or another region"
            )
        return latents, masks

    def _sides(self, mask: Masks, generator: Generator) -> tuple[float, float]:
        """Rows inside and outside."""
        weights = self.layout.weights(mask.float(), self.layout.side(generator.resolution))
        return float(weights.sum()), float((1 - weights).sum())

    def _matrices(
        self,
        generator: Generator,
        subspace: Subspace,
        regions: Sequence[Region],
        latents: Sequence[Latents],
        masks: Sequence[Sequence[Masks | None]],
        progress: Progress,
    ) -> list[tuple[Solution, int]]:
        """The solution of each region, and how many pictures it is of."""
        sums: list[Grams | None] = [None] * len(regions)
        count = [0] * len(regions)
        names = [region.name for region in regions]
        try:
            for i, (one, shown) in enumerate(zip(latents, masks, strict=True)):

                def report(done: int | float, total: int, message: str = "", i: int = i) -> None:
                    progress(i * total + done, len(latents) * total, message)

                found = gram_matrices(
                    generator, one, shown, subspace, self.layout, names=names, memory=self.memory, progress=report
                )
                sums = [_plus(total, grams) for total, grams in zip(sums, found, strict=True)]
                count = [n + (grams is not None) for n, grams in zip(count, found, strict=True)]
        except KeyboardInterrupt:
            if not any(count):
                raise
        return [
            (_nothing(subspace.dim), 0)
            if g is None
            else (
                solve_grams(Grams(g.inside / n, g.outside / n), self.k, self.tau, self._solver(subspace), name),
                n,
            )
            for g, n, name in zip(sums, count, names, strict=True)
        ]

    def _operators(
        self,
        generator: Generator,
        subspace: Subspace,
        regions: Sequence[Region],
        latents: Sequence[Latents],
        masks: Sequence[Sequence[Masks | None]],
        rng: torch.Generator,
        progress: Progress,
    ) -> list[tuple[Solution, int]]:
        """The same without matrices."""
        made = [jacobian_operator(generator, one, subspace, self.layout, self.memory) for one in latents]
        side = self.layout.side(generator.resolution)
        solutions: list[tuple[Solution, int]] = []
        try:
            for r, region in enumerate(regions):
                pairs = [(j, rows[r]) for j, rows in zip(made, masks, strict=True)]
                mine = [(j, self.layout.weights(m.float(), side)) for j, m in pairs if m is not None]

                def report(done: int | float, total: int, message: str = "", r: int = r) -> None:
                    progress(r * total + done, len(regions) * total, message)

                solution = solve_operators(mine, self.k, self.tau, rng, region.name, report)
                solutions.append((solution, len(mine)))
        except KeyboardInterrupt:
            if not solutions:
                raise
        return solutions + [(_nothing(subspace.dim), 0)] * (len(regions) - len(solutions))


def _plus(total: Grams | None, grams: Grams | None) -> Grams | None:
    if total is None or grams is None:
        return total or grams
    return Grams(total.inside.add_(grams.inside), total.outside.add_(grams.outside))


def _nothing(dim: int) -> Solution:
    """No directions."""
    return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dim, dtype=torch.float64)


def _best(values: np.ndarray, vectors: np.ndarray, k: int) -> Solution:
    """The k largest, with unit vectors of a definite sign (the largest entry is positive)."""
    order = np.argsort(values)[::-1][:k]
    n = torch.from_numpy(np.ascontiguousarray(vectors[:, order].T))
    n = n / n.norm(dim=1, keepdim=True)
    sign = n.gather(1, n.abs().argmax(dim=1, keepdim=True)).sign()
    return torch.from_numpy(values[order].copy()), n * sign


def solve_grams(grams: Grams, k: int, tau: float = 1e-3, solver: Solver = "cholesky", name: str = "") -> Solution:
    """Top k solutions of F n = λ (B + τ tr(B) I) n.

    Raises:
        JacobianError: B is singular and τ is 0 (or next to it); or nothing changes inside, or outside.
    """
    f, b = grams.inside.double().cpu().numpy(), grams.outside.double().cpu().numpy()
    _require_change(np.trace(f), np.trace(b), name)
    a = tau * float(np.trace(b))
    d = len(b)
    if solver == "as_coded":
        single = torch.from_numpy(b + a * np.eye(d)).float(), torch.from_numpy(f).float()
        try:
            values, vectors = torch.linalg.eig(torch.linalg.inv(single[0]) @ single[1])
        except RuntimeError:  # torch's LinAlgError is one
            raise _singular(name, tau) from None
        return _best(values.real.double().numpy(), vectors.real.double().numpy(), k)
    if solver == "woodbury":
        root = woodbury_root(*_truncated(b), a)
        values, vectors = eigh(root @ f @ root, subset_by_index=[d - k, d - 1])
        return _best(values, root @ vectors, k)
    if tau < SINGULAR:  # a Cholesky factor of rounding noise is no factor
        squares = np.linalg.eigvalsh(b)
        if squares[0] + a < SINGULAR * squares[-1]:
            raise _singular(name, tau)
    try:
        values, vectors = eigh(f, b + a * np.eye(d), subset_by_index=[d - k, d - 1])
        return _best(values, vectors, k)
    except LinAlgError:
        raise _singular(name, tau) from None


def _singular(name: str, tau: float) -> JacobianError:
    return JacobianError(
        f"B of {name or 'the region'} is singular: some directions change nothing outside it to first order, and the "
        f"best of them need change nothing inside either; tau is {tau:g}, set it to 1e-3 as the paper has it"
    )


def _require_change(inside: float, outside: float, name: str, noise: float = SINGULAR) -> None:
    """Of the traces of F and B. Raises JacobianError where one is nothing but the rounding of the other."""
    name = name or "the region"
    if not inside > noise * outside:
        raise JacobianError(f"nothing in {name} changes along this subspace: take another region or more layers")
    if not outside > noise * inside:
        raise JacobianError(
            f"nothing outside {name} changes along this subspace, so all its directions edit the region alone: take a "
            "smaller region or more layers"
        )


def _truncated(b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V and D^2 of B = V D^2 V^T, the rank that there is."""
    squares, v = np.linalg.eigh(b)
    kept = squares > squares[-1] * len(b) * np.finfo(b.dtype).eps
    return v[:, kept], squares[kept]


def woodbury_inverse(v: np.ndarray, squares: np.ndarray, a: float) -> np.ndarray:
    """(V D^2 V^T + a I)^-1 = (1/a) (I - V D^2 / (D^2 + a) V^T): eq. 12, corrected."""
    return (np.eye(len(v)) - (v * (squares / (squares + a))) @ v.T) / a


def woodbury_root(v: np.ndarray, squares: np.ndarray, a: float) -> np.ndarray:
    """The symmetric square root of that inverse, which keeps eq. 11 a symmetric problem."""
    return (np.eye(len(v)) - (v * (1 - np.sqrt(a / (squares + a)))) @ v.T) / np.sqrt(a)


def solve_region(
    jacobian: Jacobian, mask: Masks, rows: Rows, k: int = 1, tau: float = 1e-3, name: str = ""
) -> Solution:
    """Directions of one more region of a picture whose Jacobian is kept: what a brush stroke waits for.

    The spectrum of J^T J is known, so B never has to be factored: with T = J^T J = V t V^T and sums F = N_f F_f over
    rows, F n = λ' (T - F + a I) n has the eigenvectors of F n = μ (T + a I) n, and λ' = μ / (1 - μ).

    Raises:
        RegionError: the region is empty or the whole picture.
    """
    channels, side = jacobian.values.shape[1], jacobian.values.shape[-1]
    weights = rows.weights(mask.float(), side)
    inside, outside = float(weights.sum()) * channels, float((1 - weights).sum()) * channels
    if min(inside, outside) < 1e-3:
        what = "empty" if inside < outside else "the whole picture, so nothing is left outside it"
        raise RegionError(f"{name or 'the region'} is {what}: brush another one")
    if not tau > 0:
        raise JacobianError(f"solving on a kept Jacobian needs tau above 0, got {tau}")
    f = jacobian.gram(weights, torch.float32)  # T is in double precision, and a is far above F's rounding
    t, v = jacobian.spectrum
    change = float(f.trace())
    _require_change(change, float(t.sum()) - change, name, 1e-6)
    a = tau * (float(t.sum()) - change)
    white = v / (t + a).sqrt()
    d = len(t)
    mu, n = eigh((white.T @ f @ white).cpu().numpy(), subset_by_index=[d - k, d - 1])
    gains = mu / np.maximum(1 - mu, 1e-12) * outside / inside
    return _best(gains, white.cpu().numpy() @ n, k)


def solve_operators(
    pictures: Sequence[tuple[JacobianOperator, Masks]],
    k: int,
    tau: float,
    rng: torch.Generator,
    name: str = "",
    progress: Progress = silent,
    steps: int = 40,
    tolerance: float = 1e-3,
) -> Solution:
    """The same problem for a subspace too large for matrices, by LOBPCG on J u and J^T v.

    tr(B) is estimated from random vectors, to a few per cent; the result hardly depends on it.

    Args:
        pictures: J and the weights of its rows, one pair each.
        steps: most iterations; each is forward and reverse passes of max(2 k, k + 4) vectors, for F and for B.
        tolerance: of the residual, as a share of λ.

    Raises:
        JacobianError: nothing changes inside, or outside.
    """
    d = pictures[0][0].dim
    f, b = LinearOperatorOf(pictures, True), LinearOperatorOf(pictures, False)
    columns = max(2 * k, k + 4)
    if d < 5 * columns:  # where LOBPCG is not to be had, and matrices are as cheap
        grams = Grams(torch.from_numpy(f(np.eye(d))), torch.from_numpy(b(np.eye(d))))
        return solve_grams(grams, k, tau, "cholesky", name)
    change = b.trace(rng)
    start = torch.randn(d, columns, generator=rng, device=rng.device).double().cpu().numpy()
    moved, pushed = f(start), b(start)
    _require_change(float((start * moved).sum()) / columns, change, name)
    # in units of a, and of the largest λ of the start, the tolerance means the same whatever the generator's scale
    a = tau * change
    scale = float(eigh(start.T @ moved, start.T @ (pushed + a * start), eigvals_only=True)[-1])
    done = 0

    def counted(apply: "LinearOperatorOf", factor: float, shift: float) -> LinearOperator:
        def act(u: np.ndarray) -> np.ndarray:
            nonlocal done
            done = min(done + 1, 3 * steps - 1)
            progress(done, 3 * steps)
            u = u.reshape(d, -1)
            return factor * apply(u) + shift * u

        return LinearOperator((d, d), matvec=act, matmat=act, dtype=np.float64)  # pyright: ignore[reportCallIssue]

    one, other = counted(f, 1 / (a * scale), 0.0), counted(b, 1 / a, 1.0)
    values, x = np.zeros(columns), start
    for i in range(0, steps, ROUND):  # LOBPCG alone would go on until the vectors beyond the k-th are exact too
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it stopped above the tolerance
            found = lobpcg(
                one,
                x,
                B=other,
                largest=True,
                maxiter=min(ROUND, steps - i),
                tol=tolerance,
                retResidualNormsHistory=True,
            )
        values, x, residuals = np.asarray(found[0]), np.asarray(found[1]), np.asarray(found[2][-1])
        order = np.argsort(values)[::-1][:k]
        if (residuals[order] <= tolerance * values[order]).all():
            break
    progress(3 * steps, 3 * steps)
    return _best(values * scale, x, k)


class LinearOperatorOf:
    """F or B of some pictures, applied without being made."""

    def __init__(self, pictures: Sequence[tuple[JacobianOperator, Masks]], inside: bool) -> None:
        self.pictures = [(j, m if inside else 1 - m) for j, m in pictures]

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """(d, k) -> (d, k)."""
        vectors = torch.from_numpy(np.ascontiguousarray(u.T)).float()
        total = torch.zeros(vectors.shape, dtype=torch.float64)
        for j, m in self.pictures:
            change = j.forward(vectors)
            total += j.transpose(change * m / (m.sum() * change.shape[1])).double().cpu() / len(self.pictures)
        return total.T.numpy()

    def trace(self, rng: torch.Generator) -> float:
        """tr(M) by Hutch++ (Meyer, Musco, Musco, Woodruff, 2021): exact on the range of a sketch, sampled off it."""
        d = self.pictures[0][0].dim
        signs = torch.randint(2, (d, 2 * PROBES), generator=rng, device=rng.device).double().cpu().numpy() * 2 - 1
        q = np.linalg.qr(self(signs[:, :PROBES]))[0]
        rest = signs[:, PROBES:] - q @ (q.T @ signs[:, PROBES:])
        return self._energy(q) + self._energy(rest) / PROBES

    def _energy(self, u: np.ndarray) -> float:
        """The sum of u^T M u over columns."""
        vectors = torch.from_numpy(np.ascontiguousarray(u.T)).float()
        total = 0.0
        for j, m in self.pictures:
            change = j.forward(vectors)
            total += float((change.square() * m).sum(dtype=torch.float64) / (m.sum() * change.shape[1]))
        return total / len(self.pictures)
