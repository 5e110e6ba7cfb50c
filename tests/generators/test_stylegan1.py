"""StyleGAN: its layers against definitions, its pictures and its derivatives."""

import json
from dataclasses import asdict

import pytest
import torch
from torch.nn import functional

from drawn_weights import agree, draw_weights, golden_cases
from situ.core.errors import GeneratorError
from situ.core.latents import Latents, Subspace, parse_subspace
from situ.generators.stylegan1 import StyleGAN1
from situ.generators.stylegan1_network import AdaptedLayer, StyleGAN1Network, StyleGAN1Settings

SMALL = StyleGAN1Settings(resolution=16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=12)


def network(settings: StyleGAN1Settings = SMALL, seed: int = 0) -> StyleGAN1Network:
    made = StyleGAN1Network(settings)
    draw_weights(made, seed)
    return made


def generator(settings: StyleGAN1Settings = SMALL, **kwargs: object) -> StyleGAN1:
    return StyleGAN1(network(settings), **kwargs)


# Of the same weights, by StyleGANGenerator of github.com/genforce/genforce at 197feee (trunc_psi=0.7 on every layer),
# with the kernels of its fused up-convolutions (128 px and more) stored flipped.
@pytest.mark.parametrize("case", golden_cases("stylegan1_pictures").values(), ids=golden_cases("stylegan1_pictures"))
def test_published_pictures(case: dict) -> None:
    settings = StyleGAN1Settings(**case["settings"])
    made = StyleGAN1(network(settings, case["seed"]))
    z = torch.randn(2, settings.z_dim, generator=torch.Generator().manual_seed(100 + case["seed"]))
    labels = torch.eye(3)[[2, 0]] if settings.c_dim else None
    images = made.synthesize(Latents(z, made.spaces["z"], labels, truncation=0.7)).images
    assert agree(images, case)


@pytest.mark.parametrize("fused", [False, True])
def test_up_convolution_is_nearest_neighbour_then_convolution_then_blur(fused: bool) -> None:
    torch.manual_seed(0)
    layer = AdaptedLayer(5, 4, 8, 16, up=True, eps=1e-8).requires_grad_(False)
    if fused:
        layer.fuse()
    x = torch.randn(2, 5, 8, 8)
    y = functional.conv2d(functional.interpolate(x, scale_factor=2), layer.weight * (2 / 45) ** 0.5, padding=1)
    blur = torch.tensor([1.0, 2.0, 1.0])
    blur = torch.outer(blur, blur).expand(4, 1, 3, 3) / 16
    torch.testing.assert_close(layer.convolve(x), functional.conv2d(y, blur, padding=1, groups=4))


