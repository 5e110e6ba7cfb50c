"""The network that finds portraits in larger pictures: a map of where faces are, and five points for each.

It knows faces of one size, about that of a portrait of `SIDE` pixels; who searches for others shrinks or enlarges the
picture. The map and the offsets to the points from every cell are those of CenterNet (Zhou et al., "Objects as
points", 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from situ.packs.portraits.networks import _channels_last, _convolution, _precise
from situ.packs.portraits.renderer import LANDMARKS

SIDE = 64  # pixels: side of the portrait whose face has the size that the network knows
STRIDE = 4  # pixels from one cell of the map to the next
MULTIPLE = 16  # pictures' sides are multiples of this


@dataclass(frozen=True)
class LandmarkSettings:
    """The architecture of `LandmarkNetwork`."""

    widths: Sequence[int] = (16, 32, 64, 96)  # channels at a half, a quarter, an eighth and a sixteenth of the size
    points: int = len(LANDMARKS)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives lists


class LandmarkNetwork(nn.Module):
    """Pictures (n, 3, h, w) in [-1, 1], sides multiples of 16 -> where faces are, and their points seen from there.

    Returns a logit per cell that a face's centre (the mean of its points) lies in it, (n, h / 4, w / 4), and the
    points (x, y) in pixels from the cell's centre, (n, 5, 2, h / 4, w / 4).
    """

    def __init__(self, settings: LandmarkSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or LandmarkSettings()
        widths = settings.widths
        inputs = (3, *widths[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(_convolution(i, o, stride=2), _convolution(o, o)) for i, o in zip(inputs, widths, strict=True)
        )
        pairs = list(zip(widths[2:], widths[1:-1], strict=True))[::-1]  # (coarse, fine), down to a quarter
        self.lift = nn.ModuleList(_convolution(coarse, fine, size=1) for coarse, fine in pairs)
        self.merge = nn.ModuleList(_convolution(fine, fine) for _, fine in pairs)
        self.refine = nn.ModuleList(_convolution(fine, fine) for _, fine in pairs)
        self.heat = nn.Conv2d(widths[1], 1, 1)
        self.offsets = nn.Conv2d(widths[1], 2 * settings.points, 1)
        nn.init.constant_(self.heat.get_parameter("bias"), -4.0)  # faces are rare
        _channels_last(self)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n r c"], Float[Tensor, "n p 2 r c"]]:
        x = images.contiguous(memory_format=torch.channels_last)
        skips = []
        for level in self.levels:
            x = level(x)
            skips.append(x)
        for lift, merge, refine, skip in zip(self.lift, self.merge, self.refine, skips[-2:0:-1], strict=True):
            x = refine(merge(skip + functional.interpolate(lift(x), scale_factor=2.0, mode="nearest")))
        offsets = _precise(self.offsets(x)) * (SIDE / 4)
        return _precise(self.heat(x))[:, 0], offsets.unflatten(1, (self.settings.points, 2))


def cell_centres(rows: int, columns: int, device: torch.device) -> Float[Tensor, "2 rows columns"]:
    """(x, y) of every cell of the map in pixels of the picture."""
    y = (torch.arange(rows, device=device) + 0.5) * STRIDE
    x = (torch.arange(columns, device=device) + 0.5) * STRIDE
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))
