"""LELSD: what a step updates, what the settings change, and what they refuse."""

from dataclasses import replace

import pytest
import torch

from situ.core.errors import LatentError, SituError
from situ.core.generator import Synthesis
from situ.core.localization import aggregate, localization_scores
from situ.core.region import Box, Part, Rest
from situ.discovery.lelsd import LELSD, _Search
from toys import TILES, TileGenerator, TileSegmenter, tiny_stylegan2

GAN = tiny_stylegan2()
TOY = TileGenerator(rotate=True)
BOXES = (Box(4, 4, 8, 8), Box(12, 10, 6, 10))
COLD = {"optimizer": "adam", "start": "random"}
QUICK = LELSD(space="w+:2-4", samples=12, batch=3, lr=1e-2, **COLD)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def search(method: LELSD, regions: tuple = BOXES, seed: int = 0, generator: object = GAN) -> _Search:
    return _Search(method, generator, regions, seeded(seed))


def directions_now(made: _Search) -> torch.Tensor:
    """(regions, k, dim) of a search under way, as a copy."""
    return torch.stack([u.detach() for u in made.u], dim=1)


def vectors(method: LELSD, regions: tuple = BOXES, seed: int = 0) -> torch.Tensor:
    """(regions, k, dim) of what is found."""
    return torch.stack([torch.stack([d.vector for d in ds]) for ds in method.find(GAN, regions, seeded(seed))])


def test_gradients_reach_the_directions_alone() -> None:
    made = search(replace(QUICK, k=2))
    before = {key: value.clone() for key, value in GAN.network.state_dict().items()}
    made.step(0)
    assert [tuple(u.shape) for u in made.u] == [(2, 24)] * 2, "one parameter per k, of (regions, dim)"
    for u in made.u:
        assert u.is_leaf
        assert u.grad is not None
        assert (u.grad.abs().sum(dim=-1) > 0).all()
    for parameter in GAN.network.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in GAN.network.state_dict().items())


def test_the_objective_is_the_mean_share_over_layers_and_samples() -> None:
    """The score of a step, recomputed from the definitions without any of the shortcuts."""
    method = replace(QUICK, alpha=(2.0, 2.0), layer_weights={"b8.conv1": 3.0}, k=2)
    made = search(method)
    u = directions_now(made)
    rng = torch.Generator()
    rng.set_state(made.rng.get_state())
    scores = made.step(0)
    w = GAN.sample(3, GAN.spaces["w+"], rng, 0.7)
    torch.rand(4, 3, generator=rng)
    signs = torch.randint(2, (4, 3), generator=rng) * 2 - 1
    names = ["b8.conv1", "b16.conv0", "b16.conv1"]
    before = GAN.synthesize(w, names)
    for i, (r, k) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        after = GAN.synthesize(w.with_values(w.values + 2.0 * signs[i][:, None] * made.subspace.lift(u[r, k])), names)
        s = aggregate(BOXES[r].mask(before), BOXES[r].mask(after))
        shares = localization_scores(before.features, after.features, s)
        expected = (3 * shares[0] + shares[1] + shares[2]).mean() / 5
        torch.testing.assert_close(scores[r, k], expected, rtol=1e-4, atol=1e-5)


def test_steps_raise_the_score() -> None:
    """On the average over fixed samples, not on the noisy ones of the search."""
    method = replace(QUICK, samples=16 * 25, batch=16, lr=3e-2, alpha=(1.0, 1.0))
    made = search(method)
    first = torch.stack([made.step(i) for i in range(3)]).mean(dim=0)
    for i in range(3, 25):
        last = made.step(i)
    assert (last > first + 0.02).all()


def test_directions_keep_norm_one() -> None:
    made = search(QUICK)
    for i in range(3):
        made.step(i)
        torch.testing.assert_close(directions_now(made).norm(dim=-1), torch.ones(2, 1))
    coded = search(LELSD.as_coded(space="w", samples=30, batch=3, lr=0.1), seed=1)
    for i in range(5):
        coded.step(i)
    assert ((directions_now(coded).norm(dim=-1) - 1).abs() > 0.01).any(), "as coded, the length is free"
    for (direction,) in coded.directions():
        assert direction.vector.norm() == pytest.approx(1)


