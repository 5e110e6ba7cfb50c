"""Train the pack's predictor: the renderer's factors and attributes, read from a picture.

Squared error of each factor over its variance (so that 1 - loss is R^2), for hues the chord of the circle,
and the attributes' cross-entropy.

    python recipes/portraits/train_predictor.py --minutes 10

Interrupt and start again at will: the run goes on from its last checkpoint (runs/predictor).
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from situ.core.images import from_bytes
from situ.packs.portraits.networks import CIRCULAR, FactorPredictor
from situ.packs.portraits.renderer import ATTRIBUTES, FACTORS, attributes
from training import (
    Flaws,
    Plan,
    Renders,
    column,
    fit,
    held_out,
    plan_from_arguments,
    report,
    restore,
    rounded,
    store,
    training_renders,
)  # fmt: skip

PLAN = Plan(name="predictor", minutes=10, batch=64, rate=3e-3)
FLAWS = Flaws(warp=0.15, colour=0.3, clouds=0.08, blotch=0.3)  # mild where it changes the factors themselves


def difference(predicted: Float[Tensor, "n f"], true: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
    """Predicted minus true; for hues the shorter way round the circle."""
    circular = torch.zeros(len(FACTORS), dtype=torch.bool)
    circular[list(CIRCULAR)] = True
    gap = predicted - true
    return torch.where(circular, gap - gap.round(), gap)


def predictor_loss(
    predicted: Float[Tensor, "n f"],
    logits: Float[Tensor, "n a"],
    true: Float[Tensor, "n f"],
    variance: Float[Tensor, "f"],
) -> Float[Tensor, ""]:
    """Mean 1 - R^2 of the factors (hues: half the squared chord) + the attributes' cross-entropy."""
    gap = difference(predicted, true)
    errors = gap.square() / variance
    hues = list(CIRCULAR)
    errors[:, hues] = 1 - torch.cos(2 * math.pi * gap[:, hues])
    return errors.mean() + functional.binary_cross_entropy_with_logits(logits, attributes(true).float())


@torch.no_grad()
def predict(network: FactorPredictor, renders: Renders, flaws: Flaws | None = None) -> tuple[Tensor, Tensor]:
    """Factors (n, f) and attribute logits (n, a) of all renders."""
    rng, answers = torch.Generator().manual_seed(0), []
    for chunk in renders.images.split(100):
        images = from_bytes(chunk)
        if flaws is not None:
            images = flaws.spoil(images, rng)
        answers.append(network(images))
    return torch.cat([factors for factors, _ in answers]), torch.cat([logits for _, logits in answers])


def explained(predicted: Float[Tensor, "n f"], true: Float[Tensor, "n f"]) -> Float[Tensor, "f"]:
    """R^2 of every factor: 1 - mean squared error / variance."""
    return 1 - difference(predicted, true).square().mean(dim=0) / true.var(dim=0, unbiased=False)


def balanced_accuracy(logits: Float[Tensor, "n a"], true: Bool[Tensor, "n a"]) -> Float[Tensor, "a"]:
    """Mean of the share of yes and the share of no that are answered rightly."""
    says = logits > 0
    yes = (says & true).sum(dim=0) / true.sum(dim=0)
    no = (~says & ~true).sum(dim=0) / (~true).sum(dim=0)
    return (yes + no) / 2


def where_it_shows(true: Float[Tensor, "n f"]) -> dict[str, Bool[Tensor, "n"]]:
    """For factors that something can hide, the portraits in which nothing does."""

    def value(name: str) -> Tensor:
        return true[:, column(name)]

    open_eyes, bare_chin = value("eye_closure") < 0.6, value("beard") < 0.3
    short_hair = value("hair_length") < 0.3
    return {
        "gaze_x": open_eyes,
        "gaze_y": open_eyes,
        "iris_colour": open_eyes & (value("glasses") < 0.5),
        "lipstick_colour": value("lipstick") > 0.5,
        "blush": bare_chin,
        "jaw": bare_chin & short_hair,
        "neck_width": short_hair,
        "ear_size": short_hair & ((value("yaw") - 0.5).abs() < 0.25),
        "hair_parting": value("hair_fringe") < 0.3,
        "hair_wave": value("hair_length") > 0.45,
    }


def main() -> None:
    plan = plan_from_arguments(__doc__, PLAN)
    renders = training_renders(plan)
    variance = renders.factors.var(dim=0)

    def loss_of(network: FactorPredictor, rng: torch.Generator) -> Tensor:
        rows = renders.draw(plan.batch, rng)
        factors, logits = network(FLAWS.spoil(from_bytes(renders.images[rows]), rng))
        return predictor_loss(factors, logits, renders.factors[rows], variance)

    names, questions = [factor.name for factor in FACTORS], [attribute.name for attribute in ATTRIBUTES]
    network = fit(FactorPredictor(), loss_of, plan)
    path = store(network, plan.name, {"factors": names, "attributes": questions})
    network, test = restore(FactorPredictor(), path), held_out(1000, plan.renders)
    factors, logits = predict(network, test)
    flawed_factors, flawed_logits = predict(network, test, replace(FLAWS, share=1.0))
    truth = attributes(test.factors)
    r2, accuracy = explained(factors, test.factors), balanced_accuracy(logits, truth)
    shown = {
        name: round(explained(factors[rows], test.factors[rows])[column(name)].item(), 4)
        for name, rows in where_it_shows(test.factors).items()
    }
    figures = {
        "held_out": len(test.images),
        "mean_r2": round(r2.mean().item(), 4),
        "mean_r2_with_flaws": round(explained(flawed_factors, test.factors).mean().item(), 4),
        "mean_balanced_accuracy": round(accuracy.mean().item(), 4),
        "mean_balanced_accuracy_with_flaws": round(balanced_accuracy(flawed_logits, truth).mean().item(), 4),
        "r2": rounded(r2, names),
        "r2_where_it_shows": shown,
        "balanced_accuracy": rounded(accuracy, questions),
    }
    report(figures, plan.name)


if __name__ == "__main__":
    main()
