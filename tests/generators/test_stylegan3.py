"""StyleGAN3: its plan and filters against published ones, its pictures, where its features lie, and its derivatives."""

import json
from dataclasses import asdict

import pytest
import torch
from torch.nn import functional

from drawn_weights import agree, draw_weights, golden_cases
from situ.core.errors import GeneratorError
from situ.core.latents import Latents, parse_subspace
from situ.generators.stylegan3 import StyleGAN3
from situ.generators.stylegan3_network import (
    StyleGAN3Network,
    StyleGAN3Settings,
    downsample,
    low_pass,
    rigid_transform,
    upsample,
)

SMALL = StyleGAN3Settings(resolution=16, z_dim=8, w_dim=8, channel_base=64, channel_max=8, num_layers=5, margin_size=4)
RADIAL = StyleGAN3Settings(**{**asdict(SMALL), "conv_kernel": 1, "use_radial_filters": True})


def network(settings: StyleGAN3Settings = SMALL, seed: int = 0) -> StyleGAN3Network:
    made = StyleGAN3Network(settings)
    draw_weights(made, seed)
    return made


def generator(settings: StyleGAN3Settings = SMALL) -> StyleGAN3:
    return StyleGAN3(network(settings))


# Of the same weights, by Generator of github.com/NVlabs/stylegan3 (training/networks_stylegan3.py) at c233a91, on its
# own filters, with truncation_psi=0.7 and one picture at a time.
@pytest.mark.parametrize(
    ("name", "case"), golden_cases("stylegan3_pictures").items(), ids=golden_cases("stylegan3_pictures")
)
def test_published_pictures(name: str, case: dict) -> None:
    settings = StyleGAN3Settings(**case["settings"])
    made = StyleGAN3(network(settings, case["seed"]))
    if "moved" in name:
        made.network.synthesis.get_buffer("input.transform").copy_(rigid_transform((0.2, -0.1), 25.0))
    z = torch.randn(2, settings.z_dim, generator=torch.Generator().manual_seed(100 + case["seed"]))
    labels = torch.eye(3)[[2, 0]] if settings.c_dim else None
    images = made.synthesize(Latents(z, made.spaces["z"], labels, truncation=0.7)).images
    assert agree(images, case)


def test_the_published_plan() -> None:
    names = [layer.name for layer in StyleGAN3Settings().plan()]
    assert names[:5] == ["L0_36_512", "L1_36_512", "L2_52_512", "L3_52_512", "L4_84_512"]
    assert names[5:9] == ["L5_148_512", "L6_148_512", "L7_276_323", "L8_276_203"]
    assert names[9:] == ["L9_532_128", "L10_1044_81", "L11_1044_51", "L12_1044_32", "L13_1024_32", "L14_1024_3"]
    with torch.device("meta"):
        full = StyleGAN3Network(StyleGAN3Settings())
    assert full.settings.num_ws == 16
    assert sum(p.numel() for p in full.parameters()) == 22_313_167
    assert sum(b.numel() for b in full.buffers() if b is not None) == 2_480
    keys = full.state_dict()
    assert keys["synthesis.L2_52_512.up_filter"].shape == (24,)
    assert keys["synthesis.L2_52_512.down_filter"].shape == (12,)
    assert "synthesis.L14_1024_3.up_filter" not in keys


def test_the_published_plan_of_configuration_r() -> None:
    settings = StyleGAN3Settings(conv_kernel=1, use_radial_filters=True, channel_base=65536, channel_max=1024)
    with torch.device("meta"):
        full = StyleGAN3Network(settings)
    assert sum(p.numel() for p in full.parameters()) == 15_093_151
    assert sum(b.numel() for b in full.buffers() if b is not None) == 5_600
    assert full.state_dict()["synthesis.L0_36_1024.down_filter"].shape == (12, 12)
    assert full.state_dict()["synthesis.L13_1024_64.down_filter"].shape == (12,)


