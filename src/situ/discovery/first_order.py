"""The first-order optimum of LELSD's score: where an optimisation should start, and often nearly where it ends.

For a small step every layer's score (LELSD eq. 2) is a Rayleigh quotient, LS_l(u) = u^T F_l u / u^T T_l u, with the
Gram matrices of the layer's change inside the region and everywhere (`core/feature_jacobian.py`). They come from a few
pictures in forward mode, for all regions in one pass. The mean over layers and pictures is then maximised on small
matrices alone, without the generator: from the top eigenvectors of the summed pencil (as ReSeFa does for pixels), by
ascent in coordinates that whiten the total change.

A subspace larger than `tangents` is searched where a single code w reaches it: in the image of the latest earlier space
that is small enough (W for W+ and S), layer group by layer group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap

from situ.core.direction import Direction
from situ.core.discovery import as_directions
from situ.core.errors import JacobianError, SituError
from situ.core.feature_jacobian import FeatureGrams, feature_gram_bytes, feature_grams
from situ.core.generator import IMAGE, Generator, features_from
from situ.core.jacobian import MEMORY
from situ.core.latents import Latents, Subspace, parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region
from situ.discovery.natural_gradient import inverse_metric

RIDGE = 1e-3  # of the mean eigenvalue sum, as ReSeFa's τ: keeps steps that change nothing out
KEPT = 64  # eigenvectors of the summed pencil that the ascent combines
ASCENT = 120  # iterations on the small matrices


@dataclass(frozen=True)
class Expansion:
    """Every layer's F (of each region) and T on each picture, as quadratic forms of the steps of a basis."""

    basis: Float[Tensor, "b d"]
    inside: Float[Tensor, "r l b b"]
    total: Float[Tensor, "l b b"]
    share: Float[Tensor, " l"]  # weights of the layers, 1 in all
    complete: bool = True  # False where Ctrl-C left pictures out

    def maximise(self, k: int, correlation: float) -> tuple[Float[Tensor, "r k d"], Float[Tensor, "r k"]]:
        """Unit vectors of the subspace, best first, and their first-order scores."""
        c, scores = maximise_quotients(self.inside, self.total, self.share, k, correlation)
        u = c @ self.basis
        return u / u.norm(dim=-1, keepdim=True), scores

    def inverse_metric(self) -> Float[Tensor, "d d"]:
        """The inverse of the mean T, for natural gradient steps."""
        return inverse_metric(torch.einsum("l,lab->ab", self.share, self.total), self.basis, RIDGE)


