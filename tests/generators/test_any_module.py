"""Any module as a generator: what the dry run finds, the contract, derivatives both ways, and what is refused."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev

from situ.core.direction import Direction, Edit
from situ.core.discovery import Calibration, discover
from situ.core.errors import GeneratorError, LatentError
from situ.core.generator import FeatureLayer, Generator
from situ.core.jacobian import Rows, jacobian
from situ.core.latents import Latents, Subspace
from situ.core.region import Box
from situ.discovery.lelsd import LELSD
from situ.generators.any_module import AnyModule


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose time on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """An untrained module whose normalisations have seen something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = make()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d) and part.track_running_stats:
                nn.init.uniform_(part.running_mean, -0.2, 0.2)
                nn.init.uniform_(part.running_var, 0.5, 2.0)
                nn.init.normal_(part.weight, 1.0, 0.2)
                nn.init.normal_(part.bias, 0.0, 0.2)
        return module


def dcgan(channels: int = 3) -> nn.Module:
    """16 px, z (n, 12, 1, 1)."""
    return nn.Sequential(
        nn.ConvTranspose2d(12, 16, 4, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(8, channels, 4, 2, 1),
        nn.Tanh(),
    )


def mlp(outputs: int = 3 * 64) -> nn.Module:
    """8 px, flat."""
    return nn.Sequential(nn.Linear(6, 32), nn.GELU(), nn.Linear(32, outputs), nn.Sigmoid())


class Mapped(nn.Module):
    """A mapping and a synthesis with upsampling, group normalisation and SiLU."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(10, 32), nn.LeakyReLU(0.2), nn.Linear(32, 7))
        self.synthesis = nn.Sequential(
            nn.Linear(7, 16 * 16),
            nn.Unflatten(1, (16, 4, 4)),
            nn.Conv2d(16, 12, 3, padding=1),
            nn.GroupNorm(3, 12),
            nn.SiLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(12, 3, 3, padding=1),
        )


def made(kind: str) -> AnyModule:
    if kind == "dcgan":
        return AnyModule(seeded(dcgan), 12)
    if kind == "mlp":
        return AnyModule(seeded(mlp), 6, output_range=(0, 1))
    module = seeded(Mapped)
    return AnyModule(module.synthesis, 10, module.mapping)


KINDS = ["dcgan", "mlp", "mapped"]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- what the dry run finds


def test_a_dcgan_in_one_line() -> None:
    module = seeded(dcgan)
    module.train()
    generator = AnyModule(module, 12)
    assert isinstance(generator, Generator)
    assert generator.resolution == 16
    assert generator.input_shape == (12, 1, 1)
    assert generator.layers == (FeatureLayer("0", 4, 16, 0), FeatureLayer("3", 8, 8, 1))
    assert list(generator.spaces) == ["z"]
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    z = generator.sample(3, generator.spaces["z"], rng())
    again = seeded(dcgan).eval()
    with torch.no_grad():
        assert torch.equal(generator.synthesize(z).images, again(z.values[:, :, None, None]))


def test_an_mlp_in_one_line() -> None:
    generator = made("mlp")
    assert (generator.resolution, generator.input_shape) == (8, (6,))
    assert generator.layers == (FeatureLayer("output", 8, 3, 0),)
    z = generator.sample(2, generator.spaces["z"], rng())
    with torch.no_grad():
        flat = seeded(mlp)(z.values)
        found = generator.synthesize(z, ["output"])
    assert torch.allclose(found.images, flat.reshape(2, 3, 8, 8) * 2 - 1, atol=1e-6)
    assert torch.equal(found.features["output"], found.images)


def test_a_style_function_makes_a_space() -> None:
    generator, module = made("mapped"), seeded(Mapped).eval()
    assert {name: space.dim for name, space in generator.spaces.items()} == {"z": 10, "w": 7}
    assert [layer.name for layer in generator.layers] == ["2"]
    z = generator.sample(4, generator.spaces["z"], rng())
    w = generator.convert(z, generator.spaces["w"])
    with torch.no_grad():
        assert torch.allclose(w.values, module.mapping(z.values))
        assert torch.allclose(generator.synthesize(z).images, module.synthesis(w.values))
    with pytest.raises(LatentError, match="z -> w"):
        generator.convert(w, generator.spaces["z"])
    function = AnyModule(module.synthesis, 10, lambda z: module.mapping(z))
    assert torch.equal(function.convert(z, function.spaces["w"]).values, w.values)


def test_grey_pictures_get_three_channels() -> None:
    for module in (seeded(lambda: dcgan(1)), seeded(lambda: mlp(64))):
        generator = AnyModule(module, 12 if len(module) > 4 else 6)
        images = generator.synthesize(generator.sample(2, generator.spaces["z"], rng())).images
        assert images.shape[1] == 3
        assert torch.equal(images[:, 0], images[:, 2])

    class Flat(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.reshape(-1, 3, 3)

    assert AnyModule(Flat(), 9).synthesize(
        Latents(torch.zeros(1, 9), AnyModule(Flat(), 9).spaces["z"])
    ).images.shape == (
        1,
        3,
        3,
        3,
    )


def test_the_name_tells_class_size_and_weights() -> None:
    one, same, other = AnyModule(seeded(dcgan), 12), AnyModule(seeded(dcgan), 12), AnyModule(seeded(dcgan, 1), 12)
    assert one.name.startswith("sequential-16px-")
    assert one.name == same.name != other.name
    assert AnyModule(seeded(dcgan), 12, name="faces").name == one.name.replace("sequential", "faces")
    module = seeded(Mapped)
    before = AnyModule(module.synthesis, 10, module.mapping).name
    nn.init.zeros_(module.mapping[0].bias)
    assert AnyModule(module.synthesis, 10, module.mapping).name != before
    assert AnyModule(seeded(mlp).bfloat16(), 6).name != AnyModule(seeded(mlp), 6).name


class OwnConvolution(nn.Module):
    """A convolution of no known class, used once, and one that is shared by two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.conv2d(x, self.weight, padding=1)


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared = OwnConvolution(), nn.Tanh()
        self.unused = nn.Conv2d(4, 4, 1)
        self.flat = nn.Linear(3, 3)

    def forward(self, z: Tensor) -> tuple[Tensor, str]:
        x = self.shared(self.first(z.reshape(-1, 4, 4, 4)))
        return self.shared(self.flat(x[:, :3].mT.reshape(-1, 3)).reshape(-1, 3, 4, 4)), "more"


def test_layers_of_unknown_kinds_are_found() -> None:
    assert [layer.name for layer in AnyModule(seeded(Odd), 64).layers] == ["first"]


def test_a_convolution_that_runs_twice_is_no_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.again, self.paint = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 1)
            self.once = nn.Conv2d(8, 8, 1)

        def forward(self, z: Tensor) -> Tensor:
            return self.paint(self.once(self.again(self.again(z.reshape(-1, 8, 2, 2)))))

    assert [layer.name for layer in AnyModule(seeded(Twice), 32).layers] == ["once"]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (["nothing"], 'no submodule "nothing" runs'),
        (["unused"], 'no submodule "unused" runs'),
        (["shared"], "runs 2 times"),
        (["flat"], "h > 1"),
        (["first", "first"], "once"),
    ],
)
def test_layers_that_are_none(layers: list[str], words: str) -> None:
    with pytest.raises(GeneratorError, match=words):
        AnyModule(seeded(Odd), 64, layers=layers)


