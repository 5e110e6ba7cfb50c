"""Parts of faces from BiSeNet, and a check that its labels are read in the right order.

Two orders of the 19 labels are in use: the one of the face-parsing project whose weights most editors take, and the
official one of CelebAMask-HQ. Both have as many, so a file cannot tell; `implausible_order` looks at what comes out.

Whether "l_eye" is the left eye of the person or of the viewer is not determined: CelebAMask-HQ does not say, and the
published training flips pictures with the sides exchanged. Ask for "l_eye+r_eye", or use the groups, where it matters.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.errors import RegionError
from situ.networks.bisenet import BiSeNet
from situ.segmenters.pixels import PixelSegmenter

FACE_PARSING_LABELS = (
    *("background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eyeglass", "l_ear", "r_ear", "earrings"),
    *("nose", "mouth", "u_lip", "l_lip", "neck", "necklace", "cloth", "hair", "hat"),
)
CELEBAMASK_LABELS = (
    *("background", "skin", "nose", "eyeglass", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear"),
    *("mouth", "u_lip", "l_lip", "hair", "hat", "earrings", "necklace", "neck", "cloth"),
)
Order = Literal["face-parsing", "celebamask-hq"]
ORDERS: Mapping[str, tuple[str, ...]] = {"face-parsing": FACE_PARSING_LABELS, "celebamask-hq": CELEBAMASK_LABELS}

FACE_GROUPS: Mapping[str, tuple[str, ...]] = {
    "eyes": ("l_eye", "r_eye"),
    "brows": ("l_brow", "r_brow"),
    "ears": ("l_ear", "r_ear"),
    "lips": ("u_lip", "l_lip"),
}

_ABOVE = (  # in upright faces
    *(("brows", "eyes"), ("eyes", "nose"), ("nose", "lips"), ("nose", "mouth"), ("u_lip", "l_lip")),
    *(("eyes", "mouth"), ("hair", "mouth"), ("hair", "neck"), ("lips", "neck"), ("lips", "cloth"), ("hat", "nose")),
)
_LARGER = (("skin", "eyes"), ("skin", "nose"), ("skin", "lips"), ("skin", "brows"), ("hair", "brows"))
_SEEN = 2e-4  # share of a picture that a part must have to be judged


def bisenet_segmenter(
    network: BiSeNet,
    labels: Order | Sequence[str] = "face-parsing",
    *,
    grouped: bool = False,
    size: int | None = None,
) -> PixelSegmenter:
    """A face parser as a segmenter.

    Args:
        labels: the order of the channels, or their names.
        grouped: both eyes, brows, ears and lips as one part each.
        size: pixels on a side of the answer; None for the network's 512.

    Raises:
        RegionError: an unknown order, or not a name for every channel.
    """
    names = ORDERS.get(labels) if isinstance(labels, str) else labels
    if names is None:
        raise RegionError(f'orders of face labels are {", ".join(ORDERS)}; got "{labels}"')
    if len(names) != network.settings.parts:
        raise RegionError(f"this network tells {network.settings.parts} parts apart, got {len(names)} names")

    def scores(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p h2 w2"]:
        return network(network.input.prepare(images))

    return PixelSegmenter("BiSeNet", names, scores, groups=FACE_GROUPS if grouped else None, size=size)


def implausible_order(segmentation: Float[Tensor, "n p h w"], parts: Sequence[str]) -> list[str]:
    """What is odd about the labels of upright faces; nothing where their order is right.

    Args:
        segmentation: probabilities of pictures, best of several.
        parts: what the channels are called.

    Returns:
        Sentences such as "nose is below lips in 8 of 9 pictures", of what is so in most pictures that show both.
    """
    winners = torch.nn.functional.one_hot(segmentation.argmax(dim=1), len(parts)).permute(0, 3, 1, 2).double()
    maps = {part: winners[:, i] for i, part in enumerate(parts)}
    for group, members in FACE_GROUPS.items():
        if group not in maps and all(member in maps for member in members):
            maps[group] = maps[members[0]] + maps[members[1]]
    height = segmentation.shape[-2]
    rows = torch.arange(height, device=segmentation.device, dtype=torch.float64)[:, None]
    area = {part: each.mean(dim=(1, 2)) for part, each in maps.items()}
    row = {part: (each * rows).sum(dim=(1, 2)) / each.sum(dim=(1, 2)) for part, each in maps.items()}
    found = []
    for pairs, measure, word in ((_ABOVE, row, "below"), (_LARGER, area, "smaller than")):
        for a, b in pairs:
            if a not in maps or b not in maps:
                continue
            seen = (area[a] > _SEEN) & (area[b] > _SEEN)
            wrong = measure[a] > measure[b] if word == "below" else measure[a] < measure[b]
            count, of = int((wrong & seen).sum()), int(seen.sum())
            if 2 * count > of:
                found.append(f"{a} is {word} {b} in {count} of {of} pictures")
    return found
