"""StyleGAN2: its algebra against definitions, its spaces against each other, its derivatives against differences."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from situ.core.errors import GeneratorError, LatentError
from situ.core.latents import Latents, Subspace, parse_subspace
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan2_network import (
    ModulatedConvolution,
    StyleGAN2Network,
    StyleGAN2Settings,
    upsample_image,
)

SMALL = StyleGAN2Settings(resolution=16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=12)


def network(settings: StyleGAN2Settings = SMALL, seed: int = 0) -> StyleGAN2Network:
    torch.manual_seed(seed)
    made = StyleGAN2Network(settings)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.add_(0.2 * torch.randn_like(parameter))
        made.mapping.w_avg.normal_(std=0.3)
    return made


def generator(settings: StyleGAN2Settings = SMALL, **kwargs: object) -> StyleGAN2:
    return StyleGAN2(network(settings), **kwargs)


FIR = torch.tensor([1.0, 3.0, 3.0, 1.0])
FIR = FIR[:, None] * FIR[None, :] / 64


def zero_insert(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    out = x.new_zeros(n, c, 2 * h, 2 * w)
    out[:, :, ::2, ::2] = x
    return out


def test_up_convolution_is_transposed_convolution_then_filter() -> None:
    torch.manual_seed(0)
    layer = ModulatedConvolution(5, 4, 8, 16, up=True, clamp=None)
    x, s = torch.randn(2, 5, 8, 8), torch.randn(2, 5)
    with torch.no_grad():
        modulated = layer.weight[None] * s[:, None, :, None, None]
        d = (modulated.square().sum(dim=(2, 3, 4)) + 1e-8).rsqrt()
        rows = []
        for i in range(2):  # one sample at a time, weights modulated, the definition
            w = modulated[i] * d[i][:, None, None, None]
            y = functional.conv_transpose2d(x[i : i + 1], w.transpose(0, 1), stride=2)
            y = functional.conv2d(functional.pad(y, [1, 1, 1, 1]).transpose(0, 1), 4 * FIR[None, None]).transpose(0, 1)
            rows.append(y)
        expected = functional.leaky_relu(torch.cat(rows) + layer.bias[:, None, None], 0.2) * 2**0.5
        torch.testing.assert_close(layer(x, s, None), expected, rtol=1e-4, atol=1e-5)
        layer.fuse()
        torch.testing.assert_close(layer(x, s, None), expected, rtol=1e-4, atol=1e-5)


def test_image_upsampling_is_zero_insertion_then_filter() -> None:
    x = torch.randn(2, 3, 8, 8)
    padded = functional.pad(zero_insert(x), [2, 1, 2, 1]).reshape(6, 1, 19, 19)
    expected = functional.conv2d(padded, 4 * FIR[None, None]).reshape(2, 3, 16, 16)
    torch.testing.assert_close(upsample_image(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("resolution", [4, 8, 32])
def test_sizes(resolution: int, rng: torch.Generator) -> None:
    settings = StyleGAN2Settings(
        resolution=resolution, z_dim=6, w_dim=5, mapping_layers=1, channel_base=64, channel_max=8
    )
    made = generator(settings)
    images = made.synthesize(made.sample(2, made.spaces["z"], rng)).images
    assert images.shape == (2, 3, resolution, resolution)
    assert len(made.spaces["w+"].slices) == 2 * len(settings.resolutions)


def test_dimensions_of_the_published_spaces() -> None:
    with torch.device("meta"):
        full = StyleGAN2Network(StyleGAN2Settings())
    conv = sum(step.inputs for step in full.steps if step.kind != "rgb")
    assert full.settings.num_ws == 18
    assert sum(step.inputs for step in full.steps) == 9088
    assert conv == 6048
    assert [step.row for step in full.steps[:6]] == [0, 1, 1, 2, 3, 3]


def test_every_space_gives_the_same_picture(rng: torch.Generator) -> None:
    made = generator()
    z = made.sample(3, made.spaces["z"], rng, truncation=0.7)
    expected = made.synthesize(z).images
    for name in ("w", "w+", "s"):
        torch.testing.assert_close(made.synthesize(made.convert(z, made.spaces[name])).images, expected)


def test_conversion_backwards_is_refused(rng: torch.Generator) -> None:
    made = generator()
    with pytest.raises(LatentError, match="z -> w"):
        made.convert(made.sample(1, made.spaces["w+"], rng), made.spaces["w"])


def test_truncation_zero_is_the_mean(rng: torch.Generator) -> None:
    made = generator()
    w = made.sample(3, made.spaces["w"], rng, truncation=0.0)
    torch.testing.assert_close(w.values, made.network.mapping.w_avg.expand(3, -1))
    full, half = (made.sample(3, made.spaces["w"], torch.Generator().manual_seed(5), t).values for t in (1.0, 0.5))
    torch.testing.assert_close(half - made.network.mapping.w_avg, 0.5 * (full - made.network.mapping.w_avg))


@pytest.mark.parametrize("step", range(1, 8))
def test_resuming_equals_the_full_pass(step: int, rng: torch.Generator) -> None:
    made = generator()
    names = [layer.name for layer in made.layers if layer.step >= step]
    s = made.sample(2, made.spaces["s"], rng)
    state = made.synthesize(s, keep=step).state
    assert state is not None
    moved = Subspace(s.space, tuple(range(step, 8)))
    other = s.with_values(s.values + moved.lift(torch.randn(moved.dim, generator=rng)))
    full, resumed = made.synthesize(other, names), made.synthesize(other, names, resume=state)
    torch.testing.assert_close(resumed.images, full.images)
    for name in names:
        torch.testing.assert_close(resumed.features[name], full.features[name])
    tiled = made.synthesize(other.repeat(3), resume=state.repeat(3)).images
    torch.testing.assert_close(tiled, full.images.repeat(3, 1, 1, 1))


@pytest.mark.parametrize(
    ("text", "step"),
    [("w", 0), ("z", 0), ("w+", 0), ("w+:1-2", 1), ("w:3-5", 4), ("s:conv", 0), ("s:5", 5), ("w+:5", 7)],
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


def test_nothing_is_computed_that_nobody_asked_for(rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    made = generator()
    ran: list[int] = []
    step = made.network.step
    monkeypatch.setattr(made.network, "step", lambda i, *rest: (ran.append(i), step(i, *rest))[1])
    found = made.synthesize(made.sample(1, made.spaces["w"], rng), ["b8.conv0"], images=False)
    assert ran == [0, 1, 2]
    assert list(found.features) == ["b8.conv0"]
    with pytest.raises(GeneratorError, match="features only"):
        _ = found.images
    ran.clear()
    state = made.synthesize(made.sample(1, made.spaces["w"], rng), images=False, keep=4).state
    assert ran == [0, 1, 2, 3]
    made.synthesize(made.sample(1, made.spaces["w"], rng), resume=state)
    assert ran == list(range(8))


def test_unknown_feature_names_the_known_ones(rng: torch.Generator) -> None:
    made = generator()
    with pytest.raises(GeneratorError, match=r"b4\.conv1.*got b64\.conv9"):
        made.synthesize(made.sample(1, made.spaces["w"], rng), ["b64.conv9"])


def pixels(made: StyleGAN2, name: str):
    space = made.spaces[name]
    return lambda v: made.synthesize(Latents(v[None], space)).images[0]


@pytest.mark.parametrize("name", ["z", "w", "w+", "s"])
def test_forward_mode_agrees_with_finite_differences(name: str, rng: torch.Generator) -> None:
    made = StyleGAN2(network().double())
    made._dtypes = [torch.float64] * len(made._dtypes)
    v = made.sample(1, made.spaces["z"], rng)
    v = made.convert(v.with_values(v.values.double()), made.spaces[name]).values[0]
    t = torch.randn(v.shape, generator=rng, dtype=torch.float64)
    f = pixels(made, name)
    _, tangent = torch.func.jvp(f, (v,), (t,))
    step = 1e-6
    difference = (f(v + step * t) - f(v - step * t)) / (2 * step)
    torch.testing.assert_close(tangent, difference, rtol=1e-4, atol=1e-6)


def test_batched_tangents_agree_with_reverse_mode(rng: torch.Generator) -> None:
    made = generator()
    v = made.sample(1, made.spaces["w"], rng).values[0]
    f = pixels(made, "w")
    forward = torch.func.vmap(lambda t: torch.func.jvp(f, (v,), (t,))[1])(torch.eye(len(v)))  # (d, 3, h, w)
    reverse = torch.autograd.functional.jacobian(f, v)  # (3, h, w, d)
    torch.testing.assert_close(forward.permute(1, 2, 3, 0), reverse, rtol=1e-3, atol=1e-4)


def test_second_derivatives_exist(rng: torch.Generator) -> None:
    made = generator()
    v = made.sample(1, made.spaces["w"], rng).values[0].requires_grad_()
    (g,) = torch.autograd.grad(pixels(made, "w")(v).square().sum(), v, create_graph=True)
    (h,) = torch.autograd.grad(g.square().sum(), v)
    assert h.isfinite().all()
    assert h.norm() > 0


def test_it_is_one_graph_under_compile() -> None:
    """In a process of its own: the shape checks of the test run would break the graph."""
    script = """
