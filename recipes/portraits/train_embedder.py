"""Train the pack's identity embedder: one person close, two people apart.

Views of a person share the identity factors; pose, light, expression, surroundings and what is put on are
drawn anew. Every person has a lookalike with the same hair, skin and beard but another face, so that colours
alone do not suffice. The loss is NT-Xent (Chen et al., "A simple framework for contrastive learning", 2020,
eq. 1) with the lookalikes among the negatives.

    python recipes/portraits/train_embedder.py --minutes 8

Interrupt and start again at will: the run goes on from its last checkpoint (runs/embedder).
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.images import from_bytes
from situ.packs.portraits.networks import IdentityEmbedder
from situ.packs.portraits.renderer import FACTORS, sample_factors
from training import HELD_OUT_SEED, Flaws, Plan, fit, plan_from_arguments, rendered, report, restore, store

PLAN = Plan(name="embedder", minutes=8, batch=128, rate=3e-3)
FLAWS = Flaws(warp=0.4, colour=0.4, clouds=0.08, blotch=0.4)
VIEWS = 3  # rendered of every person
TEMPERATURE = 0.1

IDENTITY = torch.tensor([factor.identity for factor in FACTORS])
SHARED = IDENTITY & torch.tensor(
    [f.part in ("hair", "beard") or f.name == "skin_tone" for f in FACTORS]
)  # by lookalikes


def people(families: int, views: int, rng: torch.Generator) -> Float[Tensor, "families 2 views f"]:
    """Factors of `families` pairs of lookalikes, each person in `views` circumstances."""
    person, other = sample_factors(families, rng), sample_factors(families, rng)
    lookalike = torch.where(SHARED, person, other)
    everyone = torch.stack([person, lookalike], dim=1)[:, :, None]
    circumstances = sample_factors(families * 2 * views, rng).view(families, 2, views, -1)
    return torch.where(IDENTITY, everyone, circumstances)


def nt_xent(vectors: Float[Tensor, "2 n d"], temperature: float = TEMPERATURE) -> Float[Tensor, ""]:
    """Cross-entropy of finding a vector's other view among all other vectors."""
    n = vectors.shape[1]
    flat = vectors.flatten(0, 1)
    likeness = (flat @ flat.T / temperature).float()
    likeness.fill_diagonal_(-torch.inf)
    return functional.cross_entropy(likeness, torch.arange(2 * n).roll(n))


def verification(same: Float[Tensor, "p"], different: Float[Tensor, "q"]) -> dict[str, float]:
    """AUC over all pairs; accuracy on the second halves at the threshold that is best on the first halves."""
    negatives = different.sort().values
    below = torch.searchsorted(negatives, same).double()
    auc = (below / len(negatives)).mean().item()
    halves = [(same[i::2], different[i::2].sort().values) for i in (0, 1)]

    def accuracy(thresholds: Tensor, half: tuple[Tensor, Tensor]) -> Tensor:
        positives = half[0].sort().values
        right_same = 1 - torch.searchsorted(positives, thresholds).double() / len(positives)
        return (right_same + torch.searchsorted(half[1], thresholds).double() / len(half[1])) / 2

    thresholds = torch.linspace(-1, 1, 2001)
    best = thresholds[accuracy(thresholds, halves[0]).argmax()]
    figures = {"auc": auc, "accuracy": accuracy(best[None], halves[1]).item(), "threshold": best.item()}
    return {name: round(value, 4) for name, value in figures.items()}


@torch.no_grad()
def embed(network: IdentityEmbedder, images: Tensor, flaws: Flaws | None = None) -> Float[Tensor, "n d"]:
    """Vectors of pictures given as bytes."""
    rng, vectors = torch.Generator().manual_seed(0), []
    for chunk in images.split(100):
        pictures = from_bytes(chunk)
        if flaws is not None:
            pictures = flaws.spoil(pictures, rng)
        vectors.append(network(pictures))
    return torch.cat(vectors)


def likenesses(vectors: Float[Tensor, "families 2 2 d"]) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines of views of one person, of strangers (all pairs of families), and of lookalikes."""
    first, second = vectors[:, :, 0], vectors[:, :, 1]
    same = (first * second).sum(dim=-1).flatten()
    strangers = first[:, 0] @ second[:, 0].T
    apart = strangers[~torch.eye(len(strangers), dtype=torch.bool)]
    return same, apart, (first * second.flip(1)).sum(dim=-1).flatten()


def main() -> None:
    plan = plan_from_arguments(__doc__, PLAN)
    families = plan.pictures // (2 * VIEWS)
    factors = people(families, VIEWS, torch.Generator().manual_seed(plan.seed + 1))
    renders = rendered(factors.flatten(0, 2), plan.renders, with_masks=False)
    images = renders.images.view(families, 2, VIEWS, 3, *renders.images.shape[-2:])

    def loss_of(network: IdentityEmbedder, rng: torch.Generator) -> Tensor:
        chosen = torch.randint(families, [plan.batch // 4], generator=rng)
        first = torch.randint(VIEWS, [1], generator=rng)
        second = (first + 1 + torch.randint(VIEWS - 1, [1], generator=rng)) % VIEWS
        pair = torch.stack([images[chosen][:, :, int(view)].flatten(0, 1) for view in (first, second)])
        pictures = FLAWS.spoil(from_bytes(pair.flatten(0, 1)), rng)
        return nt_xent(network(pictures).unflatten(0, (2, -1)))

    network = fit(IdentityEmbedder(), loss_of, plan)
    path = store(network, plan.name, {"identity": [f.name for f in FACTORS if f.identity]})
    network = restore(IdentityEmbedder(), path)
    unseen = people(500, 2, torch.Generator().manual_seed(HELD_OUT_SEED))
    test = rendered(unseen.flatten(0, 2), plan.renders, with_masks=False)
    same, strangers, lookalikes = likenesses(embed(network, test.images).view(500, 2, 2, -1))
    spoilt = embed(network, test.images, replace(FLAWS, share=1.0))
    flawed = likenesses(spoilt.view(500, 2, 2, -1))
    figures = {
        "held_out_people": 1000,
        "strangers": verification(same, strangers),
        "lookalikes": verification(same, lookalikes),
        "strangers_with_flaws": verification(flawed[0], flawed[1]),
        "mean_cosine": {
            "same": round(same.mean().item(), 4),
            "strangers": round(strangers.mean().item(), 4),
            "lookalikes": round(lookalikes.mean().item(), 4),
        },
    }
    report(figures, plan.name)


if __name__ == "__main__":
    main()
