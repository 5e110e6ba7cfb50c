"""Part transfer: channels of known parts are told apart, chosen optimally and moved alone."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from situ.core.errors import GeneratorError, LatentError, RegionError, SituError
from situ.core.generator import FeatureLayer, Synthesis
from situ.core.jacobian import jacobian
from situ.core.latents import Latents, LatentSpace, Slice, Subspace
from situ.core.region import Box, Part
from situ.core.transfer import PartTransfer, channel_shares, channel_weights, scaled_layers, transfer_part
from toys import TileGenerator, tiny_stylegan2
from toys_parts import OWNERS, HalvesGenerator, HalvesSegmenter

LEFT, RIGHT = (Part(HalvesSegmenter(), (half,)) for half in HalvesSegmenter.parts)
ANY = {"epsilon": 1.0, "epsilon_coarse": 1.0}  # no budget
METHODS = {
    "activation": PartTransfer(rho=0.9, pictures=8, **ANY),
    "response": PartTransfer.by_response(rho=0.9, pictures=8),
}


def codes(n: int, seed: int, space: str = "z") -> Latents:
    generator = HalvesGenerator()
    return generator.sample(n, generator.spaces[space], torch.Generator().manual_seed(seed))


class Hidden:
    """A region that is nowhere."""

    name = "nothing"
    layers = ()

    def mask(self, synthesis: Synthesis) -> torch.Tensor:
        return torch.zeros_like(synthesis.images[:, :1])


@pytest.mark.parametrize("measure", METHODS)
def test_shares_are_those_of_the_known_parts(measure: str, rng: torch.Generator) -> None:
    generator = HalvesGenerator()
    for i, region in enumerate((LEFT, RIGHT)):
        shares = channel_shares(generator, region, rng, METHODS[measure])
        hue, base, mix = generator.spaces["s"].split(shares)
        torch.testing.assert_close(mix, OWNERS[:, i], atol=0.15 if measure == "response" else 1e-5, rtol=0)
        assert not hue.any(), "the constant is no feature layer, and what never shows belongs to no part"
        assert ((base >= 0) & (base <= 1)).all()
        if measure == "response":
            assert not base.any()


def test_every_style_finds_the_activation_that_it_scales() -> None:
    names = [layer and layer.name for layer in scaled_layers(HalvesGenerator())]
    assert names == [None, "hue", "base"]
    names = [layer and layer.name for layer in scaled_layers(tiny_stylegan2())]
    assert names == [
        None, "b4.conv1", "b4.conv1", "b8.conv0", "b8.conv1", "b8.conv1", "b16.conv0", "b16.conv1",
    ]  # fmt: skip


class Normalised(HalvesGenerator):
    """As if with adaptive instance normalisation: the last style holds scales and biases of its own layer."""

    def __init__(self) -> None:
        super().__init__()
        self.spaces = {
            "z": LatentSpace("z", (Slice("z", 11),)),
            "s": LatentSpace("s", (Slice("hue", 3), Slice("base", 8))),
        }

    def sample(
        self, n: int, space: LatentSpace, rng: torch.Generator, truncation: float = 1.0, labels: object = None
    ) -> Latents:
        return Latents(torch.randn(n, 11, generator=rng), space)

    def synthesize(self, latents: Latents, features: Sequence[str] = (), **rest: object) -> Synthesis:
        values = torch.cat([latents.values[:, :6], latents.values[:, 3:7]], dim=1)
        inner = HalvesGenerator()
        return inner.synthesize(Latents(values, inner.spaces["s"]), features)


def test_biases_stay_by_activation(rng: torch.Generator) -> None:
    generator = Normalised()
    assert [layer and layer.name for layer in scaled_layers(generator)] == [None, "base"]
    target, reference = (generator.sample(2, generator.spaces["s"], rng) for _ in range(2))
    moved = transfer_part(generator, LEFT, target, reference, rng, METHODS["activation"])
    expected = target.values.clone()
    expected[:, 3:5] = reference.values[:, 3:5]
    torch.testing.assert_close(moved.values, expected)


@pytest.mark.parametrize("measure", METHODS)
def test_the_part_becomes_the_references_and_the_rest_stays(measure: str, rng: torch.Generator) -> None:
    generator = HalvesGenerator()
    target, reference = codes(5, 1), codes(5, 2)
    moved = transfer_part(generator, LEFT, target, reference, rng, METHODS[measure])
    s, theirs = (generator.convert(c, generator.spaces["s"]).values for c in (target, reference))
    expected = s.clone()
    expected[:, 6:8] = theirs[:, 6:8]
    torch.testing.assert_close(moved.values, expected)
    before, after, source = (generator.synthesize(c).images for c in (target, moved, reference))
    assert torch.equal(after[..., 8:], before[..., 8:])
    torch.testing.assert_close(
        after[:, 0, :, :8] - source[:, 0, :, :8], (after - source)[:, 2, :, :8], atol=1e-6, rtol=0
    )


def test_strength_is_the_way_to_the_reference(rng: torch.Generator) -> None:
    generator = HalvesGenerator()
    target, reference = codes(3, 1), codes(3, 2)
    shares = channel_shares(generator, LEFT, rng, METHODS["activation"])

    def moved(strength: float) -> torch.Tensor:
        settings = METHODS["activation"]
        return transfer_part(generator, LEFT, target, reference, rng, settings, strength=strength, shares=shares).values

    start = generator.convert(target, generator.spaces["s"]).values
    torch.testing.assert_close(moved(0.0), start)
    torch.testing.assert_close(moved(0.5), (moved(0.0) + moved(1.0)) / 2)
    same = transfer_part(generator, LEFT, target, target, rng, METHODS["activation"], shares=shares)
    torch.testing.assert_close(same.values, start)


def test_a_batch_is_its_rows_and_one_reference_serves_all(rng: torch.Generator) -> None:
    generator = tiny_stylegan2()
    region = Box(4, 4, 8, 8)
    settings = PartTransfer(rho=0.25, epsilon=0.3, epsilon_coarse=0.3, weighted=True, pictures=8)
    shares = channel_shares(generator, region, rng, settings)
    target = generator.sample(3, generator.spaces["w"], rng)
    reference = generator.sample(3, generator.spaces["z"], rng)
    whole = transfer_part(generator, region, target, reference, rng, settings, shares=shares).values
    for i in range(3):
        row = transfer_part(generator, region, target[i : i + 1], reference[i : i + 1], rng, settings, shares=shares)
        torch.testing.assert_close(row.values, whole[i : i + 1])
    shared = transfer_part(generator, region, target, reference[1:2], rng, settings, shares=shares).values
    torch.testing.assert_close(shared[1], whole[1])


@pytest.mark.parametrize("seed", range(12))
def test_the_sequential_choice_is_the_optimum_of_the_linear_programme(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    shares = torch.rand(9, generator=rng)
    v = torch.rand(1, 9, generator=rng) + 0.05
    budget, rho = 0.05 + 0.3 * float(torch.rand(1, generator=rng)), 0.2
    q = channel_weights(shares, budget, rho, importance=v)[0]
    assert ((q >= 0) & (q <= 1)).all()
    assert not q[shares <= rho].any()
    solved = linprog(
        -(v[0] * shares).double().numpy(),
        A_ub=(v[0] * (1 - shares)).double().numpy()[None],
        b_ub=[budget * float(v.sum())],
        bounds=[(0.0, 1.0 if m > rho else 0.0) for m in shares.tolist()],
    )
    assert float((q * v[0] * shares).sum()) == pytest.approx(-solved.fun, rel=1e-4)
    assert float((q * v[0] * (1 - shares)).sum()) <= budget * float(v.sum()) * (1 + 1e-4)
    np.testing.assert_allclose(q.numpy(), solved.x, atol=1e-3)


@pytest.mark.parametrize("budget", [0.02, 0.1, 0.3])
def test_the_simultaneous_choice_spends_the_budget_in_proportion(budget: float) -> None:
    shares = torch.tensor([0.05, 0.2, 0.4, 0.5, 0.9])
    q = channel_weights(shares, budget, 0.1, "simultaneous")[0]
    assert q[0] == 0
    assert float((q * (1 - shares)).sum()) == pytest.approx(budget * 5, rel=1e-3)
    free = (q > 0) & (q < 1)
    ratios = q[free] / shares[free]
    torch.testing.assert_close(ratios, ratios.max().expand_as(ratios))


@pytest.mark.parametrize("solution", ["sequential", "simultaneous"])
def test_budgets_of_nothing_and_everything(solution: str) -> None:
    shares = torch.tensor([0.05, 0.2, 0.9])
    assert not channel_weights(shares, 0.0, 0.1, solution).any()  # pyright: ignore[reportArgumentType]
    q = channel_weights(shares, 1.0, 0.1, "sequential")
    assert q.tolist() == [[0, 1, 1]]
    pure = channel_weights(torch.tensor([1.0, 0.5]), 0.0, 0.1)
    assert pure.tolist() == [[1, 0]], "a channel that costs nothing outside is free"


def test_a_coarse_layer_has_a_budget_of_its_own(rng: torch.Generator) -> None:
    generator = HalvesGenerator()
    settings = PartTransfer(rho=0.1, epsilon=1.0, epsilon_coarse=0.0, coarse=4, pictures=4)
    target, reference = codes(2, 1, "s"), codes(2, 2, "s")
    moved = transfer_part(generator, LEFT, target, reference, rng, settings)
    assert torch.equal(moved.values[:, :6], target.values[:, :6]), "hue is coarse"
    assert torch.equal(moved.values[:, 6:8], reference.values[:, 6:8])
    coarse = transfer_part(generator, LEFT, target, reference, rng, PartTransfer(rho=0.1, coarse=0, pictures=4, **ANY))
    assert not torch.equal(coarse.values[:, :6], target.values[:, :6])


def test_probes_estimate_the_jacobian(rng: torch.Generator) -> None:
    generator = tiny_stylegan2()
    region, space = Box(5, 6, 8, 8), generator.spaces["s"]
    settings = PartTransfer.by_response(pictures=1, probes=60, truncation=1.0)
    shares = channel_shares(generator, region, torch.Generator().manual_seed(5), settings)
    latents = generator.sample(1, generator.spaces["z"], torch.Generator().manual_seed(5))
    squares = jacobian(generator, latents, Subspace(space)).values.square()
    mask = region.mask(generator.synthesize(latents))
    exact = (squares * mask).sum(dim=(1, 2, 3)) / squares.sum(dim=(1, 2, 3))
    assert (shares - exact).abs().mean() < 0.06
    assert (shares - exact).abs().max() < 0.35


def test_the_same_seed_gives_the_same_shares() -> None:
    a, b = (
        channel_shares(HalvesGenerator(), LEFT, torch.Generator().manual_seed(2), METHODS["response"]) for _ in range(2)
    )
    assert torch.equal(a, b)


def test_gradients_pass_to_the_target(rng: torch.Generator) -> None:
    generator = HalvesGenerator()
    target = codes(2, 1)
    values = target.values.clone().requires_grad_()
    moved = transfer_part(generator, LEFT, target.with_values(values), codes(2, 2), rng, METHODS["activation"])
    moved.values.sum().backward()
    assert values.grad is not None
    assert values.grad[:, 6:8].abs().sum() == 0, "what is taken over is the reference's"
    assert values.grad[:, 8:].min() == 1


def test_bad_input(rng: torch.Generator) -> None:
    generator = HalvesGenerator()
    target, reference = codes(3, 1), codes(2, 2)
    with pytest.raises(LatentError, match="3 pictures need one reference or as many, got 2"):
        transfer_part(generator, LEFT, target, reference, rng)
    with pytest.raises(SituError, match=r"strength .* must be a finite number, got nan"):
        transfer_part(generator, LEFT, target, target, rng, strength=float("nan"))
    with pytest.raises(RegionError, match="nothing is in none of 4 sampled pictures"):
        transfer_part(generator, Hidden(), target, target, rng, PartTransfer(pictures=4))
    with pytest.raises(RegionError, match=r"no style channel belongs to left enough .*lower rho \(1.0\)"):
        transfer_part(generator, LEFT, target, target, rng, PartTransfer(rho=1.0, pictures=4))
    tiles = TileGenerator(False)
    latents = tiles.sample(1, tiles.spaces["z"], rng)
    with pytest.raises(GeneratorError, match="has no style space s; its spaces are z, w: edit it with directions"):
        transfer_part(tiles, Box(4, 4, 4, 4), latents, latents, rng)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rho": -0.1}, "shares of a part transfer lie between 0 and 1"),
        ({"epsilon": 2.0}, "shares of a part transfer"),
        ({"epsilon_coarse": float("nan")}, "shares of a part transfer"),
        ({"pictures": 0}, "needs pictures and probes"),
        ({"probes": 0}, "needs pictures and probes"),
        ({"truncation": float("inf")}, "finite truncation"),
        ({"solution": "greedy"}, 'solution is one of sequential, simultaneous, got "greedy"'),
        ({"measure": "guess"}, 'measure is one of activation, response, got "guess"'),
    ],
)
def test_bad_settings(settings: dict, message: str, unchecked: None) -> None:
    with pytest.raises(SituError, match=message):
        PartTransfer(**settings)


def test_a_layer_of_another_width_is_not_scaled() -> None:
    class Wider(HalvesGenerator):
        layers = (FeatureLayer("hue", 4, 5, 0), FeatureLayer("base", 8, 4, 1))

    assert [layer and layer.name for layer in scaled_layers(Wider())] == [None, None, "base"]
