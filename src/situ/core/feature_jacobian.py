"""Gram matrices of feature layers: how much each layer changes inside a region, per unit step, to first order.

LELSD's score compares the change of feature maps inside a region with their whole change. To first order both are
quadratic forms of the direction, u^T F_l u and u^T T_l u, and F_l, T_l come from tangents in forward mode as those of
the picture do (`jacobian.py`). A layer's channels are mixed down by random vectors first: the mean square over channels
keeps its expectation, and the rows of J shrink from channels x positions to a few per position.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap

from situ.core.generator import IMAGE, Generator, Linearizable, Reduction
from situ.core.images import Masks, resize
from situ.core.latents import Latents, Subspace
from situ.core.progress import Progress, silent

MIXED = 4  # rows per position that a layer's channels are mixed down to
CHUNK = 32  # tangents in one pass


@dataclass(frozen=True)
class FeatureGrams:
    """F and T of every layer, of one picture; each layer's pair is divided by the trace of its T."""

    inside: Float[Tensor, "r l b b"]  # a matrix per region and layer
    total: Float[Tensor, "l b b"]


def linearize_features(
    generator: Generator, latents: Latents, subspace: Subspace, reductions: Mapping[str, Reduction]
) -> Callable[[Float[Tensor, "t k"]], dict[str, Tensor]]:
    """Tangents of feature layers at the first of some latents: the generator's own derivative, or torch's."""
    base = generator.convert(latents[:1], subspace.space)
    if isinstance(generator, Linearizable):
        return generator.linearize_features(base, subspace, reductions)
    names = list(reductions)

    def features(u: Tensor) -> dict[str, Tensor]:
        moved = base.with_values(base.values + subspace.lift(u)[None])
        found = generator.synthesize(moved, [name for name in names if name != IMAGE], images=IMAGE in names)
        layers = {**found.features, IMAGE: found.pictures}
        return {name: reductions[name](layers[name])[0] for name in names}

    zero = base.values.new_zeros(subspace.dim)

    def pushforward(tangents: Float[Tensor, "t k"]) -> dict[str, Tensor]:
        with torch.no_grad():
            return vmap(lambda t: jvp(features, (zero,), (t,))[1])(tangents.to(zero))

    return pushforward


def feature_gram_bytes(generator: Generator, tangents: int, layers: Sequence[str], regions: int) -> int:
    """Memory that the Gram matrices of one picture take, with the mixed Jacobian that they are made from."""
    sizes = {**{layer.name: layer.resolution for layer in generator.layers}, IMAGE: generator.resolution}
    rows = sum(MIXED * sizes[name] ** 2 for name in layers)
    return 4 * tangents * (rows + tangents * len(layers) * (regions + 1))


def feature_grams(
    generator: Generator,
    latents: Latents,
    masks: Sequence[Masks],
    subspace: Subspace,
    tangents: Float[Tensor, "b k"],
    layers: Sequence[str],
    rng: torch.Generator,
    progress: Progress = silent,
) -> FeatureGrams:
    """F and T of feature layers for several regions of the first of some latents, from one pass over some tangents.

    Args:
        masks: of each region, (1, 1, h, w).
        tangents: the steps u whose combinations are of interest; the identity for all of the subspace.
        layers: names of feature layers; "image" is the picture itself.
        rng: draws the mixing vectors.
    """
    known = {**{layer.name: layer.channels for layer in generator.layers}, IMAGE: 3}
    channels = {name: known[name] for name in layers}
    mixes = {
        name: torch.randn(MIXED, c, generator=rng, device=rng.device).to(generator.device) / MIXED**0.5
        for name, c in channels.items()
    }

    def mixing(name: str) -> Reduction:
        return lambda change: torch.einsum("pc,tchw->tphw", mixes[name].to(change.dtype), change).float()

    linear = linearize_features(generator, latents, subspace, {name: mixing(name) for name in mixes})
    parts: dict[str, list[Tensor]] = {name: [] for name in mixes}
    for block in tangents.split(CHUNK):
        for name, change in linear(block).items():
            parts[name].append(change)
        progress(sum(map(len, parts[layers[0]])), len(tangents))
    inside, total = [], []
    for name in mixes:
        change = torch.cat(parts.pop(name))  # (b, p, h, w)
        rows = change.flatten(1)
        t = rows @ rows.T
        scale = t.trace().clamp(min=1e-20)
        own = []
        for mask in masks:
            weights = resize(mask.float(), (change.shape[-2], change.shape[-1]))[0].expand(change.shape[1], -1, -1)
            chosen = weights.flatten().nonzero().flatten()
            some = rows[:, chosen]
            own.append((some * weights.flatten()[chosen]) @ some.T / scale)
        inside.append(torch.stack(own) if own else t.new_zeros(0, *t.shape))
        total.append(t / scale)
    return FeatureGrams(torch.stack(inside, dim=1), torch.stack(total))
