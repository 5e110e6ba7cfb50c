"""Directions and edits: whose they are, where they reach, their files, and what strength means."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from situ.core.direction import (
    DIRECTION_FILE,
    Direction,
    Edit,
    calibrate,
    load_direction,
    require_generator,
    solve_distance,
)
from situ.core.errors import DirectionError, FileError, LatentError, SituError
from situ.core.latents import Latents, LatentSpace, Slice, Subspace, parse_subspace
from toys import TileGenerator, mean_square, tiny_stylegan2

TOY = TileGenerator(rotate=False)


def distance_along(
    generator: TileGenerator, direction: Direction, latents: Latents, alpha: torch.Tensor
) -> torch.Tensor:
    moved = latents.with_values(latents.values + alpha[:, None] * direction.subspace.lift(direction.vector))
    return mean_square(generator.synthesize(latents).images, generator.synthesize(moved).images)


def along(i: int, generator: TileGenerator = TOY, **fields: object) -> Direction:
    """Coordinate i of W: moves one colour of tile i // 3."""
    subspace = Subspace(generator.spaces["w"])
    return Direction(torch.eye(12)[i], subspace, generator.name, "tile", "by hand", **fields)


def random_direction(text: str, seed: int = 0, **fields: object) -> Direction:
    """A direction of the tiny StyleGAN2."""
    generator = tiny_stylegan2()
    subspace = parse_subspace(text, generator.spaces)
    vector = torch.randn(subspace.dim, generator=torch.Generator().manual_seed(seed))
    return Direction(vector, subspace, generator.name, "everything", "by hand", **fields)


def zeros(n: int = 1) -> Latents:
    return Latents(torch.zeros(n, 12), TOY.spaces["w"])


# A move of α along one coordinate from 0 changes one colour of 64 of 256 pixels by tanh(α / 2): tanh² / 12 on average.
def alpha_of(distance: float) -> float:
    return 2 * math.atanh(math.sqrt(12 * distance))


def test_a_direction_moves_by_strength_times_unit() -> None:
    moved = along(4, unit=2.5).apply(TOY, zeros(), -3.0)
    assert moved.values.tolist() == [[0, 0, 0, 0, -7.5, 0, 0, 0, 0, 0, 0, 0]]
    rows = along(1, unit=0.5).apply(TOY, zeros(2), torch.tensor([1.0, -2.0]))
    assert rows.values[:, 1].tolist() == [0.5, -1]


def test_a_vector_must_fit_and_be_finite() -> None:
    space = Subspace(TOY.spaces["w"])
    with pytest.raises(DirectionError, match=r"a direction of w has 12 numbers, got shape \(11,\)"):
        Direction(torch.zeros(11), space, "toy", "tile", "by hand")
    for bad in (torch.nan, torch.inf):
        with pytest.raises(DirectionError, match="holds NaN or infinity"):
            Direction(torch.full([12], bad), space, "toy", "tile", "by hand")
    with pytest.raises(DirectionError, match="holds NaN or infinity"):
        along(0, unit=math.nan)


@pytest.mark.parametrize("strength", [math.nan, math.inf, -math.inf])
def test_strengths_are_numbers(strength: float) -> None:
    with pytest.raises(DirectionError, match=f"strength of tile must be a number, got {strength}"):
        Edit(((along(0), strength),))
    with pytest.raises(DirectionError, match="must be a number"):
        Edit(((along(0), 1.0),)) * strength


@pytest.mark.parametrize("strength", [math.nan, torch.tensor([math.nan])], ids=["one", "per row"])
def test_common_strengths_are_numbers(strength: float | torch.Tensor) -> None:
    with pytest.raises(DirectionError, match="must be a finite number"):
        along(0).apply(TOY, zeros(), strength)


def test_terms_of_several_spaces_go_from_the_earliest_on() -> None:
    generator = tiny_stylegan2()
    a, b = random_direction("z", 1), random_direction("w+:2-3", 2)
    z = generator.sample(2, generator.spaces["z"], torch.Generator().manual_seed(3))
    expected = b.apply(generator, a.apply(generator, z, 1.5), -1.0)
    for terms in (((a, 1.5), (b, -1.0)), ((b, -1.0), (a, 1.5))):
        moved = Edit(terms).apply(generator, z)
        assert moved.space == generator.spaces["w+"]
        torch.testing.assert_close(moved.values, expected.values)
    with pytest.raises(LatentError, match="z -> w"):
        a.apply(generator, expected, 1.0)


