"""ReSeFa: directions of any region in closed form, from the Jacobian of a picture.

Zhu, Shen, Xu, Zhao, Chen, "Region-based semantic factorization in GANs" (2022). With F and B the mean squared change of
the picture per unit step, inside and outside the region, the directions are the top eigenvectors of

    F n = λ B' n,   B' = B + a I,   a = τ tr(B)                                  (eq. 8, 10 and 11)

solved as the symmetric-definite problem that it is, in double precision: through the Cholesky factor of B' (eq. 9),
through the truncated SVD of J_b and the Woodbury identity (eq. 12), or without any matrix (LOBPCG) for large subspaces.
λ is the gain: mean squared change inside over outside, to first order. Eq. 12 is misprinted; the inverse is

    (B + a I)^-1 = (1/a) (I - V D~ V^T),   D~ = D^2 / (D^2 + a)
"""

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
from situ.core.jacobian import MEMORY, Grams, Jacobian, JacobianOperator, Rows, gram_matrices, jacobian_operator
from situ.core.latents import Latents, Subspace, parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region

Solver = Literal["auto", "cholesky", "woodbury", "lobpcg", "as_coded"]

LARGE = 3000  # coordinates from which on Gram matrices cost more than operators
POOL = 32  # pictures that are looked through for one that shows the region
PROBES = 32  # random vectors that estimate tr(B) where B is never made

Solution = tuple[Float[Tensor, " k"], Float[Tensor, "k d"]]  # λ, largest first, and unit vectors


