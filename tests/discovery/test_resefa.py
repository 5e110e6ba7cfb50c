"""ReSeFa: four solvers of one problem, known directions, and what it does with pictures, latents and Ctrl-C."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from situ.core.direction import Direction
from situ.core.errors import JacobianError, RegionError, SituError
from situ.core.generator import Generator, Synthesis
from situ.core.jacobian import Grams, Jacobian, Rows, gram_matrices, jacobian, jacobian_operator, region_grams
from situ.core.latents import Latents, parse_subspace
from situ.core.region import Box, Brush, Part, Region, Rest
from situ.discovery import resefa
from situ.discovery.resefa import (
    LinearOperatorOf,
    ReSeFa,
    Solver,
    solve_grams,
    solve_operators,
    solve_region,
    woodbury_inverse,
    woodbury_root,
)
from toys import TILES, TileGenerator, TileSegmenter, tiny_stylegan2
from toys_jacobian import SpotGenerator

BOX = Box(6, 8, 6, 6)
TILE_PARTS = [Part(TileSegmenter(), (tile,)) for tile in TILES]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Toys are too small for more, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture_of(generator: Generator, seed: int = 0, n: int = 1) -> Latents:
    return generator.sample(n, generator.spaces["z"], seeded(seed), 0.7)


def mask_of(generator: Generator, region: Region, latents: Latents) -> Tensor:
    return region.mask(generator.synthesize(latents))


def grams_of(generator: Generator, space: str, region: Region = BOX, seed: int = 0) -> Grams:
    latents = picture_of(generator, seed)
    mask = mask_of(generator, region, latents)
    (grams,) = gram_matrices(generator, latents, [mask], parse_subspace(space, generator.spaces))
    assert grams is not None
    return grams


def angle(some: Tensor, other: Tensor) -> float:
    """The largest angle between vectors that should be the same, sign included."""
    cosines = torch.nn.functional.cosine_similarity(some.double(), other.double(), dim=-1)
    return float(torch.arccos(cosines.clamp(-1, 1)).max())


def quotient(grams: Grams, n: Tensor, a: float = 0.0) -> Tensor:
    n = n.double()
    return ((n @ grams.inside) * n).sum(-1) / (((n @ grams.outside) * n).sum(-1) + a * n.square().sum(-1))


# ---- the known directions


@pytest.mark.parametrize("solver", ["auto", "woodbury", "lobpcg"])
@pytest.mark.parametrize("rotate", [False, True], ids=["axis-aligned", "rotated"])
def test_the_true_span_of_every_tile_is_found(rotate: bool, solver: Solver) -> None:
    generator = TileGenerator(rotate)
    found = ReSeFa(k=3, solver=solver, truncation=1.0).find(generator, TILE_PARTS, seeded())
    assert [len(rows) for rows in found] == [3] * 4
    for tile, directions in enumerate(found):
        vectors = torch.stack([direction.vector for direction in directions])
        assert (generator.truth(tile) @ vectors.T).norm(dim=0).min() > 0.99
        assert torch.linalg.matrix_rank(vectors) == 3


@pytest.mark.parametrize("rotate", [False, True], ids=["axis-aligned", "rotated"])
def test_the_published_code_finds_it_too_where_b_can_be_inverted(rotate: bool) -> None:
    generator = TileGenerator(rotate)
    found = ReSeFa.as_coded(tau=1e-3, rows=16).find(generator, TILE_PARTS, seeded())
    for tile, (direction,) in enumerate(found):
        assert (generator.truth(tile) @ direction.vector).norm() > 0.99


def test_a_direction_says_where_it_came_from() -> None:
    generator = tiny_stylegan2()
    method = ReSeFa(space="w:2-4", k=2, truncation=0.5)
    ((first, second),) = method.find(generator, [BOX], seeded(7))
    assert isinstance(first, Direction)
    assert (str(first.subspace), first.generator, first.region) == ("w:2-4", generator.name, BOX.name)
    assert (first.seed, first.truncation, first.name) == (7, 0.5, f"{BOX.name}-1")
    assert first.found_by.startswith("ReSeFa(space='w:2-4', k=2")
    assert first.vector.dtype == torch.float32
    assert first.figures["lambda"] >= second.figures["lambda"] > 0
    assert first.figures["pictures"] == 1
    torch.testing.assert_close(first.vector.norm(), torch.tensor(1.0))
    latents = picture_of(generator)
    moved = generator.synthesize(first.apply(generator, latents, 1.0)).images
    assert not torch.allclose(moved, generator.synthesize(latents).images)


def test_the_same_seed_gives_the_same_directions() -> None:
    generator = tiny_stylegan2()
    for solver, space in (("cholesky", "w"), ("lobpcg", "w+")):
        method = ReSeFa(space=space, solver=solver)
        ((one,),), ((same,),), ((other,),) = (method.find(generator, [BOX], seeded(s)) for s in (3, 3, 4))
        assert torch.equal(one.vector, same.vector)
        assert one.figures == same.figures
        assert not torch.allclose(one.vector, other.vector, atol=1e-3)


def test_no_regions_no_directions() -> None:
    assert ReSeFa().find(TileGenerator(True), [], seeded()) == []


# ---- the problem that is solved


@pytest.mark.parametrize("tau", [0.0, 1e-3, 0.1])
@pytest.mark.parametrize("space", ["w", "w:2-4", "w+:1-3"])
def test_eigenvectors_of_equations_8_and_11(space: str, tau: float) -> None:
    grams = grams_of(tiny_stylegan2(), space)
    gains, n = solve_grams(grams, 4, tau)
    b = grams.outside + tau * grams.outside.trace() * torch.eye(len(grams.outside), dtype=torch.float64)
    residual = n @ grams.inside - gains[:, None] * (n @ b)
    assert residual.norm() < 1e-9 * float(grams.inside.norm() + gains.max() * b.norm())
    assert gains.tolist() == sorted(gains.tolist(), reverse=True)
    torch.testing.assert_close(n.norm(dim=1), torch.ones(4, dtype=torch.float64))
    # no other vector does better
    random = torch.randn(500, len(b), generator=seeded(), dtype=torch.float64)
    assert quotient(grams, random, float(tau * grams.outside.trace())).max() <= gains[0]
    torch.testing.assert_close(quotient(grams, n, float(tau * grams.outside.trace())), gains)


def test_regularisation_keeps_directions_that_change_something() -> None:
    """Without τ the best ratio is that of a direction that changes next to nothing, anywhere."""
    grams = grams_of(SpotGenerator(40, 16, 0.8), "w")
    (_, free), (_, lifted) = solve_grams(grams, 1, 0.0), solve_grams(grams, 1, 1e-3)
    energies = [float(n @ grams.inside @ n.T) for n in (free, lifted)]
    assert energies[0] < 0.03 * energies[1]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(0, 9), st.floats(-4, 2), st.integers(0, 10**6))
def test_woodbury_is_the_inverse_and_the_printed_formula_is_not(d: int, rank: int, power: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    rank, a = min(rank, d), 10.0**power
    v, squares = np.linalg.qr(draw.normal(size=(d, d)))[0][:, :rank], draw.uniform(0.1, 5, size=rank)
    direct = np.linalg.inv((v * squares) @ v.T + a * np.eye(d))
    np.testing.assert_allclose(woodbury_inverse(v, squares, a), direct, rtol=1e-7, atol=1e-9 / a)
    root = woodbury_root(v, squares, a)
    np.testing.assert_allclose(root, root.T, atol=1e-12 / math.sqrt(a))
    np.testing.assert_allclose(root @ root, direct, rtol=1e-7, atol=1e-9 / a)
    printed = a * np.eye(d) - (v * (squares / (squares + a))) @ v.T
    if rank < d and abs(power) > 0.1:  # off the range of B the inverse is 1/a, not a
        assert np.abs(printed - direct).max() > 0.1 * max(a, 1 / a)


TOYS = {
    "stylegan2": (tiny_stylegan2(), "w+"),
    "stylegan2-s": (tiny_stylegan2(), "s"),
    "spots": (SpotGenerator(64, 16), "w"),
    "many": (SpotGenerator(100, 16, 0.95), "w+"),
}


@pytest.mark.parametrize("name", TOYS)
def test_all_solvers_agree(name: str) -> None:
    generator, space = TOYS[name]
    subspace, latents = parse_subspace(space, generator.spaces), picture_of(generator)
    mask = mask_of(generator, BOX, latents)
    kept = jacobian(generator, latents, subspace)
    grams = region_grams(kept, mask, Rows())
    gains, n = solve_grams(grams, 2)
    exact = {
        "woodbury": solve_grams(grams, 2, solver="woodbury"),
        "solve_region": solve_region(kept, mask, Rows(), 2),
        "as_coded": solve_grams(grams, 2, solver="as_coded"),
    }
    for solver, (found, vectors) in exact.items():
        assert angle(vectors, n) < 2e-2, solver
        torch.testing.assert_close(found, gains, rtol=1e-3, atol=0, msg=solver)
    operator = jacobian_operator(generator, latents, subspace)
    told: list[tuple[int, int]] = []
    found, vectors = solve_operators(
        [(operator, mask)], 2, 1e-3, seeded(), progress=lambda d, t, m="": told.append((d, t))
    )
    assert angle(vectors, n) < 1e-2
    torch.testing.assert_close(found, gains, rtol=3e-2, atol=0)  # as tr(B) is an estimate
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize("scale", [1e-4, 30.0])
def test_matrix_free_solutions_do_not_depend_on_the_scale_of_the_latent(scale: float) -> None:
    """A residual is small or not by comparison with λ, not with 1e-4."""
    generator = SpotGenerator(64, 16)
    subspace, latents = parse_subspace("w", generator.spaces), picture_of(generator)
    generator.paint = generator.paint * scale
    latents = latents.with_values(latents.values / scale)
    mask = mask_of(generator, BOX, latents)
    gains, n = solve_grams(region_grams(jacobian(generator, latents, subspace), mask, Rows()), 2)
    operator = jacobian_operator(generator, latents, subspace)
    found, vectors = solve_operators([(operator, mask)], 2, 1e-3, seeded())
    assert angle(vectors, n) < 1e-2
    torch.testing.assert_close(found, gains, rtol=5e-3, atol=0)


@pytest.mark.parametrize("k", [1, 7, 8])
def test_matrix_free_in_a_small_subspace(k: int) -> None:
    """Where LOBPCG's block would not fit, the answer is exact."""
    generator = tiny_stylegan2()
    subspace, latents = parse_subspace("w", generator.spaces), picture_of(generator)
    mask = mask_of(generator, BOX, latents)
    gains, n = solve_grams(region_grams(jacobian(generator, latents, subspace), mask, Rows()), k)
    found, vectors = solve_operators([(jacobian_operator(generator, latents, subspace), mask)], k, 1e-3, seeded())
    assert len(vectors) == k
    assert angle(vectors[:1], n[:1]) < 1e-3
    torch.testing.assert_close(found[:1], gains[:1], rtol=1e-3, atol=0)


