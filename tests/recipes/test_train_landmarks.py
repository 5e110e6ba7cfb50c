"""What the landmark finder learns from: portraits on canvases, and a loss that the truth alone makes small."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from situ.core.images import to_bytes
from situ.packs.portraits import renderer
from situ.packs.portraits.landmark_network import SIDE, STRIDE, LandmarkNetwork, cell_centres
from situ.packs.portraits.portraits import open_portraits

RECIPES = Path(__file__).parents[2] / "recipes" / "portraits"


@pytest.fixture(scope="module")
def recipe() -> Iterator[ModuleType]:
    sys.path.insert(0, str(RECIPES))
    try:
        import train_landmarks

        yield train_landmarks
    finally:
        sys.path.remove(str(RECIPES))


@pytest.fixture(scope="module")
def renders(recipe: ModuleType) -> object:
    factors = renderer.sample_factors(40, torch.Generator().manual_seed(0))
    drawn = renderer.render(factors, SIDE)
    return recipe.Renders(to_bytes(drawn.images), (drawn.masks * 255).round().to(torch.uint8), factors)


def ideal(truth: object, points: Tensor, counts: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The answer that a perfect network would give: certain at the centres, all points seen from there."""
    cells = cell_centres(size // STRIDE, size // STRIDE, points.device)
    n, k = counts.shape
    heat, offsets = torch.full((n, *cells.shape[1:]), -9.0), torch.zeros(n, 5, 2, *cells.shape[1:])
    for i in range(n):
        best = torch.full(cells.shape[1:], 1e9)
        for j in range(k):
            if counts[i, j]:
                away = (cells - points[i, j].mean(dim=0)[:, None, None]).norm(dim=0)
                nearer = away < best
                best = torch.where(nearer, away, best)
                offsets[i] = torch.where(nearer, points[i, j][:, :, None, None] - cells, offsets[i])
                heat[i] = torch.where(away < 0.75 * STRIDE, 9.0, heat[i])
    return heat, offsets


def test_canvases_show_portraits_where_they_say(recipe: ModuleType, renders: object, rng: torch.Generator) -> None:
    canvases = recipe.placed(renders, 40, rng)
    assert canvases.images.abs().max() <= 1
    assert canvases.counts.any(dim=1).float().mean() > 0.5
    assert not (canvases.counts & canvases.unclear).any()
    # the network that has learnt it agrees with the truth, which it has not seen
    found = recipe.judged(open_portraits().landmarks, recipe.placed(renders, 12, rng, size=256, near=0.0), 48)
    assert found.faces >= 5
    assert len(found.errors) >= 0.8 * found.faces
    assert found.errors.mean() < 0.06


def test_the_truth_has_the_smallest_loss(recipe: ModuleType, renders: object, rng: torch.Generator) -> None:
    truth = recipe.placed(renders, 8, rng)
    heat, offsets = ideal(truth, truth.points, truth.counts, recipe.CANVAS)
    best = float(recipe.landmark_loss(heat, offsets, truth))
    assert best < 0.5
    assert float(recipe.landmark_loss(heat, offsets + 3, truth)) == pytest.approx(best + 3, abs=0.2)
    assert float(recipe.landmark_loss(heat.flip(2), offsets, truth)) > best + 2
    assert float(recipe.landmark_loss(torch.full_like(heat, -9.0), offsets, truth)) > best + 2


def test_a_step_makes_the_loss_smaller(recipe: ModuleType, renders: object, rng: torch.Generator) -> None:
    torch.manual_seed(0)
    network, truth = LandmarkNetwork(), recipe.placed(renders, 4, rng)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(8):
        loss = recipe.landmark_loss(*network(truth.images), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