@dataclass(frozen=True)
class ReSeFa:
    """The method and its settings; the paper's values are the defaults."""

    space: Annotated[str, "subspace: w, w+, w+:4-7, w:4-7 (tied), s, s:conv, s:9, z"] = "w"
    k: Annotated[int, "directions per region"] = 1
    pictures: Annotated[int, "pictures whose F and B are averaged"] = 1
    tau: Annotated[float, "τ of eq. 10: B is lifted by τ tr(B); 0 leaves it as it is"] = 1e-3
    rows: Annotated[int | None, "pixels on a side at which change is counted; the picture's own, at most 256"] = None
    sum_rgb: Annotated[bool, "red, green and blue summed to one row, as published code has it"] = False
    resample: Annotated[Literal["area", "nearest"], "how pictures become rows; nearest as coded"] = "area"
    solver: Annotated[Solver, "auto is cholesky up to 3000 coordinates, lobpcg (matrix-free) above"] = "auto"
    truncation: Annotated[float, "of the pictures"] = 0.7
    memory: Annotated[float, "GiB that the Jacobian may take"] = MEMORY
    latents: Latents | None = None  # the pictures themselves, instead of random ones

    def __post_init__(self) -> None:
        bad = {n: v for n, v in (("k", self.k), ("pictures", self.pictures), ("memory", self.memory)) if not v > 0}
        if bad or not self.tau >= 0:
            raise SituError(f"ReSeFa settings must be positive (tau may be 0), got {bad or {'tau': self.tau}}")
        if self.solver not in get_args(Solver):
            raise SituError(f'solver is one of {", ".join(get_args(Solver))}, got "{self.solver}"')
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

        Raises:
            RegionError: a region that no picture shows, or the whole picture.
            JacobianError: too large for the memory, or B is singular and τ is 0.
        """
        subspace = parse_subspace(self.space, generator.spaces)
        seed = rng.initial_seed()
        if self.k > subspace.dim:
            raise SituError(f"{subspace} has {subspace.dim} dimensions, too few for k={self.k} directions")
        latents, masks = self._pictures(generator, regions, rng)
        solve = self._operators if self._solver(subspace) == "lobpcg" else self._matrices
        return [
            as_directions(
                self, generator, subspace, region, vectors, seed=seed, truncation=self.truncation,
                figures=[{"lambda": float(gain)} for gain in gains],
            )
            for region, (gains, vectors) in zip(
                regions, solve(generator, subspace, regions, latents, masks, rng, progress), strict=True
            )
        ]  # fmt: skip

    def _solver(self, subspace: Subspace) -> Solver:
        if self.solver != "auto":
            return self.solver
        return "cholesky" if subspace.dim <= LARGE or self.tau == 0 else "lobpcg"

    def _pictures(
        self, generator: Generator, regions: Sequence[Region], rng: torch.Generator
    ) -> tuple[list[Latents], list[list[Masks | None]]]:
        """Pictures, and the masks on each of the regions that still want one; few pictures serve all regions."""
        pool = self.latents
        if pool is None:
            with torch.no_grad():
                pool = generator.sample(max(POOL, self.pictures), generator.spaces["z"], rng, self.truncation)
        wanted = min(self.pictures, len(pool))
        features = list({name for region in regions for name in region.layers})
        count = [0] * len(regions)
        latents: list[Latents] = []
        masks: list[list[Masks | None]] = []
        for i in range(len(pool)):
            with torch.no_grad():
                seen = generator.synthesize(pool[i : i + 1], features)
                here = [region.mask(seen).detach() for region in regions]
            shown = [m if count[r] < wanted and self._shows(m) else None for r, m in enumerate(here)]
            if any(m is not None for m in shown):
                latents.append(pool[i : i + 1])
                masks.append(shown)
                count = [n + (m is not None) for n, m in zip(count, shown, strict=True)]
            if min(count) == wanted:
                break
        missing = [region.name for region, n in zip(regions, count, strict=True) if n == 0]
        if missing:
            raise RegionError(
                f"{', '.join(missing)}: empty on all {len(pool)} pictures looked at; take pictures that show it "
                "(--seed, --truncation) or another region"
            )
        return latents, masks

    def _shows(self, mask: Masks) -> bool:
        """At least one row lies inside."""
        return float(self.layout.weights(mask.float()).sum()) >= 1

    def _matrices(
        self,
        generator: Generator,
        subspace: Subspace,
        regions: Sequence[Region],
        latents: Sequence[Latents],
        masks: Sequence[Sequence[Masks | None]],
        rng: torch.Generator,
        progress: Progress,
    ) -> list[Solution]:
        sums: list[list[Grams]] = [[] for _ in regions]
        names = [region.name for region in regions]
        try:
            for i, (one, shown) in enumerate(zip(latents, masks, strict=True)):

                def report(done: int, total: int, message: str = "", i: int = i) -> None:
                    progress(i * total + done, len(latents) * total, message)

                found = gram_matrices(
                    generator, one, shown, subspace, self.layout, names=names, memory=self.memory, progress=report
                )
                for grams, each in zip(found, sums, strict=True):
                    if grams is not None:
                        each.append(grams)
        except KeyboardInterrupt:
            if not all(sums):
                raise
        means = [Grams(_mean([g.inside for g in each]), _mean([g.outside for g in each])) for each in sums]
        return [solve_grams(g, self.k, self.tau, self._solver(subspace), n) for g, n in zip(means, names, strict=True)]

    def _operators(
        self,
        generator: Generator,
        subspace: Subspace,
        regions: Sequence[Region],
        latents: Sequence[Latents],
        masks: Sequence[Sequence[Masks | None]],
        rng: torch.Generator,
        progress: Progress,
    ) -> list[Solution]:
        made = [jacobian_operator(generator, one, subspace, self.layout, self.memory) for one in latents]
        solutions = []
        for r, region in enumerate(regions):
            pairs = [(j, rows[r]) for j, rows in zip(made, masks, strict=True)]
            mine = [(j, self.layout.weights(m.float())) for j, m in pairs if m is not None]

            def report(done: int, total: int, message: str = "", r: int = r) -> None:
                progress(r * total + done, len(regions) * total, message)

            solutions.append(solve_operators(mine, self.k, self.tau, rng, region.name, report))
        return solutions


def _mean(matrices: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(matrices)).mean(dim=0)


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
        JacobianError: B is singular and τ is 0.
    """
    f, b = grams.inside.double().cpu().numpy(), grams.outside.double().cpu().numpy()
    a = tau * float(np.trace(b))
    d = len(b)
    if solver == "as_coded":
        single = torch.from_numpy(b + a * np.eye(d)).float(), torch.from_numpy(f).float()
        try:
            values, vectors = torch.linalg.eig(torch.linalg.inv(single[0]) @ single[1])
        except torch.linalg.LinAlgError:
            raise _singular(name) from None
        return _best(values.real.double().numpy(), vectors.real.double().numpy(), k)
    if solver == "woodbury":
        root = woodbury_root(*_truncated(b), a)
        values, vectors = eigh(root @ f @ root, subset_by_index=[d - k, d - 1])
        return _best(values, root @ vectors, k)
    if tau == 0 and np.linalg.cond(b) > 1e12:  # a Cholesky factor of rounding noise is no factor
        raise _singular(name)
    try:
        values, vectors = eigh(f, b + a * np.eye(d), subset_by_index=[d - k, d - 1])
        return _best(values, vectors, k)
    except LinAlgError:
        raise _singular(name) from None


