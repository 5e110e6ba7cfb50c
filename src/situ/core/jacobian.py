"""Derivatives of pictures with respect to latents, in forward mode."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap
from torch.nn import functional

from situ.core.generator import Generator
from situ.core.images import Images, resize
from situ.core.latents import Latents, Subspace
from situ.core.progress import Progress, silent


@dataclass(frozen=True)
class Rows:
    """What of the picture the rows of a Jacobian are."""

    size: Annotated[int | None, "pixels on a side; None takes the picture's own, at most 256"] = None
    sum_rgb: Annotated[bool, "red, green and blue summed, as published code has it"] = False
    resample: Annotated[Literal["area", "nearest"], "area: anti-aliased; nearest as published code has it"] = "area"

    def of(self, images: Images) -> Float[Tensor, "n c s s"]:
        """The rows of pictures, laid out as a picture of 3 channels or 1."""
        size = self.size or min(images.shape[-1], 256)
        small = resize(images, size) if self.resample == "area" else functional.interpolate(images, size)
        return small.sum(dim=1, keepdim=True) if self.sum_rgb else small


@dataclass(frozen=True)
class Jacobian:
    """The derivative of one picture's rows with respect to the free coordinates of a subspace."""

    values: Float[Tensor, "d c s s"]  # one small picture per coordinate
    subspace: Subspace


def jacobian(
    generator: Generator,
    latents: Latents,
    subspace: Subspace,
    rows: Rows | None = None,
    *,
    chunk: int = 16,
    progress: Progress = silent,
) -> Jacobian:
    """The Jacobian of the first of some latents (of any space before the subspace's)."""
    rows = rows or Rows()
    base = generator.convert(latents[:1], subspace.space)

    def picture(u: Tensor) -> Tensor:
        return rows.of(generator.synthesize(base.with_values(base.values + subspace.lift(u)[None])).images)[0]

    zero = base.values.new_zeros(subspace.dim)
    parts = []
    with torch.no_grad():
        for block in torch.eye(subspace.dim, dtype=zero.dtype, device=zero.device).split(chunk):
            parts.append(vmap(lambda tangent: jvp(picture, (zero,), (tangent,))[1])(block))
            progress(sum(map(len, parts)), subspace.dim)
    return Jacobian(torch.cat(parts), subspace)
