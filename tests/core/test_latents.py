"""Latents and subspaces: the algebra of lift and restrict, the texts that name them, and their files."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from situ.core.errors import LatentError
from situ.core.latents import (
    LATENTS_FILE,
    Latents,
    LatentSpace,
    Slice,
    Subspace,
    load_latents,
    parse_layers,
    parse_subspace,
    save_latents,
)

W = LatentSpace("w", (Slice("w", 3),))
WIDE = LatentSpace("w+", tuple(Slice(f"row{i}", 3) for i in range(5)))
S = LatentSpace("s", (Slice("b4.conv1", 4, "conv"), Slice("b4.torgb", 4, "rgb"), Slice("b8.conv0", 2, "conv")))
SPACES = {"w": W, "w+": WIDE, "s": S}


def test_coordinates_lift_back() -> None:
    space = LatentSpace("w+", tuple(Slice(f"l{i}", 3) for i in range(4)))
    u = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    tied = Subspace(space, (1, 3), tied=True)
    torch.testing.assert_close(tied.coordinates(tied.lift(u)), u)
    free = Subspace(space, (0, 2))
    both = torch.cat([u, -u], dim=1)
    torch.testing.assert_close(free.coordinates(free.lift(both)), both)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 31), st.integers(0, 1000))
def test_restrict_is_the_transpose_of_lift(sizes: list[int], bits: int, seed: int) -> None:
    space = LatentSpace("any", tuple(Slice(str(i), size) for i, size in enumerate(sizes)))
    layers = tuple(i for i in range(len(sizes)) if bits >> i & 1) or (0,)
    rng = torch.Generator().manual_seed(seed)
    for tied in {False, len({sizes[i] for i in layers}) == 1}:
        subspace = Subspace(space, layers, tied)
        u = torch.randn(2, subspace.dim, generator=rng, dtype=torch.float64)
        v = torch.randn(2, space.dim, generator=rng, dtype=torch.float64)
        torch.testing.assert_close((subspace.lift(u) * v).sum(1), (u * subspace.restrict(v)).sum(1))
        copies = len(layers) if tied else 1
        torch.testing.assert_close(subspace.restrict(subspace.lift(u)), copies * u)


def test_free_lift_puts_each_slice_in_its_place() -> None:
    subspace = Subspace(S, (0, 2))
    assert subspace.dim == 6
    lifted = subspace.lift(torch.tensor([1.0, 2, 3, 4, 5, 6]))
    assert lifted.tolist() == [1, 2, 3, 4, 0, 0, 0, 0, 5, 6]


def test_tied_lift_repeats_one_vector() -> None:
    subspace = Subspace(WIDE, (3, 1), tied=True)
    assert (subspace.dim, subspace.chosen) == (3, (1, 3))
    assert subspace.lift(torch.tensor([[1.0, 2, 3]])).tolist() == [[0, 0, 0, 1, 2, 3, 0, 0, 0, 1, 2, 3, 0, 0, 0]]


def test_a_space_knows_its_size_and_offsets() -> None:
    assert (S.dim, S.offsets) == (10, (0, 4, 8, 10))
    assert [part.tolist() for part in S.split(torch.arange(10.0))] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize(
    ("layers", "tied", "message"),
    [
        ((5,), False, r"layers of w\+ run from 0 to 4 without repeats, got \[5\]"),
        ((-1,), False, "run from 0 to 4"),
        ((1, 1), False, r"without repeats, got \[1, 1\]"),
        ((), False, "at least one layer"),
    ],
)
def test_impossible_layers_are_refused(layers: tuple[int, ...], tied: bool, message: str) -> None:
    with pytest.raises(LatentError, match=message):
        Subspace(WIDE, layers, tied)


def test_tied_layers_are_of_one_width() -> None:
    assert Subspace(S, (0, 1), tied=True).dim == 4
    with pytest.raises(LatentError, match="one width"):
        Subspace(S, (0, 2), tied=True)


def test_lift_refuses_another_length() -> None:
    with pytest.raises(LatentError, match=r"w\+:1 has 3 free coordinates, got a vector of 4"):
        Subspace(WIDE, (1,)).lift(torch.zeros(4))


@pytest.mark.parametrize(
    ("text", "space", "layers", "tied", "dim", "shown"),
    [
        ("w", W, (0,), False, 3, "w"),
        ("w+", WIDE, (0, 1, 2, 3, 4), False, 15, "w+"),
        ("W+:1-3", WIDE, (1, 2, 3), False, 9, "w+:1-3"),
        ("w:1-3", WIDE, (1, 2, 3), True, 3, "w:1-3"),
        ("w:0-4", WIDE, (0, 1, 2, 3, 4), True, 3, "w:0-4"),
        ("w+:4,0-1", WIDE, (0, 1, 4), False, 9, "w+:0-1,4"),
        ("s:conv", S, (0, 2), False, 6, "s:conv"),
        ("s:rgb", S, (1,), False, 4, "s:rgb"),
        ("s:2", S, (2,), False, 2, "s:2"),
        ("s:0-1", S, (0, 1), False, 8, "s:0-1"),
    ],
)
def test_subspace_texts(
    text: str, space: LatentSpace, layers: tuple[int, ...], tied: bool, dim: int, shown: str
) -> None:
    subspace = parse_subspace(text, SPACES)
    assert (subspace.space, subspace.chosen, subspace.tied, subspace.dim) == (space, layers, tied, dim)
    assert str(subspace) == shown
    assert parse_subspace(shown, SPACES) == subspace


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", r'spaces of this generator are w, w\+, s, got "x"'),
        ("", "spaces of this generator"),
        ("w+:1-9", "run from 0 to 4"),
        ("w+:3-1", "at least one layer"),
        ("w+:one", r'written like "4-7".*got "one"'),
        ("s:rgb2", r'or one of conv, rgb, got "rgb2"'),
        ("w+:1,1", "without repeats"),
        ("w+:1-", "written like"),
        ("w+:-1", "written like"),
    ],
)
def test_bad_subspace_texts(text: str, message: str) -> None:
    with pytest.raises(LatentError, match=message):
        parse_subspace(text, SPACES)


def test_a_range_far_too_long_is_refused_briefly() -> None:
    with pytest.raises(LatentError) as refusal:
        parse_layers("0-99999", WIDE)
    assert len(str(refusal.value)) < 300


def test_layer_texts_may_have_blanks() -> None:
    assert parse_layers(" 0, 2-3 ", WIDE) == (0, 2, 3)


def test_latents_must_fit_their_space(unchecked: None) -> None:
    with pytest.raises(LatentError, match=r"latents of w have shape \(n, 3\), got \(2, 4\)"):
        Latents(torch.zeros(2, 4), W)
    with pytest.raises(LatentError, match="2 latents need as many labels, got 1"):
        Latents(torch.zeros(2, 3), W, torch.zeros(1, 5))


def test_rows_keep_their_labels() -> None:
    latents = Latents(torch.arange(6.0).reshape(2, 3), W, torch.eye(2), 0.5)
    assert len(latents.repeat(3)) == 6
    assert latents.repeat(2).values[:, 0].tolist() == [0, 3, 0, 3]
    assert latents.repeat(2).labels is not None
    assert latents.repeat(2).labels.argmax(1).tolist() == [0, 1, 0, 1]
    last = latents[1:]
    assert (last.values.tolist(), last.truncation) == ([[3, 4, 5]], 0.5)
    assert last.labels is not None
    assert last.labels.tolist() == [[0, 1]]


def test_rows_that_are_not_finite_are_named() -> None:
    values = torch.zeros(4, 3)
    values[1, 0], values[3, 2] = torch.nan, torch.inf
    with pytest.raises(LatentError, match=r"rows \[1, 3\] hold NaN or infinity"):
        Latents(values, W).require_finite()
    assert len(Latents(values[:1], W).require_finite()) == 1


@pytest.mark.parametrize("labels", [None, torch.eye(2)])
def test_files_keep_everything(labels: torch.Tensor | None, tmp_path: Path) -> None:
    latents = Latents(torch.randn(2, 10, dtype=torch.float64), S, labels, 0.7)
    save_latents(latents, tmp_path / "new" / "codes.safetensors", "toy")
    back = load_latents(tmp_path / "new" / "codes.safetensors")
    assert torch.equal(back.values, latents.values)
    assert (back.space, back.truncation) == (S, 0.7)
    assert back.labels is None if labels is None else torch.equal(back.labels, labels)


def test_codes_of_another_generator_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "codes.safetensors"
    save_latents(Latents(torch.ones(2, 3), W), place, "toy")
    for generator in (None, "toy"):
        assert torch.equal(load_latents(place, generator).values, torch.ones(2, 3))
    with pytest.raises(LatentError, match=r"codes\.safetensors holds codes of toy, this model is tiles"):
        load_latents(place, "tiles")


def test_files_that_are_no_latents_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "codes.safetensors"
    with pytest.raises(LatentError, match=r"no latents file at .*expected a latents file"):
        load_latents(place)
    with pytest.raises(LatentError, match="no latents file"):
        load_latents(tmp_path)
    place.write_bytes(b"not safetensors at all")
    with pytest.raises(LatentError, match=r"cannot be read.*expected a latents file"):
        load_latents(place)
    save_file({"values": torch.zeros(1, 3)}, place)
    with pytest.raises(LatentError, match=r"holds something else \(no format\)"):
        load_latents(place)
    save_file({"values": torch.zeros(1, 3)}, place, {"situ": json.dumps({"format": "situ-direction-1"})})
    with pytest.raises(LatentError, match=r"holds something else \(situ-direction-1\)"):
        load_latents(place)


def header(**changes: object) -> dict[str, str]:
    content = {"format": LATENTS_FILE.format, "space": {"name": "w", "slices": [["w", 3, ""]]}, "generator": "toy"}
    return {"situ": json.dumps({**content, "truncation": 1.0, **changes})}


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "codes.safetensors"
    save_latents(Latents(torch.zeros(5, 3), W), place, "toy")
    place.write_bytes(place.read_bytes()[:-7])
    with pytest.raises(LatentError, match="cannot be read"):
        load_latents(place)
    save_file({"other": torch.zeros(1, 3)}, place, header())
    with pytest.raises(LatentError, match="KeyError"):
        load_latents(place)
    save_file({"values": torch.zeros(1, 3)}, place, header(space={"name": "w"}))
    with pytest.raises(LatentError, match="KeyError"):
        load_latents(place)
    save_file({"values": torch.zeros(1, 4)}, place, header())
    with pytest.raises(LatentError, match=r"shape \(n, 3\), got \(1, 4\)"):
        load_latents(place)
    save_file({"values": torch.full([2, 3], torch.nan)}, place, header())
    with pytest.raises(LatentError, match=r"rows \[0, 1\] hold NaN"):
        load_latents(place)