def test_simplified_merges_equal_directions() -> None:
    a, b = along(0), along(1)
    edit = Edit(((a, 1.0), (b, 2.0), (along(0), 0.5), (b, -2.0)))
    assert [(d.key, s) for d, s in edit.simplified().terms] == [(a.key, 1.5)]


def test_keys_tell_what_is_done() -> None:
    assert along(0).key == along(0, name="other name", seed=3, score=2.0).key
    others = [along(1), along(0, unit=2.0), replace(along(0), generator="other")]
    others.append(replace(along(0), subspace=Subspace(TOY.spaces["z"])))
    assert len({along(0).key, *(other.key for other in others)}) == 5


def test_directions_of_other_weights_need_force() -> None:
    other = TileGenerator(rotate=False, seed=1)
    direction = along(0, other)
    for act in (
        lambda: direction.apply(TOY, zeros(), 1.0),
        lambda: Edit(((along(1), 1.0), (direction, 1.0))).apply(TOY, zeros()),
        lambda: require_generator(direction, TOY),
    ):
        with pytest.raises(DirectionError, match=r"found on tiles-plain-1, this model is tiles-plain-0.*--force"):
            act()
    moved = Edit(((direction, 2.0),)).apply(TOY, zeros(), force=True)
    assert moved.values[0, 0] == 2


def test_force_does_not_help_where_the_spaces_differ() -> None:
    space = LatentSpace("w", (Slice("w", 13),))
    direction = Direction(torch.zeros(13), Subspace(space), "bigger-0", "tile", "by hand")
    for force in (False, True):
        with pytest.raises(DirectionError, match=r"found on bigger-0 and its space w \(13\).*on tiles-plain-0"):
            Edit(((direction, 1.0),)).apply(TOY, zeros(), force=force)


def test_layers_of_a_free_direction() -> None:
    spaces = tiny_stylegan2().spaces
    direction = random_direction("w+:1-4", unit=3.0, name="x", score=2.0, figures={"LS": 0.5})
    narrow = direction.on_layers((0, 2, 3), spaces)
    assert str(narrow.subspace) == "w+:2-3"
    full = direction.subspace.lift(direction.vector).reshape(6, 8)
    expected = torch.zeros(6, 8)
    expected[2:4] = full[2:4]
    assert torch.equal(narrow.subspace.lift(narrow.vector).reshape(6, 8), expected)
    assert (narrow.unit, narrow.name) == (3.0, "x")
    assert math.isnan(narrow.score), "measured on all its layers, not on these"
    assert narrow.figures == {}
    assert (direction.score, direction.figures) == (2.0, {"LS": 0.5})
    with pytest.raises(DirectionError, match=r"the direction x moves w\+:1-4, nothing on layers \[0, 5\]"):
        direction.on_layers((0, 5), spaces)


def test_layers_of_a_tied_direction() -> None:
    direction = random_direction("w:1-4", score=2.0, figures={"LS": 0.5})
    narrow = direction.on_layers((4, 2), tiny_stylegan2().spaces)
    assert str(narrow.subspace) == "w:2,4"
    assert torch.equal(narrow.vector, direction.vector)
    assert math.isnan(narrow.score)
    assert narrow.figures == {}


def test_layers_of_a_direction_of_w() -> None:
    generator = tiny_stylegan2()
    direction = random_direction("w", score=2.0, figures={"LS": 0.5})
    w = generator.sample(2, generator.spaces["w"], torch.Generator().manual_seed(1))
    everywhere = direction.on_layers(tuple(range(6)), generator.spaces)
    assert str(everywhere.subspace) == "w:0-5"
    assert math.isnan(everywhere.score)
    assert everywhere.figures == {}
    expected = generator.convert(direction.apply(generator, w, 2.0), generator.spaces["w+"])
    torch.testing.assert_close(everywhere.apply(generator, w, 2.0).values, expected.values)
    rows = direction.on_layers((5,), generator.spaces).apply(generator, w, 2.0).values.reshape(2, 6, 8)
    base = generator.convert(w, generator.spaces["w+"]).values.reshape(2, 6, 8)
    torch.testing.assert_close(rows[:, :5], base[:, :5])
    torch.testing.assert_close(rows[:, 5], base[:, 5] + 2 * direction.vector)
    with pytest.raises(DirectionError, match="feeds all layers at once"):
        random_direction("z").on_layers((0,), generator.spaces)


