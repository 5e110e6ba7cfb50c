"""Train the pack's parser: which part of a portrait covers which pixel.

Cross-entropy against the renderer's soft masks, small parts weighing more, and a soft Dice term.

    python recipes/portraits/train_parser.py --minutes 17

Interrupt and start again at will: the run goes on from its last checkpoint (runs/parser).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.packs.portraits.networks import PortraitParser
from situ.packs.portraits.renderer import PARTS
from training import (
    Flaws,
    Plan,
    Renders,
    fit,
    held_out,
    plan_from_arguments,
    report,
    restore,
    rounded,
    store,
    training_renders,
)  # fmt: skip

PLAN = Plan(name="parser", minutes=17, batch=32, rate=3e-3)


def part_weights(renders: Renders) -> Float[Tensor, "p"]:
    """Weight of each part in the cross-entropy: its share of pixels to the power -1/4, 1 on average."""
    share = renders.masks[:2000].float().mean(dim=(0, 2, 3)) / 255
    weights = share**-0.25
    return weights / (weights * share).sum()


def parser_loss(
    logits: Float[Tensor, "n p h w"], masks: Float[Tensor, "n p h w"], weights: Float[Tensor, "p"]
) -> Float[Tensor, ""]:
    """Weighted cross-entropy + half of 1 - the mean soft Dice coefficient of the parts in the batch."""
    logs = functional.log_softmax(logits.float(), dim=1)
    entropy = -(masks * logs * weights[:, None, None]).sum(dim=1).mean()
    probabilities = logs.exp()
    together = (probabilities * masks).sum(dim=(0, 2, 3))
    apart = probabilities.square().sum(dim=(0, 2, 3)) + masks.square().sum(dim=(0, 2, 3))
    dice = (2 * together + 1) / (apart + 1)
    return entropy + 0.5 * (1 - dice.mean())


@torch.no_grad()
def intersection_over_union(
    network: PortraitParser, renders: Renders, flaws: Flaws | None = None
) -> tuple[Float[Tensor, "p"], Float[Tensor, "p"]]:
    """IoU of every part over all renders together: of the winning pixels, and of the soft masks."""
    rng = torch.Generator().manual_seed(0)
    both, either = torch.zeros(2, len(PARTS)), torch.zeros(2, len(PARTS))
    for rows in torch.arange(len(renders.images)).split(100):
        images, masks = renders.batch(rows)
        if flaws is not None:
            images, masks = flaws.spoil_masked(images, masks, rng)
        seen = network(images).softmax(dim=1)
        for kind, (a, b) in enumerate(((_winners(seen), _winners(masks)), (seen, masks))):
            both[kind] += torch.minimum(a, b).sum(dim=(0, 2, 3))
            either[kind] += torch.maximum(a, b).sum(dim=(0, 2, 3))
    hard, soft = both / either
    return hard, soft


def _winners(masks: Float[Tensor, "n p h w"]) -> Float[Tensor, "n p h w"]:
    """1 for the largest part of each pixel, 0 for the others."""
    return torch.zeros_like(masks).scatter_(1, masks.argmax(dim=1, keepdim=True), 1.0)


def main() -> None:
    plan = plan_from_arguments(__doc__, PLAN)
    renders, flaws = training_renders(plan), Flaws()
    weights = part_weights(renders)

    def loss_of(network: PortraitParser, rng: torch.Generator) -> Tensor:
        images, masks = flaws.spoil_masked(*renders.batch(renders.draw(plan.batch, rng)), rng)
        return parser_loss(network(images), masks, weights)

    path = store(fit(PortraitParser(), loss_of, plan), plan.name, {"parts": PARTS})
    network, test = restore(PortraitParser(), path), held_out(1000, plan.renders)
    clean, soft = intersection_over_union(network, test)
    flawed, _ = intersection_over_union(network, test, Flaws(share=1.0))
    figures = {
        "held_out": len(test.images),
        "mean_iou": round(clean.mean().item(), 4),
        "mean_iou_with_flaws": round(flawed.mean().item(), 4),
        "mean_soft_iou": round(soft.mean().item(), 4),
        "iou": rounded(clean, list(PARTS)),
        "soft_iou": rounded(soft, list(PARTS)),
        "iou_with_flaws": rounded(flawed, list(PARTS)),
    }
    report(figures, plan.name)


if __name__ == "__main__":
    main()