def test_the_trace_is_estimated_to_a_few_per_cent() -> None:
    generator = SpotGenerator(300, 16)
    subspace = parse_subspace("w+", generator.spaces)
    pictures = [picture_of(generator, seed) for seed in (0, 1)]
    mask = mask_of(generator, BOX, pictures[0])
    both = [gram_matrices(generator, each, [mask], subspace)[0] for each in pictures]
    expected = sum(float(grams.outside.trace()) for grams in both if grams) / 2
    b = LinearOperatorOf([(jacobian_operator(generator, each, subspace), mask) for each in pictures], False)
    for seed in range(5):
        assert b.trace(seeded(seed)) == pytest.approx(expected, rel=0.03)


def test_signs_are_definite() -> None:
    """The largest entry is positive, whatever sign a solver ends with."""
    generator = tiny_stylegan2()
    for solver in ("cholesky", "woodbury", "as_coded"):
        _, n = solve_grams(grams_of(generator, "w"), 5, solver=solver)
        assert (n.gather(1, n.abs().argmax(dim=1, keepdim=True)) > 0).all()
    values, vectors = np.array([1.0, 2.0]), np.array([[0.1, -0.9], [-0.5, 0.2]])
    assert torch.equal(resefa._best(values, vectors, 2)[1], resefa._best(values, -vectors, 2)[1])


