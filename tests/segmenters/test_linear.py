"""A linear head learns what is painted, answers at its size, and survives its file."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from situ.core.errors import RegionError, SituError
from situ.core.latents import Latents
from situ.core.region import Part, Segmenter
from situ.segmenters.linear import UNLABELLED, LinearFit, LinearSegmenter, fit_linear, load_linear
from toys import tiny_stylegan2
from toys_parts import HALVES, HalvesGenerator, HalvesSegmenter

GAN = tiny_stylegan2()


def codes(n: int, seed: int = 0) -> Latents:
    return GAN.sample(n, GAN.spaces["z"], torch.Generator().manual_seed(seed))


def truth(seed: int = 3) -> LinearSegmenter:
    """A random head: what labels drawn from it can be learnt back by."""
    rng = torch.Generator().manual_seed(seed)
    weights = {layer.name: 2 * torch.randn(3, layer.channels, generator=rng) for layer in GAN.layers}
    return LinearSegmenter(GAN.name, ("a", "b", "c"), weights, torch.zeros(3), 16)


def labels_of(head: LinearSegmenter, latents: Latents) -> torch.Tensor:
    return head.segment(GAN.synthesize(latents, head.layers)).argmax(dim=1)


def test_a_linear_truth_is_learnt_back(rng: torch.Generator) -> None:
    known = truth()
    latents = codes(8)
    head = fit_linear(GAN, latents, labels_of(known, latents), known.parts, rng=rng, fit=LinearFit(1e-5))
    assert isinstance(head, Segmenter)
    assert head.layers == tuple(layer.name for layer in GAN.layers)
    assert (labels_of(head, latents) == labels_of(known, latents)).float().mean() > 0.99
    held_out = codes(16, seed=9)
    agreement = (labels_of(head, held_out) == labels_of(known, held_out)).float().mean()
    assert agreement > 0.9
    few = fit_linear(GAN, latents[:1], labels_of(known, latents[:1]), known.parts, rng=rng, fit=LinearFit(1e-5))
    assert (labels_of(few, held_out) == labels_of(known, held_out)).float().mean() < agreement


def test_logits_are_enlarged_features_times_weights() -> None:
    """The cheap order (map, then enlarge) is the published one (enlarge, then map)."""
    head = truth()
    made = GAN.synthesize(codes(2), head.layers)
    stacked = torch.cat(
        [
            functional.interpolate(made.features[name], (16, 16), mode="bilinear", align_corners=False)
            for name in head.layers
        ],
        dim=1,
    )
    logits = torch.einsum("nchw,pc->nphw", stacked, torch.cat(list(head.weights.values()), dim=1))
    torch.testing.assert_close(head.segment(made), logits.softmax(dim=1), atol=1e-5, rtol=1e-4)


def test_layers_larger_than_the_answer_are_averaged() -> None:
    head = LinearSegmenter(
        GAN.name, ("a", "b"), {"b16.conv1": torch.randn(2, GAN.layers[-1].channels)}, torch.zeros(2), 8
    )
    made = GAN.synthesize(codes(2), head.layers)
    assert head.segment(made).shape == (2, 2, 8, 8)
    mean = functional.avg_pool2d(made.features["b16.conv1"], 2)
    logits = torch.einsum("nchw,pc->nphw", mean, head.weights["b16.conv1"])
    torch.testing.assert_close(head.segment(made), logits.softmax(dim=1), atol=1e-5, rtol=1e-4)


def test_unlabelled_pixels_teach_nothing(rng: torch.Generator) -> None:
    known, latents = truth(), codes(4)
    labels = labels_of(known, latents)
    hidden = torch.rand(labels.shape, generator=rng) < 0.3
    wrong = (labels + 1) % 3
    open_ = torch.where(hidden, UNLABELLED, labels)
    a = fit_linear(GAN, latents, open_, known.parts, rng=rng)
    b = fit_linear(GAN, latents, torch.where(hidden, wrong, labels), known.parts, rng=rng)
    assert (labels_of(a, latents) == labels)[~hidden].float().mean() > 0.97
    assert (labels_of(a, latents) == labels)[hidden].float().mean() > 0.9
    assert (labels_of(b, latents) == labels)[hidden].float().mean() < (labels_of(a, latents) == labels)[
        hidden
    ].float().mean()


def test_a_head_is_the_optimum_and_repeats_itself() -> None:
    """At the optimum of the mean cross-entropy alone, the predicted and the painted shares of each part agree."""
    known, latents = truth(), codes(4)
    labels = labels_of(known, latents)
    heads = [
        fit_linear(
            GAN, latents, labels, known.parts, rng=torch.Generator().manual_seed(seed), fit=LinearFit(1e-2, steps=400)
        )
        for seed in (0, 1)
    ]
    torch.testing.assert_close(heads[0].bias, heads[1].bias)
    shares = heads[0].segment(GAN.synthesize(latents, heads[0].layers)).mean(dim=(0, 2, 3))
    painted = torch.stack([(labels == i).float().mean() for i in range(3)])
    torch.testing.assert_close(shares, painted, atol=2e-3, rtol=0)


def test_fewer_pixels_are_drawn_by_the_generator_of_random_numbers() -> None:
    known, latents = truth(), codes(4)
    labels = labels_of(known, latents)
    drawn = [
        fit_linear(
            GAN, latents, labels, known.parts, rng=torch.Generator().manual_seed(s), fit=LinearFit(pixels=200)
        ).bias
        for s in (0, 0, 1)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_chosen_layers_and_other_sizes_of_labels(rng: torch.Generator) -> None:
    generator = HalvesGenerator()
    latents = generator.sample(2, generator.spaces["z"], rng)
    labels = (torch.arange(64) >= 32).long().expand(2, 64, 64)
    head = fit_linear(generator, latents, labels, HALVES, rng=rng, layers=["hue"])
    assert head.layers == ("hue",)
    made = generator.synthesize(latents, ["hue"])
    for half in HALVES:
        assert torch.equal(Part(head, (half,)).mask(made), Part(HalvesSegmenter(), (half,)).mask(made))


def test_labels_are_resized_without_making_new_ones(rng: torch.Generator) -> None:
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[..., 11:] = 2
    with pytest.raises(RegionError, match="no pixel of b"):
        fit_linear(GAN, codes(1), labels, ("a", "b", "c"), rng=rng)


def test_an_interrupt_keeps_what_is_learnt(rng: torch.Generator) -> None:
    def stop(done: int | float, total: int, message: str = "") -> None:
        if done == 5:
            raise KeyboardInterrupt

    known, latents = truth(), codes(2)
    labels = labels_of(known, latents)
    head = fit_linear(GAN, latents, labels, known.parts, rng=rng, progress=stop)
    assert (labels_of(head, latents) == labels).float().mean() > 0.6


def test_files(tmp_path: Path) -> None:
    head = truth()
    head.save(tmp_path / "h.safetensors")
    again = load_linear(tmp_path / "h.safetensors", GAN)
    assert (again.generator, again.parts, again.layers, again.size) == (GAN.name, head.parts, head.layers, 16)
    made = GAN.synthesize(codes(1), head.layers)
    assert torch.equal(again.segment(made), head.segment(made))
    with pytest.raises(RegionError, match=f"made on {GAN.name}, this model is halves: make it again"):
        load_linear(tmp_path / "h.safetensors", HalvesGenerator())
    wrong = LinearSegmenter(GAN.name, ("a", "b"), {"b8.conv1": torch.zeros(2, 3)}, torch.zeros(2), 16)
    wrong.save(tmp_path / "w.safetensors")
    with pytest.raises(RegionError, match=r"does not fit b8\.conv1 of"):
        load_linear(tmp_path / "w.safetensors", GAN)
    (tmp_path / "broken.safetensors").write_bytes((tmp_path / "h.safetensors").read_bytes()[:-9])
    with pytest.raises(RegionError, match=r"cannot be read .*expected a linear head"):
        load_linear(tmp_path / "broken.safetensors", GAN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": ("a",)}, "two or more parts of different names, got a"),
        ({"parts": ("a", "a")}, "two or more parts of different names, got a, a"),
        ({"bias": torch.zeros(3)}, "two or more parts"),
        ({"weights": {}}, "two or more parts"),
        ({"weights": {"hue": torch.full([2, 3], torch.nan)}}, "finite weights"),
        ({"size": 0}, "a size in pixels"),
        ({"parts": ("a", "b+c")}, 'without "\\+"'),
    ],
)
def test_bad_heads(change: dict, message: str, unchecked: None) -> None:
    good = {
        "generator": "halves",
        "parts": ("a", "b"),
        "weights": {"hue": torch.zeros(2, 3)},
        "bias": torch.zeros(2),
        "size": 16,
    }
    LinearSegmenter(**good)
    with pytest.raises(RegionError, match=message):
        LinearSegmenter(**(good | change))


def test_labels_that_teach_nothing_are_refused(rng: torch.Generator) -> None:
    latents = codes(2)
    labels = torch.zeros(2, 16, 16, dtype=torch.long)
    both = labels.clone()
    both[:, :8] = 1
    cases = [
        (labels, ("a", "b"), "no pixel of b: paint more"),
        (labels, ("a",), "only a: paint more"),
        (torch.full_like(labels, UNLABELLED), ("a", "b"), "no pixel of a, b"),
        (both[:1], ("a", "b"), "2 pictures need as many label maps, got 1"),
        (both + 1, ("a", "b"), "run from -1 .* to 1, got up to 2"),
    ]
    for maps, parts, message in cases:
        with pytest.raises(RegionError, match=message):
            fit_linear(GAN, latents, maps, parts, rng=rng)
    with pytest.raises(RegionError, match=r"feature layers of this generator are .*; got nose"):
        fit_linear(GAN, latents, both, ("a", "b"), rng=rng, layers=["nose"])


@pytest.mark.parametrize("settings", [{"weight_decay": 0.0}, {"pixels": 0}, {"steps": -1}, {"weight_decay": torch.inf}])
def test_bad_settings(settings: dict) -> None:
    with pytest.raises(SituError, match="settings of a linear head must be positive numbers"):
        LinearFit(**settings)
