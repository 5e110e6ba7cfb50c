"""The first-order optimum of the localisation score: on matrices, on toys, and as the start of a search."""

from dataclasses import replace

import pytest
import torch

from situ.core.errors import JacobianError, SituError
from situ.core.latents import parse_subspace
from situ.core.localization import localization_scores
from situ.core.progress import Progress
from situ.core.region import Box
from situ.discovery.first_order import FirstOrder, _grouped, maximise_quotients, reached, scored_layers
from situ.discovery.lelsd import LELSD
from situ.discovery.resefa import ReSeFa
from toys import TileGenerator, tiny_stylegan2

GAN = tiny_stylegan2()
REGION = Box(4, 4, 8, 8)
RNG = torch.Generator


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_quotient_is_an_eigenvalue_problem() -> None:
    rng = seeded()
    half = torch.randn(10, 10, generator=rng)
    total = half @ half.T / 10 + 0.5 * torch.eye(10)
    some = torch.randn(10, 3, generator=rng)
    inside = some @ some.T
    inside = inside / torch.linalg.eigvals(torch.linalg.solve(total, inside)).real.max()
    c, scores = maximise_quotients(inside[None, None], total[None], torch.ones(1), 1, 0.0)
    assert scores.item() == pytest.approx(1, abs=0.01)
    quotient = (c[0, 0] @ inside @ c[0, 0]) / (c[0, 0] @ total @ c[0, 0])
    assert quotient.item() == pytest.approx(scores.item(), rel=1e-3)


def test_the_mean_of_quotients_is_maximised_not_the_quotient_of_means() -> None:
    """A layer that hardly changes counts as much as one that changes a lot."""
    total = torch.stack([torch.diag(torch.tensor([1.0, 1.0])), torch.diag(torch.tensor([1e-2, 1e-2]))])
    inside = torch.stack([torch.diag(torch.tensor([0.6, 0.5])), torch.diag(torch.tensor([0.0, 1e-2]))])
    c, scores = maximise_quotients(inside[None], total, torch.tensor([0.5, 0.5]), 1, 0.0)
    assert scores.item() == pytest.approx(0.75, abs=0.01), "the pooled pencil alone would choose 0.6 and 0"
    assert abs(c[0, 0, 1]) > 10 * abs(c[0, 0, 0])


def test_several_directions_are_best_first_and_apart() -> None:
    inside = torch.diag(torch.tensor([0.9, 0.8, 0.7, 0.1]))[None, None]
    c, scores = maximise_quotients(inside, torch.eye(4)[None], torch.ones(1), 3, 1.0)
    assert (scores.diff(dim=1) <= 0).all()
    cosines = torch.nn.functional.normalize(c[0], dim=-1)
    assert (cosines @ cosines.T - torch.eye(3)).abs().max() < 0.7


def test_the_score_is_that_of_a_small_step() -> None:
    """What is promised to first order is what a small step does, layer by layer, on the pictures of the expansion."""
    method = FirstOrder(space="w+:2-4", pictures=1)
    ((direction,),) = method.find(GAN, [REGION], seeded(5))
    latents = GAN.sample(1, GAN.spaces["w+"], seeded(5), 0.7)
    names = list(scored_layers(GAN, direction.subspace, {}))
    moved = latents.with_values(latents.values + 1e-2 * direction.subspace.lift(direction.vector)[None])
    before, after = (GAN.synthesize(codes, names) for codes in (latents, moved))
    shares = localization_scores(before.features, after.features, REGION.mask(before))
    assert float(shares.mean()) == pytest.approx(direction.figures["first_order_LS"], abs=0.12)  # channels are mixed


def test_small_subspaces_are_searched_as_they_are() -> None:
    subspace = parse_subspace("w+:2-4", GAN.spaces)
    latents = GAN.sample(1, GAN.spaces["w+"], seeded(), 0.7)
    assert torch.equal(reached(GAN, subspace, latents, 24), torch.eye(24))