# ---- B that has no inverse


@pytest.mark.parametrize("rotate", [False, True], ids=["axis-aligned", "rotated"])
@pytest.mark.parametrize("seed", range(3))
def test_a_singular_b_is_one_clear_error(rotate: bool, seed: int) -> None:
    """A tile's own directions change nothing outside it, but for rounding."""
    method = ReSeFa(tau=0.0, truncation=1.0)
    with pytest.raises(JacobianError, match=r"B of top-left is singular: .* tau is 0, set it to 1e-3") as caught:
        method.find(TileGenerator(rotate, seed), TILE_PARTS, seeded(seed))
    assert "\n" not in str(caught.value)
    with pytest.raises(JacobianError, match=r"singular.* tau is 1e-16"):
        ReSeFa(tau=1e-16).find(TileGenerator(rotate, seed), TILE_PARTS, seeded(seed))


def test_a_singular_b_is_the_same_error_as_coded() -> None:
    with pytest.raises(JacobianError, match="B of top-left is singular"):
        ReSeFa.as_coded(rows=16).find(TileGenerator(False), TILE_PARTS, seeded())


def test_the_published_solver_fails_on_ill_conditioned_matrices() -> None:
    """Single precision, no symmetry: complex pairs, and directions that are not the best by far."""
    hard = grams_of(SpotGenerator(40, 16, 0.8, 1), "w")
    squares = torch.linalg.eigvalsh(hard.outside)
    assert 1e-12 < squares[0] / squares[-1] < 1e-7  # singular in single precision, not in double
    product = torch.linalg.inv(hard.outside.float()) @ hard.inside.float()
    assert (torch.linalg.eigvals(product).imag.abs() > 0).sum() >= 2
    gains, n = solve_grams(hard, 1, 0.0)
    _, coded = solve_grams(hard, 1, 0.0, "as_coded")
    torch.testing.assert_close(quotient(hard, n), gains)
    assert quotient(hard, coded) < 1e-3 * gains
    assert angle(coded, n) > 0.3

    easy = grams_of(tiny_stylegan2(), "w")
    assert angle(solve_grams(easy, 3, 0.0, "as_coded")[1], solve_grams(easy, 3, 0.0)[1]) < 1e-2


