"""Image2StyleGAN++: codes, then noise maps; the maps paint what codes cannot, and belong to their photo."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from situ.core.errors import InversionError, SituError
from situ.core.generator import Generator
from situ.core.inversion import Inversion, invert, load_inversion
from situ.core.progress import Progress
from situ.generators.stylegan2 import StyleGAN2
from situ.inversion import optimization
from situ.inversion.image2stylegan import Image2StyleGAN, WithNoise
from situ.metrics.perceptual import PyramidDistance
from toys import TileGenerator, mean_square, tiny_network, tiny_stylegan2

GAN = tiny_stylegan2()
METHOD = Image2StyleGAN(PyramidDistance(), steps=30, noise_steps=60, lr=0.1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on tensors as small as these only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(n: int = 2) -> Tensor:
    """The generator's pictures with grain on them, grey as noise is, which no code gives."""
    with torch.no_grad():
        made = GAN.synthesize(GAN.sample(n, GAN.spaces["w+"], seeded(5), 0.7)).images
    return (made + 0.1 * torch.randn(n, 1, 16, 16, generator=seeded(6))).clamp(-1, 1)


def pictures(found: Inversion, generator: StyleGAN2 = GAN) -> Tensor:
    with torch.no_grad():
        return generator.with_noise(found.noise).synthesize(found.latents).images


def stopping(after: int, error: type[BaseException] = KeyboardInterrupt) -> Progress:
    def progress(done: int | float, total: int, message: str = "") -> None:
        if done == after:
            raise error

    return progress


def test_noise_paints_what_codes_cannot() -> None:
    target = photos()
    codes = invert(GAN, target, replace(METHOD, steps=200, noise_steps=0), seeded())
    both = invert(GAN, target, METHOD, seeded())
    assert (mean_square(pictures(both), target) < 0.5 * mean_square(pictures(codes), target)).all()
    torch.testing.assert_close(mean_square(pictures(both), target), both.losses["mse"])
    assert {name: maps.shape for name, maps in both.noise.items()} == {
        name: (2, 1, side, side) for name, side in GAN.noise_layers().items()
    }


def test_the_second_half_moves_the_maps_alone_and_begins_where_the_first_ended() -> None:
    target = photos()
    codes = invert(GAN, target, replace(METHOD, noise_steps=0), seeded())
    both = invert(GAN, target, METHOD, seeded())
    assert both.latents.space.name == "w+"
    assert torch.equal(both.latents.values, codes.latents.values)
    assert both.history["mse"].shape == (90, 2)
    torch.testing.assert_close(both.history["mse"][:30], codes.history["mse"])
    torch.testing.assert_close(both.history["mse"][30], codes.losses["mse"])
    assert not codes.noise


def test_photos_do_not_disturb_each_other() -> None:
    """Other neighbours change nothing at all; another batch size changes the rounding, which Adam magnifies."""
    target = photos(3)
    neighbours = torch.stack([-target[0], target[1], target[2].flip(-1)])
    together, among_others = (invert(GAN, some, METHOD, seeded()) for some in (target, neighbours))
    assert torch.equal(together.latents.values[1], among_others.latents.values[1])
    assert not torch.equal(together.latents.values[0], among_others.latents.values[0])
    for name, maps in together.noise.items():
        assert torch.equal(maps[1], among_others.noise[name][1])
        assert not torch.equal(maps[0], maps[1])


def test_batches_are_steps_of_one_job() -> None:
    target, seen = photos(3), []
    together = invert(GAN, target, METHOD, seeded())
    parts = invert(
        GAN, target, replace(METHOD, batch=2), seeded(), lambda done, total, message="": seen.append((done, total))
    )
    torch.testing.assert_close(parts.losses["mse"], together.losses["mse"], atol=0, rtol=0.05)
    torch.testing.assert_close(parts.latents.values, together.latents.values, atol=1e-3, rtol=0)
    assert seen == [(i + 1, 180) for i in range(180)]


@pytest.mark.parametrize("after", [20, 50], ids=["among the codes", "among the maps"])
def test_ctrl_c_keeps_the_best_so_far(after: int) -> None:
    target = photos()
    found = invert(GAN, target, METHOD, seeded(), stopping(after))
    assert not found.complete
    assert found.history["mse"].shape == (after, 2)
    assert (mean_square(pictures(found), target) <= found.history["mse"][0]).all()


@pytest.mark.parametrize("after", [20, 50], ids=["among the codes", "among the maps"])
def test_a_killed_run_goes_on_to_the_same_end(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    monkeypatch.setattr(optimization, "SAVE_EVERY", 7)
    target, method = photos(), replace(METHOD, under_way=tmp_path / "run.safetensors")
    undisturbed = invert(GAN, target, METHOD, seeded())
    with pytest.raises(Killed):
        invert(GAN, target, method, seeded(), stopping(after, Killed))
    steps: list[int] = []
    resumed = invert(GAN, target, method, seeded(), lambda done, total, message="": steps.append(done))
    assert len(steps) == 90 - {20: 14, 50: 30 + 14}[after], "goes on from what was written"
    torch.testing.assert_close(pictures(resumed), pictures(undisturbed))
    torch.testing.assert_close(resumed.history["mse"], undisturbed.history["mse"])
    assert not list(tmp_path.iterdir())


def test_a_run_of_other_photos_is_not_gone_on_with(tmp_path: Path) -> None:
    method = replace(METHOD, under_way=tmp_path / "run.safetensors")
    invert(GAN, photos(), method, seeded(), stopping(40))
    with pytest.raises(InversionError, match="belongs to other photos, settings or weights"):
        invert(GAN, -photos(), method, seeded())


def test_maps_survive_their_file(tmp_path: Path) -> None:
    found = invert(GAN, photos(), replace(METHOD, noise_steps=3), seeded())
    found.save(tmp_path / "x.safetensors")
    again = load_inversion(tmp_path / "x.safetensors", GAN.name)
    assert torch.equal(pictures(again), pictures(found))


@pytest.mark.parametrize("noise", ["const", "none"])
def test_codes_with_the_maps_as_they_are_give_the_same_pictures(noise: str) -> None:
    gan = StyleGAN2(tiny_network(), noise=noise)  # pyright: ignore[reportArgumentType]
    noisy = WithNoise(gan)
    assert isinstance(noisy, Generator)
    z = gan.sample(3, gan.spaces["z"], seeded())
    torch.testing.assert_close(
        noisy.synthesize(noisy.convert(z, noisy.space)).images, gan.synthesize(z).images, atol=1e-6, rtol=0
    )


def test_weights_without_noise_have_their_codes_alone() -> None:
    network = tiny_network()
    for layer in network.layers.values():
        if hasattr(layer, "noise_strength"):
            layer.noise_strength.data.zero_()
    found = invert(StyleGAN2(network), photos(), METHOD, seeded())
    assert found.history["mse"].shape == (30, 2)
    assert not found.noise


def test_what_does_not_fit_is_said() -> None:
    toy = TileGenerator(rotate=False)
    with pytest.raises(InversionError, match="takes no noise maps: set noise_steps to 0"):
        invert(toy, torch.zeros(1, 3, 16, 16), METHOD, seeded())
    for bad in ({"noise_steps": -1}, {"mse": 0.0, "perceptual": 0.0}):
        with pytest.raises(InversionError, match="weights from 0 on, not both 0"):
            replace(METHOD, **bad)
    with pytest.raises(SituError, match="noise_lr"):
        replace(METHOD, noise_lr=0.0)
