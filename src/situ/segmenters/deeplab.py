"""Things and stuff from the DeepLabs: 21 classes of Pascal VOC, 182 of COCO-Stuff."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from situ.core.errors import RegionError
from situ.networks.deeplab_v2 import COCO_STUFF_GROUPS, COCO_STUFF_LABELS, DeepLabV2
from situ.networks.deeplab_v3 import VOC_LABELS, DeepLabV3
from situ.segmenters.pixels import PixelSegmenter


def _require_classes(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise RegionError(f"the labels of {name} are {expected}, this network has {found} classes: give another file")


def deeplab_v3_segmenter(network: DeepLabV3, *, size: int | None = None) -> PixelSegmenter:
    """DeepLabV3 as a segmenter of Pascal VOC's classes.

    Args:
        size: pixels on the longer side of the answer; None for the network's 520 on the shorter.

    Raises:
        RegionError: a network of other classes.
    """
    _require_classes("DeepLabV3", network.settings.parts, len(VOC_LABELS))

    def scores(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p h2 w2"]:
        return network(network.input.prepare(images))

    return PixelSegmenter("DeepLabV3", VOC_LABELS, scores, size=size)


def deeplab_v2_segmenter(
    network: DeepLabV2,
    *,
    grouped: bool = False,
    as_lelsd: bool = False,
    size: int | Literal["eighth"] | None = None,
) -> PixelSegmenter:
    """DeepLabV2 as a segmenter of COCO-Stuff's classes.

    Args:
        grouped: sky, building, water and plant as one part each, in place of the 22 classes that they are made of.
        as_lelsd: feed red for blue and a square of 513 pixels, as the published LELSD does: to repeat its masks, not to
            get the right ones.
        size: pixels on the longer side of the answer; "eighth" leaves the logits as coarse as they are, without the
            memory of 182 large maps; None for the network's 513.

    Raises:
        RegionError: a network of other classes.
    """
    _require_classes("DeepLabV2", network.settings.parts, len(COCO_STUFF_LABELS))
    fed = network.input_as_lelsd if as_lelsd else network.input

    def scores(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p h2 w2"]:
        x = fed.prepare(images)
        return network(x) if size is None else network.logits(x)

    return PixelSegmenter(
        "DeepLabV2 (as LELSD)" if as_lelsd else "DeepLabV2",
        COCO_STUFF_LABELS,
        scores,
        groups=COCO_STUFF_GROUPS if grouped else None,
        size=None if size == "eighth" else size,
    )
