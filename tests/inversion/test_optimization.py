"""Inversion by optimisation: it gets there, photos do not disturb each other, and nothing that was found is lost."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from situ.core.errors import ImageError, InversionError, SituError
from situ.core.inversion import Inversion, invert, load_inversion
from situ.core.progress import Progress, silent
from situ.inversion import optimization
from situ.inversion.optimization import Optimization, Phase, Schedule, image_terms, mean_latents, optimize
from situ.metrics.perceptual import PyramidDistance
from toys import TileGenerator, tiny_stylegan2

GAN = tiny_stylegan2()
PYRAMID = PyramidDistance()
QUICK = Optimization(PYRAMID, steps=60, lr=0.1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(n: int = 3, seed: int = 5) -> Tensor:
    """Pictures that the generator can make."""
    with torch.no_grad():
        made = GAN.synthesize(GAN.sample(n, GAN.spaces["w+"], seeded(seed), 0.7)).images
    return made.clamp(-1, 1)


def error(found: Inversion, target: Tensor) -> Tensor:
    with torch.no_grad():
        return (GAN.synthesize(found.latents).images - target).square().mean(dim=(1, 2, 3))


def test_pictures_of_the_generator_are_found_again() -> None:
    target = photos()
    mean = mean_latents(GAN, "w+", 3)
    found = invert(GAN, target, QUICK, seeded())
    start = (GAN.synthesize(mean).images - target).square().mean(dim=(1, 2, 3))
    assert (error(found, target) < 0.2 * start).all()
    assert found.latents.space.name == "w+"
    torch.testing.assert_close(found.losses["mse"], error(found, target))
    assert found.history["mse"].shape == (60, 3)
    assert found.complete


def test_the_true_code_of_a_toy() -> None:
    toy = TileGenerator(rotate=True)
    true = toy.sample(2, toy.spaces["w"], seeded(3), 0.5)
    target = toy.synthesize(true).images
    method = Optimization(PYRAMID, space="w", steps=200, lr=0.1)
    found = invert(toy, target, method, seeded())
    torch.testing.assert_close(found.latents.values, true.values, atol=0.05, rtol=0)


def test_photos_do_not_disturb_each_other() -> None:
    target = photos(4)
    others = torch.cat([target[1:2], photos(3, seed=9)])[[1, 0, 2, 3]]  # the second photo among strangers
    together, among = (invert(GAN, some, QUICK, seeded()).latents.values for some in (target, others))
    assert torch.equal(together[1], among[1])
    assert not torch.allclose(together[0], among[0])
    batches = invert(GAN, target, replace(QUICK, batch=3), seeded())
    assert torch.equal(batches.latents.values[:3], invert(GAN, target[:3], QUICK, seeded()).latents.values)
    assert batches.history["total"].shape == (60, 4)


@pytest.mark.parametrize("space", ["w", "w+", "s", "w+:2-4"])
def test_codes_lie_in_the_space_asked_for(space: str) -> None:
    found = invert(GAN, photos(1), replace(QUICK, space=space, steps=3), seeded())
    assert found.latents.space.name == space.partition(":")[0]
    if ":" in space:
        rows = (found.latents.values - mean_latents(GAN, "w+", 1).values).reshape(6, 8)
        assert (rows[[0, 1, 5]] == 0).all()
        assert (rows[2:5] != 0).all()


def test_the_best_codes_are_kept_not_the_last() -> None:
    """With a learning rate that overshoots, the answer is the least loss of the way."""
    target = photos(2)
    found = invert(GAN, target, replace(QUICK, lr=2.0, steps=30), seeded())
    assert (found.losses["total"] <= found.history["total"].min(dim=0).values + 1e-6).all()
    assert (found.history["total"][-1] > found.losses["total"]).any()


def test_a_phase_begins_its_own_count_of_the_best() -> None:
    target = photos(2)
    terms = lambda some: image_terms(some, PYRAMID, None)  # noqa: E731
    phases = [Phase(5, {"mse": 1e-6}), Phase(5, {"mse": 1.0, "perceptual": 1.0})]
    found = optimize(
        GAN, target, space="w+", terms=terms, phases=phases, schedule=Schedule(0.05), start=None, batch=8,
        under_way=None, found_by="test", rng=seeded(),
    )  # fmt: skip
    assert found.losses["total"].min() > 1e-4, "of the second phase, not the first's tiny one"
    assert found.history["perceptual"].shape == (10, 2)
    assert found.history["perceptual"][:5].isnan().all()


def interrupting(after: int) -> Progress:
    seen = iter(range(1, 10**6))

    def progress(done: int | float, total: int, message: str = "") -> None:
        if next(seen) == after:
            raise KeyboardInterrupt

    return progress


def test_ctrl_c_keeps_the_best_so_far() -> None:
    target = photos(2)
    found = invert(GAN, target, QUICK, seeded(), interrupting(20))
    assert not found.complete
    assert found.history["mse"].shape == (20, 2)
    assert (error(found, target) <= found.history["mse"][0]).all()


def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimization, "SAVE_EVERY", 7)
    target, path = photos(3), tmp_path / "run.safetensors"
    method = replace(QUICK, batch=2, steps=25, under_way=path)
    undisturbed = invert(GAN, target, method, seeded())
    assert not path.exists()

    class Killed(Exception):
        pass

    def dying(done: int | float, total: int, message: str = "") -> None:
        if done == 33:  # in the second batch
            raise Killed

    with pytest.raises(Killed):
        invert(GAN, target, method, seeded(), dying)
    assert path.exists()
    steps: list[int] = []
    resumed = invert(GAN, target, method, seeded(), lambda done, total, message="": steps.append(done))
    assert steps[0] == 29, "28 of 50 steps had been written"
    torch.testing.assert_close(resumed.latents.values, undisturbed.latents.values)
    torch.testing.assert_close(resumed.history["mse"], undisturbed.history["mse"])
    assert not path.exists()


def test_a_run_of_other_photos_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimization, "SAVE_EVERY", 2)
    method = replace(QUICK, steps=5, under_way=tmp_path / "run.safetensors")
    invert(GAN, photos(1), method, seeded(), interrupting(3))
    with pytest.raises(InversionError, match="belongs to other photos, settings or weights"):
        invert(GAN, photos(1, seed=6), method, seeded())


def test_nothing_but_the_codes_gets_gradients() -> None:
    invert(GAN, photos(1), replace(QUICK, steps=2), seeded())
    assert all(parameter.grad is None for parameter in GAN.network.parameters())


def test_losses_that_are_not_finite_are_named() -> None:
    class Broken(PyramidDistance):
        def against(self, target: Tensor):
            return lambda images: images.sum(dim=(1, 2, 3)) * torch.nan

    with pytest.raises(InversionError, match=r"photos \[0\] are not finite at step 1: lower lr"):
        invert(GAN, photos(1), replace(QUICK, distance=Broken()), seeded())


def test_what_is_no_picture_of_this_size_is_refused() -> None:
    with pytest.raises(ImageError, match="inverts pictures of 16 x 16 pixels, got"):
        invert(GAN, torch.zeros(1, 3, 8, 8), QUICK, seeded())
    with pytest.raises(ImageError, match=r"numbers in \[-1, 1\]"):
        invert(GAN, torch.full([1, 3, 16, 16], 2.0), QUICK, seeded())
    for setting, value in {"steps": 0, "lr": 0.0, "batch": -1}.items():
        with pytest.raises(SituError, match=setting):
            replace(QUICK, **{setting: value})


def test_an_inversion_survives_its_file(tmp_path: Path) -> None:
    found = invert(GAN, photos(2), replace(QUICK, steps=3), seeded(), silent)
    found = replace(found, about=({"photo": "a.png"}, {"photo": "b.png"}))
    found.save(tmp_path / "x.safetensors")
    again = load_inversion(tmp_path / "x.safetensors", GAN.name)
    torch.testing.assert_close(again.latents.values, found.latents.values)
    assert again.about == found.about
    assert again[1:].about == ({"photo": "b.png"},)
    torch.testing.assert_close(again[1:].history["mse"], found.history["mse"][:, 1:])
    with pytest.raises(InversionError, match="this model is another"):
        load_inversion(tmp_path / "x.safetensors", "another")
    (tmp_path / "y.safetensors").write_bytes(b"no")
    with pytest.raises(InversionError, match="cannot be read"):
        load_inversion(tmp_path / "y.safetensors")
