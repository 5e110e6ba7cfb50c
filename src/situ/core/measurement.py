"""Measuring edits: what changed, where, and by how much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.direction import Direction, Edit, require_generator
from situ.core.generator import Generator, Synthesis, features_from
from situ.core.images import Images, Masks, resize
from situ.core.latents import Latents
from situ.core.localization import aggregate, localization_scores
from situ.core.region import Region


@dataclass(frozen=True)
class EditedImages:
    """Pictures before and after an edit, and the region that it was meant for."""

    before: Images
    after: Images
    mask: Masks  # at the pictures' size: the region before or after (their union)
    localization: Float[Tensor, "l n"] | None = None  # LS of every feature layer that the edit can change


def squared_change(edited: EditedImages) -> Float[Tensor, "n 1 h w"]:
    """Mean over RGB of the squared change, of the pictures clipped to what can be seen."""
    return (edited.after.clamp(-1, 1) - edited.before.clamp(-1, 1)).square().mean(dim=1, keepdim=True)


def mean_under(change: Float[Tensor, "n 1 h w"], weight: Masks) -> Float[Tensor, " n"]:
    """Weighted mean over the positions of each picture; 0 where the weight is empty."""
    return (change * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)).clamp(min=1e-6)


def region_gain(runs: Sequence[EditedImages]) -> float:
    """Mean squared change inside the region over that outside: the score that every direction carries."""
    inside = torch.cat([mean_under(squared_change(run), run.mask) for run in runs]).mean()
    outside = torch.cat([mean_under(squared_change(run), 1 - run.mask) for run in runs]).mean()
    return float(inside / outside.clamp(min=1e-12))


@runtime_checkable
class Metric(Protocol):
    """One number per edited picture."""

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def better(self) -> Literal["higher", "lower", ""]: ...

    def __call__(self, edited: EditedImages) -> Float[Tensor, " n"]: ...


def edited_images(
    generator: Generator,
    edit: Edit | Direction,
    region: Region,
    latents: Latents,
    strength: float | Float[Tensor, " n"] = 1.0,
    before: Synthesis | None = None,
    force: bool = False,
) -> EditedImages:
    """Run an edit on latents and gather what the metrics need.

    Args:
        strength: one number, or one per picture.
        before: the synthesis of the latents with all features, where the caller has it already.
    """
    edit = Edit(((edit, 1.0),)) if isinstance(edit, Direction) else edit
    terms = edit.simplified().terms
    for direction, _ in terms:
        require_generator(direction, generator, force)
    first = min((generator.first_step(direction.subspace) for direction, _ in terms), default=0)
    names = [layer.name for layer in features_from(generator, first)]
    asked = list({*names, *region.layers})
    with torch.no_grad():
        if before is None:
            before = generator.synthesize(latents, asked)
        after = generator.synthesize(edit.apply(generator, latents, strength, force), asked)
        s, s_edited = region.mask(before), region.mask(after)
        features = {name: before.features[name] for name in names}
        scores = localization_scores(features, after.features, aggregate(s, s_edited)) if names else None
        size = (after.images.shape[-2], after.images.shape[-1])
        return EditedImages(before.images, after.images, resize(aggregate(s, s_edited, "union"), size), scores)


def measure(
    generator: Generator,
    edit: Edit | Direction,
    region: Region,
    latents: Latents,
    metrics: Sequence[Metric],
    strengths: Sequence[float] = (1.0, -1.0),
    force: bool = False,
    batch: int = 32,
) -> Mapping[str, Float[Tensor, "s n"]]:
    """Every metric of an edit at several strengths: name -> (strengths, latents).

    Args:
        batch: pictures in one pass; bounds memory.
    """
    columns: dict[str, list[Tensor]] = {metric.name: [] for metric in metrics}
    for start in range(0, len(latents), batch):
        some = latents[start : start + batch]
        with torch.no_grad():
            before = generator.synthesize(some, [layer.name for layer in generator.layers])
            runs = [edited_images(generator, edit, region, some, s, before, force) for s in strengths]
            for metric in metrics:
                columns[metric.name].append(torch.stack([metric(run).cpu().float() for run in runs]))
    return {name: torch.cat(parts, dim=1) for name, parts in columns.items()}