def test_files_keep_every_field(tmp_path: Path) -> None:
    direction = random_direction(
        "w:1-4",
        unit=1 / 3,
        score=7.25,
        figures={"LS": 0.5, "random_gain": math.inf},
        name="hair-1",
        seed=2**40,
        truncation=0.7,
        licence="CC0",
    )
    direction.save(tmp_path / "new" / "a.safetensors")
    back = load_direction(tmp_path / "new" / "a.safetensors")
    assert torch.equal(back.vector, direction.vector)
    assert {k: v for k, v in vars(back).items() if k != "vector"} == {
        k: v for k, v in vars(direction).items() if k != "vector"
    }
    assert back.key == direction.key


def test_an_unscored_direction_survives_its_file(tmp_path: Path) -> None:
    along(3).save(tmp_path / "a.safetensors")
    back = load_direction(str(tmp_path / "a.safetensors"))
    assert math.isnan(back.score)
    assert back.seed is None
    assert back.key == along(3).key


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot write .*file/a\.safetensors"):
        along(0).save(tmp_path / "file" / "a.safetensors")


def saved_header(tmp_path: Path, **changes: object) -> Path:
    """A file whose header says something else."""
    content = {
        "format": DIRECTION_FILE.format,
        "name": "",
        "space": {"name": "w", "slices": [["w", 12, ""]]},
        "layers": [0],
        "tied": False,
        "generator": "toy",
        "region": "tile",
        "found_by": "hand",
        "unit": 1.0,
        "score": 0.0,
        "figures": {},
        "seed": None,
        "truncation": 1.0,
        "licence": "",
    }
    content = {key: value for key, value in {**content, **changes}.items() if value != "MISSING"}
    save_file({"vector": torch.zeros(12)}, tmp_path / "a.safetensors", {"situ": json.dumps(content)})
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "situ-direction-9"}, r"holds something else \(situ-direction-9\).*expected a direction file"),
        ({"space": {"name": "w"}}, "cannot be read"),
        ({"space": {"name": "w", "slices": [["w"]]}}, "cannot be read"),
        ({"space": {"name": "w", "slices": [["w", 13, ""]]}}, r"has 13 numbers, got shape \(12,\)"),
        ({"unit": "MISSING"}, "cannot be read"),
        ({"unit": None}, "cannot be read"),
        ({"unit": math.nan}, "holds NaN or infinity"),
        ({"layers": 3}, "cannot be read"),
        ({"seed": "MISSING"}, "cannot be read"),
    ],
)
def test_damaged_headers_are_refused(changes: dict[str, object], message: str, tmp_path: Path, unchecked: None) -> None:
    assert load_direction(saved_header(tmp_path)).region == "tile"
    with pytest.raises(DirectionError, match=message):
        load_direction(saved_header(tmp_path, **changes))


def test_impossible_layers_of_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DirectionError, match=r"a\.safetensors"):
        load_direction(saved_header(tmp_path, layers=[4]))


def test_headers_that_are_no_objects_are_refused(tmp_path: Path) -> None:
    save_file({"vector": torch.zeros(12)}, tmp_path / "a.safetensors", {"situ": "[]"})
    with pytest.raises(DirectionError, match=r"cannot be read|something else"):
        load_direction(tmp_path / "a.safetensors")


def test_files_that_are_no_directions_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "a.safetensors"
    with pytest.raises(DirectionError, match=r"no direction file at .*expected a direction file"):
        load_direction(place)
    with pytest.raises(DirectionError, match="no direction file at"):
        load_direction(tmp_path)
    along(0).save(place)
    whole = place.read_bytes()
    for damaged in (b"", b"hello", whole[:-5], whole[:60], b"\xff" * len(whole)):
        place.write_bytes(damaged)
        with pytest.raises(DirectionError, match=r"cannot be read.*expected a direction file"):
            load_direction(place)
    save_file({"vector": torch.zeros(12)}, place)
    with pytest.raises(DirectionError, match=r"holds something else \(no format\)"):
        load_direction(place)


@pytest.mark.parametrize("n", [1, 3])
def test_calibrated_strength_moves_by_the_wanted_distance(n: int) -> None:
    direction = calibrate(TOY, along(2), zeros(n), mean_square, 0.03)
    assert direction.unit == pytest.approx(alpha_of(0.03), rel=0.01)
    before = TOY.synthesize(zeros(n)).images
    for strength in (1.0, -1.0):
        after = TOY.synthesize(direction.apply(TOY, zeros(n), strength)).images
        torch.testing.assert_close(mean_square(before, after), torch.full([n], 0.03), rtol=0.0101, atol=0)


