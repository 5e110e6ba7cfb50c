import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from situ.core.errors import RegionError, SituError
from situ.core.jacobian import Rows, jacobian, region_grams
from situ.core.latents import parse_subspace
from situ.core.progress import silent
from situ.core.region import Box, Part
from situ.discovery.lowrankgan import LowRankGAN, LowRankSparse, robust_pca
from toys import TILES, TileGenerator, TileSegmenter
from toys_styles import BlinkingSegmenter, LeakyTileGenerator

TILE_PARTS = [Part(TileSegmenter(), (tile,)) for tile in TILES]
ALL_LOW_RANK = 2.0  # λ > 1: no entry is worth making sparse, so that the split leaves these Gram matrices whole


def planted(m, n, rank, share, seed=0, symmetric=False):
    """A low-rank matrix and a sparse one of larger entries."""
    rng = torch.Generator().manual_seed(seed)
    left = torch.randn(m, rank, generator=rng, dtype=torch.double)
    low = left @ (left.T if symmetric else torch.randn(rank, n, generator=rng, dtype=torch.double))
    where = torch.rand(m, n, generator=rng) < share
    sparse = 10 * torch.randn(m, n, generator=rng, dtype=torch.double) * where
    return low, (sparse + sparse.T) / 2 if symmetric else sparse


@pytest.mark.parametrize("penalty", ["balanced", "entrywise"])
@pytest.mark.parametrize(("m", "n", "symmetric"), [(60, 60, True), (60, 60, False), (80, 50, False), (40, 90, False)])
def test_a_planted_split_is_recovered(m, n, symmetric, penalty):
    low, sparse = planted(m, n, 2, 0.05, symmetric=symmetric)
    found = robust_pca(low + sparse, penalty=penalty)
    assert found.converged
    assert (found.low_rank - low).norm() < 1e-4 * low.norm()
    assert (found.sparse - sparse).norm() < 1e-4 * sparse.norm()
    assert len(found.top_vectors(1e-5)) == 2
    assert found.residual <= 1e-7


def test_the_published_penalty_finds_the_same_split():
    low, sparse = planted(30, 30, 1, 0.05)
    found = robust_pca(low + sparse, penalty="induced", tolerance=1e-9)
    assert (found.low_rank - low).norm() < 1e-4 * low.norm()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.floats(0.05, 2), st.booleans())
def test_the_parts_add_up_and_are_no_worse_than_the_trivial_ones(seed, m, n, weight, symmetric):
    matrix = torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    matrix = matrix @ matrix.T if symmetric else matrix
    found = robust_pca(matrix, weight, tolerance=1e-6, iterations=4000)
    assert (found.low_rank + found.sparse - matrix).norm() <= max(found.residual, 1e-12) * 1.0001 * matrix.norm()

    def cost(low, sparse):
        return float(torch.linalg.matrix_norm(low, "nuc") + weight * sparse.abs().sum())

    nothing = torch.zeros_like(matrix)
    least = min(cost(matrix, nothing), cost(nothing, matrix))
    assert cost(found.low_rank, found.sparse) <= least * (1 + 1e-3)
    assert found.converged
    assert found.residual <= 1e-6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.floats(1e-3, 1e3))
def test_a_small_weight_makes_all_sparse_and_scale_changes_nothing(seed, d, scale):
    matrix = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    found = robust_pca(matrix, 0.99 / d)
    assert found.low_rank.abs().max() <= 1e-5 * matrix.abs().max()
    weight = 1 / d**0.5
    one, other = robust_pca(matrix, weight, tolerance=1e-8), robust_pca(scale * matrix, weight, tolerance=1e-8)
    assert (scale * one.low_rank - other.low_rank).norm() <= 1e-4 * scale * matrix.norm()


def test_ends_of_a_split():
    zero = robust_pca(torch.zeros(4, 3))
    assert zero.converged
    assert zero.low_rank.norm() == zero.sparse.norm() == 0
    low, sparse = planted(20, 20, 2, 0.1)
    seen = []
    short = robust_pca(low + sparse, iterations=40, progress=lambda done, total, message="": seen.append(done))
    assert not short.converged
    assert (short.iterations, seen) == (40, [20, 40])
    with pytest.raises(SituError, match="NaN"):
        robust_pca(torch.full([3, 3], float("nan")))


@pytest.mark.parametrize("rotate", [False, True], ids=["axis-aligned", "rotated"])
@pytest.mark.parametrize("coded", [False, True], ids=["paper", "as-coded"])
def test_finds_the_span_of_every_tile(rotate, coded, rng):
    generator = TileGenerator(rotate)
    rows = {"size": 16, "iterations": 500, "rank_tolerance": 1e-5}
    method = LowRankGAN.as_coded(k=3, sparse_weight=ALL_LOW_RANK, **rows) if coded else None
    method = method or LowRankGAN(k=3, sparse_weight=ALL_LOW_RANK)
    for tile, directions in enumerate(method.find(generator, TILE_PARTS, rng)):
        # summed RGB is one number a tile, of one direction
        assert len(directions) == (1 if coded else 3)
        for d in directions:
            assert (generator.truth(tile) @ d.vector).norm() > 0.999
            assert d.figures["gain"] > 1e4
            assert d.figures["kept"] > 0.999
            assert (d.figures["rank_F"], d.figures["rank_B"]) == ((1, 3) if coded else (3, 9))
        vectors = torch.stack([d.vector for d in directions])
        torch.testing.assert_close(vectors @ vectors.T, torch.eye(len(vectors)), atol=1e-4, rtol=0)