@dataclass(frozen=True)
class FirstOrder:
    """The method and its settings."""

    space: Annotated[str, "subspace: w, w+, w+:4-7, w:4-7 (tied), s, s:conv, s:9, z"] = "w+"
    k: Annotated[int, "directions per region"] = 1
    pictures: Annotated[int, "pictures that the score is expanded on"] = 4
    tangents: Annotated[int, "coordinates up to which the subspace is searched as it is; a picture costs as many"] = (
        1280
    )
    correlation: Annotated[float, "c, weight that keeps k directions apart"] = 1.0
    layer_weights: Annotated[
        Mapping[str, float], "feature layer -> weight in LS, 1 if not named; image, the picture itself, 0 if not named"
    ] = field(default_factory=dict)
    truncation: Annotated[float, "of the pictures"] = 0.7
    memory: Annotated[float, "GiB that the Gram matrices may take"] = MEMORY

    def __post_init__(self) -> None:
        counts = {"k": self.k, "pictures": self.pictures, "tangents": self.tangents}
        bad = {name: value for name, value in counts.items() if value < 1}
        if bad:
            raise SituError(f"FirstOrder settings must be at least 1, got {bad}")

    def find(
        self, generator: Generator, regions: Sequence[Region], rng: torch.Generator, progress: Progress = silent
    ) -> list[list[Direction]]:
        """See `Discovery.find`. All regions share the pictures and their tangents.

        Raises:
            JacobianError: the Gram matrices do not fit into the memory.
        """
        seed = rng.initial_seed()
        subspace = parse_subspace(self.space, generator.spaces)
        weights = scored_layers(generator, subspace, self.layer_weights)
        expansion = self.expand(generator, subspace, regions, weights, rng, progress)
        u, scores = expansion.maximise(self.k, self.correlation)
        return [
            as_directions(
                self,
                generator,
                subspace,
                region,
                u[r],
                seed=seed,
                truncation=self.truncation,
                figures=[{"first_order_LS": float(score)} for score in scores[r]],
            )
            for r, region in enumerate(regions)
        ]

    def expand(
        self,
        generator: Generator,
        subspace: Subspace,
        regions: Sequence[Region],
        weights: Mapping[str, float],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> "Expansion":
        """The score to second order around some pictures; Ctrl-C keeps the pictures that are done.

        Args:
            regions: may be none, for the total change alone.
        """
        with torch.no_grad():
            latents = generator.sample(self.pictures, subspace.space, rng, self.truncation)
        basis = reached(generator, subspace, latents, self.tangents)
        self._require_memory(generator, basis, list(weights), len(regions))
        grams: list[FeatureGrams] = []
        features = list({name for region in regions for name in region.layers})
        try:
            for i in range(len(latents)):
                one = latents[i : i + 1]
                with torch.no_grad():
                    seen = generator.synthesize(one, features)
                    masks = [region.mask(seen).detach() for region in regions]

                def report(done: int | float, total: int, message: str = "", i: int = i) -> None:
                    progress(i * total + done, len(latents) * total, "first order")

                grams.append(feature_grams(generator, one, masks, subspace, basis, list(weights), rng, report))
        except KeyboardInterrupt:
            if not grams:
                raise
        share = torch.tensor(list(weights.values()), device=basis.device).repeat(len(grams))
        inside = torch.cat([each.inside for each in grams], dim=1)
        total = torch.cat([each.total for each in grams])
        return Expansion(basis, inside, total, share / share.sum(), len(grams) == len(latents))

    def _require_memory(self, generator: Generator, basis: Tensor, layers: Sequence[str], regions: int) -> None:
        needed = self.pictures * feature_gram_bytes(generator, len(basis), layers, regions) / 2**30
        if needed > self.memory:
            raise JacobianError(
                f"the Gram matrices of {len(layers)} layers, {regions} regions and {len(basis)} coordinates on "
                f"{self.pictures} pictures need {needed:.1f} GiB, the budget is {self.memory:g}: raise it (--memory), "
                "take fewer pictures, tangents or regions, or leave the start random"
            )


def scored_layers(generator: Generator, subspace: Subspace, weights: Mapping[str, float]) -> dict[str, float]:
    """The layers that a score counts: those that the subspace can change, weighed, and the picture where it counts.

    Raises:
        SituError: a weight for a layer that does not exist, or nothing left that counts.
    """
    unknown = set(weights) - {layer.name for layer in generator.layers} - {IMAGE}
    if unknown:
        names = ", ".join(layer.name for layer in generator.layers)
        raise SituError(f"layer weights name feature layers ({names}) or image, got {', '.join(sorted(unknown))}")
    layers = features_from(generator, generator.first_step(subspace))
    found = {layer.name: weights.get(layer.name, 1.0) for layer in layers if weights.get(layer.name, 1.0) != 0}
    if weights.get(IMAGE, 0.0) != 0:
        found[IMAGE] = weights[IMAGE]
    if not found:
        raise SituError(f"no feature layer that {subspace} can change has a weight: nothing to optimise")
    return found


def reached(generator: Generator, subspace: Subspace, latents: Latents, most: int) -> Float[Tensor, "b k"]:
    """Steps of a subspace to combine: the identity where it has at most `most` coordinates, and otherwise the steps
    that a code of the latest earlier space small enough makes in it, for as many groups of its layers apart as fit."""
    values = latents.values
    if subspace.dim <= most:
        return torch.eye(subspace.dim, device=values.device)
    order = list(generator.spaces.values())
    earlier = [s for s in order[: order.index(subspace.space)] if s.dim <= most]
    if not earlier:
        raise SituError(
            f"{subspace} has {subspace.dim} coordinates and no earlier space has {most} or fewer: raise `tangents`, or "
            "leave the start random"
        )
    with torch.no_grad():
        codes = generator.sample(64, earlier[-1], torch.Generator().manual_seed(0), latents.truncation)
        middle = codes[:1].with_values(codes.values.mean(dim=0, keepdim=True))

        def code(v: Tensor) -> Tensor:
            moved = middle.with_values(middle.values + v[None])
            return generator.convert(moved, subspace.space).values[0]

        zero = middle.values.new_zeros(earlier[-1].dim)
        full = vmap(lambda t: jvp(code, (zero,), (t,))[1])(torch.eye(len(zero), device=zero.device))
        groups = 1 if subspace.tied else max(1, most // len(full))
        return torch.cat([_on(subspace, full, group) for group in _grouped(subspace.chosen, groups)])


def _grouped(layers: Sequence[int], groups: int) -> list[tuple[int, ...]]:
    """Consecutive layers in groups of about one size."""
    count = min(groups, len(layers))
    ends = [round(i * len(layers) / count) for i in range(count + 1)]
    return [tuple(layers[a:b]) for a, b in pairwise(ends)]


def _on(subspace: Subspace, full: Float[Tensor, "b d"], layers: tuple[int, ...]) -> Float[Tensor, "b k"]:
    """Full vectors of the space as steps of the subspace that move some of its layers."""
    parts = subspace.space.split(full)
    kept = [part if i in layers else torch.zeros_like(part) for i, part in enumerate(parts)]
    return subspace.coordinates(torch.cat(kept, dim=-1))


def maximise_quotients(
    inside: Float[Tensor, "r l b b"],
    total: Float[Tensor, "l b b"],
    share: Float[Tensor, " l"],
    k: int,
    correlation: float,
) -> tuple[Float[Tensor, "r k b"], Float[Tensor, "r k"]]:
    """Maximise sum_l share_l c^T F_l c / c^T T_l c for every region.

    Returns:
        k coefficient vectors per region and their scores, best first.
    """
    pooled = torch.einsum("l,lab->ab", share, total).double()
    ridge = RIDGE * pooled.trace()
    values, vectors = torch.linalg.eigh(pooled + ridge * torch.eye(len(pooled), device=pooled.device))
    white = vectors / values.sqrt()  # c = white v: |v| = 1 is a constant total change
    whitened = white.mT @ torch.einsum("l,rlab->rab", share, inside).double() @ white
    m = min(len(white), max(k, KEPT))
    span = (white @ torch.linalg.eigh(whitened)[1][..., -m:].flip(-1)).float()  # (r, b, m), best first
    f = span.mT[:, None] @ inside @ span[:, None]
    t = span.mT[:, None] @ total @ span[:, None]
    # a little of everything, off the saddle points that matrices with common eigenvectors have there
    v = (torch.eye(k, m, device=span.device) + 1e-3).repeat(len(span), 1, 1).requires_grad_()
    optimizer = torch.optim.Adam([v], lr=0.3 / m**0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ASCENT)

    def scores() -> Float[Tensor, "r k"]:
        above = torch.einsum("rlab,rkb,rka->rlk", f, v, v)
        below = torch.einsum("rlab,rkb,rka->rlk", t, v, v).clamp(min=1e-20)
        return torch.einsum("l,rlk->rk", share, above / below)

    for _ in range(ASCENT):
        optimizer.zero_grad(set_to_none=True)
        gain = scores().sum()
        if k > 1:
            gain = gain + correlation * diversity(v @ span.mT).sum()
        (-gain).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            v /= v.norm(dim=-1, keepdim=True)
    with torch.no_grad():
        found = scores()
        order = found.argsort(dim=1, descending=True)
        c = (v @ span.mT).gather(1, order[..., None].expand(-1, -1, span.shape[1]))
        return c, found.gather(1, order)


def diversity(u: Float[Tensor, "r k d"]) -> Float[Tensor, " r"]:
    """R of LELSD's eq. 3, -1/2 ||Corr(u_1..u_K) - I||_F, of every region."""
    centred = u - u.mean(dim=-1, keepdim=True)
    normed = centred / centred.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    off = normed @ normed.mT - torch.eye(u.shape[1], device=u.device)
    return -0.5 * (off.square().sum(dim=(1, 2)) + 1e-12).sqrt()