def test_where_nothing_changes_inside_or_outside() -> None:
    nothing, something = torch.zeros(4, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    for solver in ("cholesky", "woodbury", "as_coded"):
        with pytest.raises(JacobianError, match="nothing in nose changes along this subspace"):
            solve_grams(Grams(nothing, something), 1, solver=solver, name="nose")
        with pytest.raises(JacobianError, match=r"nothing outside nose changes .* edit the region alone"):
            solve_grams(Grams(something, nothing), 1, solver=solver, name="nose")
    generator = SpotGenerator(30, 8)
    generator.paint[:, :, 4:] = 0
    subspace, latents = parse_subspace("w", generator.spaces), picture_of(generator)
    top = torch.zeros(1, 1, 8, 8)
    top[..., :4, :] = 1
    operator, kept = jacobian_operator(generator, latents, subspace), jacobian(generator, latents, subspace)
    for mask, what in ((top, "nothing outside nose"), (1 - top, "nothing in nose")):
        with pytest.raises(JacobianError, match=what):
            solve_operators([(operator, mask)], 1, 1e-3, seeded(), "nose")
        with pytest.raises(JacobianError, match=what):
            solve_region(kept, mask, Rows(), name="nose")


# ---- what λ means


@pytest.mark.parametrize("space", ["w", "s:conv"])
def test_lambda_is_the_first_order_gain_of_a_small_step(space: str) -> None:
    """Mean squared change inside over outside plus a, of pictures a small step apart."""
    generator = tiny_stylegan2()
    ((direction,),) = ReSeFa(space=space).find(generator, [BOX], seeded(5))
    latents = generator.sample(32, generator.spaces["z"], seeded(5), 0.7)[:1]  # the first that was looked at
    base = generator.convert(latents, direction.subspace.space)
    step = 2e-3
    ends = [generator.synthesize(direction.apply(generator, base, sign * step)).images for sign in (1.0, -1.0)]
    change = ((ends[0] - ends[1]) / (2 * step)).square()
    mask = mask_of(generator, BOX, latents)
    inside, outside = (float((change * m).sum() / (3 * m.sum())) for m in (mask, 1 - mask))
    (grams,) = gram_matrices(generator, latents, [mask], direction.subspace)
    assert grams is not None
    a = 1e-3 * float(grams.outside.trace())
    assert direction.figures["lambda"] == pytest.approx(inside / (outside + a), rel=0.02)
    assert inside / outside > direction.figures["lambda"]  # so λ never promises too much
    ((unlifted,),) = ReSeFa(space="w", tau=0.0).find(generator, [BOX], seeded(5))
    (grams,) = gram_matrices(generator, latents, [mask], unlifted.subspace)
    assert grams is not None
    assert unlifted.figures["lambda"] == pytest.approx(float(quotient(grams, unlifted.vector)), rel=1e-4)


@pytest.mark.parametrize(
    ("generator", "space", "pictures", "times"),
    [(SpotGenerator(40, 16), "w", 1, 100), (TileGenerator(True), "w", 1, 100), (tiny_stylegan2(), "w+", 8, 1.5)],
    ids=["spots", "tiles", "stylegan2"],
)
def test_directions_of_few_pictures_are_local_on_others(
    generator: Generator, space: str, pictures: int, times: float
) -> None:
    """An untrained network has the least in common between its pictures."""
    region = TILE_PARTS[1] if isinstance(generator, TileGenerator) else BOX
    ((direction,),) = ReSeFa(space=space, pictures=pictures).find(generator, [region], seeded())
    others = generator.convert(picture_of(generator, 99, 16), direction.subspace.space)
    before, mask = generator.synthesize(others).images, mask_of(generator, region, others)

    def gain(vector: Tensor) -> float:
        moved = others.with_values(others.values + 0.1 * direction.subspace.lift(vector)[None])
        change = (generator.synthesize(moved).images - before).square().mean(dim=1, keepdim=True)
        return float((change * mask).sum() / mask.sum() / ((change * (1 - mask)).sum() / (1 - mask).sum()))

    random = torch.randn(20, direction.subspace.dim, generator=seeded(1))
    assert gain(direction.vector) > times * max(gain(u / u.norm()) for u in random)


# ---- pictures


@dataclass(frozen=True)
class Sometimes:
    """A box on the pictures whose first pixel is bright; on the others nothing, or everything."""

    otherwise: float = 0.0
    name: str = "hat"
    layers: tuple[str, ...] = ()

    def mask(self, synthesis: Synthesis) -> Tensor:
        images = synthesis.images
        shown = (images[:, :1, :1, :1] > 0).float()
        return shown * BOX.mask(synthesis) + (1 - shown) * self.otherwise


def bright(generator: Generator, pool: Latents) -> list[bool]:
    return (generator.synthesize(pool).images[:, 0, 0, 0] > 0).tolist()


@pytest.mark.parametrize("otherwise", [0.0, 1.0], ids=["empty", "whole"])
def test_pictures_that_do_not_show_the_region_are_passed_over(otherwise: float) -> None:
    generator, method = SpotGenerator(12, 16), ReSeFa(pictures=3)
    shown: set[tuple[bool, ...]] = set()
    for seed in range(4):
        pool = generator.sample(32, generator.spaces["z"], seeded(seed), 0.7)
        kept = [i for i, yes in enumerate(bright(generator, pool)) if yes][:3]
        shown.add(tuple(i in kept for i in range(3)))
        (hat,), (box,) = method.find(generator, [Sometimes(otherwise), BOX], seeded(seed))
        chosen = pool.with_values(pool.values[kept])
        ((expected,),) = ReSeFa(latents=chosen).find(generator, [BOX], seeded(seed))
        ((everywhere,),) = ReSeFa(latents=pool[:3]).find(generator, [BOX], seeded(seed))
        assert angle(hat.vector, expected.vector) < 1e-3
        assert angle(box.vector, everywhere.vector) < 1e-3
        assert hat.figures["pictures"] == box.figures["pictures"] == 3
    assert len(shown) > 1  # some of the first pictures were passed over


@pytest.mark.parametrize("solver", ["auto", "lobpcg"])
def test_averaging_is_the_mean_of_f_and_b(solver: Solver) -> None:
    generator = tiny_stylegan2()
    pool = picture_of(generator, 5, 3)
    ((found,),) = ReSeFa(space="w", latents=pool, solver=solver).find(generator, [BOX], seeded())
    subspace = parse_subspace("w", generator.spaces)
    each = []
    for i in range(3):
        (grams,) = gram_matrices(generator, pool[i : i + 1], [mask_of(generator, BOX, pool[:1])], subspace)
        assert grams is not None
        each.append(grams)
    mean = Grams(*(torch.stack([getattr(g, side) for g in each]).mean(dim=0) for side in ("inside", "outside")))
    gains, n = solve_grams(mean, 1)
    assert angle(found.vector[None], n) < 1e-3
    assert found.figures["lambda"] == pytest.approx(float(gains[0]), rel=1e-3)
    assert found.figures["pictures"] == 3
    assert angle(found.vector[None], solve_grams(each[0], 1)[1]) > 1e-2


@dataclass(frozen=True)
class Constant:
    """The same value on every pixel of every picture."""

    value: float
    name: str
    layers: tuple[str, ...] = ()

    def mask(self, synthesis: Synthesis) -> Tensor:
        return torch.full_like(synthesis.images[:, :1], self.value)


@pytest.mark.parametrize("solver", ["cholesky", "lobpcg"])
def test_a_region_no_picture_shows_is_one_clear_error(solver: Solver) -> None:
    generator, method = SpotGenerator(12, 16), ReSeFa(solver=solver)
    with pytest.raises(
        RegionError, match=r"^hat: empty, or less than a pixel of the rows, on all 32 pictures looked at"
    ):
        method.find(generator, [BOX, Constant(0.0, "hat")], seeded())
    with pytest.raises(RegionError, match=r"^face, not hat: the whole picture on all 32 looked at.* a smaller region"):
        method.find(generator, [Constant(1.0, "face"), BOX, Rest(Constant(0.0, "hat"))], seeded())
    with pytest.raises(RegionError, match=r"hat: empty.* on all 2 pictures"):
        ReSeFa(latents=picture_of(generator, 0, 2), solver=solver).find(generator, [Constant(0.0, "hat")], seeded())


@dataclass(frozen=True)
class Painted:
    """Where the paint of a feature layer is bright: a region that is made from features."""

    name: str = "bright"
    layers: tuple[str, ...] = ("paint",)

    def mask(self, synthesis: Synthesis) -> Tensor:
        return (synthesis.features["paint"][:, :1] > 0.1).float()


@pytest.mark.parametrize("solver", ["cholesky", "lobpcg"])
def test_a_region_may_look_at_features(solver: Solver) -> None:
    generator = SpotGenerator(12, 16)
    pool = picture_of(generator)
    (found,), _ = ReSeFa(latents=pool, solver=solver).find(generator, [Painted(), BOX], seeded())
    mask = Painted().mask(generator.synthesize(pool, ("paint",)))
    (grams,) = gram_matrices(generator, pool, [mask], parse_subspace("w", generator.spaces))
    assert grams is not None
    assert angle(found.vector[None], solve_grams(grams, 1)[1]) < 1e-3


@pytest.mark.parametrize("solver", ["cholesky", "lobpcg"])
@pytest.mark.parametrize("size", [8, 64])
def test_masks_of_another_size_than_the_picture(size: int, solver: Solver) -> None:
    class Sized:
        name, layers = "sized", ()

        def mask(self, synthesis: Synthesis) -> Tensor:
            mask = torch.zeros(len(synthesis.images), 1, size, size)
            mask[..., : size // 2, : size // 4] = 1
            return mask

    generator = SpotGenerator(12, 16)
    ((found,),) = ReSeFa(solver=solver, resample="nearest").find(generator, [Sized()], seeded())
    painted = torch.zeros(1, 1, 16, 16)
    painted[..., :8, :4] = 1
    ((same,),) = ReSeFa(solver=solver, resample="nearest").find(generator, [Brush(painted)], seeded())
    assert angle(found.vector, same.vector) < 1e-3


def test_given_latents_are_the_pictures() -> None:
    generator = tiny_stylegan2()
    pool = picture_of(generator, 9)
    for space in ("z", "w", "w+"):  # codes of an earlier space are brought on
        ((found,),) = ReSeFa(space=space, latents=pool).find(generator, [BOX], seeded())
        ((same,),) = ReSeFa(space=space, latents=pool).find(generator, [BOX], seeded(8))
        assert torch.equal(found.vector, same.vector)
        assert angle(found.vector[None], solve_grams(grams_of(generator, space, BOX, 9), 1)[1]) < 1e-3
        assert "tensor" not in found.found_by
    late = generator.convert(pool, generator.spaces["w+"])
    with pytest.raises(SituError, match="no unique code in w"):
        ReSeFa(space="w", latents=late).find(generator, [BOX], seeded())


# ---- Ctrl-C


class Interrupt:
    """A progress that is stopped by hand after a share of the work."""

    def __init__(self, after: float) -> None:
        self.after, self.seen = after, 0.0

    def __call__(self, done: int | float, total: int, message: str = "") -> None:
        assert self.seen <= done / total <= 1
        self.seen = done / total
        if self.seen > self.after:
            raise KeyboardInterrupt


def test_ctrl_c_keeps_the_finished_pictures() -> None:
    generator = tiny_stylegan2()
    pool = picture_of(generator, 5, 4)
    method = ReSeFa(space="w+", latents=pool)
    found = method.find(generator, [BOX, Box(3, 3, 4, 4)], seeded(), Interrupt(0.5))  # in the third
    expected = ReSeFa(space="w+", latents=pool[:2]).find(generator, [BOX, Box(3, 3, 4, 4)], seeded())
    for (direction,), (same,) in zip(found, expected, strict=True):
        assert torch.equal(direction.vector, same.vector)
        assert direction.figures["pictures"] == 2
    with pytest.raises(KeyboardInterrupt):
        method.find(generator, [BOX], seeded(), Interrupt(0.1))


def test_ctrl_c_leaves_a_region_that_was_not_seen_yet_without_directions() -> None:
    generator = SpotGenerator(12, 16)
    many = generator.sample(32, generator.spaces["z"], seeded(), 0.7)
    dark, light = (
        next(i for i, yes in enumerate(bright(generator, many)) if yes == wanted) for wanted in (False, True)
    )
    pool = many.with_values(many.values[[dark, light]])
    hat, box = ReSeFa(latents=pool).find(generator, [Sometimes(), BOX], seeded(), Interrupt(0.5))
    assert hat == []
    assert box[0].figures["pictures"] == 1


def test_ctrl_c_keeps_the_finished_regions_without_matrices() -> None:
    generator, regions = SpotGenerator(64, 16), [BOX, Box(12, 4, 4, 4)]
    method = ReSeFa(solver="lobpcg")
    (first,), second = method.find(generator, regions, seeded(), Interrupt(0.6))
    ((expected,), _) = method.find(generator, regions, seeded())
    assert torch.equal(first.vector, expected.vector)
    assert second == []
    with pytest.raises(KeyboardInterrupt):
        method.find(generator, regions, seeded(), Interrupt(0.05))


# ---- kept Jacobians


def test_a_kept_jacobian_is_solved_for_one_region_after_another() -> None:
    generator = tiny_stylegan2()
    subspace, latents = parse_subspace("s:conv", generator.spaces), picture_of(generator)
    whole = jacobian(generator, latents, subspace)
    half = jacobian(generator, latents, subspace, dtype=torch.float16)
    for region in (BOX, Box(3, 3, 3, 3), Rest(Box(3, 3, 3, 3)), Box(10, 9, 12, 14)):
        mask = mask_of(generator, region, latents)
        gains, n = solve_grams(region_grams(whole, mask, Rows()), 2)
        for kept, tolerance in ((whole, 1e-3), (half, 2e-2)):
            found, vectors = solve_region(kept, mask, Rows(), 2)
            assert angle(vectors, n) < tolerance
            torch.testing.assert_close(found, gains, rtol=tolerance, atol=0)


def test_a_kept_jacobian_finds_the_tiles() -> None:
    """λ is in the hundreds there: 1 - μ is small, and must not be lost."""
    generator = TileGenerator(True)
    subspace, latents = parse_subspace("w", generator.spaces), picture_of(generator)
    kept = jacobian(generator, latents, subspace)
    for tile, part in enumerate(TILE_PARTS):
        mask = mask_of(generator, part, latents)
        gains, n = solve_region(kept, mask, Rows(), 3)
        assert (generator.truth(tile).double() @ n.T).norm(dim=0).min() > 0.99
        torch.testing.assert_close(gains, solve_grams(region_grams(kept, mask, Rows()), 3)[0], rtol=1e-3, atol=0)
        assert gains[0] > 100


def test_what_a_kept_jacobian_is_not_solved_for() -> None:
    generator = SpotGenerator(8, 16)
    kept = jacobian(generator, picture_of(generator), parse_subspace("w", generator.spaces))
    assert isinstance(kept, Jacobian)
    nothing = torch.zeros(1, 1, 16, 16)
    with pytest.raises(RegionError, match="the region is empty: brush another one"):
        solve_region(kept, nothing, Rows())
    with pytest.raises(RegionError, match="nose is the whole picture, so nothing is left outside it"):
        solve_region(kept, 1 - nothing, Rows(), name="nose")
    nothing[..., :4] = 1
    with pytest.raises(JacobianError, match="needs tau above 0, got 0"):
        solve_region(kept, nothing, Rows(), tau=0.0)


# ---- settings


def test_as_coded_is_the_published_code() -> None:
    coded = ReSeFa.as_coded()
    assert (coded.tau, coded.rows, coded.sum_rgb, coded.resample) == (0.0, 256, True, "nearest")
    assert coded.solver == "as_coded"
    assert coded.layout == Rows(256, True, "nearest")
    assert ReSeFa.as_coded(k=3, rows=16) == ReSeFa(
        k=3, tau=0.0, rows=16, sum_rgb=True, resample="nearest", solver="as_coded"
    )
    generator = tiny_stylegan2()
    ((direction,),) = ReSeFa.as_coded(rows=32).find(generator, [BOX], seeded())
    rows = Rows(32, True, "nearest")
    latents = generator.sample(32, generator.spaces["z"], seeded(), 0.7)[:1]
    (grams,) = gram_matrices(
        generator, latents, [mask_of(generator, BOX, latents)], parse_subspace("w", generator.spaces), rows
    )
    assert grams is not None
    assert angle(direction.vector[None], solve_grams(grams, 1, 0.0)[1]) < 1e-2


def test_auto_takes_matrices_until_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    for name in ("solve_grams", "solve_operators"):
        original = getattr(resefa, name)

        def spy(*arguments: object, name: str = name, original: object = original) -> object:
            used.append(name)
            return original(*arguments)  # pyright: ignore[reportCallIssue]

        monkeypatch.setattr(resefa, name, spy)
    generator, box = SpotGenerator(40, 16), [BOX]
    ((small,),) = ReSeFa().find(generator, box, seeded())
    monkeypatch.setattr(resefa, "LARGE", 39)
    ((large,),) = ReSeFa().find(generator, box, seeded())
    ReSeFa(tau=0.0).find(generator, box, seeded())  # no matrix-free solver for that
    assert used == ["solve_grams", "solve_operators", "solve_grams"]
    assert angle(small.vector, large.vector) < 2e-2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"k": 0}, "must be positive numbers .*'k': 0"),
        ({"pictures": -1}, "'pictures': -1"),
        ({"memory": 0.0}, "'memory': 0.0"),
        ({"memory": math.inf}, "'memory': inf"),
        ({"tau": -1e-3}, "'tau': -0.001"),
        ({"tau": math.nan}, "'tau': nan"),
        ({"tau": math.inf}, "'tau': inf"),
        ({"truncation": math.nan}, "truncation is a number"),
        ({"rows": 0}, "at least 1 px wide, got 0"),
        ({"resample": "cubic"}, 'area or nearest, got "cubic"'),
        ({"solver": "magic"}, 'solver is one of auto, cholesky, woodbury, lobpcg, as_coded, got "magic"'),
        ({"solver": "woodbury", "tau": 0.0}, "woodbury needs tau above 0"),
        ({"solver": "lobpcg", "tau": 0.0}, "lobpcg needs tau above 0"),
        ({"latents": picture_of(TileGenerator(True))[:0]}, "the latents of no picture were given"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_impossible_settings_are_refused(bad: dict, message: str) -> None:
    with pytest.raises(SituError, match=message):
        ReSeFa(**bad)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 13}, "w has 12 dimensions, too few for k=13"),
        ({"space": "s"}, 'spaces of this generator are z, w, got "s"'),
        ({"memory": 1e-6}, r"F and B of 4 regions in w .*\(--solver lobpcg\)"),
        ({"memory": 1e-6, "solver": "lobpcg"}, "the budget is"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(SituError, match=message):
        ReSeFa(**wrong).find(TileGenerator(True), TILE_PARTS, seeded())