def test_one_region_does_not_disturb_another() -> None:
    """Regions share samples and the draw of the start, so that a neighbour's mask makes no difference."""
    alone, beside = (vectors(QUICK, (BOXES[0], other)) for other in (BOXES[1], Box(8, 8, 4, 4)))
    assert torch.equal(alone[0], beside[0])
    assert not torch.allclose(alone[1], beside[1])


@pytest.mark.parametrize("max_pictures", [1, 3, 6, 9])
def test_passes_of_fewer_pictures_give_the_same(max_pictures: int) -> None:
    method = replace(QUICK, k=2)
    whole, parts = vectors(method), vectors(replace(method, max_pictures=max_pictures))
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4)


def test_passes_are_as_large_as_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny_stylegan2()
    sizes: list[int] = []
    synthesize = made.synthesize

    def counting(latents: object, *rest: object, **options: object) -> Synthesis:
        sizes.append(len(latents))  # pyright: ignore[reportArgumentType]
        return synthesize(latents, *rest, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(made, "synthesize", counting)
    search(replace(QUICK, k=3, max_pictures=7), generator=made).step(0)
    assert sizes == [3, 6, 6, 6], "x once for all, then six directions of three samples, two directions at a time"


def test_a_layer_without_weight_changes_the_result() -> None:
    all_layers = vectors(QUICK)
    without = vectors(replace(QUICK, layer_weights={"b16.conv1": 0.0}))
    assert not torch.allclose(all_layers, without, atol=1e-3)
    torch.testing.assert_close(vectors(replace(QUICK, layer_weights={"b16.conv1": 1.0})), all_layers)
    # b4.conv1 and b8.conv0 lie below the rows that move: their weight is nothing to anyone
    assert torch.equal(vectors(replace(QUICK, layer_weights={"b4.conv1": 0.0, "b8.conv0": 9.0})), all_layers)


def test_a_layer_of_no_weight_is_not_computed() -> None:
    made = search(replace(QUICK, layer_weights={"b16.conv0": 0.0}))
    assert made.weights == {"b8.conv1": 1.0, "b16.conv1": 1.0}


def test_the_picture_can_count_as_a_layer() -> None:
    """Alone, the score is the share of the squared change of pixels."""
    none = {layer.name: 0.0 for layer in GAN.layers}
    made = search(replace(QUICK, layer_weights={**none, "image": 2.0}, alpha=(1.0, 1.0)), BOXES[:1])
    u = directions_now(made)[0, 0]
    rng = torch.Generator()
    rng.set_state(made.rng.get_state())
    score = made.step(0)[0, 0]
    w = GAN.sample(3, GAN.spaces["w+"], rng, 0.7)
    torch.rand(1, 3, generator=rng)
    signs = torch.randint(2, (1, 3), generator=rng)[0] * 2 - 1
    before = GAN.synthesize(w)
    after = GAN.synthesize(w.with_values(w.values + signs[:, None] * made.subspace.lift(u)))
    change = (after.images - before.images).square()
    shares = (change * BOXES[0].mask(before)).sum(dim=(1, 2, 3)) / change.sum(dim=(1, 2, 3))
    torch.testing.assert_close(score, shares.mean(), rtol=1e-4, atol=1e-5)
    both = search(replace(QUICK, layer_weights={"image": 1.0}))
    assert list(both.weights) == ["b8.conv1", "b16.conv0", "b16.conv1", "image"]
    assert search(replace(QUICK, space="w+:5", layer_weights={"image": 1.0})).weights == {"image": 1.0}


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(
        SituError, match=r"layer weights name feature layers \(b4\.conv1, .*b16\.conv1\) or image, got b8\.conv9"
    ):
        search(replace(QUICK, layer_weights={"b8.conv9": 1.0}))
    with pytest.raises(SituError, match="nothing to optimise"):
        search(replace(QUICK, space="w+:5"))
    with pytest.raises(LatentError, match="spaces of this generator are z, w"):
        search(replace(QUICK, space="y"))


def moved(made: _Search, step: int) -> list[bool]:
    """Which of the directions of the first region a step moves."""
    before = directions_now(made)
    made.step(step)
    return (directions_now(made) - before).abs().amax(dim=-1)[0].gt(1e-5).tolist()


def test_joint_steps_move_all_directions() -> None:
    method = replace(QUICK, k=3, samples=12)
    assert method.steps == 4
    made = search(method)
    assert [moved(made, i) for i in range(2)] == [[True] * 3] * 2
    assert [len(updates) for updates in made.history] == [2] * 3
    assert all((scores > 0).all() for updates in made.history for scores in updates)


def test_alternating_steps_score_one_direction_each() -> None:
    method = replace(QUICK, k=3, samples=12, alternate=True)
    assert method.steps == 12
    made = search(method)
    scores = [made.step(i) for i in range(5)]
    assert all(of_one.shape == (2, 1) for of_one in scores)
    assert all((of_one > 0).all() for of_one in scores)
    assert [len(updates) for updates in made.history] == [2, 2, 1]
    for k, updates in enumerate(made.history):
        for i, recorded in enumerate(updates):
            assert torch.equal(recorded, scores[3 * i + k][:, 0])
    (found, _) = replace(method, samples=6).find(GAN, BOXES, seeded())
    assert [direction.figures["steps"] for direction in found] == [2, 2, 2], "the updates of each direction"


def test_alternating_steps_move_one_direction_each() -> None:
    made = search(replace(QUICK, k=3, samples=12, alternate=True))
    assert [moved(made, i) for i in range(4)] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
        [True, False, False],
    ]