def test_calibration_averages_codes_and_both_signs(rng: torch.Generator) -> None:
    latents = TOY.sample(8, TOY.spaces["z"], rng)
    direction = calibrate(TOY, along(5, unit=100.0), latents, mean_square, 0.01)
    before = TOY.synthesize(latents).images
    moved = [TOY.synthesize(direction.apply(TOY, latents, s)).images for s in (1.0, -1.0)]
    mean = torch.stack([mean_square(before, after) for after in moved]).mean()
    assert float(mean) == pytest.approx(0.01, rel=0.02)


def test_a_direction_that_does_nothing_cannot_be_calibrated() -> None:
    with pytest.raises(DirectionError, match=r"tile cannot be calibrated.* by 0\.083\d*, the unit distance is 0\.1"):
        calibrate(TOY, along(0), zeros(), mean_square, 0.1)  # 1 / 12 is the most there is


@pytest.mark.parametrize("length", [1e-4, 1e4])
def test_calibration_does_not_care_how_long_the_vector_is(length: float) -> None:
    made = replace(along(0), vector=length * torch.eye(12)[0])
    direction = calibrate(TOY, made, zeros(), mean_square, 0.03, tolerance=1e-3)
    assert direction.unit == pytest.approx(alpha_of(0.03) / length, rel=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("unit", [0.01, 1.0, 50.0])
def test_a_distance_is_solved_on_both_sides(sign: int, unit: float) -> None:
    solution = solve_distance(TOY, along(7, unit=unit), zeros(2), 0.02, mean_square, sign)
    assert solution.reached == (True, True)
    assert solution.alpha.tolist() == pytest.approx([sign * alpha_of(0.02)] * 2, rel=0.02)
    assert solution.distance.tolist() == pytest.approx([0.02] * 2, rel=0.01)
    there = distance_along(TOY, along(7), zeros(2), solution.alpha)
    torch.testing.assert_close(there, solution.distance)


def test_every_code_has_its_own_solution(rng: torch.Generator) -> None:
    latents = TOY.sample(6, TOY.spaces["w"], rng)
    solution = solve_distance(TOY, along(0), latents, 0.01, mean_square, tolerance=0.001)
    assert all(solution.reached)
    assert solution.alpha.unique().numel() >= 4
    there = distance_along(TOY, along(0), latents, solution.alpha)
    assert there.tolist() == pytest.approx([0.01] * 6, rel=0.002)


def test_a_distance_that_cannot_be_reached_is_reported() -> None:
    far = Latents(torch.tensor([[0.0] * 12, [8.0] + [0.0] * 11]), TOY.spaces["w"])  # the second is nearly saturated
    solution = solve_distance(TOY, along(0), far, 0.05, mean_square, 1)
    assert solution.reached == (True, False)
    assert solution.alpha[0] == pytest.approx(alpha_of(0.05), rel=0.02)
    assert solution.distance[1] < 1e-3
    assert solution.alpha[1].isfinite()
    back = solve_distance(TOY, along(0), far, 0.05, mean_square, -1)
    assert back.reached == (True, True)
    nowhere = solve_distance(TOY, along(0), zeros(), 1.0, mean_square)
    assert nowhere.reached == (False,)
    assert nowhere.distance[0] == pytest.approx(1 / 12, rel=1e-3)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_distances_are_positive_numbers(target: float) -> None:
    with pytest.raises(DirectionError, match="positive number, got"):
        solve_distance(TOY, along(0), zeros(), target, mean_square)


def test_every_refusal_is_an_error_of_ours() -> None:
    assert issubclass(DirectionError, SituError)


def test_a_direction_of_w_moves_every_row_of_codes_of_w_plus() -> None:
    gan = tiny_stylegan2()
    codes = gan.sample(2, gan.spaces["w"], torch.Generator().manual_seed(0))
    direction = Direction(torch.eye(8)[1], Subspace(gan.spaces["w"]), gan.name, "everything", "drawn", unit=0.5)
    one = direction.apply(gan, codes, 2.0)
    many = direction.apply(gan, gan.convert(codes, gan.spaces["w+"]), 2.0)
    assert many.space.name == "w+"
    torch.testing.assert_close(many.values, gan.convert(one, gan.spaces["w+"]).values)
    with pytest.raises(LatentError, match="no unique code in w"):
        direction.apply(gan, gan.convert(codes, gan.spaces["s"]), 1.0)
