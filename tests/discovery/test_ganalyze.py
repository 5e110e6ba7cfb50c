"""GANalyze: what a step minimises, and that a step along theta moves the score by as much."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from situ.core.direction import Direction
from situ.core.errors import SituError
from situ.core.generator import Synthesis
from situ.core.region import Box
from situ.discovery.ganalyze import GANalyze, _Search
from toys import TILES, TileGenerator
from toys_statistics import TileBrightness, brighter, tiny_stylegan2

TOY = TileGenerator(rotate=True)
GAN = tiny_stylegan2()
BOX = [Box(4, 4, 8, 8)]
BRIGHTNESS = TileBrightness(gain=2.0)
QUICK = GANalyze(BRIGHTNESS, samples=16 * 40, batch=16, lr=0.2, alpha=0.3, max_pictures=64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def found(method: GANalyze, generator: object = TOY, seed: int = 0) -> Mapping[str, Direction]:
    """By name."""
    (directions,) = method.find(generator, BOX, seeded(seed))  # pyright: ignore[reportArgumentType]
    return {direction.name: direction for direction in directions}


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("score", ["probability", "logit"])
def test_the_known_directions_are_found(rotate: bool, score: str) -> None:
    generator = TileGenerator(rotate)
    settings = {"probability": (0.3, 0.2), "logit": (0.6, 0.1)}
    alpha, lr = settings[score]
    directions = found(replace(QUICK, score=score, alpha=alpha, lr=lr), generator)
    assert set(directions) == set(TILES)
    for tile, name in enumerate(TILES):
        assert directions[name].vector @ brighter(generator, tile) > 0.99, "towards the attribute"
        assert directions[name].vector.norm() == pytest.approx(1, abs=1e-5)


def test_the_length_moves_the_score_as_far_as_wanted() -> None:
    direction = found(replace(QUICK, attributes=TILES[1:2]))[TILES[1]]
    latents = TOY.sample(400, TOY.spaces["w"], seeded(7))
    scores = [
        BRIGHTNESS.classify(TOY.synthesize(latents.with_values(latents.values + step * direction.vector)).images)[:, 1]
        for step in (0.2 * direction.figures["length"], -0.2 * direction.figures["length"])
    ]
    assert float((scores[0] - scores[1]).mean()) == pytest.approx(0.4, rel=0.25)
    assert direction.figures["slope"] == pytest.approx(1, abs=0.25)
    assert direction.figures["loss"] < 0.5 * 0.3**2 / 3, "half of what no direction would leave, E[α^2]"


@pytest.mark.parametrize("score", ["probability", "logit"])
def test_a_step_recomputed_from_the_definitions(score: str) -> None:
    method = GANalyze(BRIGHTNESS, TILES[2:], space="w:2-4", score=score, start=0.7, batch=3, lr=1e-2)  # pyright: ignore[reportArgumentType]
    made = _Search(method, GAN, seeded())
    theta = made.theta.detach().clone()
    rng = torch.Generator()
    rng.set_state(made.rng.get_state())
    losses = made.step()
    w = GAN.sample(3, GAN.spaces["w+"], rng, 1.0)
    alphas = 0.5 * (2 * torch.rand(3, generator=rng) - 1)

    def assess(codes: torch.Tensor, tile: int) -> torch.Tensor:
        p = BRIGHTNESS.classify(GAN.synthesize(w.with_values(codes)).images)[:, tile]
        return p if score == "probability" else torch.log(p / (1 - p))

    for i, tile in enumerate((2, 3)):
        variable = theta[i].clone().requires_grad_()
        edited = w.values + alphas[:, None] * made.subspace.lift(variable)
        loss = (assess(edited, tile) - assess(w.values, tile).detach() - alphas).square().mean()
        torch.testing.assert_close(losses[i], loss.detach(), rtol=1e-4, atol=1e-6)
        (gradient,) = torch.autograd.grad(loss, variable)
        assert made.theta.grad is not None
        torch.testing.assert_close(made.theta.grad[i], gradient, rtol=1e-3, atol=1e-5)


def test_theta_as_a_whole_stays_in_the_span_of_the_gradients() -> None:
    """What the score does not see is not moved, as it is by an Adam that scales each coordinate by itself."""
    made, coded = (_Search(replace(QUICK, per_coordinate=each), TOY, seeded()) for each in (False, True))
    for search in (made, coded):
        for _ in range(10):
            search.step()
    unseen = [TOY.rotation[[i for i in range(12) if i // 3 != tile]] for tile in range(4)]
    share = [
        torch.stack([(unseen[i] @ u).norm() / u.norm() for i, u in enumerate(search.theta.detach())])
        for search in (made, coded)
    ]
    assert share[0].max() < 1e-4
    assert share[1].min() > 0.3


def test_as_published_it_is_adam() -> None:
    made = _Search(replace(QUICK, per_coordinate=True, start=1.0, batch=4), TOY, seeded())
    theta = made.theta.detach().clone().requires_grad_()
    adam = torch.optim.Adam([theta], lr=QUICK.lr)
    for _ in range(5):
        made.step()
        theta.grad = made.theta.grad
        adam.step()
        torch.testing.assert_close(made.theta, theta)


def test_gradients_reach_theta_alone() -> None:
    before = {key: value.clone() for key, value in GAN.network.state_dict().items()}
    made = _Search(replace(QUICK, batch=2, space="w+:3-5"), GAN, seeded())
    made.step()
    assert made.theta.is_leaf
    assert made.theta.grad is not None
    assert all(parameter.grad is None for parameter in GAN.network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in GAN.network.state_dict().items())


def test_passes_are_as_large_as_allowed_and_start_where_the_edit_does(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny_stylegan2()
    calls: list[tuple[int, object]] = []
    synthesize = made.synthesize

    def counting(latents: object, *rest: object, **options: object) -> Synthesis:
        state = options.get("resume")
        calls.append((len(latents), options.get("keep") if state is None else state.step))  # pyright: ignore
        return synthesize(latents, *rest, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(made, "synthesize", counting)
    method = replace(QUICK, batch=3, max_pictures=7, space="w+:3-5")
    _Search(method, made, seeded()).step()
    first = made.first_step(_Search(method, made, seeded()).subspace)
    assert first > 0
    assert calls == [(3, first), (6, first), (6, first)], "x once for all, then four attributes, two at a time"
    calls.clear()
    _Search(replace(method, keep_length=True), made, seeded()).step()
    assert {step for _, step in calls} == {0}, "codes brought back to their length move everywhere"


@pytest.mark.parametrize("max_pictures", [1, 4, 8])
def test_passes_of_fewer_pictures_give_the_same(max_pictures: int) -> None:
    method = replace(QUICK, batch=4, samples=12, space="w:2-4")
    whole, parts = found(method, GAN), found(replace(method, max_pictures=max_pictures), GAN)
    for name in TILES:
        torch.testing.assert_close(parts[name].vector, whole[name].vector, rtol=1e-3, atol=1e-4)


def test_one_attribute_does_not_disturb_another() -> None:
    """They share samples, strengths and the start, so that a neighbour makes no difference."""
    alone, beside = (
        found(replace(QUICK, attributes=names, batch=4, samples=40, start=0.5)) for names in (TILES[2:3], TILES[1:])
    )
    torch.testing.assert_close(alone[TILES[2]].vector, beside[TILES[2]].vector)


def test_edited_codes_keep_their_length() -> None:
    made = _Search(replace(QUICK, batch=4, keep_length=True, start=1.0, space="z"), TOY, seeded())
    seen: list[torch.Tensor] = []
    synthesize = TOY.synthesize

    class Watched(TileGenerator):
        def synthesize(self, latents: object, *rest: object, **options: object) -> Synthesis:
            seen.append(latents.values.norm(dim=1).detach())  # pyright: ignore[reportAttributeAccessIssue]
            return synthesize(latents, *rest, **options)  # pyright: ignore[reportArgumentType]

    made.generator = Watched(rotate=True)
    made.step()
    torch.testing.assert_close(seen[1], seen[0].repeat(4))


def test_log_odds_move_as_far_as_wanted_where_probabilities_cannot() -> None:
    """A steep classifier: many probabilities are at an end, past which no step can bring them."""
    method = replace(QUICK, classifier=TileBrightness(gain=16.0), attributes=TILES[:1], samples=16 * 60)
    by_probability = found(replace(method, lr=0.05, alpha=0.5))[TILES[0]]
    by_logit = found(replace(method, score="logit", lr=0.005, alpha=3.0))[TILES[0]]
    for direction in (by_probability, by_logit):
        assert direction.vector @ brighter(TOY, 0) > 0.98
    assert by_logit.figures["slope"] == pytest.approx(1, abs=0.15)
    assert by_probability.figures["slope"] < 0.75


def test_a_score_that_never_moves_is_refused() -> None:
    class Sure(TileBrightness):
        def classify(self, images: torch.Tensor) -> torch.Tensor:
            p = super().classify(images)
            return torch.cat([0 * p[:, :1] + 1, p[:, 1:]], dim=1)

    for score in ("probability", "logit"):
        with pytest.raises(SituError, match="the score of top-left never moved in w"):
            found(replace(QUICK, classifier=Sure(), attributes=TILES[:2], samples=32, score=score))


def test_divergence_is_reported() -> None:
    class Broken(TileBrightness):
        def classify(self, images: torch.Tensor) -> torch.Tensor:
            return super().classify(images) * float("nan")

    with pytest.raises(SituError, match=r"diverged at step 1 \(NaN\): lower lr, now 0.2"):
        found(replace(QUICK, classifier=Broken()))


def test_an_interruption_keeps_what_is_found() -> None:
    def interrupt(done: int | float, total: int, message: str = "") -> None:
        assert (total, message[:5]) == (40, "loss ")
        if done == 3:
            raise KeyboardInterrupt

    (stopped,) = QUICK.find(TOY, BOX, seeded(), interrupt)
    assert [direction.figures["steps"] for direction in stopped] == [3.0] * 4
    with pytest.raises(KeyboardInterrupt):
        QUICK.find(TOY, BOX, seeded(), _at_once)


def _at_once(done: int | float, total: int, message: str = "") -> None:
    raise KeyboardInterrupt


def test_smallest_loss_first_and_named() -> None:
    method = replace(QUICK, samples=8, batch=4, space="w:2-4")
    first, second = method.find(GAN, [*BOX, Box(12, 10, 6, 10)], seeded(11))
    losses = [direction.figures["loss"] for direction in first]
    assert losses == sorted(losses)
    assert {d.name for d in first} == set(TILES)
    assert torch.equal(first[0].vector, second[0].vector)
    assert (first[0].seed, str(first[0].subspace), second[0].region) == (11, "w:2-4", "box[12,10,6,10]")
    again = method.find(GAN, BOX, seeded(11))[0]
    assert torch.equal(again[0].vector, first[0].vector)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attributes": ("smile",)}, "attributes of this model are top-left, .*; got smile"),
        ({"attributes": (TILES[0], TILES[0])}, "an attribute is named once, got top-left, top-left"),
        ({"alpha": 0.0}, r"must be positive, got \{'alpha': 0.0\}"),
        ({"samples": 0}, "samples"),
        ({"batch": 0}, "batch"),
        ({"lr": float("nan")}, "lr"),
        ({"max_pictures": 0}, "max_pictures"),
        ({"start": -1.0}, "start is a standard deviation"),
        ({"truncation": float("inf")}, "truncation"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(SituError, match=message):
        GANalyze(BRIGHTNESS, **settings)


def test_what_is_no_classifier_or_no_word_is_refused(unchecked: None) -> None:
    with pytest.raises(SituError, match=r"needs a classifier \(attributes, classify\), got NoneType"):
        GANalyze(None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SituError, match='score is one of probability, logit, got "odds"'):
        GANalyze(BRIGHTNESS, score="odds")  # pyright: ignore[reportArgumentType]


def test_as_coded_is_the_published_run() -> None:
    coded = GANalyze.as_coded(BRIGHTNESS, samples=400)
    assert (coded.space, coded.lr, coded.start, coded.steps) == ("z", 2e-4, 1.0, 100)
    assert coded.per_coordinate
    assert coded.keep_length
    assert GANalyze.as_coded(BRIGHTNESS).samples == 400_000
    with pytest.raises(TypeError):
        GANalyze.as_coded(BRIGHTNESS, sampels=3)
