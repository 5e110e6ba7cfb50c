"""Pictures about pictures: where something changed, and where a region lies."""

import torch
from jaxtyping import Float
from matplotlib import colormaps
from torch import Tensor
from torch.nn import functional

from situ.core.images import Images, resize
from situ.core.region import dilate


def enlarge(images: Images, size: int) -> Float[Tensor, "n 3 h2 w2"]:
    """Small pictures shown at a size a person can see, with smooth edges."""
    if images.shape[-1] >= size:
        return images
    return functional.interpolate(images, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


def outline(
    images: Images, mask: Float[Tensor, "n 1 h2 w2"], colour: tuple[float, float, float] = (1.0, 0.2, 0.6)
) -> Images:
    """Draw the edge of a region (where its mask passes one half) on pictures of any size."""
    inside = (resize(mask, (images.shape[-2], images.shape[-1])) > 0.5).to(images.dtype)
    edge = inside - -dilate(-inside, max(1, images.shape[-1] // 160))  # what an erosion takes away
    paint = images.new_tensor(colour)[None, :, None, None] * 2 - 1
    return images * (1 - edge) + paint * edge


def heat_map(before: Images, after: Images, full: float = 0.5) -> Images:
    """Root mean square change over RGB as colours, black (none) to yellow (`full` or more, of a range of 2)."""
    change = (after.clamp(-1, 1) - before.clamp(-1, 1)).square().mean(dim=1).sqrt() / full
    colours = torch.from_numpy(colormaps["inferno"](change.clamp(0, 1).cpu().numpy())[..., :3])
    return (colours.permute(0, 3, 1, 2).float() * 2 - 1).to(before)


def spotlight(images: Images, mask: Float[Tensor, "n 1 h2 w2"]) -> Images:
    """A region as it is, outlined, the rest faded."""
    soft = resize(mask, (images.shape[-2], images.shape[-1]))
    return outline(images * (0.35 + 0.65 * soft) - 0.3 * (1 - soft), mask)
