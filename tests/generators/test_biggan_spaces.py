"""BigGAN behind the generator contract: its spaces, its classes, its derivatives, and synthesis in steps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_biggan_network import DEEP, HIERARCHICAL, randomized
from torch.func import jvp, vjp, vmap

from situ.core.classes import read_class_names
from situ.core.errors import FileError, GeneratorError, LatentError
from situ.core.generator import Generator
from situ.core.latents import Latents, Subspace, load_latents, parse_subspace, save_latents
from situ.generators.biggan import BigGAN
from situ.generators.biggan_deep_network import BigGANDeepNetwork
from situ.generators.biggan_network import BigGANNetwork

FLAT = replace(HIERARCHICAL, hierarchical=False)
KINDS = {"hierarchical": HIERARCHICAL, "flat": FLAT, "deep": DEEP}
NAMES = ("tench, Tinca tinca", "golden retriever", "crane", "crane, lifting machine")


def generator(kind: str, names: tuple[str, ...] = ()) -> BigGAN:
    settings = KINDS[kind]
    network = BigGANDeepNetwork(settings) if kind == "deep" else BigGANNetwork(settings)
    return BigGAN(randomized(network), names)


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest) -> BigGAN:
    return generator(request.param)


@pytest.mark.parametrize(("kind", "sizes"), [("hierarchical", [3, 3, 3]), ("flat", [9]), ("deep", [6, 6, 6, 6])])
def test_parts_of_z(kind: str, sizes: list[int]) -> None:
    made = generator(kind)
    assert isinstance(made, Generator)
    assert [s.size for s in made.spaces["z+"].slices] == sizes
    assert [s.name for s in made.spaces["z+"].slices] == ["linear", "block0", "block1", "block2"][: len(sizes)]
    assert made.spaces["z"].dim == KINDS[kind].z_dim


def test_both_spaces_give_the_same_picture(made: BigGAN, rng: torch.Generator) -> None:
    z = made.sample(3, made.spaces["z"], rng, 0.43)
    plus = made.convert(z, made.spaces["z+"])
    assert plus.truncation == 0.43
    assert torch.equal(made.synthesize(plus).images, made.synthesize(z).images)
    assert made.synthesize(z).images.shape == (3, 3, made.resolution, made.resolution)
    with pytest.raises(LatentError, match=r"z -> z\+"):
        made.convert(plus, made.spaces["z"])


def test_text_of_a_subspace_comes_back(made: BigGAN) -> None:
    last = len(made.spaces["z+"].slices) - 1
    for text in ("z", "z+", f"z:0-{last}" if last else "z:0", f"z+:{last}", f"z:{last}"):
        subspace = parse_subspace(text, made.spaces)
        assert parse_subspace(str(subspace), made.spaces).chosen == subspace.chosen
        assert parse_subspace(str(subspace), made.spaces).dim == subspace.dim
    tied = parse_subspace(f"z:{last}", made.spaces)
    assert tied.tied
    assert tied.space == made.spaces["z+"]


# every slice of every kind, with the step that it feeds; in each kind attention stands before block 1
SLICES = [
    *[("hierarchical", i, step) for i, step in enumerate([0, 1, 3])],
    *[("deep", i, step) for i, step in enumerate([0, 1, 3, 4])],
    ("flat", 0, 0),
]


@pytest.mark.parametrize(("kind", "index", "step"), SLICES)
def test_a_slice_changes_nothing_before_its_block(kind: str, index: int, step: int, rng: torch.Generator) -> None:
    made = generator(kind)
    subspace = parse_subspace(f"z+:{index}", made.spaces)
    assert made.first_step(subspace) == step
    base = made.sample(1, subspace.space, rng)
    moved = base.with_values(base.values + subspace.lift(torch.randn(subspace.dim, generator=rng)))
    names = [layer.name for layer in made.layers]
    a, b = made.synthesize(base, names), made.synthesize(moved, names)
    for layer in made.layers:
        assert a.features[layer.name].shape[1:] == (layer.channels, layer.resolution, layer.resolution)
        assert torch.equal(a.features[layer.name], b.features[layer.name]) == (layer.step < step)
    assert not torch.equal(a.images, b.images)


def test_first_step_of_z(made: BigGAN) -> None:
    assert made.first_step(Subspace(made.spaces["z"])) == 0
    assert made.first_step(Subspace(made.spaces["z+"])) == 0


@pytest.mark.parametrize(("kind", "index", "step"), SLICES)
def test_resuming_equals_the_full_pass(kind: str, index: int, step: int, rng: torch.Generator) -> None:
    made = generator(kind)
    base = made.sample(2, made.spaces["z+"], rng, 0.5)
    state = made.synthesize(base, images=False, keep=step).state
    assert state is not None
    moved = Subspace(base.space, tuple(range(index, len(base.space.slices))))
    other = base.with_values(base.values + moved.lift(torch.randn(moved.dim, generator=rng)))
    names = [layer.name for layer in made.layers if layer.step >= step]
    full, resumed = made.synthesize(other, names), made.synthesize(other, names, resume=state)
    assert torch.equal(resumed.images, full.images)
    for name in names:
        assert torch.equal(resumed.features[name], full.features[name])
    tiled = made.synthesize(other.repeat(3), resume=state.repeat(3)).images
    torch.testing.assert_close(tiled, full.images.repeat(3, 1, 1, 1), rtol=1e-3, atol=1e-4)


def test_every_step_can_be_resumed(made: BigGAN, rng: torch.Generator) -> None:
    latents = made.sample(1, made.spaces["z"], rng)
    full = made.synthesize(latents).images
    for step in range(1, len(made.network.steps) + 1):
        state = made.synthesize(latents, images=False, keep=step).state
        assert torch.equal(made.synthesize(latents, resume=state).images, full)
    state = made.synthesize(latents, keep=len(made.network.steps) - 1).state
    with pytest.raises(GeneratorError, match="resumed at output cannot give"):
        made.synthesize(latents, ["block0"], resume=state)


def test_nothing_is_computed_that_nobody_asked_for(rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    made = generator("deep")
    ran: list[int] = []
    step = made.network.step
    monkeypatch.setattr(made.network, "step", lambda i, *rest: (ran.append(i), step(i, *rest))[1])
    found = made.synthesize(made.sample(1, made.spaces["z"], rng), ["attention1", "linear"], images=False)
    assert ran == [0, 1, 2]
    assert set(found.features) == {"attention1", "linear"}
    with pytest.raises(GeneratorError, match="features only"):
        _ = found.images
    with pytest.raises(GeneratorError, match=r"linear, block0, attention1.*got layers\.3"):
        made.synthesize(made.sample(1, made.spaces["z"], rng), ["layers.3"])


# --- truncation


def test_truncation_scales_the_draw_and_cuts_it_off(made: BigGAN) -> None:
    full, less = (made.sample(2000, made.spaces["z"], torch.Generator().manual_seed(0), t) for t in (1.0, 0.4))
    torch.testing.assert_close(less.values, 0.4 * full.values)
    assert (full.truncation, less.truncation) == (1.0, 0.4)
    assert 1.98 < full.values.abs().max() <= 2
    assert full.values.std() == pytest.approx(0.8796, abs=0.01)  # of a normal cut off at +-2
    assert full.values.mean() == pytest.approx(0, abs=0.03)


def test_truncation_of_a_code_chooses_the_statistics(rng: torch.Generator) -> None:
    for kind, alike in (("deep", False), ("hierarchical", True)):
        made = generator(kind)
        code = made.sample(1, made.spaces["z"], rng, 0.4)
        pictures = [made.synthesize(replace(code, truncation=t)).images for t in (0.4, 1.0)]
        assert torch.equal(*pictures) == alike


def test_truncation_survives_edits_and_files(tmp_path: Path, rng: torch.Generator) -> None:
    made = generator("deep")
    code = made.sample(2, made.spaces["z+"], rng, 0.4)
    save_latents(code.with_values(code.values + 1)[:1], tmp_path / "codes.safetensors", made.name)
    assert load_latents(tmp_path / "codes.safetensors", made.name).truncation == 0.4


@pytest.mark.parametrize("truncation", [0.0, -0.5, 1.01, float("nan"), float("inf")])
def test_truncations_out_of_range_are_refused(truncation: float, rng: torch.Generator) -> None:
    made = generator("deep")
    with pytest.raises(LatentError, match="above 0 and at most at 1"):
        made.sample(1, made.spaces["z"], rng, truncation)
    with pytest.raises(LatentError, match="above 0 and at most at 1"):
        made.synthesize(replace(made.sample(1, made.spaces["z"], rng), truncation=truncation))


# --- derivatives


@pytest.mark.parametrize("name", ["z", "z+"])
def test_forward_mode_agrees_with_finite_differences(made: BigGAN, name: str, rng: torch.Generator) -> None:
    made.network.double()
    code = made.sample(1, made.spaces[name], rng, 0.43)
    assert code.values.dtype == torch.float64

    def picture(v: torch.Tensor) -> torch.Tensor:
        return made.synthesize(code.with_values(v[None])).images[0]

    v, step = code.values[0], 1e-7
    t = torch.randn(v.shape, generator=rng, dtype=v.dtype)
    _, tangent = jvp(picture, (v,), (t,))
    difference = (picture(v + step * t) - picture(v - step * t)) / (2 * step)
    torch.testing.assert_close(tangent, difference, rtol=1e-4, atol=1e-6)


def test_batched_tangents_agree_with_reverse_mode(made: BigGAN, rng: torch.Generator) -> None:
    code = made.sample(1, made.spaces["z+"], rng)

    def picture(v: torch.Tensor) -> torch.Tensor:
        return made.synthesize(code.with_values(v[None])).images[0]

    v = code.values[0]
    forward = vmap(lambda t: jvp(picture, (v,), (t,))[1])(torch.eye(len(v)))
    pictures, pullback = vjp(picture, v)
    cotangent = torch.randn(pictures.shape, generator=rng)
    expected = pullback(cotangent)[0]
    torch.testing.assert_close(torch.einsum("dchw,chw->d", forward, cotangent), expected, rtol=1e-3, atol=1e-2)


def test_second_derivatives_exist(made: BigGAN, rng: torch.Generator) -> None:
    code = made.sample(1, made.spaces["z"], rng)
    v = code.values.clone().requires_grad_()
    (g,) = torch.autograd.grad(made.synthesize(code.with_values(v)).images.square().sum(), v, create_graph=True)
    (h,) = torch.autograd.grad(g.square().sum(), v)
    assert h.isfinite().all()
    assert h.norm() > 0


def test_weights_are_frozen(made: BigGAN) -> None:
    assert not made.network.training
    assert not any(p.requires_grad for p in made.network.parameters())


# --- classes


def test_a_class_by_number_or_name() -> None:
    made = generator("deep", NAMES)
    for given in (1, "1", "golden retriever", "Golden_Retriever", " golden  retriever "):
        assert torch.equal(made.one_hot(given), torch.eye(4)[[1]])
    assert torch.equal(made.one_hot(["Tinca tinca", 3, "lifting machine"]), torch.eye(4)[[0, 3, 3]])
    assert torch.equal(made.one_hot("tench, tinca tinca"), torch.eye(4)[[0]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("golden retreiver", "the nearest are golden retriever"),
        ("xyzzy", "no class has a name like it"),
        ("crane", r"several.*one of 2 \(crane\), 3 \(crane, lifting machine\)"),
        (4, "numbered from 0 to 3, got 4"),
        (-1, "numbered from 0 to 3, got -1"),
        ("4", "numbered from 0 to 3, got 4"),
    ],
)
def test_unknown_classes_are_refused(given: int | str, message: str) -> None:
    with pytest.raises(GeneratorError, match=message):
        generator("deep", NAMES).one_hot(given)


def test_names_are_all_or_none() -> None:
    with pytest.raises(GeneratorError, match="4 classes, got 2 names"):
        generator("deep", NAMES[:2])
    with pytest.raises(GeneratorError, match='names of its 4 classes, got "tench": give a number'):
        generator("deep").one_hot("tench")


def test_names_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(NAMES) + "\n")
    assert read_class_names(path) == NAMES
    for text, message in (("", "line 1"), ("a\n\nb\n", "line 2")):
        path.write_text(text)
        with pytest.raises(FileError, match=message):
            read_class_names(path)
    with pytest.raises(FileError, match="cannot read names"):
        read_class_names(tmp_path / "none.txt")


def test_the_class_changes_the_picture_and_stays(made: BigGAN) -> None:
    a, b = (
        made.sample(1, made.spaces["z+"], torch.Generator().manual_seed(1), labels=made.one_hot(number))
        for number in (0, 2)
    )
    assert torch.equal(a.values, b.values)
    assert not torch.allclose(made.synthesize(a).images, made.synthesize(b).images)
    assert a.labels is not None
    moved = a.with_values(a.values + 1).repeat(2)
    assert torch.equal(moved.labels, made.one_hot([0, 0]))


def test_labels_are_drawn_or_of_the_right_shape(made: BigGAN, rng: torch.Generator) -> None:
    labels = made.sample(50, made.spaces["z"], rng).labels
    assert labels is not None
    assert torch.equal(labels.sum(dim=1), torch.ones(50))
    assert (labels.sum(dim=0) > 0).all()
    with pytest.raises(LatentError, match=r"shape \(1, 4\)"):
        made.sample(1, made.spaces["z"], rng, labels=torch.eye(3)[[0]])
    for wrong in (None, torch.eye(3)[[0]]):
        with pytest.raises(GeneratorError, match="one-hot rows of 4"):
            made.synthesize(Latents(torch.zeros(1, made.spaces["z"].dim), made.spaces["z"], wrong))


def test_codes_of_other_generators_are_refused(rng: torch.Generator) -> None:
    code = generator("deep").sample(1, generator("deep").spaces["z"], rng)
    with pytest.raises(LatentError, match=r"spaces z \(9\), z\+ \(9\), got z \(6\)"):
        generator("flat").synthesize(code)


def test_names_tell_weights_apart() -> None:
    assert generator("deep").name == generator("deep").name
    assert generator("deep").name.startswith("biggan-deep-16px-")
    assert BigGAN(randomized(BigGANNetwork(FLAT), 1)).name != generator("flat").name