import torch
from situ.core.latents import Latents
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings
made = StyleGAN2(StyleGAN2Network(StyleGAN2Settings(16, 8, 8, 0, 2, 128, 12)))
space = made.spaces["w+"]
w = made.sample(2, space, torch.Generator().manual_seed(0)).values
picture = lambda v: made.synthesize(Latents(v, space)).images
compiled = torch.compile(picture, backend="aot_eager", fullgraph=True)
torch.testing.assert_close(compiled(w), picture(w))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_noise(rng: torch.Generator) -> None:
    latents = generator().sample(1, generator().spaces["w"], rng)
    const, none = generator(), generator(noise="none")
    assert torch.equal(const.synthesize(latents).images, const.synthesize(latents).images)
    assert not torch.allclose(const.synthesize(latents).images, none.synthesize(latents).images)
    random = generator(noise="random", rng=rng)
    assert not torch.equal(random.synthesize(latents).images, random.synthesize(latents).images)
    with pytest.raises(GeneratorError, match="needs rng"):
        generator(noise="random")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.01)])
def test_low_precision_stays_near(dtype: torch.dtype, tolerance: float, rng: torch.Generator) -> None:
    full, low = generator(), generator(low_precision=dtype, low_precision_resolutions=2)
    w = full.sample(2, full.spaces["w"], rng)
    a, b = full.synthesize(w).images, low.synthesize(w, ["b16.conv1"])
    assert b.features["b16.conv1"].dtype == dtype
    assert b.images.dtype == torch.float32
    assert (a - b.images).abs().max() < tolerance * a.abs().max()
    assert not torch.equal(a, b.images)


