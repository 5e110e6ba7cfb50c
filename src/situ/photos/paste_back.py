"""Putting an edited crop back into its photo, and nothing but the edit.

A GAN's picture of a photo is never the photo. So only what the edit changed is put back, feathered, and by default as
the difference between the edited and the unedited picture added to the photo, which keeps the photo's own detail.
"poisson" fits the edited picture's gradients to the photo's colours round it (Pérez, Gangnet, Blake, "Poisson image
editing", 2003).
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import sparse
from scipy.sparse.linalg import spsolve
from torch import Tensor
from torch.nn import functional

from situ.core.errors import PhotoError
from situ.core.images import Images, Masks, resize
from situ.photos.align import Crop, extract, inverse, resample

Blend = Literal["difference", "replace", "poisson"]

MEMBRANE = 192  # pixels: side at which the Poisson equation is solved; its answer is smooth


@dataclass(frozen=True)
class PasteBack:
    """How an edited crop is put back."""

    blend: Blend = "difference"
    threshold: float = 0.02  # change of a colour, of its whole range, that counts as one
    feather: float = 0.04  # width of the soft edge, of the crop's side

    def __post_init__(self) -> None:
        if self.blend not in get_args(Blend):
            raise PhotoError(f"an edit is put back by {', '.join(get_args(Blend))}; got {self.blend}")
        if not 0 <= self.threshold < 1 or not 0 <= self.feather <= 0.5:
            raise PhotoError(
                f"the threshold is 0 to 1 and the feather 0 to 0.5 of the side, got {self.threshold}, {self.feather}"
            )

    def mask(self, before: Images, after: Images) -> Masks:
        """1 where the edit changed the picture, 0 a feather's width away from there and on the crop's border."""
        change = (after.clamp(-1, 1) - before.clamp(-1, 1)).abs().amax(dim=1, keepdim=True) / 2
        changed = (change > self.threshold).to(before.dtype)
        half = round(self.feather * before.shape[-1] / 2)
        if half == 0 or not changed.any():
            return changed
        # grown by as much as the blur then takes away: still 1 where something changed
        grown = (_averaged(changed, half) > 0).to(changed.dtype)
        soft = _averaged(_averaged(grown, half // 2), half - half // 2)
        return soft * _away_from_border(before, 2 * half)

    def __call__(
        self, photo: Images, crop: Crop, before: Float[Tensor, "m 3 s s"], after: Float[Tensor, "m 3 s s"]
    ) -> Float[Tensor, "1 3 h w"]:
        """The photo with the edit in it; where nothing changed, its own pixels to the bit.

        Args:
            photo: (1, 3, h, w) in [-1, 1].
            crop: where the picture was cut.
            before: (1, 3, s, s), the unedited picture as the generator makes it.
            after: the same, edited.

        Raises:
            PhotoError: pictures of two sizes, or not of one photo.
        """
        if before.shape != after.shape or len(photo) != 1 or len(before) != 1 or before.shape[-1] != before.shape[-2]:
            raise PhotoError(
                "an edit is put back from two square pictures of one size into one photo, got "
                f"{tuple(before.shape)}, {tuple(after.shape)} and {tuple(photo.shape)}"
            )
        before, after = before.to(photo).clamp(-1, 1), after.to(photo).clamp(-1, 1)
        mask = self.mask(before, after)
        place = _place(photo, crop, mask)
        if place is None:
            return photo.clone()
        there = photo[place]
        if self.blend == "difference":
            opacity, pasted = _in_photo(mask, crop, place), there + _in_photo(after - before, crop, place)
        else:
            if self.blend == "poisson":
                seen = extract(photo, crop, before.shape[-1])
                after = after + _membrane(seen - after, mask > 0)
            opacity, pasted = _in_photo(mask, crop, place), _in_photo(after, crop, place)
        result = photo.clone()
        blended = torch.lerp(there, pasted.clamp(-1, 1), opacity.clamp(0, 1))
        result[place] = torch.where(opacity > 1 / 512, blended, there)
        return result


Place = tuple[slice, slice, slice, slice]


def _place(photo: Images, crop: Crop, mask: Float[Tensor, "1 1 s s"]) -> Place | None:
    """The part of the photo that the mask reaches; None where it reaches nothing."""
    rows, columns = mask[0, 0].any(dim=1).nonzero(), mask[0, 0].any(dim=0).nonzero()
    if not len(rows):
        return None
    size = mask.shape[-1]
    top, bottom, left, right = rows.min() - 2, rows.max() + 3, columns.min() - 2, columns.max() + 3
    corners = torch.tensor([[left, top], [right, top], [left, bottom], [right, bottom]], dtype=torch.float64)
    corners = crop.to_photo(corners * (crop.size / size))
    low, high = corners.amin(dim=0).floor().clamp(min=0), corners.amax(dim=0).ceil()
    height, width = photo.shape[-2:]
    left, top = (int(each) for each in low)
    right, bottom = min(width, int(high[0])), min(height, int(high[1]))
    if right <= left or bottom <= top:
        return None
    return slice(None), slice(None), slice(top, bottom), slice(left, right)


def _in_photo(picture: Float[Tensor, "1 c s s"], crop: Crop, place: Place) -> Float[Tensor, "1 c h w"]:
    """A picture of the crop as it lies in a part of the photo."""
    _, _, rows, columns = place
    to_crop = inverse(crop.matrix()) * (picture.shape[-1] / crop.size)
    shift = to_crop[:, :2] @ torch.tensor([columns.start, rows.start], dtype=torch.float64)
    matrix = torch.cat([to_crop[:, :2], (to_crop[:, 2] + shift)[:, None]], dim=1)
    return resample(picture, matrix, (rows.stop - rows.start, columns.stop - columns.start), "border")


def _averaged(mask: Masks, radius: int) -> Masks:
    """The mean over the square of `radius` pixels each way, one axis after the other."""
    size = 2 * radius + 1
    padded = functional.pad(mask, (radius, radius, radius, radius), mode="replicate")
    return functional.avg_pool2d(functional.avg_pool2d(padded, (size, 1), 1), (1, size), 1)


def _away_from_border(picture: Images, radius: int) -> Masks:
    """0 on a picture's border, rising smoothly to 1 at `radius` pixels from it."""
    size = picture.shape[-1]
    line = torch.arange(size, device=picture.device, dtype=picture.dtype)
    from_edge = (torch.minimum(line, size - 1 - line) / radius).clamp(max=1)
    ramp = 0.5 - 0.5 * torch.cos(math.pi * from_edge)
    return torch.minimum(ramp[:, None], ramp[None, :])[None, None]


