"""The localisation score of LELSD: the share of the change of every feature layer that falls inside a region.

Pajouheshgar et al., "Optimizing latent space directions for GAN-based local image editing" (2022), equation 2. Both the
search (which maximises it) and the report (which measures it on held-out latents) call this one function.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.errors import SituError
from situ.core.images import Masks, resize

Aggregation = Literal["average", "union", "intersection"]
FeatureDistance = Literal["l2", "l1", "cosine"]


def aggregate(s: Masks, s_edited: Masks, how: Aggregation = "average") -> Masks:
    """s~: one mask from those of x and x'. (s + s') / 2, s + s' - s s', or s s'."""
    if how == "average":
        return (s + s_edited) / 2
    if how == "union":
        return s + s_edited - s * s_edited
    if how == "intersection":
        return s * s_edited
    raise SituError(f'masks are aggregated by "average", "union" or "intersection", got "{how}"')


def feature_change(
    r: Float[Tensor, "*n c h w"], r_edited: Float[Tensor, "*m c h w"], distance: FeatureDistance = "l2"
) -> Float[Tensor, "*m h w"]:
    """D_l: how much a feature map changed at each position; leading dimensions broadcast."""
    if distance == "l2":
        return (r - r_edited).square().sum(dim=-3)
    if distance == "l1":
        return (r - r_edited).abs().sum(dim=-3)
    if distance == "cosine":
        return 1 - functional.cosine_similarity(r, r_edited, dim=-3)
    raise SituError(f'features are compared by "l2", "l1" or "cosine", got "{distance}"')


def localization_scores(
    features: Mapping[str, Tensor],
    edited: Mapping[str, Tensor],
    mask: Masks,
    distance: FeatureDistance = "l2",
) -> Float[Tensor, "l m"]:
    """LS_l of equation 2, one row per layer and one column per edited sample, each in [0, 1].

    Args:
        features: activations of x, (n, c, h, w) each.
        edited: activations of x' under the same names; (m, c, h, w) with m a multiple of n where several edits share x
            (rows a b a b).
        mask: s~ of the edited samples, at any size; it is area-averaged straight to every layer's size.
    """
    rows = []
    pooled: dict[tuple[int, int], Tensor] = {}
    for name, r in features.items():
        edits = edited[name].float().unflatten(0, (-1, len(r)))
        change = feature_change(r.float(), edits, distance).flatten(0, 1)  # (m, h, w)
        size = (change.shape[-2], change.shape[-1])
        if size not in pooled:
            pooled[size] = resize(mask, size)[:, 0]
        inside = (pooled[size] * change).sum(dim=(1, 2))
        rows.append(inside / change.sum(dim=(1, 2)).clamp(min=1e-12))
    return torch.stack(rows)
