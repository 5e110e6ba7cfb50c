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
    r: Float[Tensor, "n c h w"], r_edited: Float[Tensor, "n c h w"], distance: FeatureDistance = "l2"
) -> Float[Tensor, "n 1 h w"]:
    """D_l: how much a feature map changed at each position."""
    if distance == "l2":
        return (r - r_edited).square().sum(dim=1, keepdim=True)
    if distance == "l1":
        return (r - r_edited).abs().sum(dim=1, keepdim=True)
    if distance == "cosine":
        return (1 - functional.cosine_similarity(r, r_edited, dim=1)).unsqueeze(1)
    raise SituError(f'features are compared by "l2", "l1" or "cosine", got "{distance}"')


def localization_scores(
    features: Mapping[str, Tensor],
    edited: Mapping[str, Tensor],
    mask: Masks,
    distance: FeatureDistance = "l2",
) -> Float[Tensor, "l n"]:
    """LS_l of equation 2, one row per layer and one column per sample, each in [0, 1].

    Args:
        features, edited: activations of x and x' under the same names, (n, c, h, w) each.
        mask: s~ at any size; it is area-averaged straight to every layer's size.
    """
    rows = []
    for name, r in features.items():
        change = feature_change(r.float(), edited[name].float(), distance)
        inside = (resize(mask, (change.shape[-2], change.shape[-1])) * change).sum(dim=(1, 2, 3))
        rows.append(inside / change.sum(dim=(1, 2, 3)).clamp(min=1e-12))
    return torch.stack(rows)
