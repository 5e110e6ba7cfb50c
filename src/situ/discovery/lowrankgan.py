"""LowRankGAN: low-rank directions of a region, projected on what leaves the rest of the picture alone.

Zhu, Feng, Shen, Zhao, Zha, Zhou, Chen, "Low-rank subspaces in GANs" (2021). With the Jacobian of a picture restricted
to the rows of a region (J_f) and to the rest (J_b), F = J_f^T J_f and B = J_b^T J_b, each divided by its rows,
are split into a low-rank and a sparse part by principal component pursuit,

    min ||L||_* + λ ||S||_1   subject to   M = L + S   (||S||_1 entrywise),

solved by the alternating direction method of multipliers (ADMM). The directions are the top right singular vectors n of
the low-rank F, projected on the null space of the low-rank B: n <- (I - V V^T) n, V its top r right singular vectors.
r is the rank of the low-rank B less `relax`, the paper's r_relax: the least of them count as null space, too.

λ knows no scale but the dimension d: for d <= 60 the paper's 1/60 makes all of any matrix sparse and nothing low-rank;
robust PCA's own rule is 1/sqrt(d). Published code takes the induced 1-norm where the rule for the penalty μ says
entrywise; the minimum does not depend on μ, the number of iterations does, so that by default μ is balanced on the way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.direction import Direction
from situ.core.discovery import as_directions
from situ.core.errors import RegionError, SituError
from situ.core.generator import Generator
from situ.core.images import Masks
from situ.core.jacobian import Rows, gram_matrices
from situ.core.latents import Subspace, parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region

Penalty = Literal["balanced", "entrywise", "induced"]
REPORT_EVERY = 20  # iterations
BALANCE_EVERY = 10  # iterations


@dataclass(frozen=True)
class LowRankSparse:
    """M = L + S, up to the residual."""

    low_rank: Float[Tensor, "m n"]  # L
    sparse: Float[Tensor, "m n"]  # S
    residual: float  # ||M - L - S|| / ||M||, Frobenius
    iterations: int
    converged: bool

    def top_vectors(self, tolerance: float) -> Float[Tensor, "r n"]:
        """Right singular vectors of L whose singular values are not zero, i.e. above a share of the largest."""
        _, values, vh = torch.linalg.svd(self.low_rank)
        return vh[: len(values)][values > tolerance * values[0]]


def robust_pca(
    m: Float[Tensor, "m n"],
    weight: float | None = None,
    *,
    iterations: int = 10_000,
    tolerance: float = 1e-7,
    penalty: Penalty = "balanced",
    progress: Progress = silent,
) -> LowRankSparse:
    """Principal component pursuit: min ||L||_* + weight ||S||_1 with M = L + S, in double precision.

    ADMM on the augmented Lagrangian of penalty μ (Candès, Li, Ma, Wright, "Robust principal component analysis?", 2011,
    algorithm 1): L = singular values of M - S + Y/μ shrunk by 1/μ; S = entries of M - L + Y/μ shrunk by weight/μ;
    Y += μ (M - L - S). It ends when ||M - L - S|| <= tolerance ||M|| and, for a balanced penalty, the dual residual
    μ ||S - S before|| <= tolerance ||Y|| as well, without which the sum may be right long before its parts are.

    Args:
        weight: λ; None takes 1/sqrt(max(m, n)).
        penalty: μ = m n / (4 ||M||_1) with the norm "entrywise" or "induced" (largest column sum); "balanced" starts
            so and doubles or halves it while one residual is much larger than the other, in the first half of the
            iterations (after which ADMM's convergence holds as for a fixed one).
    """
    m = m.double()
    if not m.isfinite().all():
        raise SituError("a matrix to split holds NaN or infinity")
    norm = float(m.norm())
    low, sparse, dual = torch.zeros_like(m), torch.zeros_like(m), torch.zeros_like(m)
    if norm == 0:
        return LowRankSparse(low, sparse, 0.0, 0, True)
    weight = 1 / math.sqrt(max(m.shape)) if weight is None else weight
    size = float(m.abs().sum() if penalty != "induced" else m.abs().sum(dim=0).max())
    mu = m.numel() / (4 * size)
    symmetric = torch.equal(m, m.mT)
    residual, done = math.inf, 0
    for done in range(1, iterations + 1):
        low = _shrink_singular_values(m - sparse + dual / mu, 1 / mu, symmetric)
        before = sparse
        sparse = _shrink(m - low + dual / mu, weight / mu)
        gap = m - low - sparse
        dual = dual + mu * gap
        residual = float(gap.norm()) / norm
        change = 0.0
        if penalty == "balanced":
            change = mu * float((sparse - before).norm()) / max(float(dual.norm()), 1e-300)
        if max(residual, change) <= tolerance:
            return LowRankSparse(low, sparse, residual, done, True)
        if penalty == "balanced" and done % BALANCE_EVERY == 0 and done < iterations / 2:
            mu *= 2 if residual > 5 * change else 0.5 if change > 5 * residual else 1
        if done % REPORT_EVERY == 0:
            progress(done, iterations, f"residual {max(residual, change):.1e}")
    return LowRankSparse(low, sparse, residual, done, False)


def _shrink(a: Float[Tensor, "*n"], by: float) -> Float[Tensor, "*n"]:
    """Soft thresholding: towards zero by an amount, and not past it."""
    return a.sign() * (a.abs() - by).clamp(min=0)


def _shrink_singular_values(a: Float[Tensor, "m n"], by: float, symmetric: bool) -> Float[Tensor, "m n"]:
    """Soft thresholding of the singular values; for a symmetric matrix they are its eigenvalues' magnitudes."""
    if symmetric:
        values, v = torch.linalg.eigh(a)
        kept = values.abs() > by
        product = v[:, kept] * _shrink(values[kept], by) @ v[:, kept].mT
        return (product + product.mT) / 2
    u, values, vh = torch.linalg.svd(a, full_matrices=False)
    kept = values > by
    return u[:, kept] * (values[kept] - by) @ vh[kept]


@dataclass(frozen=True)
class LowRankGAN:
    """The method and its settings; the paper's values are the defaults.

    `figures` of a direction: "kept" (norm of the unit singular vector after the projection), "gain" (n^T F n / n^T B n,
    the region gain to first order), the ranks and the residuals of both splits. A region gets fewer than k directions
    where the low-rank F has a lower rank. The time of a split grows with the cube of the subspace's dimension.
    """

    space: Annotated[str, "subspace: w, w:4-7 (tied), w+:4-7, s:9, z"] = "w"
    k: Annotated[int, "most directions per region"] = 1
    pictures: Annotated[int, "pictures that F and B are averaged over"] = 1
    sparse_weight: Annotated[float | None, "λ of the sparse part; none: 1/sqrt(d), robust PCA's own rule"] = 1 / 60
    relax: Annotated[int, "r_relax: least singular vectors of the low-rank B that count as its null space"] = 0
    spare_null: Annotated[bool, "one dimension at least is null space, one at least is not, as coded"] = False
    iterations: Annotated[int, "most iterations of a split"] = 10_000
    tolerance: Annotated[float, "residual at which a split is done, of the matrix's norm"] = 1e-7
    penalty: Annotated[Penalty, "μ of ADMM: balanced as it goes, entrywise (the rule), induced (as coded)"] = "balanced"
    rank_tolerance: Annotated[float, "singular values below this share of the largest are none"] = 1e-5
    size: Annotated[int | None, "pixels on a side of the rows; none: the picture's own, at most 256"] = None
    sum_rgb: Annotated[bool, "red, green and blue make one row, as coded"] = False
    resample: Annotated[Literal["area", "nearest"], "to `size`; nearest as coded"] = "area"
    truncation: Annotated[float, "of the latents"] = 1.0

    def __post_init__(self) -> None:
        counts = {"k": self.k, "pictures": self.pictures, "iterations": self.iterations, "tolerance": self.tolerance}
        bad = {name: value for name, value in counts.items() if not value > 0}
        if bad:
            raise SituError(f"LowRankGAN settings must be positive, got {bad}")
        if self.sparse_weight is not None and not 0 < self.sparse_weight < math.inf:
            raise SituError(f"sparse_weight is a positive number, 1/60 as published, got {self.sparse_weight}")
        if not 0 <= self.rank_tolerance < 1:
            raise SituError(f"rank_tolerance is a share of 0 to 1, got {self.rank_tolerance}")
        if self.relax < 0:
            raise SituError(f"relax is a number of dimensions, 0 or more, got {self.relax}")
        if self.size is not None and self.size < 1:
            raise SituError(f"size is a number of pixels, got {self.size}")
        words = {"penalty": get_args(Penalty), "resample": ("area", "nearest")}
        for name, choices in words.items():
            if getattr(self, name) not in choices:
                raise SituError(f'{name} is one of {", ".join(choices)}, got "{getattr(self, name)}"')
        if not math.isfinite(self.truncation):
            raise SituError(f"truncation is a number, 0 the mean picture and 1 full variety, got {self.truncation}")

    @classmethod
    def as_coded(cls, **settings: object) -> "LowRankGAN":
        """The published code: the induced norm in μ, summed RGB at 256 pixels, a null space that is never empty."""
        coded = cls(
            penalty="induced", spare_null=True, rank_tolerance=1e-13, size=256, sum_rgb=True, resample="nearest"
        )
        return replace(coded, **settings)  # pyright: ignore[reportArgumentType]

    def find(
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> list[list[Direction]]:
        """See `Discovery.find`. Ctrl-C returns the regions that are done; the others have no directions.

        Raises:
            RegionError: a region that shows in none of the pictures, or fills them all.
            SituError: nothing low-rank in F, or no null space of B; the message says what to change.
        """
        subspace = parse_subspace(self.space, generator.spaces)
        grams = self._grams(generator, subspace, regions, rng, progress)
        found: list[list[Direction]] = [[] for _ in regions]
        total = self.pictures + 2 * len(regions)
        try:
            for r, (region, (f, b)) in enumerate(zip(regions, grams, strict=True)):
                parts = []
                for i, (gram, what) in enumerate(((f, region.name), (b, f"the rest of {region.name}"))):
                    done = self.pictures + 2 * r + i
                    parts.append(self._split(gram, _message(progress, done, total, f"robust PCA of {what}, ")))
                    progress(done + 1, total, f"robust PCA of {what}")
                vectors, figures = self._vectors(region, f, b, parts[0], parts[1])
                found[r] = as_directions(
                    self,
                    generator,
                    subspace,
                    region,
                    vectors.float(),
                    seed=rng.initial_seed(),
                    truncation=self.truncation,
                    figures=figures,
                )
        except KeyboardInterrupt:
            if not any(found):
                raise
        return found

    def _split(self, gram: Float[Tensor, "d d"], progress: Progress) -> LowRankSparse:
        return robust_pca(
            gram,
            self.sparse_weight,
            iterations=self.iterations,
            tolerance=self.tolerance,
            penalty=self.penalty,
            progress=progress,
        )

    def _grams(
        self,
        generator: Generator,
        subspace: Subspace,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress,
    ) -> list[tuple[Float[Tensor, "d d"], Float[Tensor, "d d"]]]:
        """F and B of every region, each the mean over the pictures that show it."""
        rows = Rows(self.size, self.sum_rgb, self.resample)
        with torch.no_grad():
            latents = generator.sample(self.pictures, subspace.space, rng, self.truncation)
            layers = list(dict.fromkeys(name for region in regions for name in region.layers))
            masks = []
            for i in range(self.pictures):
                synthesis = generator.synthesize(latents[i : i + 1], layers)
                masks.append([_usable(region.mask(synthesis), rows) for region in regions])
        for r, region in enumerate(regions):
            if all(row[r] is None for row in masks):
                raise RegionError(
                    f"{region.name} is empty, or the whole picture, on all {self.pictures} pictures: "
                    "take more pictures, another seed or another region"
                )
        total = self.pictures + 2 * len(regions)
        sums = torch.zeros(len(regions), 2, subspace.dim, subspace.dim, dtype=torch.double)
        for i in range(self.pictures):
            report = _message(progress, i, total, "derivatives, ")
            names = [region.name for region in regions]
            found = gram_matrices(generator, latents[i : i + 1], masks[i], subspace, rows, names=names, progress=report)
            for r, grams in enumerate(found):
                if grams is not None:
                    sums[r] += torch.stack([grams.inside, grams.outside]).cpu()
            progress(i + 1, total, "derivatives")
        sums = (sums + sums.mT) / 2  # they are symmetric but for rounding
        shown = [sum(row[r] is not None for row in masks) for r in range(len(regions))]
        return [(f / n, b / n) for (f, b), n in zip(sums, shown, strict=True)]

    def _vectors(
        self, region: Region, f: Tensor, b: Tensor, low_f: LowRankSparse, low_b: LowRankSparse
    ) -> tuple[Float[Tensor, "k d"], list[dict[str, float]]]:
        """Singular vectors of the low-rank F in the null space of the low-rank B, largest singular value first."""
        d = len(f)
        n, v = low_f.top_vectors(self.rank_tolerance), low_b.top_vectors(self.rank_tolerance)
        rank_f, rank_b = len(n), len(v)
        used = "1/sqrt(d)" if self.sparse_weight is None else f"{self.sparse_weight:.3g}"
        if not rank_f:
            raise SituError(
                f"nothing of {region.name} is low-rank at sparse_weight {used} in {d} dimensions, all is sparse: "
                f"raise it (robust PCA's own rule is {1 / math.sqrt(d):.3g}, sparse_weight=None)"
            )
        r = max(rank_b - self.relax, 0)
        if self.spare_null:
            r = min(max(r, 1), d - 1)
        if r >= d:
            raise SituError(
                f"outside {region.name} the picture changes in all {d} dimensions of the low-rank part, which leaves "
                f"no null space: set relax, 1 to {d - 1} dimensions, or lower sparse_weight, now {used}"
            )
        n = n - n @ v[:r].mT @ v[:r]
        kept = n.norm(dim=1)
        some = (kept > 1e-6).nonzero().flatten()[: self.k]
        if not len(some):
            raise SituError(
                f"all that changes {region.name} changes the rest as well, nothing is left after the projection: "
                f"set relax, 1 to {max(rank_b, 1)} dimensions, or lower sparse_weight, now {used}"
            )
        n, kept = n[some] / kept[some, None], kept[some]
        inside, outside = ((n @ f) * n).sum(dim=1), ((n @ b) * n).sum(dim=1)
        gain = inside / torch.maximum(outside, 1e-9 * inside)  # below is rounding
        shared = {
            "rank_F": float(rank_f),
            "rank_B": float(rank_b),
            "residual_F": low_f.residual,
            "residual_B": low_b.residual,
        }
        return n, [{"kept": float(kept[i]), "gain": float(gain[i]), **shared} for i in range(len(n))]


def _message(progress: Progress, step: int, steps: int, prefix: str) -> Progress:
    """Progress within one step of the whole."""

    def report(done: int | float, total: int, message: str = "") -> None:
        progress(step, steps, f"{prefix}{done} of {total} {message}".rstrip())

    return report


def _usable(mask: Masks, rows: Rows) -> Masks | None:
    """The mask, where it has rows inside and outside."""
    inside = float(rows.weights(mask.float()).mean())
    return mask if 1e-4 < inside < 1 - 1e-4 else None