def test_large_ones_where_a_code_reaches_them() -> None:
    """W reaches W+ with the same step on every row; groups of layers move apart as far as the tangents allow."""
    subspace = parse_subspace("w+:2-5", GAN.spaces)
    latents = GAN.sample(1, GAN.spaces["w+"], seeded(), 0.7)
    one = reached(GAN, subspace, latents, 8)
    torch.testing.assert_close(one, torch.eye(8).repeat(1, 4))
    two = reached(GAN, subspace, latents, 16)
    torch.testing.assert_close(two[:8], torch.cat([torch.eye(8).repeat(1, 2), torch.zeros(8, 16)], dim=1))
    styles = parse_subspace("s:conv", GAN.spaces)
    codes = GAN.sample(1, GAN.spaces["s"], seeded(), 0.7)
    affine = torch.cat([GAN.network.layers[s.name].affine.weight for s in GAN.steps if s.kind == "conv"])
    torch.testing.assert_close(reached(GAN, styles, codes, 8), (affine / 8**0.5).T, rtol=1e-4, atol=1e-5)


def test_nothing_small_enough_is_refused() -> None:
    latents = GAN.sample(1, GAN.spaces["w+"], seeded(), 0.7)
    with pytest.raises(SituError, match="no earlier space has 4 or fewer: raise `tangents`"):
        reached(GAN, parse_subspace("w+", GAN.spaces), latents, 4)


def test_memory_is_asked_for_before_it_is_taken() -> None:
    with pytest.raises(JacobianError, match=r"need .* GiB, the budget is 1e-05: raise it \(--memory\)"):
        FirstOrder(space="w+:2-4", memory=1e-5).find(GAN, [REGION], seeded())


@pytest.mark.parametrize("setting", ["k", "pictures", "tangents"])
def test_counts_below_one_are_refused(setting: str) -> None:
    with pytest.raises(SituError, match=setting):
        FirstOrder(**{setting: 0})


@pytest.mark.parametrize(("layers", "groups", "sizes"), [(4, 1, [4]), (5, 2, [2, 3]), (3, 9, [1, 1, 1])])
def test_layers_in_groups(layers: int, groups: int, sizes: list[int]) -> None:
    found = _grouped(tuple(range(layers)), groups)
    assert [len(group) for group in found] == sizes
    assert [i for group in found for i in group] == list(range(layers))


def stopping(after: int) -> Progress:
    seen = iter(range(10**6))

    def progress(done: int | float, total: int, message: str = "") -> None:
        if next(seen) == after:
            raise KeyboardInterrupt

    return progress


def test_a_search_interrupted_in_its_start_keeps_the_start() -> None:
    method = LELSD(space="w+:2-4", samples=12, batch=3, start_pictures=3)
    ((kept,),) = method.find(GAN, [REGION], seeded(), stopping(1))  # one report a picture: in the second
    assert kept.figures["steps"] == 0
    assert kept.vector.norm() == pytest.approx(1)
    with pytest.raises(KeyboardInterrupt):
        method.find(GAN, [REGION], seeded(), stopping(0))  # nothing is there yet


def test_a_search_starts_where_another_method_ends() -> None:
    resefa = ReSeFa(space="w", k=1)
    toy = TileGenerator(rotate=True)
    tile = Box(4, 4, 8, 8)  # the first tile
    # the search draws its start first, then lets the method draw
    method = LELSD(space="w", samples=4, lr=1e-9, optimizer="adam", start=resefa, truncation=1.0)
    ((found,),) = method.find(toy, [tile], seeded(3))
    assert (toy.truth(0) @ found.vector).norm() > 0.95
    ((cold,),) = replace(method, start="random").find(toy, [tile], seeded(3))
    assert (toy.truth(0) @ cold.vector).norm() < 0.95


def test_a_start_in_a_later_space_is_refused() -> None:
    method = LELSD(space="w", samples=4, start=ReSeFa(space="s"), optimizer="adam")
    with pytest.raises(SituError, match="cannot be brought to w: give it that space"):
        method.find(GAN, [REGION], seeded())


def test_patience_stops_a_search_that_has_stalled() -> None:
    method = LELSD(space="w", samples=4 * 120, patience=1, lr=1e-6, optimizer="adam", start="random")
    ((direction,),) = method.find(GAN, [REGION], seeded())
    assert direction.figures["steps"] < 100
    ((whole,),) = replace(method, samples=4 * 30, patience=0).find(GAN, [REGION], seeded())
    assert whole.figures["steps"] == 30


def test_the_mean_of_the_later_half_can_be_the_answer() -> None:
    method = LELSD(space="w", samples=4 * 6, average=True, optimizer="adam", lr=0.2, start="random")
    ((mean,),) = method.find(GAN, [REGION], seeded())
    ((last,),) = replace(method, average=False).find(GAN, [REGION], seeded())
    assert mean.vector.norm() == pytest.approx(1, abs=1e-5)
    assert 0.3 < float(mean.vector @ last.vector) < 0.9999