def test_named_layers_come_in_the_order_in_which_they_run() -> None:
    generator = AnyModule(seeded(dcgan), 12, layers=["5", "1"])
    assert [(layer.name, layer.step) for layer in generator.layers] == [("1", 0), ("5", 1)]


# --- the contract


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_and_truncation(kind: str) -> None:
    generator = made(kind)
    last = [*generator.spaces.values()][-1]
    codes = generator.sample(5, last, rng(3))
    assert torch.equal(codes.values, generator.sample(5, last, rng(3)).values)
    assert not torch.equal(codes.values, generator.sample(5, last, rng(4)).values)
    mean = generator.sample(5, last, rng(3), truncation=0.0)
    half = generator.sample(5, last, rng(3), truncation=0.5)
    assert torch.allclose(mean.values, torch.zeros(()) if generator.w_mean is None else generator.w_mean)
    assert torch.allclose(half.values, (mean.values + codes.values) / 2, atol=1e-6)
    carried = generator.sample(5, generator.spaces["z"], rng(3), truncation=0.5)
    assert torch.allclose(generator.synthesize(carried).images, generator.synthesize(half).images, atol=1e-6)
    with pytest.raises(LatentError, match="truncation"):
        generator.sample(1, last, rng(), truncation=float("nan"))


def test_the_mean_of_w_is_that_of_many_latents() -> None:
    generator = made("mapped")
    w = generator.sample(20_000, generator.spaces["w"], rng(9)).values
    assert torch.allclose(generator.w_mean, w.mean(dim=0), atol=5 * float(w.std()) / 4096**0.5)


