"""The edit-consistency score: whether the codes of an inversion react to edits and come back from them.

MAGEC eq. 4-5. A photo is inverted, its code edited, the edited picture inverted anew, and the edit undone there:

    z = p(x),  x_p = G(z),  x_edit = G(e(z)),  z' = p(x_edit),  x_cyc = G(e^-1(z')),
    ecs(p, x) = 2 d(x_p, x_cyc) / (d(x_p, x_edit) + d(x_edit, x_cyc)),     ECS(p) = mean of ecs(p, x) over photos,

with d a perceptual distance (the paper's is LPIPS). 0 is perfect: the cycle ends where it began. Above 1 it ends
farther away than one of the two edits moved. Where d obeys the triangle inequality ecs is at most 2.

What the paper leaves open, and what is done here:

* p(x) is a code and, inside d, its picture; the photo itself is in no term. Noise maps that p finds are part of it.
* Pictures are clipped to [-1, 1] before they are compared or inverted anew.
* An edit that changes nothing and whose cycle changes nothing is 0 / 0: no score (NaN), left out of means.
* Its table counts only photos without the attribute that is added: `eligible`.
* It gives no mean over attributes. `EditConsistency.mean` is the mean of their ECS, each counting alike.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from situ.core.direction import Edit, PerceptualDistance
from situ.core.errors import SituError
from situ.core.generator import Generator
from situ.core.images import Images
from situ.core.inversion import Inversion, with_noise_of
from situ.core.latents import Latents
from situ.core.progress import Progress, silent


@dataclass(frozen=True)
class ReversibleEdit:
    """e_i and its inverse, on codes."""

    apply: Callable[[Latents], Latents]
    undo: Callable[[Latents], Latents]


def reversible(generator: Generator, edit: Edit, strength: float = 1.0, force: bool = False) -> ReversibleEdit:
    """An edit by directions, undone by its negative."""
    return ReversibleEdit(
        lambda latents: edit.apply(generator, latents, strength, force),
        lambda latents: edit.apply(generator, latents, -strength, force),
    )


@dataclass(frozen=True)
class EditConsistency:
    """ecs of every photo and attribute; NaN where there is none."""

    attributes: tuple[str, ...]
    scores: Float[Tensor, "n a"]

    @property
    def per_attribute(self) -> dict[str, float]:
        """ECS (eq. 5) of every attribute; NaN for one without scores."""
        return dict(zip(self.attributes, self.scores.nanmean(dim=0).tolist(), strict=True))

    @property
    def mean(self) -> float:
        """Of the attributes' ECS; NaN without scores."""
        known = [score for score in self.per_attribute.values() if not math.isnan(score)]
        return sum(known) / len(known) if known else math.nan


def edit_consistency_score(
    projected: Images, edited: Images, cyclic: Images, distance: PerceptualDistance
) -> Float[Tensor, " n"]:
    """ecs (eq. 4) of three pictures each: x_p, x_edit, x_cyc. NaN where all three are equal."""
    back = distance(projected, cyclic)
    return 2 * back / (distance(projected, edited) + distance(edited, cyclic))


def edit_consistency(
    generator: Generator,
    inverted: Inversion,
    project: Callable[[Images], Inversion],
    edits: Mapping[str, ReversibleEdit],
    distance: PerceptualDistance,
    *,
    eligible: Bool[Tensor, "n a"] | None = None,
    batch: int = 16,
    progress: Progress = silent,
) -> EditConsistency:
    """ecs of every photo under every edit: lower is better, 0 perfect.

    Args:
        inverted: p(x) of the photos.
        project: p, the inversion that is judged, for pictures in [-1, 1]; each photo's answer is its own.
        edits: attribute -> e_i and its inverse.
        eligible: which photos are edited towards which attribute, in the order of `edits`; None: all.
        batch: edited pictures that are projected at once, whatever their photo or attribute; bounds memory.

    Raises:
        SituError: no photo or edit, a mask of another size, or projections that are not one code a picture.
    """
    n, names = len(inverted), tuple(edits)
    if not n or not names or batch < 1:
        raise SituError(f"edit consistency is of photos and edits, got {n} photos, {len(names)} edits, batch {batch}")
    if eligible is None:
        eligible = torch.ones(n, len(names), dtype=torch.bool)
    if eligible.shape != (n, len(names)):
        raise SituError(f"eligible has a row a photo and a column an edit, {n} x {len(names)}: {tuple(eligible.shape)}")
    pairs = eligible.T.nonzero().cpu()  # (attribute, photo), sorted by attribute
    scores = torch.full([n, len(names)], math.nan)
    done = 0
    for some in pairs.split(batch):
        attributes, counts = some[:, 0].unique_consecutive(return_counts=True)
        rows = some[:, 1].split(counts.tolist())
        with torch.no_grad():
            starts = [_rows(inverted, photos) for photos in rows]
            x_p = torch.cat([_pictures(generator, start) for start in starts])
            chosen = [edits[names[i]] for i in attributes.tolist()]
            moved = [_moved(start, edit.apply) for start, edit in zip(starts, chosen, strict=True)]
            x_edit = torch.cat([_pictures(generator, code) for code in moved])
        again = project(x_edit)
        if len(again) != len(some):
            raise SituError(f"projecting gives one code a picture, got {len(again)} for {len(some)} pictures")
        with torch.no_grad():
            ends = [int(count) for count in counts.cumsum(dim=0)]
            parts = [again[end - len(photos) : end] for end, photos in zip(ends, rows, strict=True)]
            back = [_moved(part, edit.undo) for part, edit in zip(parts, chosen, strict=True)]
            x_cyc = torch.cat([_pictures(generator, code) for code in back])
            found = edit_consistency_score(x_p, x_edit, x_cyc, distance)
        scores[some[:, 1], some[:, 0]] = found.cpu().float()
        done += len(some)
        progress(done, len(pairs), "edit consistency")
    return EditConsistency(names, scores)


def _rows(inversion: Inversion, rows: Int[Tensor, " m"]) -> Inversion:
    """The codes and noise of some photos."""
    latents = inversion.latents
    rows = rows.to(latents.values.device)
    labels = None if latents.labels is None else latents.labels[rows]
    return replace(
        inversion,
        latents=replace(latents, values=latents.values[rows], labels=labels),
        losses={},
        history={},
        noise={name: maps[rows.to(maps.device)] for name, maps in inversion.noise.items()},
    )


def _moved(inversion: Inversion, edit: Callable[[Latents], Latents]) -> Inversion:
    return replace(inversion, latents=edit(inversion.latents))


def _pictures(generator: Generator, inversion: Inversion) -> Images:
    return with_noise_of(generator, inversion).synthesize(inversion.latents).images.clamp(-1, 1)