def test_clamp_limits_activations(rng: torch.Generator) -> None:
    settings = StyleGAN2Settings(16, 8, 8, 0, 2, 128, 12, conv_clamp=0.1)
    made = generator(settings)
    features = made.synthesize(made.sample(2, made.spaces["w"], rng), ["b8.conv1"]).features["b8.conv1"]
    assert features.abs().max() <= 0.1


def test_classes(rng: torch.Generator) -> None:
    made = generator(StyleGAN2Settings(8, 8, 8, 3, 2, 128, 12))
    one, two = (torch.eye(3)[[i]] for i in (0, 1))
    a, b = (
        made.synthesize(made.sample(1, made.spaces["w"], torch.Generator().manual_seed(1), labels=label)).images
        for label in (one, two)
    )
    assert not torch.allclose(a, b)
    assert made.sample(4, made.spaces["z"], rng).labels is not None
    with pytest.raises(LatentError, match=r"shape \(1, 3\)"):
        made.sample(1, made.spaces["z"], rng, labels=torch.eye(2)[[0]])
    with pytest.raises(LatentError, match="no classes"):
        generator().sample(1, generator().spaces["z"], rng, labels=one)


@pytest.mark.parametrize("resolution", [0, 3, 48, 2048])
def test_impossible_resolutions_are_refused(resolution: int) -> None:
    with pytest.raises(GeneratorError, match="power of two"):
        StyleGAN2Settings(resolution=resolution)


def test_golden_picture() -> None:
    """Numbers of weights drawn from a seed, also given by the published implementation (to 1e-5)."""
    torch.manual_seed(7)
    made = StyleGAN2Network(StyleGAN2Settings(16, 8, 8, 0, 2, 128, 12))
    with torch.no_grad():
        for key in sorted(dict(made.named_parameters())):
            made.get_parameter(key).copy_(torch.randn(made.get_parameter(key).shape))
        made.mapping.w_avg.copy_(torch.randn(8))
        for key in sorted(k for k in made.state_dict() if k.endswith("noise_const")):
            made.get_buffer(key).copy_(torch.randn(made.get_buffer(key).shape))
    z = torch.randn(1, 8)
    g = StyleGAN2(made)
    image = g.synthesize(Latents(z, g.spaces["z"], truncation=0.7)).images[0]
    torch.testing.assert_close(image[:, ::5, 3], torch.tensor(GOLDEN), rtol=1e-4, atol=1e-4)


GOLDEN = [
    [-1.2701237, -0.5209800, 4.2667403, -6.5491781],
    [-0.9015221, 4.3639679, -2.4590480, 3.7824898],
    [-0.7460356, -0.5324926, -2.0755296, -1.2377850],
]