def test_alternating_search_knows_the_score_of_every_direction() -> None:
    (found, _) = replace(QUICK, k=3, samples=12, alternate=True).find(GAN, BOXES, seeded())
    assert all(direction.figures["search_LS"] > 0 for direction in found)


@pytest.mark.parametrize("per_sample", [True, False])
def test_strengths(per_sample: bool) -> None:
    made = search(replace(QUICK, alpha=(0.5, 3.0), alpha_per_sample=per_sample))
    alphas = made._alphas(40, 25)
    assert alphas.shape == (40, 25)
    assert (alphas[:, :1] == alphas).all() == (not per_sample)
    assert 0.5 <= alphas.abs().min() < 0.7
    assert 2.8 < alphas.abs().max() <= 3
    assert 0.2 < (alphas[:, 0] > 0).float().mean() < 0.8
    assert alphas[:, 0].unique().numel() == 40, "every direction has its own"


def test_strengths_in_units_of_the_spread() -> None:
    raw, spread = search(QUICK), search(replace(QUICK, alpha_unit="spread"))
    codes = GAN.sample(4000, GAN.spaces["w"], seeded(9), 0.7).values
    expected = (codes - codes.mean(dim=0)).square().sum(dim=1).mean().sqrt() * 3**0.5  # three rows of the same w
    assert raw.length == 1
    assert spread.length == pytest.approx(float(expected), rel=0.15)
    assert 0.5 * spread.length <= spread._alphas(40, 25).abs().min() < 0.7 * spread.length


def correlations(weight: float, **settings: object) -> float:
    """Mean |Corr| of three directions that are drawn to the same place."""
    method = LELSD(
        space="w", k=3, samples=16 * 40, batch=16, lr=1e-1, halve_every=15, correlation=weight, truncation=1.0, **COLD
    )
    region = Part(TileSegmenter(), (TILES[1],))
    (found,) = replace(method, **settings).find(TOY, [region], seeded(3))
    corr = torch.corrcoef(torch.stack([d.vector for d in found]))
    return float((corr - torch.eye(3)).abs().sum() / 6)