def _singular(name: str) -> JacobianError:
    return JacobianError(
        f"B of {name or 'the region'} is singular: some directions change nothing outside it to first order, and the "
        "best of them need change nothing inside either; set tau above 0 (the paper's is 1e-3)"
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
    channels = jacobian.values.shape[1]
    weights = rows.weights(mask.float())
    inside, outside = float(weights.sum()) * channels, float((1 - weights).sum()) * channels
    if min(inside, outside) < 1e-3:
        what = "empty" if inside < outside else "the whole picture, so nothing is left outside it"
        raise RegionError(f"{name or 'the region'} is {what}: brush another one")
    if not tau > 0:
        raise JacobianError(f"solving on a kept Jacobian needs tau above 0, got {tau}")
    f = jacobian.gram(weights)
    t, v = jacobian.spectrum
    a = tau * float(t.sum() - f.trace())
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
    tolerance: float = 1e-4,
) -> Solution:
    """The same problem for a subspace too large for matrices, by LOBPCG on J u and J^T v.

    tr(B) is estimated from random vectors (Hutchinson), to some per cent; the result hardly depends on it.

    Args:
        pictures: J and the weights of its rows, one pair each.
        steps: most iterations; 3 tangents and 3 reverse passes per direction and iteration, or fewer.
    """
    d = pictures[0][0].dim

    def operator(inside: bool) -> "LinearOperatorOf":
        return LinearOperatorOf(pictures, inside)

    b = operator(False)
    a = tau * b.trace(rng)
    start = torch.randn(d, max(2 * k, k + 4), generator=rng, device=rng.device).double().cpu().numpy()
    done = 0

    def counted(apply: "LinearOperatorOf", shift: float) -> LinearOperator:
        def act(u: np.ndarray) -> np.ndarray:
            nonlocal done
            done = min(done + 1, 3 * steps - 1)
            progress(done, 3 * steps)
            u = u.reshape(d, -1)
            return apply(u) + shift * u

        return LinearOperator((d, d), matvec=act, matmat=act, dtype=np.float64)  # pyright: ignore[reportCallIssue]

    found = lobpcg(counted(operator(True), 0.0), start, B=counted(b, a), largest=True, maxiter=steps, tol=tolerance)
    progress(3 * steps, 3 * steps)
    return _best(np.asarray(found[0]), np.asarray(found[1]), k)


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
        """tr(J^T M J) = E |J^T sqrt(M) v|^2 for v of random signs."""
        sums = []
        for j, m in self.pictures:
            shape = j.forward(torch.zeros(1, j.dim)).shape[1:]
            signs = torch.randint(2, (PROBES, *shape), generator=rng, device=rng.device).to(m) * 2 - 1
            pulled = j.transpose(signs * m.sqrt())
            sums.append(float(pulled.square().sum(dim=1).mean() / (m.sum() * shape[0])))
        return sum(sums) / len(sums)
