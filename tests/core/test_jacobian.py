"""The Jacobian engine: it is the derivative, its Gram matrices are J^T diag(m) J, and it keeps to its memory."""

import math
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from situ.core import jacobian as engine
from situ.core.errors import JacobianError, RegionError
from situ.core.generator import Generator, Linearization
from situ.core.jacobian import (
    JACOBIAN_FILE,
    Grams,
    Jacobian,
    JacobianPlan,
    Rows,
    gram_matrices,
    jacobian,
    jacobian_operator,
    load_jacobian,
    plan_jacobian,
    region_grams,
)
from situ.core.latents import Latents, Subspace, parse_subspace, save_latents
from toys import TileGenerator, tiny_stylegan2
from toys_jacobian import SpotGenerator

SPACES = ("z", "w", "w+", "w:2-4", "w+:5", "s", "s:conv", "s:rgb", "s:3")
MIB = 1 / 1024  # in GiB


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Toys are too small for more, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture_of(generator: Generator, seed: int = 0) -> Latents:
    return generator.sample(1, generator.spaces["z"], torch.Generator().manual_seed(seed), 0.7)


def box(size: int, top: int = 2, left: int = 3, height: int = 6, width: int = 5) -> Tensor:
    mask = torch.zeros(1, 1, size, size)
    mask[..., top : top + height, left : left + width] = 1
    return mask


def soft(size: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(seed))


def row_by_row(generator: Generator, latents: Latents, subspace: Subspace, rows: Rows) -> Tensor:
    """J in reverse mode, a gradient of every row: (d, c, s, s)."""
    base = generator.convert(latents, subspace.space)
    u = torch.zeros(subspace.dim, requires_grad=True)
    image = generator.synthesize(base.with_values(base.values + subspace.lift(u)[None])).images
    small = rows.of(image)[0]
    gradients = [torch.autograd.grad(row, u, retain_graph=True)[0] for row in small.flatten()]
    return torch.stack(gradients, dim=1).unflatten(1, small.shape)


def explicit(values: Tensor, mask: Tensor) -> Tensor:
    j = values.double()
    return torch.einsum("achw,bchw,hw->ab", j, j, mask[0, 0].double())


def assert_near(got: Tensor, expected: Tensor, tolerance: float) -> None:
    """Equal to a share of the largest number."""
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def assert_same(some: Grams | None, other: Grams | None, tolerance: float = 1e-5) -> None:
    assert some is not None
    assert other is not None
    assert_near(some.inside, other.inside, tolerance)
    assert_near(some.outside, other.outside, tolerance)


# ---- the derivative


@pytest.mark.parametrize("space", SPACES)
def test_stylegan2_agrees_with_reverse_mode(space: str) -> None:
    generator, rows = tiny_stylegan2(), Rows(size=4, sum_rgb=space != "w+")
    subspace, latents = parse_subspace(space, generator.spaces), picture_of(generator)
    expected = row_by_row(generator, latents, subspace, rows)
    found = jacobian(generator, latents, subspace, rows)
    assert (found.subspace, found.generator) == (subspace, generator.name)
    assert expected.abs().max() > 1e-3
    assert_near(found.values, expected, 1e-4)


@pytest.mark.parametrize(
    ("generator", "space"),
    [(TileGenerator(True), "z"), (SpotGenerator(9, 16), "w+"), (SpotGenerator(9, 16), "w:1")],
    ids=["tiles", "spots", "tied"],
)
def test_any_generator_agrees_with_reverse_mode(generator: Generator, space: str) -> None:
    subspace, latents = parse_subspace(space, generator.spaces), picture_of(generator)
    for rows in (Rows(), Rows(size=8, sum_rgb=True)):
        expected = row_by_row(generator, latents, subspace, rows)
        assert_near(jacobian(generator, latents, subspace, rows).values, expected, 1e-4)


def test_it_is_of_the_first_latent_and_of_the_codes_given() -> None:
    generator = TileGenerator(True)
    subspace = parse_subspace("w", generator.spaces)
    one, two = picture_of(generator, 1), picture_of(generator, 2)
    both = one.with_values(torch.cat([one.values, two.values]))
    assert torch.equal(jacobian(generator, both, subspace).values, jacobian(generator, one, subspace).values)
    assert not torch.allclose(jacobian(generator, two, subspace).values, jacobian(generator, one, subspace).values)