@pytest.mark.parametrize("absolute", [False, True])
def test_the_correlation_term_keeps_directions_apart(absolute: bool) -> None:
    free, apart = correlations(0.0), correlations(1.0, absolute_correlation=absolute)
    assert free > 0.3
    assert apart < 0.5 * free


def test_diversity_by_hand() -> None:
    made = search(replace(QUICK, space="w", k=2), BOXES[:1])
    with torch.no_grad():
        for u, start in zip(made.u, ([1.0, -1.0], [1.0, 0.0]), strict=True):
            u.zero_()
            u[0, :2] = torch.tensor(start)
    # centred over 8 numbers: (1, -1, 0...) and (7, -1, -1...) / 8, so Corr = 1 / (sqrt 2 sqrt 7/8)
    corr = 1 / (2 * 7 / 8) ** 0.5
    assert made._diversity([0, 1]).item() == pytest.approx(-0.5 * (2 * corr**2) ** 0.5)
    coded = search(replace(QUICK, space="w", k=2, absolute_correlation=True), BOXES[:1])
    with torch.no_grad():
        for u, other in zip(coded.u, made.u, strict=True):
            u.copy_(other)
    # not centred: cosine 1 / sqrt 2 of (1, 0...) and (1, 1, 0...), in both off-diagonal places of four
    assert coded._diversity([0, 1]).item() == pytest.approx(-2 * 0.5**0.5 / 4)


def test_the_background_is_the_rest() -> None:
    box = BOXES[:1]
    front, back = (search(QUICK, regions).step(0) for regions in (box, (Rest(box[0]),)))
    torch.testing.assert_close(front + back, torch.ones(1, 1))


def test_what_a_direction_says_of_itself() -> None:
    found = replace(QUICK, k=2).find(GAN, BOXES, seeded(11))
    assert [len(directions) for directions in found] == [2, 2]
    first = found[1][0]
    assert (first.generator, first.seed, first.truncation) == (GAN.name, 11, 0.7)
    assert (first.region, first.name) == (BOXES[1].name, f"{BOXES[1].name}-1")
    assert str(first.subspace) == "w+:2-4"
    assert first.found_by.startswith("LELSD(space='w+:2-4', k=2")
    for directions in found:
        assert directions[0].figures["search_LS"] >= directions[1].figures["search_LS"]
    (alone,) = QUICK.find(GAN, BOXES[:1], seeded())[0]
    assert alone.name == BOXES[0].name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, r"must be positive, got \{'k': 0\}"),
        ({"samples": 0}, "samples"),
        ({"batch": -1}, "batch"),
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"halve_every": 0}, "halve_every"),
        ({"alpha": (2.0, 1.0)}, "alpha is a range"),
        ({"alpha": (-1.0, 1.0)}, "alpha is a range"),
        ({"alpha": (0.0, 0.0)}, "alpha is a range"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SituError, match=message):
        LELSD(**settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("settings", [{"alpha_unit": "raws"}, {"distance": "l3"}, {"aggregation": "sum"}], ids=str)
def test_words_that_mean_nothing_are_refused(settings: dict[str, object], unchecked: None) -> None:
    with pytest.raises(SituError, match="got"):
        LELSD(**settings)  # pyright: ignore[reportArgumentType]


def test_a_typing_error_in_a_setting_fails() -> None:
    with pytest.raises(TypeError):
        LELSD(sampels=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        LELSD.as_coded(sampels=3)


def test_as_coded_is_the_notebook() -> None:
    coded = LELSD.as_coded(k=2, space="w")
    assert (coded.alpha, coded.alpha_per_sample, coded.unit_norm) == ((0.0, 1.0), False, False)
    assert (coded.alternate, coded.absolute_correlation, coded.k, coded.steps) == (True, True, 2, 400)


def test_divergence_is_reported() -> None:
    with pytest.raises(SituError, match=r"diverged at step 1 \(NaN\): lower lr"):
        replace(QUICK, layer_weights={"b16.conv1": float("nan")}).find(GAN, BOXES, seeded())
