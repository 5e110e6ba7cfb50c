"""Pivotal tuning on a tiny StyleGAN2: what it must reach, what it must leave alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from situ.core.errors import ImageError, InversionError, SituError
from situ.core.latents import Latents
from situ.generators.stylegan2 import StyleGAN2
from situ.inversion.pivotal_tuning import PivotalTuning
from toys import TileGenerator, mean_square, tiny_network, tiny_stylegan2


class Coarse:
    """Mean square at half the resolution."""

    def against(self, target: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda images: mean_square(functional.avg_pool2d(images, 2), functional.avg_pool2d(target, 2))


TUNING = PivotalTuning(Coarse(), steps=60, lr=1e-2, alpha=1.0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on tensors as small as these only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def photos(n: int) -> Tensor:
    """Discs on a slope of colours, which no code of an untrained generator gives."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    rows = [torch.stack([x, (x**2 + y**2 < 0.3 + 0.2 * i).float() - 0.5, -y]) for i in range(n)]
    return torch.stack(rows).clamp(-1, 1)


def pivots(generator: StyleGAN2, n: int, space: str = "w+", seed: int = 3) -> Latents:
    return generator.sample(n, generator.spaces[space], torch.Generator().manual_seed(seed))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(generator: StyleGAN2, latents: Latents) -> Tensor:
    return generator.synthesize(latents).images


@pytest.mark.parametrize("space", ["w", "w+", "s"])
def test_photos_outside_the_range_come_ten_times_nearer_and_the_original_keeps_every_bit(space: str) -> None:
    generator, target = tiny_stylegan2(), photos(3)
    latents = pivots(generator, 3, space)
    weights = {name: tensor.clone() for name, tensor in generator.network.state_dict().items()}
    before, name = pictures(generator, latents), generator.name
    tuned = replace(TUNING, batch=2).tune(generator, target, latents, rng())
    assert (mean_square(pictures(tuned, latents), target) < 0.1 * mean_square(before, target)).all()
    assert torch.equal(pictures(generator, latents), before)
    assert generator.name == name != tuned.name
    assert all(torch.equal(tensor, weights[key]) for key, tensor in generator.network.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in generator.network.parameters())


def test_the_tuned_generator_is_one_like_any_other() -> None:
    generator = tiny_stylegan2()
    generator.names = ("one",)
    tuned = replace(TUNING, steps=3).tune(generator, photos(1), pivots(generator, 1), rng())
    assert tuned.names == ("one",)
    assert not any(p.requires_grad or p.grad is not None for p in tuned.network.parameters())
    assert not tuned.network.training
    fresh = tiny_network()
    fresh.load_state_dict(tuned.network.state_dict())
    again, latents = StyleGAN2(fresh), pivots(generator, 2)
    assert again.name == tuned.name
    assert torch.equal(pictures(again, latents), pictures(tuned, latents))
    for key, tensor in tuned.network.mapping.state_dict().items():
        assert torch.equal(tensor, generator.network.mapping.state_dict()[key])
    assert not torch.equal(tuned.network.layers["b4.conv1"].weight, generator.network.layers["b4.conv1"].weight)


def test_locality_keeps_the_neighbours() -> None:
    """Codes around the pivot, drawn as the method draws them, but others."""
    generator, target = tiny_stylegan2(), photos(1)
    latents = pivots(generator, 1)
    away = pivots(generator, 32, seed=77).values - latents.values
    around = latents.repeat(32).with_values(latents.values + away / away.norm(dim=1, keepdim=True))
    moved, left = {}, {}
    for locality in (0.0, 1.0):
        tuned = replace(TUNING, locality=locality, neighbours=4).tune(generator, target, latents, rng())
        moved[locality] = float(mean_square(pictures(tuned, around), pictures(generator, around)).mean())
        left[locality] = float(mean_square(pictures(tuned, latents), target))
    assert moved[1.0] < 0.8 * moved[0.0], moved
    assert left[1.0] < 0.5 * float(mean_square(pictures(generator, latents), target)), left