def _membrane(boundary: Float[Tensor, "1 3 s s"], inside: Bool[Tensor, "1 1 s s"]) -> Float[Tensor, "1 3 s s"]:
    """What is given outside, and inside the smoothest that meets it there: the solution of Laplace's equation."""
    size = boundary.shape[-1]
    smaller = min(size, MEMBRANE)
    given = resize(boundary, smaller)[0].double().cpu().numpy()  # (3, s, s)
    # what lies inside but for a fraction of a pixel is taken as outside: there has to be an outside
    unknown = resize(inside.to(boundary), smaller)[0, 0].cpu().numpy() > 0.5
    unknown[[0, -1]] = unknown[:, [0, -1]] = False
    if not unknown.any():
        return boundary
    number = np.full(unknown.shape, -1)
    number[unknown] = np.arange(unknown.sum())
    rows, columns = unknown.nonzero()
    right_side = np.zeros((len(rows), 3))
    entries, at, of = [np.full(len(rows), 4.0)], [number[unknown]], [number[unknown]]
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        neighbour = number[rows + down, columns + right]
        free = neighbour >= 0
        entries.append(np.full(free.sum(), -1.0))
        at.append(number[unknown][free])
        of.append(neighbour[free])
        right_side[~free] += given[:, (rows + down)[~free], (columns + right)[~free]].T
    laplace = sparse.csc_matrix((np.concatenate(entries), (np.concatenate(at), np.concatenate(of))))
    smooth = given.copy()
    smooth[:, unknown] = spsolve(laplace, right_side).T
    return resize(torch.from_numpy(smooth)[None].to(boundary), size)
