"""The pack's own landmark finder: portraits of any size in a photo, found by shrinking it step by step.

Every size of the photo goes through `LandmarkNetwork`, which knows faces of one size. What it finds is sorted out over
all sizes, and each face is read once more from its own crop, upright and of the very size that the network knows best.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.errors import PhotoError
from situ.core.images import Images, resize
from situ.packs.portraits.landmark_network import MULTIPLE, SIDE, LandmarkNetwork, cell_centres
from situ.photos.align import Framing, extract, face_crop

PORTRAIT = Framing(eyes=1.904, mouth=1.7, down=0.12)
"""The framing in which a rendered portrait fills its own picture on the average."""


@dataclass(frozen=True)
class PortraitLandmarks:
    """Finds the five points of rendered and generated portraits."""

    network: LandmarkNetwork
    smallest: float = 1 / 16  # portrait's side in the photo's longer side; smaller ones are not looked for
    step: float = 2**0.5  # from one size to the next
    candidate: float = 0.15  # probability at which a cell is looked at again
    certain: float = 0.4  # probability, second time, at which it is a face
    most: int = 64  # faces

    def find(self, photo: Images) -> list[Float[Tensor, "5 2"]]:
        """See `LandmarkFinder.find`; from left to right."""
        if min(photo.shape[-2:]) < 8:
            raise PhotoError(f"a photo of {photo.shape[-1]} x {photo.shape[-2]} pixels shows no face")
        photo = photo.to(self.network.heat.weight)
        with torch.no_grad():
            points, heat = self._candidates(photo)
            found: list[Tensor] = []
            for i in heat.argsort(descending=True).tolist():
                if len(found) < self.most and not any(_is_same(points[i], face) for face in found):
                    face, _ = self._again(photo, points[i])
                    face, certainty = self._again(photo, face)
                    if certainty > self.certain and not any(_is_same(face, other) for other in found):
                        found.append(face)
        return sorted((face.cpu() for face in found), key=lambda face: float(face[:, 0].mean()))

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """The (rows, columns) that a photo is looked at in, largest first; never more than twice its own."""
        longer = max(height, width)
        scale = min(SIDE / (self.smallest * longer), 2.0)
        sizes = []
        while scale * longer >= 0.7 * SIDE:
            sizes.append((max(1, round(height * scale)), max(1, round(width * scale))))
            scale /= self.step
        return sizes or [(SIDE, max(1, round(SIDE * width / height)))]

    def _candidates(self, photo: Images) -> tuple[Float[Tensor, "f 5 2"], Float[Tensor, " f"]]:
        """Faces as first seen, many of them several times, and how certain they are."""
        height, width = photo.shape[-2:]
        points, certainties, picture = [], [], photo
        for rows, columns in self.sizes(height, width):
            picture = resize(picture, (rows, columns))  # from the size before: the photo may be large
            padded = functional.pad(picture, (0, -columns % MULTIPLE, 0, -rows % MULTIPLE), mode="replicate")
            heat, offsets = self.network(padded)
            heat = heat.sigmoid()
            is_top = (functional.max_pool2d(heat, 3, 1, 1) == heat) & (heat > self.candidate)
            _, r, c = is_top.nonzero(as_tuple=True)
            cells = cell_centres(heat.shape[1], heat.shape[2], heat.device)
            found = offsets[0, :, :, r, c] + cells[:, r, c]  # (5, 2, f)
            points.append(found.permute(2, 0, 1) * heat.new_tensor([width / columns, height / rows]))
            certainties.append(heat[0, r, c])
        return torch.cat(points), torch.cat(certainties)

    def _again(self, photo: Images, points: Float[Tensor, "5 2"]) -> tuple[Float[Tensor, "5 2"], float]:
        """The points of one face, read from its own crop, and the probability that it is one."""
        try:
            crop = face_crop(points, SIDE, PORTRAIT, smallest=0.0)
        except PhotoError:  # candidates need be no faces
            return points, 0.0
        heat, offsets = self.network(extract(photo, crop))
        cells = cell_centres(heat.shape[1], heat.shape[2], heat.device)
        certain = heat[0].sigmoid()
        near = certain * ((cells - SIDE / 2).square().sum(dim=0) < (SIDE / 6) ** 2)
        weight = near.square() / near.square().sum().clamp(min=1e-12)
        found = ((offsets[0] + cells) * weight).sum(dim=(2, 3))
        return crop.to_photo(found), float(near.max())


def _is_same(face: Float[Tensor, "5 2"], other: Float[Tensor, "5 2"]) -> bool:
    """Whether two are one face: their centres closer than half the larger's extent."""
    extent = max(float((each - each.mean(dim=0)).norm(dim=1).max()) for each in (face, other))
    return float((face.mean(dim=0) - other.mean(dim=0)).norm()) < extent
