"""What the encoder learns from: known codes cost nothing, and a few steps make the loss smaller."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from situ.packs.pack import Pack
from situ.packs.portraits.portraits import open_portraits
from situ.packs.portraits.renderer import render, sample_factors

RECIPES = Path(__file__).parents[2] / "recipes" / "portraits"


@pytest.fixture(scope="module")
def recipe() -> Iterator[ModuleType]:
    sys.path.insert(0, str(RECIPES))
    try:
        import train_encoder  # pyright: ignore[reportMissingImports]

        yield train_encoder
    finally:
        sys.path.remove(str(RECIPES))


@pytest.fixture(scope="module")
def pack() -> Pack:
    return open_portraits()


@pytest.fixture(scope="module")
def portraits() -> Tensor:
    return render(sample_factors(4, torch.Generator().manual_seed(3)), 64).images


def test_known_codes_have_known_pictures(recipe: ModuleType, pack: Pack, rng: torch.Generator) -> None:
    codes, images = recipe.drawn(pack, 2, 0.7, rng)
    found = recipe.pictures_of(pack, codes).clamp(-1, 1)
    for value in recipe.losses(pack, found, images).values():
        torch.testing.assert_close(value, torch.zeros(2), rtol=0, atol=1e-5)
    for value in recipe.losses(pack, found.flip(0), images).values():
        assert (value > 1e-3).all()


def test_an_untrained_encoder_says_the_mean(recipe: ModuleType, pack: Pack, portraits: Tensor) -> None:
    network = recipe.untrained(pack).eval()
    _, deviations = network.parts(portraits)
    assert deviations.abs().max() == 0
    mean = pack.generator.mapping.w_avg  # pyright: ignore[reportAttributeAccessIssue]
    torch.nn.init.zeros_(network.base.weight)
    torch.nn.init.zeros_(network.base.bias)
    torch.testing.assert_close(network(portraits), mean.expand(4, 10, -1))


def test_every_term_is_in_the_loss(
    recipe: ModuleType, pack: Pack, portraits: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = recipe.untrained(pack).eval()
    torch.nn.init.normal_(network.deviations.bias, std=0.2)

    def loss() -> float:
        return recipe.loss(pack, network, portraits, torch.Generator().manual_seed(0)).item()

    full = loss()
    for weight in ("MSE", "PERCEPTUAL", "IDENTITY", "DEVIATION", "CODE"):
        with monkeypatch.context() as patch:
            patch.setattr(recipe, weight, 0.0)
            assert loss() < full - 1e-4


def test_it_learns(recipe: ModuleType, pack: Pack, portraits: Tensor) -> None:
    torch.manual_seed(0)
    network = recipe.untrained(pack)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    found = []
    for _ in range(12):
        loss = recipe.loss(pack, network, portraits, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.8 * found[0]


def test_figures_leave_the_network_as_it_was(recipe: ModuleType, pack: Pack, portraits: Tensor) -> None:
    network = recipe.untrained(pack).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    figures = recipe.figures(network, pack, portraits)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert figures["deviation"] == 0
    assert 0.9 < figures["generated_code"] < 3  # of no use yet