def test_published_filters() -> None:
    """Numbers of the published design_lowpass_filter, same commit."""
    separable = low_pass(12, 3.0, 2.0, 32)
    radial = low_pass(12, 3.0, 2.0, 32, radial=True)
    assert low_pass(1, 3.0, 2.0, 32) is None
    assert separable is not None
    assert radial is not None
    torch.testing.assert_close(separable[:6], torch.tensor(SEPARABLE), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(radial[:6:2, 5], torch.tensor(RADIAL_COLUMN), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(radial, radial.T)
    torch.testing.assert_close(radial.sum(), torch.tensor(1.0))


SEPARABLE = [-0.00270881, 0.02035808, 0.05852326, 0.10477912, 0.14693259, 0.17211576]
RADIAL_COLUMN = [0.001872631, 0.010623042, 0.021330494]


@pytest.mark.parametrize(("factor", "padding"), [(2, (9, 8)), (2, (13, 15)), (4, (-6, -9)), (4, (2, -30))])
def test_upsampling_is_zero_insertion_then_filter(factor: int, padding: tuple[int, int], rng: torch.Generator) -> None:
    x, taps = torch.randn(2, 3, 20, 20, generator=rng), torch.randn(6 * factor, generator=rng)
    zeros = torch.zeros(2, 3, 20 * factor, 20 * factor)
    zeros[:, :, ::factor, ::factor] = x
    padded = functional.pad(zeros, list(padding) * 2)
    kernel = torch.outer(taps, taps).flip(0, 1) * factor**2
    expected = functional.conv2d(padded.transpose(0, 1).reshape(6, 1, *padded.shape[2:]), kernel[None, None])
    expected = expected.reshape(3, 2, *expected.shape[2:]).transpose(0, 1)
    torch.testing.assert_close(upsample(x, taps, factor, padding), expected, rtol=1e-4, atol=1e-4)


def test_downsampling_takes_a_filter_of_one_or_two_axes(rng: torch.Generator) -> None:
    x, taps = torch.randn(2, 3, 20, 20, generator=rng), torch.randn(12, generator=rng)
    square = downsample(x, torch.outer(taps, taps), 2)
    assert square.shape == (2, 3, 5, 5)
    torch.testing.assert_close(downsample(x, taps, 2), square, rtol=1e-4, atol=1e-4)
    one = torch.zeros(12)
    one[3] = 1  # a convolution runs backwards over its taps: tap 3 reads 8 samples after the first
    assert torch.equal(downsample(x, one, 2), x[:, :, 8:17:2, 8:17:2])


def centre(x: torch.Tensor) -> torch.Tensor:
    """The centre of mass (down, right) in picture widths, of a map above its border's level."""
    x = (x - x.flatten().median()).abs()
    x = x * (x > 0.2 * x.max())
    places = (torch.arange(x.shape[-1]) + 0.5) / x.shape[-1] - 0.5
    return torch.stack([(x.sum(1) * places).sum(), (x.sum(0) * places).sum()]) / x.sum()


class _Bump(torch.nn.Module):
    """In place of the Fourier features: a bump at a known place, the same in every channel."""

    def __init__(self, size: int, rate: int, channels: int, place: tuple[float, float]) -> None:
        super().__init__()
        grid = (torch.arange(size) + (1 - size) / 2) / rate
        bump = torch.exp(-(((grid[:, None] - place[0]) ** 2) + (grid - place[1]) ** 2) / 0.01)
        self.register_buffer("features", bump.expand(1, channels, size, size).clone())

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        return self.features.expand(len(s), -1, -1, -1)


@pytest.mark.parametrize("settings", ["T", "R"])
def test_features_lie_where_the_picture_has_them(settings: str, rng: torch.Generator) -> None:
    """A bump of the input stays at its place of the frame in every layer, in spite of the margins cut off."""
    extra = {"conv_kernel": 1, "use_radial_filters": True} if settings == "R" else {}
    net = StyleGAN3Network(
        StyleGAN3Settings(64, 4, 4, channel_base=128, channel_max=4, num_layers=8, conv_clamp=None, **extra)
    )
    with torch.no_grad():
        for layer in net.layers[1:]:  # kernels that pass every channel on, and biases of nought
            k = layer.plan.kernel
            layer.weight.zero_()
            layer.weight[:, :, k // 2, k // 2] = 1
    place = (-0.2, 0.15)
    first = net.plan[0]
    net.layers[0].forward = _Bump(first.in_size, first.in_rate, first.inputs, place).forward
    made = StyleGAN3(net)
    names = [layer.name for layer in made.layers]
    found = made.synthesize(made.sample(1, made.spaces["w"], rng), names)
    for layer in made.layers:
        features = found.features[layer.name]
        assert features.shape == (1, layer.channels, layer.resolution, layer.resolution)
        assert (centre(features[0, 0]) - torch.tensor(place)).abs().max() < 0.02
    assert (centre(found.images[0, 0]) - torch.tensor(place)).abs().max() < 0.02


def test_moving_the_input_moves_features_and_picture(rng: torch.Generator) -> None:
    made = generator(StyleGAN3Settings(64, 8, 8, channel_base=256, channel_max=8, num_layers=8))
    layer = next(layer for layer in made.layers if layer.resolution == 32)
    w = made.sample(1, made.spaces["w"], rng)
    before = made.synthesize(w, [layer.name])
    made.network.synthesis.get_buffer("input.transform").copy_(rigid_transform((0.25, -0.125)))
    after = made.synthesize(w, [layer.name])
    for a, b, side in (
        (before.features[layer.name], after.features[layer.name], 32),
        (before.images, after.images, 64),
    ):
        right, up = side // 4, side // 8
        # what was at x is now at x + 1/4 of the picture and 1/8 higher; the rest came from outside it
        change = (b[:, :, : side - up, right:] - a[:, :, up:, : side - right]).abs().mean()
        assert change < 0.05 * (b - a).abs().mean()


def test_the_input_style_moves_the_picture_like_the_transform(rng: torch.Generator) -> None:
    made = generator()
    s = made.sample(1, made.spaces["s"], rng)
    values = s.values.clone()
    values[:, :4] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    made.network.synthesis.get_buffer("input.transform").copy_(rigid_transform((0.3, 0.1)))
    expected = made.synthesize(s.with_values(values)).images
    made.network.synthesis.get_buffer("input.transform").copy_(torch.eye(3))
    values[:, :4] = torch.tensor(
        [2.0, 0.0, 0.6, 0.2]
    )  # only the direction of the first two counts, and scales the rest
    torch.testing.assert_close(made.synthesize(s.with_values(values)).images, expected, rtol=1e-4, atol=1e-5)


def test_rigid_transform_is_inverse() -> None:
    m = rigid_transform((0.3, -0.2), 90.0)
    # a point of the new picture -> where it was: (0.3, -0.2) is the centre moved; right of it what was below the centre
    torch.testing.assert_close(m @ torch.tensor([0.3, -0.2, 1.0]), torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(m @ torch.tensor([0.4, -0.2, 1.0]), torch.tensor([0.0, 0.1, 1.0]), atol=1e-6, rtol=0)


def test_pictures_do_not_depend_on_their_neighbours(rng: torch.Generator) -> None:
    made = generator()
    w = made.sample(3, made.spaces["w"], rng)
    alone = torch.cat([made.synthesize(w[i : i + 1]).images for i in range(3)])
    torch.testing.assert_close(made.synthesize(w).images, alone, rtol=1e-4, atol=1e-5)


def test_channels_at_a_time_change_nothing(rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    made = generator(StyleGAN3Settings(16, 8, 8, channel_base=512, channel_max=40, num_layers=5))
    w = made.sample(2, made.spaces["w"], rng)
    whole = made.synthesize(w).images
    monkeypatch.setattr("situ.generators.stylegan3_network._AT_A_TIME", 1)
    torch.testing.assert_close(made.synthesize(w).images, whole)


def test_clamp(rng: torch.Generator) -> None:
    """The clamp comes before the last filter, so a layer's features may pass it, but only by the filter's overshoot."""
    tight, loose = (generator(StyleGAN3Settings(**{**asdict(SMALL), "conv_clamp": c})) for c in (0.1, None))
    w = tight.sample(1, tight.spaces["w"], rng)
    name = tight.layers[2].name
    assert tight.synthesize(w, [name]).features[name].abs().max() < 0.2
    assert loose.synthesize(w, [name]).features[name].abs().max() > 0.4
    assert tight.synthesize(w).images.abs().max() <= 0.1 * 0.25


def test_kinds_and_rows() -> None:
    made = generator()
    assert [s.kind for s in made.spaces["s"].slices] == ["input", *["conv"] * 5, "rgb"]
    assert [s.row for s in made.steps] == list(range(7))
    assert [s.name for s in made.spaces["w+"].slices] == [s.name for s in made.steps]
    assert made.spaces["s"].slices[0].size == 4
    assert made.first_step(parse_subspace("s:conv", made.spaces)) == 1


def test_settings_survive_json() -> None:
    assert StyleGAN3Settings(**json.loads(json.dumps(asdict(RADIAL)))) == RADIAL


@pytest.mark.parametrize(
    "wrong",
    [
        {"resolution": 48},
        {"resolution": 8},
        {"num_critical": 14},
        {"conv_kernel": 2},
        {"channel_base": 4},
        {"margin_size": -1},
        {"first_stopband": 1.0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(GeneratorError):
        StyleGAN3Settings(**wrong)


def test_every_space_gives_the_same_picture(rng: torch.Generator) -> None:
    made = generator()
    z = made.sample(3, made.spaces["z"], rng, truncation=0.7)
    expected = made.synthesize(z).images
    for name in ("w", "w+", "s"):
        torch.testing.assert_close(made.synthesize(made.convert(z, made.spaces[name])).images, expected)


@pytest.mark.parametrize("step", range(1, 8))
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


@pytest.mark.parametrize(
    ("text", "step"), [("w", 0), ("z", 0), ("w+:1-2", 1), ("w:3-5", 3), ("s:input", 0), ("s:4", 4)]
)
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


@pytest.mark.parametrize("settings", [SMALL, RADIAL], ids=["T", "R"])
@pytest.mark.parametrize("name", ["z", "w+", "s"])
def test_forward_mode_agrees_with_finite_differences(
    name: str, settings: StyleGAN3Settings, rng: torch.Generator
) -> None:
    made = StyleGAN3(network(settings).double())
    v = made.sample(1, made.spaces["z"], rng)
    v = made.convert(v.with_values(v.values.double()), made.spaces[name]).values[0]
    t = torch.randn(v.shape, generator=rng, dtype=torch.float64)

    def f(x: torch.Tensor) -> torch.Tensor:
        return made.synthesize(Latents(x[None], made.spaces[name])).images[0]

    _, tangent = torch.func.jvp(f, (v,), (t,))
    step = 1e-6
    torch.testing.assert_close(tangent, (f(v + step * t) - f(v - step * t)) / (2 * step), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", [SMALL, RADIAL], ids=["T", "R"])
def test_batched_tangents_agree_with_reverse_mode(settings: StyleGAN3Settings, rng: torch.Generator) -> None:
    made = StyleGAN3(network(settings).double())
    v = torch.randn(8, generator=rng, dtype=torch.float64)

    def f(x: torch.Tensor) -> torch.Tensor:
        return made.synthesize(Latents(x[None], made.spaces["w"])).images[0]

    forward = torch.func.vmap(lambda t: torch.func.jvp(f, (v,), (t,))[1])(torch.eye(len(v), dtype=v.dtype))
    picture, pullback = torch.func.vjp(f, v)
    weight = torch.randn(picture.shape, generator=rng, dtype=v.dtype)
    torch.testing.assert_close((forward * weight).sum(dim=(1, 2, 3)), pullback(weight)[0])


def test_second_derivatives_exist(rng: torch.Generator) -> None:
    made = generator()
    w = made.sample(1, made.spaces["w+"], rng)
    v = w.values.requires_grad_()
    (g,) = torch.autograd.grad(made.synthesize(w.with_values(v)).images.square().sum(), v, create_graph=True)
    (h,) = torch.autograd.grad(g.square().sum(), v)
    assert h.isfinite().all()
    assert (h.reshape(7, 8).norm(dim=1) > 0).all()