def test_neighbours_lie_alpha_away_towards_random_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, seen = tiny_stylegan2(), []
    latents, synthesize = pivots(generator, 2), StyleGAN2.synthesize

    def watched(self: StyleGAN2, some: Latents, *rest: object, **named: object) -> object:
        seen.append(some)
        return synthesize(self, some, *rest, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(StyleGAN2, "synthesize", watched)
    replace(TUNING, steps=1, alpha=0.7, neighbours=5, batch=8).tune(generator, photos(2), latents, rng())
    around = next(some for some in seen if len(some) == 5)
    distances = torch.cdist(around.values, latents.values)
    assert torch.allclose(distances.amin(dim=1), torch.tensor(0.7), atol=1e-5)
    assert len(set(distances.argmin(dim=1).tolist())) == 2  # near both pivots


def test_the_same_seed_gives_the_same_weights_and_no_other_randomness_is_touched() -> None:
    generator = tiny_stylegan2()
    target, latents = photos(1), pivots(generator, 1)
    state = torch.get_rng_state()
    names = [replace(TUNING, steps=3).tune(generator, target, latents, rng(seed)).name for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_of_photos_change_nothing_but_rounding() -> None:
    generator, target = tiny_stylegan2(), photos(3)
    latents = pivots(generator, 3)
    said: list[str] = []
    one, all_at_once = (
        replace(TUNING, steps=3, locality=0.0, batch=batch).tune(
            generator, target, latents, rng(), lambda done, total, message="": said.append(message)
        )
        for batch in (1, 3)
    )
    assert said[0] == said[3]  # the loss, a mean over all photos
    assert torch.allclose(pictures(one, latents), pictures(all_at_once, latents), atol=1e-3)
    assert not torch.allclose(pictures(one, latents), pictures(generator, latents), atol=1e-2)


def test_ctrl_c_keeps_the_best_and_before_the_first_update_stops() -> None:
    generator, target = tiny_stylegan2(), photos(1)
    latents = pivots(generator, 1)

    def stop(at: int) -> Callable[..., None]:
        def progress(done: int | float, total: int, message: str = "") -> None:
            assert total == TUNING.steps
            if done == at:
                raise KeyboardInterrupt

        return progress

    tuned = TUNING.tune(generator, target, latents, rng(), stop(20))
    near = float(mean_square(pictures(tuned, latents), target))
    assert near < 0.7 * float(mean_square(pictures(generator, latents), target))

    class Interrupted:
        def against(self, target: Tensor) -> Callable[[Tensor], Tensor]:
            def far(images: Tensor) -> Tensor:
                raise KeyboardInterrupt

            return far

    with pytest.raises(KeyboardInterrupt):
        replace(TUNING, distance=Interrupted()).tune(generator, target, latents, rng())


def test_steps_that_make_it_worse_are_not_kept() -> None:
    generator = tiny_stylegan2()
    latents = pivots(generator, 1)
    target = pictures(generator, latents).clamp(-1, 1) + 0.01
    before = float(mean_square(pictures(generator, latents), target))
    tuned = replace(TUNING, steps=4, lr=1.0, locality=0.0).tune(generator, target, latents, rng())
    assert float(mean_square(pictures(tuned, latents), target)) <= before * (1 + 1e-3)


def test_random_noise_and_noise_maps_of_the_photos() -> None:
    noisy = StyleGAN2(tiny_network(), noise="random", rng=rng(5))
    assert noisy.rng is not None
    latents, state = pivots(noisy, 2), noisy.rng.get_state()
    tuned = replace(TUNING, steps=3).tune(noisy, photos(2), latents, rng())
    assert torch.equal(noisy.rng.get_state(), state)
    assert tuned.noise == noisy.noise == "random"

    generator, first = tiny_stylegan2(), []
    maps = {"b16.conv1": 3 * torch.randn(2, 1, 16, 16, generator=rng(8))}
    target = pictures(generator.with_noise(maps), latents)  # what the pivots give with these maps
    for noise in (maps, None):
        losses: list[str] = []
        one = replace(TUNING, steps=1, batch=1)
        one.tune(
            generator,
            target,
            latents,
            rng(),
            lambda done, total, message="", losses=losses: losses.append(message),
            noise,
        )
        first.append(float(losses[0].removeprefix("loss ")))
    assert first[0] < 1e-4 < 1e-3 < first[1]


def test_what_does_not_fit_is_said(unchecked: None) -> None:
    generator = tiny_stylegan2()
    latents = pivots(generator, 2)
    with pytest.raises(InversionError, match="3 photos, 2 codes"):
        TUNING.tune(generator, photos(3), latents, rng())
    with pytest.raises(InversionError, match="0 photos, 0 codes"):
        TUNING.tune(generator, photos(1)[:0], latents[:0], rng())
    with pytest.raises(ImageError, match="16 x 16"):
        TUNING.tune(generator, photos(2)[..., :8], latents, rng())
    with pytest.raises(ImageError, match="finite"):
        TUNING.tune(generator, photos(2) * torch.nan, latents, rng())
    tiles = TileGenerator(rotate=False)
    with pytest.raises(InversionError, match="StyleGAN2"):
        TUNING.tune(tiles, photos(1), tiles.sample(1, tiles.spaces["w"], rng()), rng())  # pyright: ignore[reportArgumentType]
    with pytest.raises(InversionError, match="lower lr"):
        replace(TUNING, lr=1e30).tune(generator, photos(2), latents, rng())
    for bad in ({"steps": 0}, {"lr": -1.0}, {"alpha": 0.0}, {"batch": 0}, {"neighbours": 0}):
        with pytest.raises(SituError, match="must be positive"):
            replace(TUNING, **bad)
    with pytest.raises(InversionError, match="not both 0"):
        replace(TUNING, mse=0.0, perceptual=0.0)