def test_pictures_are_averaged_where_they_show_the_region(rng):
    generator = LeakyTileGenerator(True, leak=0.2)
    regions = [Part(BlinkingSegmenter(), (TILES[3],))]
    latents = generator.sample(8, generator.spaces["w"], torch.Generator().manual_seed(0))
    subspace = parse_subspace("w", generator.spaces)
    ((f, b),) = LowRankGAN(pictures=8)._grams(generator, subspace, regions, rng, silent)
    grams = []
    for i in range(8):
        mask = regions[0].mask(generator.synthesize(latents[i : i + 1]))
        if mask.any():
            grams.append(region_grams(jacobian(generator, latents[i : i + 1], subspace), mask, Rows()))
    assert 1 < len(grams) < 8
    torch.testing.assert_close(f, torch.stack([g.inside for g in grams]).mean(dim=0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(b, torch.stack([g.outside for g in grams]).mean(dim=0), atol=1e-6, rtol=1e-5)


def test_relax_makes_room_where_the_rest_always_changes(rng):
    generator = LeakyTileGenerator(True, leak=0.05)
    with pytest.raises(SituError, match="no null space: set relax, 1 to 11"):
        LowRankGAN(sparse_weight=ALL_LOW_RANK).find(generator, TILE_PARTS[:1], rng)
    relaxed = LowRankGAN(k=3, sparse_weight=ALL_LOW_RANK, relax=3).find(generator, TILE_PARTS[:1], rng)
    assert all((generator.truth(0) @ d.vector).norm() > 0.95 for d in relaxed[0])
    # as coded one dimension is always left, the least change of the rest
    coded = LowRankGAN(sparse_weight=ALL_LOW_RANK, spare_null=True).find(generator, TILE_PARTS[:1], rng)
    assert (generator.truth(0) @ coded[0][0].vector).norm() > 0.95


@pytest.mark.parametrize("relax", [0, 1, 2])
def test_singular_vectors_are_projected_off_the_rest(relax, rng):
    v = torch.linalg.qr(torch.randn(8, 8, generator=rng, dtype=torch.double))[0]
    a = torch.nn.functional.normalize(v[0] + v[1] + 2 * v[2], dim=0)
    f, b = torch.outer(a, a), 3 * torch.outer(v[0], v[0]) + torch.outer(v[1], v[1])
    whole = [LowRankSparse(m, torch.zeros_like(m), 0.0, 1, True) for m in (f, b)]
    ((n,), (figures,)) = LowRankGAN(relax=relax)._vectors(TILE_PARTS[0], f, b, *whole)
    left = a.clone()
    for i in range(2 - relax):  # the greatest singular vectors stay in its range
        left = left - (a @ v[i]) * v[i]
    assert abs(n @ left) == pytest.approx(left.norm())
    assert n.norm() == pytest.approx(1)
    assert figures["kept"] == pytest.approx(left.norm())
    assert figures["gain"] == pytest.approx(float((n @ f @ n) / (n @ b @ n)) if relax else 1e9, rel=1e-6)


def test_nothing_is_left_of_what_the_rest_shares(rng):
    a = torch.nn.functional.normalize(torch.randn(8, generator=rng, dtype=torch.double), dim=0)
    whole = LowRankSparse(torch.outer(a, a), torch.zeros(8, 8, dtype=torch.double), 0.0, 1, True)
    with pytest.raises(SituError, match="nothing is left after the projection: set relax, 1 to 1"):
        LowRankGAN()._vectors(TILE_PARTS[0], whole.low_rank, whole.low_rank, whole, whole)


def test_the_published_weight_calls_a_small_space_sparse(rng):
    with pytest.raises(SituError, match=r"all is sparse: raise it \(robust PCA's own rule is 0.289"):
        LowRankGAN().find(TileGenerator(True), TILE_PARTS, rng)


def test_the_same_seed_gives_the_same_directions():
    def run():
        own = torch.Generator().manual_seed(3)
        return LowRankGAN(k=2, sparse_weight=ALL_LOW_RANK).find(TileGenerator(True), TILE_PARTS[:1], own)[0]

    assert all(torch.equal(a.vector, b.vector) for a, b in zip(run(), run(), strict=True))


def test_ctrl_c_keeps_the_regions_that_are_done(rng):
    def stop(done, total, message=""):
        if "rest of top-right" in message:
            raise KeyboardInterrupt

    found = LowRankGAN(sparse_weight=ALL_LOW_RANK).find(TileGenerator(True), TILE_PARTS, rng, stop)
    assert [len(directions) for directions in found] == [1, 0, 0, 0]


@pytest.mark.usefixtures("unchecked")
def test_bad_input(rng):
    with pytest.raises(SituError, match="must be positive"):
        LowRankGAN(k=0)
    with pytest.raises(SituError, match="must be positive"):
        LowRankGAN(tolerance=0.0)
    with pytest.raises(SituError, match="sparse_weight"):
        LowRankGAN(sparse_weight=-1.0)
    with pytest.raises(SituError, match="relax"):
        LowRankGAN(relax=-1)
    with pytest.raises(SituError, match="rank_tolerance"):
        LowRankGAN(rank_tolerance=1.0)
    with pytest.raises(SituError, match="penalty is one of"):
        LowRankGAN(penalty="matrix")
    with pytest.raises(SituError, match="resample is one of"):
        LowRankGAN(resample="cubic")
    with pytest.raises(SituError, match="size"):
        LowRankGAN(size=0)
    with pytest.raises(SituError, match="truncation"):
        LowRankGAN(truncation=float("inf"))
    with pytest.raises(RegionError, match="empty, or the whole picture"):
        LowRankGAN().find(TileGenerator(True), [Box(8, 8, 16, 16)], rng)