def test_uniform_latents() -> None:
    values = AnyModule(seeded(mlp), 6, prior="uniform").sample(4000, made("mlp").spaces["z"], rng()).values
    assert -1 <= float(values.min()) < -0.99
    assert 0.99 < float(values.max()) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_given_when_wanted(kind: str) -> None:
    generator = made(kind)
    z = generator.sample(2, generator.spaces["z"], rng())
    names = [layer.name for layer in generator.layers]
    assert generator.synthesize(z).features == {}
    both = generator.synthesize(z, names)
    alone = generator.synthesize(z, names[::-1], images=False)
    assert list(alone.features) == names[::-1]
    for layer in generator.layers:
        assert both.features[layer.name].shape == (2, layer.channels, layer.resolution, layer.resolution)
        assert torch.equal(both.features[layer.name], alone.features[layer.name])
    assert torch.equal(both.images, generator.synthesize(z).images)
    with pytest.raises(GeneratorError, match="no pictures"):
        _ = alone.images
    with pytest.raises(GeneratorError, match="features of"):
        generator.synthesize(z, ["nothing"])
    assert not any(m._forward_hooks for m in generator.module.modules())


def test_synthesis_stops_after_the_last_feature() -> None:
    module = seeded(dcgan)
    generator, ran = AnyModule(module, 12), []
    module[6].register_forward_hook(lambda *_: ran.append(1))
    z = generator.sample(1, generator.spaces["z"], rng())
    generator.synthesize(z, ["3", "0"], images=False)
    generator.synthesize(z, images=False, keep=0)
    assert ran == []
    generator.synthesize(z, ["3", "0"])
    assert ran == [1]


def test_features_are_not_overwritten() -> None:
    """An activation in place, straight after the layer, would change what is captured."""
    module = seeded(lambda: nn.Sequential(nn.ConvTranspose2d(5, 8, 4), nn.ReLU(inplace=True), nn.Conv2d(8, 3, 1)))
    generator = AnyModule(module, 5)
    found = generator.synthesize(generator.sample(4, generator.spaces["z"], rng()), ["0"]).features["0"]
    assert float(found.min()) < 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_state_goes_on(kind: str) -> None:
    generator = made(kind)
    z = generator.sample(2, generator.spaces["z"], rng())
    kept = generator.synthesize(z, images=False, keep=0)
    assert generator.first_step(Subspace(generator.spaces["z"])) == 0
    assert kept.state is not None
    moved = z.with_values(z.values + 0.1).repeat(2)
    resumed = generator.synthesize(moved, resume=kept.state.repeat(2))
    assert torch.equal(resumed.images, generator.synthesize(moved).images)


@pytest.mark.parametrize("kind", KINDS)
def test_edits_apply(kind: str) -> None:
    generator = made(kind)
    for space in generator.spaces.values():
        subspace = Subspace(space)
        direction = Direction(torch.ones(subspace.dim), subspace, generator.name, "all", "drawn")
        z = generator.sample(2, generator.spaces["z"], rng(), truncation=0.7)
        moved = Edit(((direction, 2.0),)).apply(generator, z)
        base = generator.convert(z, space)
        assert torch.allclose(moved.values, base.values + 2)


def test_labels() -> None:
    class Conditional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = seeded(lambda: nn.Linear(4 + 3, 3 * 16))

        def forward(self, z: Tensor, labels: Tensor) -> Tensor:
            return self.net(torch.cat([z, labels], dim=1))

    generator = AnyModule(Conditional(), 4, classes=3)
    space = generator.spaces["z"]
    codes = generator.sample(50, space, rng())
    assert codes.labels is not None
    assert codes.labels.sum(dim=0).min() > 0
    one = torch.eye(3)[[1, 1]]
    given = generator.sample(2, space, rng(), labels=one)
    assert torch.equal(given.labels, one)
    assert not torch.equal(
        generator.synthesize(given).images,
        generator.synthesize(Latents(given.values, space, torch.eye(3)[[0, 0]])).images,
    )
    with pytest.raises(GeneratorError, match="class-conditional"):
        generator.synthesize(Latents(given.values, space))
    with pytest.raises(LatentError, match="shape"):
        generator.sample(2, space, rng(), labels=torch.ones(2, 4))
    with pytest.raises(LatentError, match="no classes"):
        made("mlp").sample(2, made("mlp").spaces["z"], rng(), labels=one)

    class Mapping(nn.Module):
        def forward(self, z: Tensor, labels: Tensor) -> Tensor:
            return z + labels.sum(dim=1, keepdim=True) + labels[:, :1]

    styled = AnyModule(seeded(lambda: nn.Linear(4, 48)), 4, Mapping(), classes=3)
    assert styled.sample(2, styled.spaces["w"], rng()).labels is not None


