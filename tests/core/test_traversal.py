"""Grids of pictures equal the pictures made one by one."""

import pytest
import torch

from situ.core.direction import Direction, Edit
from situ.core.errors import DirectionError
from situ.core.latents import Latents, parse_subspace
from situ.core.traversal import palette, sweep, sweep_distances, synthesize_edits
from toys import TileGenerator, mean_square, tiny_stylegan2

GAN = tiny_stylegan2()
TOY = TileGenerator(rotate=False)


def direction(text: str, seed: int = 0) -> Direction:
    subspace = parse_subspace(text, GAN.spaces)
    vector = torch.randn(subspace.dim, generator=torch.Generator().manual_seed(seed))
    return Direction(vector, subspace, GAN.name, "all", "drawn", unit=0.5, name=text)


def codes(n: int = 2, space: str = "z") -> Latents:
    return GAN.sample(n, GAN.spaces[space], torch.Generator().manual_seed(0), 0.7)


def pictures(latents: Latents, edit: Edit) -> torch.Tensor:
    return GAN.synthesize(edit.apply(GAN, latents)).images


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_edits_give_the_pictures_made_one_by_one(batch: int) -> None:
    a, b, c = direction("w+:3-5", 1), direction("w:4-5", 2), direction("s:6", 3)
    edits = [Edit(), Edit(((a, 1.0),)), Edit(((a, -2.0), (b, 1.0))), Edit(((c, 3.0),)), Edit(((b, 1.0), (c, 1.0)))]
    grid = synthesize_edits(GAN, codes(), edits, batch=batch)
    assert grid.shape == (2, 5, 3, 16, 16)
    for j, edit in enumerate(edits):
        torch.testing.assert_close(grid[:, j], pictures(codes(), edit))
    assert not torch.allclose(grid[:, 0], grid[:, 1])


def test_only_an_empty_edit() -> None:
    grid = synthesize_edits(GAN, codes(), [Edit()])
    torch.testing.assert_close(grid[:, 0], GAN.synthesize(codes()).images)


def test_layers_below_the_edit_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny_stylegan2()
    ran: list[int] = []
    step = made.network.step
    monkeypatch.setattr(made.network, "step", lambda i, *rest: (ran.append(i), step(i, *rest))[1])
    sweep(made, direction("s:6"), codes(1), [1.0, 2.0, 3.0])
    assert ran == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_sweep_has_a_column_per_strength() -> None:
    a = direction("w")
    grid = sweep(GAN, a, codes(3), [-2.0, 0.0, 1.5])
    torch.testing.assert_close(grid[:, 1], GAN.synthesize(codes(3)).images)
    for j, strength in ((0, -2.0), (2, 1.5)):
        torch.testing.assert_close(grid[:, j], pictures(codes(3), Edit(((a, strength),))))


def test_a_palette_has_columns_across_and_rows_down() -> None:
    a, b = direction("w+:0-2", 1), direction("s:7", 2)
    steps = [-1.0, 0.0, 2.0]
    grid = palette(GAN, a, b, codes(2), steps, scales=(0.5, 3.0))
    assert grid.shape == (3, 3, 3, 16, 16)
    for i, down in enumerate(steps):
        for j, across in enumerate(steps):
            expected = pictures(codes(2)[:1], Edit(((a, 0.5 * across), (b, 3.0 * down))))[0]
            torch.testing.assert_close(grid[i, j], expected)


def test_equal_distances() -> None:
    move = Direction(torch.eye(12)[0], parse_subspace("w", TOY.spaces), TOY.name, "tile", "by hand")
    latents = TOY.sample(2, TOY.spaces["z"], torch.Generator().manual_seed(1))
    grid, alphas, reached = sweep_distances(TOY, move, latents, [-0.01, 0.0, 0.01, 0.5], mean_square)
    assert grid.shape == (2, 4, 3, 16, 16)
    assert reached == [[True, True, True, False]] * 2
    before = TOY.synthesize(latents).images
    torch.testing.assert_close(grid[:, 1], before)
    for j in (0, 2):
        assert mean_square(before, grid[:, j]).tolist() == pytest.approx([0.01] * 2, rel=0.02)
    assert (alphas[:, 0] < 0).all()
    assert (alphas[:, 2] > 0).all()
    assert alphas[:, 1].tolist() == [0, 0]
    i, j = 1, 2
    moved = latents.values[i] + alphas[i, j] * torch.eye(12)[0]
    torch.testing.assert_close(grid[i, j], TOY.synthesize(Latents(moved[None], TOY.spaces["w"])).images[0])


def test_other_weights_need_force() -> None:
    foreign = Direction(
        direction("w").vector, direction("w").subspace, tiny_stylegan2(seed=1).name, "all", "drawn", name="foreign"
    )
    with pytest.raises(DirectionError, match="foreign was found on"):
        sweep(GAN, foreign, codes(1), [1.0])
    with pytest.raises(DirectionError, match="foreign was found on"):
        palette(GAN, direction("w"), foreign, codes(1), [1.0])
    assert sweep(GAN, foreign, codes(1), [1.0], force=True).shape == (1, 1, 3, 16, 16)


def test_equal_distances_of_other_weights_are_refused() -> None:
    other = TileGenerator(rotate=False, seed=1)
    move = Direction(torch.eye(12)[0], parse_subspace("w", other.spaces), other.name, "tile", "by hand")
    latents = TOY.sample(1, TOY.spaces["z"], torch.Generator().manual_seed(1))
    with pytest.raises(DirectionError, match="was found on tiles-plain-1"):
        sweep_distances(TOY, move, latents, [0.01], mean_square)


def test_a_direction_of_a_deeper_generator_is_refused() -> None:
    deeper = tiny_stylegan2(resolution=32)
    subspace = parse_subspace("w+:7", deeper.spaces)
    with pytest.raises(DirectionError, match="does not exist on"):
        sweep(GAN, Direction(torch.ones(8), subspace, deeper.name, "all", "drawn"), codes(1), [1.0])