@pytest.mark.parametrize("generator", [TileGenerator(True), tiny_stylegan2()], ids=["tiles", "stylegan2"])
def test_it_is_the_same_without_gradients(generator: Generator) -> None:
    subspace, latents = parse_subspace("w", generator.spaces), picture_of(generator)
    outside = jacobian(generator, latents, subspace).values
    with torch.no_grad():
        inside = jacobian(generator, latents, subspace).values
    assert torch.equal(inside, outside)
    assert not outside.requires_grad


def test_a_derivative_that_is_not_finite_is_one_error() -> None:
    generator = SpotGenerator(6, 8)
    generator.paint = generator.paint * 1e6
    subspace, still = parse_subspace("w", generator.spaces), Latents(torch.zeros(1, 6), generator.spaces["w"])
    assert jacobian(generator, still, subspace).values.isfinite().all()
    with pytest.raises(JacobianError, match=r"along w is not finite: keep it in float32, not torch.float16"):
        jacobian(generator, still, subspace, dtype=torch.float16)
    generator.paint[0, 0, 0, 0] = math.nan
    with pytest.raises(JacobianError, match="not finite: take pictures that are"):
        gram_matrices(generator, still, [box(8)], subspace)


# ---- rows


def test_rows_are_area_averages_or_nearest_pixels() -> None:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    tiles = images.unflatten(3, (4, 2)).unflatten(2, (4, 2))  # (2, 3, 4, 2, 4, 2)
    torch.testing.assert_close(Rows(size=4).of(images), tiles.mean(dim=(3, 5)))
    torch.testing.assert_close(Rows(size=4, resample="nearest").of(images), tiles[:, :, :, 0, :, 0])
    torch.testing.assert_close(Rows(sum_rgb=True).of(images), images.sum(dim=1, keepdim=True))
    torch.testing.assert_close(Rows(size=8).of(images), images)
    assert (Rows().side(1024), Rows().side(64), Rows(size=512).side(1024)) == (256, 64, 512)


def test_nearest_rows_may_be_more_than_the_picture_has() -> None:
    image = torch.arange(12.0).reshape(1, 3, 2, 2)
    assert Rows(size=4, resample="nearest").of(image)[0, 0].tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2


@pytest.mark.parametrize("resample", ["area", "nearest"])
@pytest.mark.parametrize("mask_size", [8, 16, 64])
def test_a_mask_may_be_of_any_size(mask_size: int, resample: str) -> None:
    """A segmenter's own size, larger or smaller than the picture: the same square is the same region."""
    generator = SpotGenerator(6, 16)
    subspace, latents = parse_subspace("w", generator.spaces), picture_of(generator)
    scale = mask_size // 8
    mask = box(mask_size, 2 * scale, scale, 4 * scale, 3 * scale)
    rows = Rows(resample=resample)  # pyright: ignore[reportArgumentType]
    assert rows.weights(mask, 16).shape == (1, 1, 16, 16)
    (found,) = gram_matrices(generator, latents, [mask], subspace, rows)
    kept = jacobian(generator, latents, subspace, rows)
    assert_same(found, region_grams(kept, mask, rows))
    if resample == "nearest" or mask_size >= 16:
        values = kept.values
        assert found is not None
        assert_near(found.inside, explicit(values, box(16, 4, 2, 8, 6)) / (3 * 48), 1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"size": 0}, "at least 1 px wide, got 0"), ({"resample": "cubic"}, 'area or nearest, got "cubic"')],
)
@pytest.mark.usefixtures("unchecked")
def test_impossible_rows_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(JacobianError, match=message):
        Rows(**settings)


# ---- Gram matrices of a kept Jacobian


@pytest.fixture(scope="module")
def kept() -> Jacobian:
    generator = SpotGenerator(7, 16)
    return jacobian(generator, picture_of(generator), parse_subspace("w", generator.spaces))