def test_double_and_half_precision() -> None:
    double = AnyModule(seeded(mlp).double(), 6)
    assert double.synthesize(double.sample(2, double.spaces["z"], rng())).images.dtype == torch.float64
    low = AnyModule(seeded(mlp).bfloat16(), 6)
    assert low.synthesize(low.sample(2, low.spaces["z"], rng())).images.dtype == torch.float32
    assert low.sample(2, low.spaces["z"], rng()).values.dtype == torch.float32


# --- derivatives


@pytest.mark.parametrize("kind", KINDS)
def test_forward_mode_is_reverse_mode(kind: str) -> None:
    generator = made(kind)
    z = generator.sample(1, generator.spaces["z"], rng(), truncation=0.7)
    for space in generator.spaces.values():
        forward = jacobian(generator, z, Subspace(space), Rows()).values  # (d, 3, s, s)
        base = generator.convert(z, space)

        def picture(values: Tensor, base: Latents = base) -> Tensor:
            return generator.synthesize(base.with_values(values)).images[0]

        reverse = jacrev(picture)(base.values)[..., 0, :].movedim(-1, 0)
        assert float(reverse.norm()) > 0
        assert float((forward - reverse).norm() / reverse.norm()) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_the_differences(kind: str) -> None:
    module = seeded(Mapped).double()
    generator = {
        "dcgan": lambda: AnyModule(seeded(dcgan).double(), 12),
        "mlp": lambda: AnyModule(seeded(mlp).double(), 6, output_range=(0, 1)),
        "mapped": lambda: AnyModule(module.synthesis, 10, module.mapping),
    }[kind]()
    z = generator.sample(1, generator.spaces["z"], rng())
    values = jacobian(generator, z, Subspace(generator.spaces["z"]), Rows()).values
    step = torch.randn(z.values.shape, generator=rng(1), dtype=torch.float64)
    plus, minus = (generator.synthesize(z.with_values(z.values + e * step)).images[0] for e in (1e-6, -1e-6))
    expected = (plus - minus) / 2e-6
    found = torch.einsum("d,dchw->chw", step[0], values.double())
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_and_features_have_gradients(kind: str) -> None:
    generator = made(kind)
    z = generator.sample(2, generator.spaces["z"], rng())
    moved = z.values.clone().requires_grad_()
    found = generator.synthesize(z.with_values(moved), [layer.name for layer in generator.layers])
    for activation in [found.images, *found.features.values()]:
        (gradient,) = torch.autograd.grad(activation.square().sum(), moved, create_graph=True)
        assert float(gradient.detach().norm()) > 0
        assert torch.autograd.grad(gradient.square().sum(), moved, retain_graph=True)[0].isfinite().all()


# --- what is refused


class Returns(nn.Module):
    """Gives something made of z."""

    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.give = give

    def forward(self, z: Tensor) -> Any:
        return self.give(z)


