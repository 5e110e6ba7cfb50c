"""SeFa: the directions that move the styles most, in closed form.

Shen, Zhou, "Closed-form factorization of latent semantics in GANs" (2021). The directions are the top eigenvectors of
A^T A, the maximisers of ||A n|| over unit n (eq. 5-8), where A stacks the weights of the affine layers that make the
styles of the chosen layers. A is taken as the derivative of the generator's last space with respect to the free
coordinates of the subspace, so that no generator is named: exact where styles are affine (W, W+), and the mean of
A^T A over a few codes where they are not (Z). On rows of W+ that are not tied each eigenvector moves one row.

The published code stacks as many style layers as W+ has rows, of which only the last is a ToRGB, and brings every
channel's row of A to norm 1; the paper does not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import jvp, vmap

from situ.core.direction import Direction
from situ.core.discovery import as_directions
from situ.core.errors import SituError
from situ.core.generator import Generator
from situ.core.latents import Latents, LatentSpace, Subspace, parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region

ToRGB = Literal["none", "last", "all"]
CHUNK = 64  # tangents in one pass


@dataclass(frozen=True)
class SeFa:
    """The method and its settings; the paper's values are the defaults. `figures` of a direction: its "eigenvalue",
    and "share", that of the sum of all eigenvalues.
    """

    space: Annotated[str, "subspace: w, w:4-7 (tied), w+:4, z"] = "w"
    k: Annotated[int, "eigenvectors"] = 10
    normalize: Annotated[bool, "every style channel's row of A is brought to norm 1, as coded"] = False
    to_rgb: Annotated[ToRGB, "which styles of ToRGB layers count, besides all of convolutions; last as coded"] = "none"
    codes: Annotated[int, "codes that A^T A is averaged over where styles are not affine, as those of z"] = 16
    truncation: Annotated[float, "of these codes"] = 1.0

    def __post_init__(self) -> None:
        bad = {name: value for name, value in {"k": self.k, "codes": self.codes}.items() if value < 1}
        if bad:
            raise SituError(f"SeFa settings must be positive, got {bad}")
        if self.to_rgb not in get_args(ToRGB):
            raise SituError(f'to_rgb is one of {", ".join(get_args(ToRGB))}, got "{self.to_rgb}"')
        if not math.isfinite(self.truncation) or self.truncation == 0:
            raise SituError(f"truncation is a number other than 0, where all codes are one, got {self.truncation}")

    @classmethod
    def as_coded(cls, **settings: object) -> "SeFa":
        """The published code: normalised rows, the last ToRGB layer among the convolutions."""
        return replace(cls(normalize=True, to_rgb="last"), **settings)  # pyright: ignore[reportArgumentType]

    def find(
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> list[list[Direction]]:
        """See `Discovery.find`: the same eigenvectors for every region, largest eigenvalue first.

        Ctrl-C averages over the codes done so far.

        Raises:
            SituError: a space that feeds no styles, or styles that move alike in all directions.
        """
        subspace = parse_subspace(self.space, generator.spaces)
        if self.k > subspace.dim:
            raise SituError(f"{subspace} has {subspace.dim} dimensions, too few for k={self.k} eigenvectors")
        styles = _style_space(generator, subspace)
        counted = _counted(styles, self.to_rgb).to(generator.device)
        with torch.no_grad():
            codes = generator.sample(self.codes, subspace.space, rng, self.truncation)
        grams: list[Tensor] = []
        done, first = 0, None
        try:
            for i in range(self.codes):
                A = _style_weights(generator, codes[i : i + 1], subspace, styles, counted)
                if not len(A):
                    raise SituError(f'{subspace} feeds no style that counts: with to_rgb="all" those of ToRGB do')
                if first is None:
                    first = A
                elif i == 1 and torch.allclose(A, first, rtol=1e-4, atol=1e-5 * float(first.abs().max())):
                    break  # affine: the same at every code
                found = _gram_blocks(_unit_rows(A) if self.normalize else A, subspace)
                grams = [a + b for a, b in zip(grams, found, strict=True)] if grams else found
                done = i + 1
                progress(done, self.codes, "style weights")
        except KeyboardInterrupt:
            if not done:
                raise
        values, vectors = _top_eigenvectors([gram / done for gram in grams], self.k, f"{subspace} to {styles.name}")
        total = sum(float(gram.diagonal().sum()) for gram in grams) / done
        figures = [{"eigenvalue": float(value), "share": float(value) / total} for value in values]
        return [
            as_directions(
                self,
                generator,
                subspace,
                region,
                vectors,
                seed=rng.initial_seed(),
                truncation=self.truncation,
                figures=figures,
                names=[f"eigenvector-{i + 1}" for i in range(self.k)],
            )
            for region in regions
        ]


def _style_space(generator: Generator, subspace: Subspace) -> LatentSpace:
    """The last space, which the synthesis reads: a generator lists its spaces in the order of conversion."""
    spaces = list(generator.spaces.values())
    if spaces[-1] == subspace.space:
        before = ", ".join(space.name for space in spaces[:-1]) or "one of another generator"
        raise SituError(
            f"SeFa reads the weights that make styles of a space, and {subspace.space.name} is the last space of "
            f"{generator.name}, which feeds none: choose {before}"
        )
    return spaces[-1]


def _counted(styles: LatentSpace, to_rgb: ToRGB) -> Bool[Tensor, " s"]:
    """Which coordinates of the style space count."""
    rgb = [i for i, part in enumerate(styles.slices) if part.kind == "rgb"]
    left_out = {"none": rgb, "last": rgb[:-1], "all": []}[to_rgb]
    return torch.cat([torch.full([part.size], i not in left_out) for i, part in enumerate(styles.slices)])


def _style_weights(
    generator: Generator, code: Latents, subspace: Subspace, styles: LatentSpace, counted: Bool[Tensor, " s"]
) -> Float[Tensor, "m d"]:
    """A at one code: the derivative of the styles with respect to the free coordinates."""

    def styles_at(u: Tensor) -> Tensor:
        moved = code.with_values(code.values + subspace.lift(u)[None])
        return generator.convert(moved, styles).values[0][counted]

    zero = code.values.new_zeros(subspace.dim)
    columns = []
    with torch.no_grad():
        for indices in torch.arange(subspace.dim, device=zero.device).split(CHUNK):
            tangents = torch.zeros(len(indices), subspace.dim, dtype=zero.dtype, device=zero.device)
            tangents[torch.arange(len(indices)), indices] = 1
            columns.append(vmap(lambda tangent: jvp(styles_at, (zero,), (tangent,))[1])(tangents))
    A = torch.cat(columns).T
    return A[(A != 0).any(dim=1)]  # styles that the subspace does not feed have no row


def _unit_rows(A: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    return A / A.norm(dim=1, keepdim=True)


def _gram_blocks(A: Float[Tensor, "m d"], subspace: Subspace) -> list[Tensor]:
    """The diagonal blocks of A^T A, in double precision: one per slice where no style is fed by two, one of all else.

    A style of StyleGAN is fed by one row of W+, so that its 9216 coordinates are 18 small problems.
    """
    sizes = [subspace.dim] if subspace.tied else [subspace.space.slices[i].size for i in subspace.chosen]
    parts = A.split(sizes, dim=1)
    feeds = torch.stack([(part != 0).any(dim=1) for part in parts])  # (slices, m)
    if (feeds.sum(dim=0) > 1).any():
        parts, feeds = (A,), feeds[:1] | True
    rows = [part[fed].double() for part, fed in zip(parts, feeds, strict=True)]
    return [part.T @ part for part in rows]


def _top_eigenvectors(grams: Sequence[Tensor], k: int, what: str) -> tuple[Float[Tensor, " k"], Float[Tensor, "k d"]]:
    """The largest eigenvalues of a block diagonal matrix and their vectors, the largest entry of each positive.

    Raises:
        SituError: they are all equal, so that no direction is above another.
    """
    solved = [torch.linalg.eigh(gram) for gram in grams]
    values = torch.cat([value for value, _ in solved])
    if values.max() - values.min() <= 1e-4 * values.max():
        raise SituError(f"{what} moves alike in all directions, so that SeFa has none to prefer: choose another space")
    vectors = torch.block_diag(*[vector for _, vector in solved]).T
    order = values.argsort(descending=True)[:k]
    values, vectors = values[order].clamp(min=0), vectors[order]
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return values, (vectors * largest.sign()).float()
