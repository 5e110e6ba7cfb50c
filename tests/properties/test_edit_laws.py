"""The algebra of edits: within one space they are vectors, whatever the directions, strengths and codes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from situ.core.direction import Direction, Edit
from situ.core.latents import Latents, parse_subspace
from toys import tiny_stylegan2

GENERATOR = tiny_stylegan2()
SPACES = ("w+", "w+:1-3", "w:2-5", "w:0-5", "w+:5")  # all move codes of W+

strengths = st.floats(-5, 5, allow_nan=False, width=32)
seeds = st.integers(0, 2**20)
# (subspace, seed of the vector, strength, unit) of every term
terms = st.lists(st.tuples(st.sampled_from(SPACES), seeds, strengths, st.sampled_from([0.5, 1.0, 3.0])), max_size=4)
light = settings(deadline=None, max_examples=20)


def edit_of(drawn: list[tuple[str, int, float, float]]) -> Edit:
    made = []
    for text, seed, strength, unit in drawn:
        subspace = parse_subspace(text, GENERATOR.spaces)
        vector = torch.randn(subspace.dim, generator=torch.Generator().manual_seed(seed))
        made.append((Direction(vector, subspace, GENERATOR.name, "all", "drawn", unit=unit), strength))
    return Edit(tuple(made))


def codes(seed: int) -> Latents:
    return GENERATOR.sample(2, GENERATOR.spaces["w+"], torch.Generator().manual_seed(seed))


def same(a: Latents, b: Latents) -> None:
    assert a.space == b.space
    torch.testing.assert_close(a.values, b.values, rtol=1e-4, atol=1e-4)


@light
@given(terms, terms, seeds)
def test_a_sum_is_one_after_the_other(a_terms: list, b_terms: list, seed: int) -> None:
    a, b, w = edit_of(a_terms), edit_of(b_terms), codes(seed)
    same((a + b).apply(GENERATOR, w), b.apply(GENERATOR, a.apply(GENERATOR, w)))
    same((a + b).apply(GENERATOR, w), (b + a).apply(GENERATOR, w))


@light
@given(terms, seeds)
def test_a_difference_with_itself_does_nothing_at_all(drawn: list, seed: int) -> None:
    a, w = edit_of(drawn), codes(seed)
    assert (a - a).simplified().terms == ()
    assert torch.equal((a - a).apply(GENERATOR, w).values, w.values)


@light
@given(terms, seeds)
def test_negation_undoes(drawn: list, seed: int) -> None:
    a, w = edit_of(drawn), codes(seed)
    same((-a).apply(GENERATOR, a.apply(GENERATOR, w)), w)
    opposite = -a
    assert (-opposite).terms == a.terms


@light
@given(terms, strengths, strengths, seeds)
def test_scaling(drawn: list, factor: float, other: float, seed: int) -> None:
    a, w = edit_of(drawn), codes(seed)
    same((factor * a).apply(GENERATOR, w), (a * factor).apply(GENERATOR, w))
    same((factor * a).apply(GENERATOR, w), a.apply(GENERATOR, w, factor))
    moved = (a * factor).apply(GENERATOR, w).values - w.values
    single = a.apply(GENERATOR, w).values - w.values
    torch.testing.assert_close(moved, factor * single, rtol=1e-3, atol=1e-3)
    rows = a.apply(GENERATOR, w, torch.tensor([factor, other]))
    same(rows[:1], a.apply(GENERATOR, w[:1], factor))
    same(rows[1:], a.apply(GENERATOR, w[1:], other))


@light
@given(terms, seeds)
def test_merging_equal_directions_changes_nothing(drawn: list, seed: int) -> None:
    a, w = edit_of(drawn), codes(seed)
    same((a + a).apply(GENERATOR, w), (2.0 * a).apply(GENERATOR, w))
    assert len((a + a).simplified().terms) == len(a.simplified().terms)


@light
@given(terms, seeds)
def test_nothing_outside_the_layers_moves(drawn: list, seed: int) -> None:
    a, w = edit_of(drawn), codes(seed)
    touched = {i for direction, _ in a.terms for i in direction.subspace.chosen}
    change = (a.apply(GENERATOR, w).values - w.values).reshape(2, 6, 8)
    for row in set(range(6)) - touched:
        assert torch.equal(change[:, row], torch.zeros(2, 8))