def test_a_layer_gives_its_features_the_mean_and_spread_of_its_style(rng: torch.Generator) -> None:
    made = generator()
    s = made.sample(2, made.spaces["s"], rng)
    for layer, style in zip(made.layers, made.spaces["s"].split(s.values), strict=True):
        y = made.synthesize(s, [layer.name], images=False).features[layer.name]
        assert y.shape == (2, layer.channels, layer.resolution, layer.resolution)
        scale, bias = style.chunk(2, dim=1)
        torch.testing.assert_close(y.mean(dim=(2, 3)), bias, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(y.std(dim=(2, 3), correction=0), (scale + 1).abs(), rtol=1e-3, atol=1e-4)


def test_the_epsilon_of_the_instance_norm_counts(rng: torch.Generator) -> None:
    ours, theirs = (
        generator(StyleGAN1Settings(16, 8, 8, 0, 2, 128, 12, instance_norm_eps=eps)) for eps in (1e-8, 1e-1)
    )
    w = ours.sample(1, ours.spaces["w"], rng)
    assert not torch.allclose(ours.synthesize(w).images, theirs.synthesize(w).images, rtol=1e-2)


def test_sizes_of_the_published_network() -> None:
    with torch.device("meta"):
        full = StyleGAN1Network(StyleGAN1Settings())
    assert full.settings.num_ws == 18
    assert sum(p.numel() for p in full.parameters()) == 26_212_019
    assert [step.row for step in full.steps] == list(range(18))
    assert {step.kind for step in full.steps} == {"conv"}
    assert [step.inputs for step in full.steps[-4:]] == [64, 64, 32, 32]
    assert "synthesis.layer0.weight" not in full.state_dict()


def test_settings_survive_json() -> None:
    settings = StyleGAN1Settings(64, 8, 16, 3, 2, 256, 32, instance_norm_eps=1e-5)
    assert StyleGAN1Settings(**json.loads(json.dumps(asdict(settings)))) == settings


@pytest.mark.parametrize(
    "wrong", [{"resolution": 48}, {"resolution": 2}, {"z_dim": 0}, {"c_dim": -1}, {"instance_norm_eps": 0.0}]
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(GeneratorError):
        StyleGAN1Settings(**wrong)


def test_every_space_gives_the_same_picture(rng: torch.Generator) -> None:
    made = generator()
    z = made.sample(3, made.spaces["z"], rng, truncation=0.7)
    expected = made.synthesize(z).images
    for name in ("w", "w+", "s"):
        torch.testing.assert_close(made.synthesize(made.convert(z, made.spaces[name])).images, expected)


def test_a_row_of_w_feeds_its_layer(rng: torch.Generator) -> None:
    made = generator()
    assert [s.name for s in made.spaces["w+"].slices] == [f"layer{row}" for row in range(6)]
    a = made.sample(1, made.spaces["w+"], rng)
    b = a.with_values(a.values + Subspace(a.space, (3,)).lift(torch.ones(8)))
    styles = zip(*(made.spaces["s"].split(made.convert(x, made.spaces["s"]).values) for x in (a, b)), strict=True)
    assert [not torch.equal(x, y) for x, y in styles] == [row == 3 for row in range(6)]


@pytest.mark.parametrize("step", range(1, 7))
def test_resuming_equals_the_full_pass(step: int, rng: torch.Generator) -> None:
    made = generator()
    names = [layer.name for layer in made.layers if layer.step >= step]
    s = made.sample(2, made.spaces["s"], rng)
    state = made.synthesize(s, keep=step).state
    assert state is not None
    moved = s.values.clone()
    moved[:, made.spaces["s"].offsets[step] :] += 1
    full, resumed = (made.synthesize(s.with_values(moved), names, resume=start) for start in (None, state))
    torch.testing.assert_close(resumed.images, full.images)
    for name in names:
        torch.testing.assert_close(resumed.features[name], full.features[name])


@pytest.mark.parametrize(("text", "step"), [("w", 0), ("z", 0), ("w+:1-2", 1), ("w:3-5", 3), ("s:conv", 0), ("s:5", 5)])
def test_first_step_is_the_first_that_changes(text: str, step: int, rng: torch.Generator) -> None:
    made = generator()
    subspace = parse_subspace(text, made.spaces)
    assert made.first_step(subspace) == step
    base = made.sample(1, subspace.space, rng)
    moved = base.with_values(base.values + subspace.lift(torch.randn(subspace.dim, generator=rng)))
    names = [layer.name for layer in made.layers]
    a, b = made.synthesize(base, names), made.synthesize(moved, names)
    for layer in made.layers:
        assert torch.equal(a.features[layer.name], b.features[layer.name]) == (layer.step < step)
    assert not torch.equal(a.images, b.images)


@pytest.mark.parametrize("name", ["z", "w", "w+", "s"])
def test_forward_mode_agrees_with_finite_differences(name: str, rng: torch.Generator) -> None:
    made = StyleGAN1(network().double())
    v = made.sample(1, made.spaces["z"], rng)
    v = made.convert(v.with_values(v.values.double()), made.spaces[name]).values[0]
    t = torch.randn(v.shape, generator=rng, dtype=torch.float64)

    def f(x: torch.Tensor) -> torch.Tensor:
        return made.synthesize(Latents(x[None], made.spaces[name])).images[0]

    _, tangent = torch.func.jvp(f, (v,), (t,))
    step = 1e-6
    torch.testing.assert_close(tangent, (f(v + step * t) - f(v - step * t)) / (2 * step), rtol=1e-4, atol=1e-6)


def test_batched_tangents_agree_with_reverse_mode(rng: torch.Generator) -> None:
    made = StyleGAN1(network().double())
    v = torch.randn(8, generator=rng, dtype=torch.float64)

    def f(x: torch.Tensor) -> torch.Tensor:
        return made.synthesize(Latents(x[None], made.spaces["w"])).images[0]

    forward = torch.func.vmap(lambda t: torch.func.jvp(f, (v,), (t,))[1])(torch.eye(len(v), dtype=v.dtype))
    picture, pullback = torch.func.vjp(f, v)
    weight = torch.randn(picture.shape, generator=rng, dtype=v.dtype)
    torch.testing.assert_close((forward * weight).sum(dim=(1, 2, 3)), pullback(weight)[0])


def test_second_derivatives_exist(rng: torch.Generator) -> None:
    made = generator()
    w = made.sample(1, made.spaces["w"], rng)
    v = w.values.requires_grad_()
    (g,) = torch.autograd.grad(made.synthesize(w.with_values(v)).images.square().sum(), v, create_graph=True)
    (h,) = torch.autograd.grad(g.square().sum(), v)
    assert h.isfinite().all()
    assert h.norm() > 0


def test_noise(rng: torch.Generator) -> None:
    const, none, random = generator(), generator(noise="none"), generator(noise="random", rng=rng)
    w = const.sample(1, const.spaces["w"], rng)
    assert torch.equal(const.synthesize(w).images, const.synthesize(w).images)
    assert not torch.allclose(const.synthesize(w).images, none.synthesize(w).images)
    assert not torch.equal(random.synthesize(w).images, random.synthesize(w).images)
    with pytest.raises(GeneratorError, match="needs rng"):
        generator(noise="random")


def test_classes_need_labels() -> None:
    made = generator(StyleGAN1Settings(8, 8, 8, 3, 2, 128, 12))
    with pytest.raises(GeneratorError, match="class-conditional"):
        made.convert(Latents(torch.zeros(1, 8), made.spaces["z"]), made.spaces["w"])
