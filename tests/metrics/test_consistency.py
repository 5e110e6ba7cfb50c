"""The edit-consistency score on tiles, whose codes, and so every cycle, are known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from situ.core.direction import Direction, Edit
from situ.core.errors import SituError
from situ.core.inversion import Inversion
from situ.core.latents import Latents, Subspace
from situ.metrics.consistency import (
    EditConsistency,
    ReversibleEdit,
    edit_consistency,
    edit_consistency_score,
    reversible,
)
from toys import TileGenerator, mean_square, tiny_stylegan2

TILES = TileGenerator(rotate=False)
W = TILES.spaces["w"]


def root_mean_square(a: Tensor, b: Tensor) -> Tensor:
    return mean_square(a, b).sqrt()


def inversion(values: Tensor) -> Inversion:
    return Inversion(Latents(values, W), TILES.name, "truth", {"total": torch.zeros(len(values))})


def true_codes(images: Tensor) -> Inversion:
    """The inverse of the tiles: coordinate 3t + c is what colour c of tile t says."""
    colours = torch.atanh(images[:, :, 4::8, 4::8]) / 0.5  # (n, 3, 2, 2)
    return inversion(colours.flatten(2).transpose(1, 2).flatten(1))


def move(*coordinates: int, by: float = 1.0) -> ReversibleEdit:
    step = torch.zeros(12)
    step[list(coordinates)] = by
    return ReversibleEdit(
        lambda latents: latents.with_values(latents.values + step),
        lambda latents: latents.with_values(latents.values - step),
    )


def codes(n: int) -> Inversion:
    return inversion(0.7 * torch.randn(n, 12, generator=torch.Generator().manual_seed(0)))


def flat(*levels: float) -> Tensor:
    return torch.tensor(levels, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 2, 2)


def test_the_score_by_hand() -> None:
    """Levels 0, 1, 1/2: back 1/2, there 1, home 1/2. Then a perfect cycle, a lost edit, and no edit at all."""
    scores = edit_consistency_score(flat(0, 0, 0, 0), flat(1, 1, 0, 0), flat(0.5, 0, 0.3, 0), root_mean_square)
    assert scores[:3].tolist() == pytest.approx([2 * 0.5 / 1.5, 0, 2])
    assert scores[3].isnan()


def test_a_perfect_inversion_is_perfectly_consistent() -> None:
    edits = {"red": move(0), "green": move(4, by=-0.5)}
    found = edit_consistency(TILES, codes(5), true_codes, edits, root_mean_square)
    assert found.attributes == ("red", "green")
    assert found.scores.shape == (5, 2)
    assert found.scores.abs().max() < 1e-4
    assert found.mean == pytest.approx(0, abs=1e-4)


def test_an_inversion_that_always_answers_the_same_by_hand() -> None:
    """p(x) = 0 for edited pictures, so x_cyc is the picture of -step whatever the photo was."""
    start, step = codes(4), torch.eye(12)[2]

    def grey(images: Tensor) -> Inversion:
        return inversion(torch.zeros(len(images), 12))

    found = edit_consistency(TILES, start, grey, {"blue": move(2)}, root_mean_square)
    x_p, x_edit, x_cyc = (
        TILES.synthesize(Latents(values, W)).images
        for values in (start.latents.values, start.latents.values + step, (-step).repeat(4, 1))
    )
    back, there, home = (
        root_mean_square(x_p, x_cyc),
        root_mean_square(x_p, x_edit),
        root_mean_square(x_edit, x_cyc),
    )
    expected = 2 * back / (there + home)
    assert found.scores[:, 0].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert found.per_attribute == {"blue": pytest.approx(float(expected.mean()))}
    assert (found.scores <= 2).all()


def test_an_inversion_that_loses_the_edit_scores_worse_the_more_it_loses() -> None:
    """Codes shrunk towards grey by a factor: what is undone afterwards is too much."""
    means = []
    for kept in (1.0, 0.8, 0.4):

        def shrunk(images: Tensor, kept: float = kept) -> Inversion:
            return inversion(kept * true_codes(images).latents.values)

        means.append(edit_consistency(TILES, codes(6), shrunk, {"a": move(0), "b": move(7)}, root_mean_square).mean)
    assert means[0] < 1e-4 < means[1] < means[2]


def test_batches_change_nothing_and_bound_what_is_projected() -> None:
    def shrunk(images: Tensor) -> Inversion:
        sizes.append(len(images))
        return inversion(0.7 * true_codes(images).latents.values)

    edits = {"a": move(0), "b": move(5), "c": move(7, 8, by=-1)}
    found: list[Tensor] = []
    for batch, expected in ((1, [1] * 15), (4, [4, 4, 4, 3]), (100, [15])):
        sizes: list[int] = []
        seen: list[tuple[int, int]] = []
        result = edit_consistency(
            TILES,
            codes(5),
            shrunk,
            edits,
            root_mean_square,
            batch=batch,
            progress=lambda done, total, message="", seen=seen: seen.append((done, total)),
        )
        assert sizes == expected
        assert seen[-1] == (15, 15)
        found.append(result.scores)
    assert torch.allclose(found[0], found[1], rtol=1e-5)
    assert torch.allclose(found[0], found[2], rtol=1e-5)
    one = edit_consistency(TILES, codes(5)[2:3], shrunk, {"b": edits["b"]}, root_mean_square)
    assert one.scores[0, 0] == pytest.approx(float(found[0][2, 1]), rel=1e-4)


def test_only_eligible_photos_count() -> None:
    projected: list[int] = []

    def shrunk(images: Tensor) -> Inversion:
        projected.append(len(images))
        return inversion(0.7 * true_codes(images).latents.values)

    edits = {"a": move(0), "b": move(5), "never": move(1)}
    eligible = torch.tensor([[True, False, False], [False, True, False], [True, True, False]])
    found = edit_consistency(TILES, codes(3), shrunk, edits, root_mean_square, eligible=eligible)
    every = edit_consistency(TILES, codes(3), shrunk, edits, root_mean_square)
    assert projected == [4, 9]
    assert torch.equal(~found.scores.isnan(), eligible)
    assert torch.allclose(found.scores[eligible], every.scores[eligible], rtol=1e-5)
    assert found.per_attribute["a"] == pytest.approx(float(every.scores[[0, 2], 0].mean()), rel=1e-5)
    assert math.isnan(found.per_attribute["never"])
    assert found.mean == pytest.approx((found.per_attribute["a"] + found.per_attribute["b"]) / 2)


def test_means_leave_out_what_has_no_score() -> None:
    scores = torch.tensor([[0.5, math.nan], [math.nan, math.nan], [1.0, math.nan]])
    found = EditConsistency(("a", "b"), scores)
    assert found.per_attribute["a"] == 0.75
    assert found.mean == 0.75
    assert math.isnan(EditConsistency(("b",), scores[:, 1:]).mean)


def test_directions_are_undone_by_their_negative() -> None:
    direction = Direction(torch.eye(12)[3], Subspace(W), TILES.name, "tile", "by hand", unit=0.5)
    edit = reversible(TILES, Edit(((direction, 1.0),)), strength=3.0)
    latents = codes(2).latents
    moved = edit.apply(latents)
    assert (moved.values - latents.values)[:, 3].tolist() == pytest.approx([1.5, 1.5])
    assert torch.allclose(edit.undo(moved).values, latents.values, atol=1e-6)


def test_noise_maps_belong_to_the_inversion() -> None:
    """A projection that knows code and noise of each edited picture is perfect; one that forgets the noise is not."""
    generator = tiny_stylegan2()
    latents = generator.sample(3, generator.spaces["w+"], torch.Generator().manual_seed(1))
    maps = {"b16.conv1": 3 * torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(2))}
    start = Inversion(latents, generator.name, "truth", {}, noise=maps)
    step = torch.full([latents.values.shape[1]], 0.2)
    edit = ReversibleEdit(
        lambda some: some.with_values(some.values + step), lambda some: some.with_values(some.values - step)
    )

    def projects(answer: Inversion) -> Callable[[Tensor], Inversion]:
        return lambda images: replace(answer, latents=edit.apply(answer.latents))

    known = edit_consistency(generator, start, projects(start), {"a": edit}, root_mean_square)
    forgotten = edit_consistency(generator, start, projects(replace(start, noise={})), {"a": edit}, root_mean_square)
    assert known.scores.max() < 1e-4 < 1e-2 < forgotten.scores.min()
    later = torch.tensor([[False], [True], [True]])
    some = edit_consistency(generator, start, projects(start[1:]), {"a": edit}, root_mean_square, eligible=later)
    assert some.scores[1:].max() < 1e-4
    noisy = replace(codes(3), noise=maps)
    with pytest.raises(SituError, match="noise"):
        edit_consistency(TILES, noisy, true_codes, {"a": move(0)}, root_mean_square)


def test_pictures_are_clipped_before_they_are_projected() -> None:
    class Bright(TileGenerator):
        def synthesize(self, latents: Latents, features: Sequence[str] = (), **rest: object) -> object:
            made = super().synthesize(latents, features)
            return replace(made, pictures=3 * made.images)

    def looks(images: Tensor) -> Inversion:
        assert images.abs().max() <= 1
        return inversion(torch.zeros(len(images), 12))

    edit_consistency(Bright(rotate=False), codes(3), looks, {"a": move(0)}, root_mean_square)


def test_what_does_not_fit_is_said(unchecked: None) -> None:
    start, edits = codes(2), {"a": move(0)}
    with pytest.raises(SituError, match="0 photos"):
        edit_consistency(TILES, start[:0], true_codes, edits, root_mean_square)
    with pytest.raises(SituError, match="0 edits"):
        edit_consistency(TILES, start, true_codes, {}, root_mean_square)
    eligible = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(SituError, match="2 x 1"):
        edit_consistency(TILES, start, true_codes, edits, root_mean_square, eligible=eligible)
    with pytest.raises(SituError, match="got 1 for 2 pictures"):
        edit_consistency(TILES, start, lambda images: start[:1], edits, root_mean_square)