@pytest.mark.parametrize("block", [7, 1024], ids=["blocks", "one-block"])
@pytest.mark.parametrize(
    "mask",
    [box(16), 1 - box(16), soft(16), 0.5 + soft(16) / 2, torch.ones(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)],
    ids=["hard", "complement", "soft", "soft-complement", "all", "none"],
)
def test_gram_is_the_weighted_sum(kept: Jacobian, mask: Tensor, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BLOCK", block)
    expected = explicit(kept.values, mask)
    size = float(explicit(kept.values, torch.ones(1, 1, 16, 16)).abs().max())
    torch.testing.assert_close(kept.gram(mask), expected, rtol=1e-6, atol=1e-12 * size)
    torch.testing.assert_close(kept.gram(mask, torch.float32), expected, rtol=1e-4, atol=1e-6 * size)
    assert kept.gram(mask).dtype == kept.gram(mask, torch.float32).dtype == torch.float64


def test_gram_of_all_rows(kept: Jacobian) -> None:
    everything = explicit(kept.values, torch.ones(1, 1, 16, 16))
    assert_near(kept.gram(), everything, 1e-12)
    assert kept.total is kept.total  # computed once
    values, vectors = kept.spectrum
    assert_near(vectors * values @ vectors.T, everything, 1e-12)


def test_gram_matrices_lose_nothing_to_rounding() -> None:
    """Two equal columns of J: their difference changes nothing, and B says so to 1e-14 though it is T - F."""
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(20, 3, 32, 32, generator=rng) * (1 + 30 * box(32, 0, 0, 8, 8))
    values[1] = values[0]
    same = Jacobian(values, parse_subspace("w", SpotGenerator(20, 8).spaces))
    b = region_grams(same, box(32, 0, 0, 8, 8), Rows()).outside
    squares = torch.linalg.eigvalsh(b)
    assert -1e-13 < float(squares[0] / squares[-1]) < 1e-13
    generator = TileGenerator(True)  # three directions change the first tile alone
    (grams,) = gram_matrices(
        generator, picture_of(generator), [box(16, 0, 0, 8, 8)], parse_subspace("w", generator.spaces)
    )
    assert grams is not None
    squares = torch.linalg.eigvalsh(grams.outside)
    assert (squares[:3].abs() < 1e-12 * squares[-1]).all()
    assert squares[3] > 1e-2 * squares[-1]


def test_a_mask_of_another_size_is_refused(kept: Jacobian) -> None:
    with pytest.raises(JacobianError, match=r"16 x 16 rows is needed \(Rows.weights makes it\), got \(8, 8\)"):
        kept.gram(box(8))


def test_region_grams_are_means_over_rows(kept: Jacobian) -> None:
    mask = soft(16)
    grams = region_grams(kept, mask, Rows())
    inside, outside = 3 * float(mask.sum()), 3 * float((1 - mask).sum())
    assert_near(grams.inside, explicit(kept.values, mask) / inside, 1e-6)
    assert_near(grams.outside, explicit(kept.values, 1 - mask) / outside, 1e-6)


def test_the_whole_picture_and_nothing_are_no_regions(kept: Jacobian) -> None:
    nothing = torch.zeros(1, 1, 16, 16)
    with pytest.raises(RegionError, match="mouth is empty on this picture: choose another picture"):
        region_grams(kept, nothing, Rows(), "mouth")
    with pytest.raises(RegionError, match="mouth is the whole picture, so nothing lies outside it"):
        region_grams(kept, 1 - nothing, Rows(), "mouth")
    generator = SpotGenerator(7, 16)
    with pytest.raises(RegionError, match="region 2 is empty"):
        gram_matrices(
            generator, picture_of(generator), [box(16), nothing], parse_subspace("w", generator.spaces), Rows()
        )


# ---- Gram matrices in passing


@pytest.mark.parametrize(
    ("space", "rows"), [("w", Rows()), ("s:rgb", Rows(size=8, sum_rgb=True, resample="nearest"))], ids=["w", "s"]
)
def test_one_pass_serves_many_regions(space: str, rows: Rows) -> None:
    generator = tiny_stylegan2()
    subspace, latents = parse_subspace(space, generator.spaces), picture_of(generator)
    masks = [box(16), None, 1 - box(16, 0, 0, 3, 3), soft(16)]
    together = gram_matrices(generator, latents, masks, subspace, rows)
    kept = jacobian(generator, latents, subspace, rows)
    assert together[1] is None
    for mask, grams in zip(masks, together, strict=True):
        if mask is not None:
            (alone,) = gram_matrices(generator, latents, [mask], subspace, rows)
            assert_same(grams, alone, 1e-12)
            assert_same(grams, region_grams(kept, mask, rows))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tangents of every pass of the generator from here on."""
    made: list[int] = []
    original = engine.linearize

    def counted(*arguments: object) -> Linearization:
        linear = original(*arguments)  # pyright: ignore[reportArgumentType]

        def pushforward(tangents: Tensor) -> Tensor:
            made.append(len(tangents))
            return linear(tangents)

        return pushforward

    monkeypatch.setattr(engine, "linearize", counted)
    return made


def test_no_region_no_pass(calls: list[int]) -> None:
    generator = TileGenerator(True)
    subspace = parse_subspace("w", generator.spaces)
    assert gram_matrices(generator, picture_of(generator), [None, None], subspace) == [None, None]
    assert not calls


def test_one_band_is_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Tensor]] = []
    columns = engine._columns

    def watched(*arguments: object) -> Tensor:
        assert all(band() is None for band in made)
        band = columns(*arguments)  # pyright: ignore[reportArgumentType]
        made.append(weakref.ref(band))
        return band

    monkeypatch.setattr(engine, "_columns", watched)
    generator = SpotGenerator(40, 32)
    subspace = parse_subspace("w+", generator.spaces)
    gram_matrices(generator, picture_of(generator), [box(32)] * 3, subspace, memory=2.5 * MIB)
    assert len(made) == 4


def test_bands_give_the_same_matrices_and_the_plan_says_how_many(calls: list[int]) -> None:
    generator = SpotGenerator(40, 32)
    subspace, latents = parse_subspace("w+", generator.spaces), picture_of(generator)
    masks = [box(32, 10, 4, 8, 12), 1 - box(32), soft(32)]
    whole = plan_jacobian(generator, subspace, Rows(), 1.0, 3)
    assert (whole.bands, whole.lines, whole.dim, whole.chunk) == (1, 32, 80, 27)
    expected = gram_matrices(generator, latents, masks, subspace)
    assert calls == [27, 27, 26]
    assert whole.passes == 3
    for memory, bands in ((3 * MIB, 2), (2.5 * MIB, 4)):
        plan = plan_jacobian(generator, subspace, Rows(), memory, 3)
        assert plan.bands == bands
        assert math.ceil(32 / plan.lines) == bands
        calls.clear()
        told: list[tuple[int, int, str]] = []

        def tell(done: int | float, total: int, message: str = "", told: list[tuple[int, int, str]] = told) -> None:
            told.append((done, total, message))

        banded = gram_matrices(generator, latents, masks, subspace, memory=memory, progress=tell)
        assert len(calls) == plan.passes == bands * math.ceil(80 / plan.chunk)
        assert sum(calls) == told[-1][0] == told[-1][1] == 80 * bands
        assert "s in all" in told[-1][2]
        for some, other in zip(banded, expected, strict=True):
            assert_same(some, other, 1e-6)


# ---- memory


@settings(deadline=None, max_examples=40)
@given(st.floats(-3, 5), st.integers(0, 6), st.sampled_from(["w", "w+", "s"]), st.sampled_from([None, 4, 64]))
def test_a_plan_keeps_to_the_budget_or_is_refused(size: float, regions: int, space: str, side: int | None) -> None:
    generator, memory = tiny_stylegan2(), MIB * 2**size
    subspace, rows = parse_subspace(space, generator.spaces), Rows(size=side)
    try:
        plan = plan_jacobian(generator, subspace, rows, memory, regions)
    except JacobianError:
        largest = plan_jacobian(generator, subspace, rows, 4.0, regions)
        assert largest.bytes > memory * 2**30
        return
    assert plan.bytes <= memory * 2**30
    assert 1 <= plan.chunk <= min(32, plan.dim)
    assert (plan.bands - 1) * plan.lines < rows.side(16) <= plan.bands * plan.lines
    assert regions or plan.bands == 1


def test_the_budget_error_says_what_is_needed_and_what_to_do() -> None:
    generator = tiny_stylegan2()
    subspace = parse_subspace("s", generator.spaces)
    options = r"raise it \(--memory\), take fewer rows \(--rows\), a smaller subspace \(--space\), or .* lobpcg"
    for regions, what in ((0, "the Jacobian of s"), (1, "F and B of 1 region in s"), (3, "F and B of 3 regions in s")):
        needs = rf"{what} \(88 coordinates, rows of 16 px\) needs (\S+) GiB, the budget is 0.0001: {options}"
        with pytest.raises(JacobianError, match=needs) as caught:
            plan_jacobian(generator, subspace, Rows(), 1e-4, regions)
        needed = float(str(caught.value).split("needs ")[1].split()[0])
        assert plan_jacobian(generator, subspace, Rows(), needed * 1.01, regions).chunk == 1  # it was the truth
        with pytest.raises(JacobianError):
            plan_jacobian(generator, subspace, Rows(), needed * 0.98, regions)
    with pytest.raises(JacobianError, match="the Jacobian of s"):
        jacobian(generator, picture_of(generator), subspace, memory=1e-4)
    with pytest.raises(JacobianError, match="1 region in s"):
        gram_matrices(generator, picture_of(generator), [box(16)], subspace, memory=1e-4)


@pytest.mark.parametrize("memory", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_is_a_positive_number(memory: float) -> None:
    with pytest.raises(JacobianError, match="a positive number of GiB"):
        plan_jacobian(tiny_stylegan2(), parse_subspace("w", tiny_stylegan2().spaces), Rows(), memory)


def peak_bytes(run: object) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()  # pyright: ignore[reportCallIssue]
    results = recorded.profiler.kineto_results  # pyright: ignore[reportOptionalMemberAccess]
    events = sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns())
    held = peak = 0
    for event in events:
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize(
    ("generator", "space", "memory"),
    [
        (SpotGenerator(60, 32), "w", 0.1),
        (SpotGenerator(60, 32), "w", 2.4 * MIB),
        (tiny_stylegan2(0, 64), "w+", 0.1),
        (tiny_stylegan2(0, 64), "w", 1.2 * MIB),
    ],
    ids=["spots", "spots-bands", "stylegan2", "stylegan2-bands"],
)
def test_the_plan_is_what_is_taken(generator: Generator, space: str, memory: float) -> None:
    subspace, latents = parse_subspace(space, generator.spaces), picture_of(generator)
    masks = [box(32), 1 - box(32), soft(32)]
    plan = plan_jacobian(generator, subspace, Rows(), memory, len(masks))
    assert (plan.bands > 1) == (memory < 0.05)
    taken = peak_bytes(lambda: gram_matrices(generator, latents, masks, subspace, memory=memory))
    assert 0.2 * plan.bytes < taken <= plan.bytes <= memory * 2**30


def test_half_precision_halves_what_is_kept() -> None:
    generator = tiny_stylegan2()
    subspace, latents = parse_subspace("w", generator.spaces), picture_of(generator)
    plan, half = (plan_jacobian(generator, subspace, Rows(), 1.0, 0, kind) for kind in (torch.float32, torch.float16))
    assert plan.bytes - half.bytes == 8 * 3 * 256 * 2
    assert isinstance(half, JacobianPlan)
    whole = jacobian(generator, latents, subspace)
    small = jacobian(generator, latents, subspace, dtype=torch.float16)
    assert small.values.dtype == torch.float16
    assert_near(small.values.float(), whole.values, 1e-3)
    assert_near(small.gram(soft(16)), whole.gram(soft(16)), 2e-3)
    assert small.gram().dtype == torch.float64
    # large sums of squares are beyond half precision, and no trouble
    large = Jacobian(small.values * 3e4 / small.values.abs().max(), subspace)
    assert_near(large.gram(), explicit(large.values, torch.ones(1, 1, 16, 16)), 1e-12)


# ---- operators


OPERATORS = {
    "stylegan2": (tiny_stylegan2(), "w+", Rows()),
    "stylegan2-s": (tiny_stylegan2(), "s:rgb", Rows(size=8, sum_rgb=True)),
    "spots": (SpotGenerator(9, 16), "w+", Rows(size=4, resample="nearest")),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_operator_is_the_jacobian(name: str) -> None:
    generator, space, rows = OPERATORS[name]
    subspace, latents = parse_subspace(space, generator.spaces), picture_of(generator)
    values = jacobian(generator, latents, subspace, rows).values
    operator = jacobian_operator(generator, latents, subspace, rows, memory=MIB)  # in chunks
    u = torch.randn(5, subspace.dim, generator=torch.Generator().manual_seed(1))
    v = torch.randn(5, *values.shape[1:], generator=torch.Generator().manual_seed(2))
    assert operator.dim == subspace.dim
    assert_near(operator.forward(u), torch.einsum("nd,dchw->nchw", u, values), 1e-4)
    assert_near(operator.transpose(v), torch.einsum("nchw,dchw->nd", v, values), 1e-4)
    with torch.no_grad():
        assert_near(jacobian_operator(generator, latents, subspace, rows).transpose(v), operator.transpose(v), 1e-5)


@pytest.mark.parametrize("name", OPERATORS)
def test_forward_and_transpose_are_adjoint(name: str) -> None:
    generator, space, rows = OPERATORS[name]
    subspace = parse_subspace(space, generator.spaces)
    operator = jacobian_operator(generator, picture_of(generator), subspace, rows)
    side, channels = rows.side(generator.resolution), 1 if rows.sum_rgb else 3

    @settings(deadline=None, max_examples=4)
    @given(st.integers(0, 10**6), st.integers(1, 2))
    def adjoint(seed: int, n: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        u = torch.randn(n, subspace.dim, generator=rng)
        v = torch.randn(n, channels, side, side, generator=rng)
        forward, back = operator.forward(u), operator.transpose(v)
        scale = float(forward.norm() * v.norm())
        products = (forward.flatten(1) @ v.flatten(1).T).flatten()
        torch.testing.assert_close(products, (u @ back.T).flatten(), rtol=0, atol=1e-5 * scale)

    adjoint()


# ---- files


def test_a_jacobian_comes_back_from_its_file(tmp_path: Path) -> None:
    generator = tiny_stylegan2()
    for space, dtype in (("w:2-4", torch.float32), ("s:conv", torch.float16)):
        made = jacobian(generator, picture_of(generator), parse_subspace(space, generator.spaces), dtype=dtype)
        made.save(tmp_path / "j.safetensors")
        read = load_jacobian(tmp_path / "j.safetensors")
        assert torch.equal(read.values, made.values)
        assert read.values.dtype == dtype
        assert (read.subspace, read.generator) == (made.subspace, generator.name)
        assert torch.equal(read.gram(box(16)), made.gram(box(16)))


def test_a_damaged_file_is_refused(tmp_path: Path, kept: Jacobian) -> None:
    path = tmp_path / "j.safetensors"
    with pytest.raises(JacobianError, match=r"no Jacobian file at .*: expected a Jacobian file \(situ-jacobian-1"):
        load_jacobian(path)
    kept.save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"nonsense" * 100, whole[:8] + b"x" * 40 + whole[48:]):
        path.write_bytes(damaged)
        with pytest.raises(JacobianError, match="cannot be read"):
            load_jacobian(path)
    save_latents(Latents(torch.zeros(1, 7), kept.subspace.space), path, "toy")
    with pytest.raises(JacobianError, match=r"something else \(situ-latents-1\)"):
        load_jacobian(path)


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(6, 3, 4, 4),  # of another subspace
        torch.zeros(7, 48),
        torch.zeros(7, 2, 4, 4),
        torch.zeros(7, 3, 4, 5),
        torch.zeros(7, 3, 0, 0),
        torch.zeros(7, 3, 4, 4, dtype=torch.int32),
        torch.full((7, 3, 4, 4), math.nan),
    ],
    ids=["dim", "flat", "channels", "oblong", "empty", "integers", "nan"],
)
def test_a_file_that_holds_no_jacobian_is_refused(tmp_path: Path, kept: Jacobian, values: Tensor) -> None:
    header = {"space": kept.subspace.space.described(), "layers": [0], "tied": False, "generator": "toy"}
    JACOBIAN_FILE.write(tmp_path / "j.safetensors", header, {"values": values})
    with pytest.raises(JacobianError, match="cannot be read"):
        load_jacobian(tmp_path / "j.safetensors")
    JACOBIAN_FILE.write(tmp_path / "k.safetensors", header, {"values": torch.zeros(7, 1, 4, 4)})
    assert load_jacobian(tmp_path / "k.safetensors").values.shape == (7, 1, 4, 4)