BAD: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a text": (lambda z: "picture", "gives a str"),
    "a dictionary": (lambda z: {"image": z}, "gives a dict"),
    "whole numbers": (lambda z: z.long().reshape(-1, 3, 4, 4), "derivative"),
    "four channels": (lambda z: z.reshape(-1, 12, 2, 2), "for two latents"),
    "channels last": (lambda z: z.reshape(-1, 4, 4, 3), "permute"),
    "not square": (lambda z: z.reshape(-1, 3, 2, 8), "square"),
    "no picture of that many": (lambda z: z[:, :47], "47 numbers"),
    "one number": (lambda z: z[:, :1], "for two latents"),
    "all in one": (lambda z: z.reshape(1, 3, 8, 4)[..., :4, :4], "for two latents"),
    "nan": (lambda z: z.reshape(-1, 3, 4, 4) / 0 * 0, "NaN"),
    "chance": (lambda z: (z + torch.randn_like(z)).reshape(-1, 3, 4, 4), "another picture each time"),
    "always the same": (lambda z: z.reshape(-1, 3, 4, 4) * 0, "same picture"),
    "no derivative": (lambda z: z.detach().reshape(-1, 3, 4, 4), "no derivative"),
    "bytes": (lambda z: 255 * z.reshape(-1, 3, 4, 4).sigmoid(), "output_range="),
    "depends on the batch": (lambda z: (z - z.mean(dim=0)).reshape(-1, 3, 4, 4), "others of its batch"),
    "an error": (lambda z: z @ torch.zeros(3, 3), "makes no pictures from latents of 48 numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_modules_that_make_no_pictures(name: str) -> None:
    give, words = BAD[name]
    with pytest.raises(GeneratorError, match=words) as error:
        AnyModule(Returns(give), 48)
    assert "\n" not in str(error.value)


def test_a_normalisation_over_the_batch() -> None:
    def net() -> nn.Module:
        module = dcgan()
        module[1] = nn.BatchNorm2d(16, track_running_stats=False)
        return module

    with pytest.raises(GeneratorError, match="others of its batch"):
        AnyModule(seeded(net), 12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"z_dim": 0}, "at least one number"),
        ({"z_dim": 5}, "no pictures from latents of 5"),
        ({"classes": -1}, "classes"),
        ({"resolution": 32}, "8 pixels, not of resolution=32"),
        ({"output_range": (1, 1)}, "output_range"),
        ({"output_range": (0, float("inf"))}, "output_range"),
        ({"input_shape": (3, 3)}, "does not hold the 6"),
        ({"style": lambda z: z[:, None]}, "style function gives"),
        ({"style": lambda z: z @ torch.zeros(2, 2)}, "style function does not take"),
        ({"style": lambda z: z[:, :5]}, "no pictures from latents of 5"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(GeneratorError, match=words):
        AnyModule(seeded(mlp), **{"z_dim": 6, **settings})


def test_settings_of_the_wrong_kind(unchecked: None) -> None:
    with pytest.raises(GeneratorError, match=r"torch\.nn\.Module"):
        AnyModule(lambda z: z, 6)  # pyright: ignore[reportArgumentType]
    with pytest.raises(GeneratorError, match="prior"):
        AnyModule(seeded(mlp), 6, prior="gaussian")  # pyright: ignore[reportArgumentType]


def test_latents_of_another_space() -> None:
    generator, other = made("mlp"), made("dcgan")
    with pytest.raises(LatentError, match=r"has the spaces z \(6\)"):
        generator.synthesize(other.sample(1, other.spaces["z"], rng()))


# --- local editing


def local_dcgan() -> nn.Module:
    """Coordinate i of 16 paints one of the 4 x 4 places of the first layer, so only that corner of the picture."""
    doubling = [nn.ConvTranspose2d(8, 6, 2, 2), nn.LeakyReLU(0.2), nn.ConvTranspose2d(6, 3, 2, 2)]
    module = nn.Sequential(nn.ConvTranspose2d(16, 8, 4), nn.LeakyReLU(0.2), *doubling)
    with torch.no_grad():
        place = torch.eye(16).reshape(16, 1, 4, 4)
        module[0].weight.mul_(4 * place)
    return module


class LocalMLP(nn.Module):
    """Coordinates 4t..4t+3, of a rotated latent, paint quarter t of 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rotation", torch.linalg.qr(torch.randn(16, 16))[0])
        self.quarters = nn.ModuleList([nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 48)) for _ in range(4)])

    def forward(self, z: Tensor) -> Tensor:
        parts = (z @ self.rotation).split(4, dim=1)
        a, b, c, d = (q(part).reshape(-1, 3, 4, 4) for q, part in zip(self.quarters, parts, strict=True))
        return torch.cat([torch.cat([a, b], dim=3), torch.cat([c, d], dim=3)], dim=2).flatten(1)


def distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("kind", ["dcgan", "mlp"])
def test_lelsd_finds_what_is_local(kind: str) -> None:
    generator = AnyModule(seeded(local_dcgan if kind == "dcgan" else LocalMLP), 16)
    side = generator.resolution
    box = Box(side // 4, side // 4, side // 2, side // 2)  # the upper left quarter
    method = LELSD(space="z", samples=8 * 30, batch=8, lr=0.2, halve_every=10, truncation=1.0)
    ((found,),) = discover(generator, [box], method, rng(), Calibration(distance, 0.01, 8, 1.0), random=2)
    if kind == "dcgan":
        inside = found.vector.reshape(4, 4)[:2, :2].norm()
    else:
        inside = (found.vector @ generator.module.rotation)[:4].norm()
    assert float(inside) > 0.95
    assert found.figures["LS"] > 0.95
    assert found.figures["LS"] > 2 * found.figures["random_LS"]
    assert found.score > 10 * found.figures["random_gain"]
