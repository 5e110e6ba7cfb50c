"""Measuring edits: numbers worked out by hand on tiny pictures."""

import pytest
import torch

from situ.core.direction import Direction, Edit
from situ.core.errors import DirectionError
from situ.core.latents import Latents, Subspace
from situ.core.measurement import EditedImages, Metric, edited_images, mean_under, measure, region_gain, squared_change
from situ.core.region import Box, Part
from situ.metrics.locality import ChangeInside, InsideShare, LocalizationScore
from toys import TILES, TileGenerator, TileSegmenter, tiny_stylegan2

TOY = TileGenerator(rotate=False)


def coordinate(i: int, unit: float = 1.0) -> Direction:
    return Direction(torch.eye(12)[i], Subspace(TOY.spaces["w"]), TOY.name, "tile", "by hand", unit=unit)


def zeros(n: int = 1) -> Latents:
    return Latents(torch.zeros(n, 12), TOY.spaces["w"])


def edited(after: list[list[float]], mask: list[list[float]]) -> EditedImages:
    """Grey pictures that were black (0) before."""
    grey = torch.tensor(after)[None, None].expand(1, 3, -1, -1)
    return EditedImages(torch.zeros_like(grey), grey, torch.tensor(mask)[None, None])


def test_the_change_is_the_mean_square_over_rgb_of_what_can_be_seen() -> None:
    before = torch.tensor([0.0, 0.5, 5.0]).reshape(1, 3, 1, 1)
    after = torch.tensor([0.5, -0.5, 9.0]).reshape(1, 3, 1, 1)  # 5 and 9 are both white
    assert squared_change(EditedImages(before, after, torch.ones(1, 1, 1, 1))).item() == pytest.approx(1.25 / 3)


def test_means_under_a_weight() -> None:
    change = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    weight = torch.tensor([[1.0, 0.0], [0.5, 0.0]])[None, None]
    assert mean_under(change, weight).tolist() == pytest.approx([(1 + 1.5) / 1.5])
    assert mean_under(change, torch.zeros(1, 1, 2, 2)).tolist() == [0]


def test_region_gain_is_inside_over_outside() -> None:
    one = edited([[0.8, 0.2], [0.1, 0.1]], [[1.0, 0.0], [0.0, 0.0]])  # 0.64 inside, (0.04 + 0.01 + 0.01) / 3 outside
    assert region_gain([one]) == pytest.approx(0.64 / 0.02)
    two = edited([[0.4, 0.2], [0.2, 0.2]], [[1.0, 0.0], [0.0, 0.0]])  # 0.16 inside, 0.04 outside
    assert region_gain([one, two]) == pytest.approx((0.64 + 0.16) / (0.02 + 0.04))


def test_an_edit_of_one_tile(rng: torch.Generator) -> None:
    region = Part(TileSegmenter(), (TILES[2],))
    run = edited_images(TOY, coordinate(7, unit=2.0), region, zeros(2), strength=-1.0)
    assert (run.before == 0).all()
    assert run.after[0, 1, 8, 0].item() == pytest.approx(-0.76159416)  # tanh(1)
    assert (run.after != 0).sum() == 2 * 64
    assert run.mask.shape == (2, 1, 16, 16)
    assert run.mask[0, 0, 8:, :8].min() == 1
    assert run.mask[0].sum() == 64
    assert run.localization is not None
    assert run.localization.tolist() == [[1, 1]]


def test_the_mask_is_the_union_before_and_after() -> None:
    class Bright:
        """What is brighter than grey."""

        name = "bright"
        layers = ()

        def mask(self, synthesis: object) -> torch.Tensor:
            return (synthesis.images[:, :1] > 0).float()  # pyright: ignore[reportAttributeAccessIssue]

    latents = Latents(torch.eye(12)[:1], TOY.spaces["w"])  # tile 0 bright
    edit = Edit(((coordinate(0), -2.0), (coordinate(3), 1.0)))  # then tile 1 bright
    run = edited_images(TOY, edit, Bright(), latents)
    assert run.mask[0, 0].sum() == 128
    assert run.mask[0, 0, :8].min() == 1
    # LS takes the average mask: half of the change of each tile, 4 and 1, falls inside
    assert run.localization is not None
    assert run.localization.tolist() == [[0.5]]


def test_measure_has_a_row_per_strength() -> None:
    region = Part(TileSegmenter(), (TILES[0],))
    edit = Edit(((coordinate(0), 1.0), (coordinate(3), 2.0)))  # tile 0 by 1, tile 1 by 2
    strengths = (1.0, -1.0, 0.5, 0.0)
    found = measure(TOY, edit, region, zeros(3), [LocalizationScore(), ChangeInside(), InsideShare(0)], strengths)
    assert set(found) == {"LS", "mse_inside", "inside"}
    assert {tuple(values.shape) for values in found.values()} == {(4, 3)}
    assert found["LS"][:, 0].tolist() == pytest.approx([0.2, 0.2, 0.2, 0])
    # tanh(0.5)² / 3, twice, and tanh(0.25)² / 3
    assert found["mse_inside"][:, 2].tolist() == pytest.approx([0.07118409, 0.07118409, 0.01999505, 0], abs=1e-7)
    # 0.2135523 / (0.2135523 + tanh(1)² = 0.5800257)
    assert found["inside"][0, 0].item() == pytest.approx(0.269101, abs=1e-5)


def test_only_layers_that_the_edit_can_change_count() -> None:
    made = tiny_stylegan2()
    latents = made.sample(2, made.spaces["z"], torch.Generator().manual_seed(0))
    subspace = Subspace(
        made.spaces["w+"], (3, 4)
    )  # b16.conv0 on, of b4.conv1, b8.conv0, b8.conv1, b16.conv0, b16.conv1
    direction = Direction(torch.ones(16), subspace, made.name, "box", "by hand")
    region = Box(8, 8, 8, 8)
    run = edited_images(made, direction, region, latents)
    assert run.localization is not None
    assert run.localization.shape == (2, 2)
    names = [layer.name for layer in made.layers]
    shared = edited_images(made, direction, region, latents, before=made.synthesize(latents, names))
    assert shared.localization is not None
    torch.testing.assert_close(shared.localization, run.localization)
    torch.testing.assert_close(shared.after, run.after)


def test_metrics_of_other_weights_need_force() -> None:
    foreign = Direction(torch.eye(12)[0], Subspace(TOY.spaces["w"]), "other", "tile", "by hand")
    with pytest.raises(DirectionError, match="--force"):
        measure(TOY, foreign, Box(8, 8, 4, 4), zeros(), [ChangeInside()])
    assert measure(TOY, foreign, Box(4, 4, 4, 4), zeros(), [ChangeInside()], force=True)["mse_inside"].shape == (2, 1)


def test_metrics_keep_the_contract() -> None:
    assert isinstance(ChangeInside(), Metric)
