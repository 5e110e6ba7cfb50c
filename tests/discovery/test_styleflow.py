import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from situ.core.errors import SituError
from situ.core.latents import Latents
from situ.core.region import Part
from situ.discovery.styleflow import StyleFlow
from toys import TILES, TileGenerator, TileSegmenter, tiny_stylegan2
from toys_styles import BrightnessClassifier, ConstantClassifier

READER = BrightnessClassifier()
SHORT = {"samples": 1000, "steps": 40, "batch": 64, "lr": 2e-2, "hidden": (32,)}


def sampled(generator, n=64, seed=7):
    return generator.sample(n, generator.spaces["w"], torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def fitted():
    return StyleFlow(READER, **SHORT).fit(TileGenerator(True), torch.Generator().manual_seed(0))


def test_an_edit_moves_its_attribute_and_no_other(fitted):
    latents = sampled(fitted.generator)
    old = fitted.classify(latents)
    for column, tile in enumerate(TILES):
        low, high = (fitted.classify(fitted.edit(latents, tile, target)) for target in (0.0, 1.0))
        assert (high - low)[:, column].mean() > 0.6
        others = [i for i in range(4) if i != column]
        assert (high - old)[:, others].abs().mean() < 0.12
        # a target between lies between
        middle = fitted.classify(fitted.edit(latents, tile, 0.5))[:, column].mean()
        assert low[:, column].mean() < middle < high[:, column].mean()


def test_the_flow_knows_more_than_a_normal_distribution(fitted):
    assert len(fitted.history) == SHORT["steps"]
    assert sum(fitted.history[-10:]) / 10 > 0.1
    assert abs(fitted.history[0]) < 0.05  # it starts as nearly the identity


def test_codes_become_standard_normal_whatever_their_attributes(fitted):
    latents = sampled(fitted.generator, 800)
    old = fitted.classify(latents)
    z = fitted.flow.transform(fitted.standardised(old))((latents.values - fitted.centre) @ fitted.whiten)
    assert z.mean(dim=0).abs().max() < 0.25
    assert (z.std(dim=0) - 1).abs().max() < 0.25
    for tile in range(4):
        bright = z[old[:, tile] > 0.7].mean(dim=0) - z[old[:, tile] < 0.3].mean(dim=0)
        plain = (latents.values[old[:, tile] > 0.7].mean(dim=0) - latents.values[old[:, tile] < 0.3].mean(dim=0)).norm()
        assert bright.norm() < 0.4 * plain


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_there_and_back_again_is_the_identity(fitted, seed):
    codes = sampled(fitted.generator, 8, seed).values
    rng = torch.Generator().manual_seed(seed)
    old, new = torch.rand(2, 8, 4, generator=rng)
    there = fitted.transport(codes, old, new)
    torch.testing.assert_close(fitted.transport(there, new, old), codes, atol=2e-3, rtol=0)
    torch.testing.assert_close(fitted.transport(codes, old, old), codes, atol=2e-3, rtol=0)


def test_edits_are_of_each_row_alone(fitted):
    latents = sampled(fitted.generator, 6)
    together = fitted.edit(latents, TILES[0], 1.0).values
    alone = torch.cat([fitted.edit(latents[i : i + 1], TILES[0], 1.0).values for i in range(6)])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)


def test_codes_with_rows_of_their_own_have_each_row_carried(rng):
    generator = tiny_stylegan2()
    reader = BrightnessClassifier()
    fitted = StyleFlow(reader, samples=64, steps=2, batch=16, hidden=(8,)).fit(generator, rng)
    codes = sampled(generator, 3)
    wide = generator.convert(codes, generator.spaces["w+"])
    alike = fitted.edit(codes, TILES[0], 0.9)
    moved = fitted.edit(wide, TILES[0], 0.9)
    assert moved.space == wide.space
    torch.testing.assert_close(moved.values, generator.convert(alike, wide.space).values, rtol=1e-3, atol=1e-3)
    assert (moved.values - wide.values).abs().max() > 1e-4


@pytest.mark.parametrize("rotate", [False, True], ids=["axis-aligned", "rotated"])
def test_find_sums_edits_up_as_the_true_directions(rotate, rng):
    generator = TileGenerator(rotate)
    regions = [Part(TileSegmenter(), (tile,)) for tile in TILES[:2]]
    found = StyleFlow(READER, **SHORT).find(generator, regions, rng)
    assert len(found) == 2
    assert [d.name for d in found[0]] == [d.name for d in found[1]]
    assert sorted(d.name for d in found[0]) == sorted(TILES)
    assert [d.region for d in found[1]] == [TILES[1]] * 4
    for d in found[0]:
        truth = READER.truth(generator, TILES.index(d.name))
        assert truth @ d.vector > 0.95
        assert d.figures["explained"] > 0.8
        assert d.figures["change"] > 0.6
        assert d.figures["others"] < 0.15
        assert d.unit > 0.5
    changes = [d.figures["change"] for d in found[0]]
    assert changes == sorted(changes, reverse=True)


def test_named_attributes_alone_are_returned(rng):
    method = StyleFlow(READER, attributes=(TILES[2],), **(SHORT | {"steps": 3}))
    ((d,),) = method.find(TileGenerator(True), [Part(TileSegmenter(), (TILES[2],))], rng)
    assert d.name == TILES[2]


def test_a_layer_range_moves_these_rows_alone(rng):
    generator = tiny_stylegan2()
    method = StyleFlow(READER, space="w:1-2", **(SHORT | {"samples": 64, "steps": 3}))
    fitted = method.fit(generator, rng)
    w = sampled(generator, 1000).values
    torch.testing.assert_close(fitted.centre, w.mean(dim=0), atol=0.6 * float(w.std(dim=0).max()), rtol=0)
    latents = generator.convert(sampled(generator, 4), generator.spaces["w+"])
    change = (fitted.edit(latents, TILES[0], 1.0).values - latents.values).reshape(4, 6, 8)
    assert change[:, [0, 3, 4, 5]].abs().max() == 0
    torch.testing.assert_close(change[:, 1], change[:, 2])
    assert change[:, 1].norm(dim=1).min() > 0


def test_the_same_seed_gives_the_same_flow_and_leaves_the_global_one():
    def run(noise):
        torch.manual_seed(noise)
        before = torch.random.get_rng_state()
        method = StyleFlow(READER, **(SHORT | {"steps": 5}))
        fitted = method.fit(TileGenerator(True), torch.Generator().manual_seed(3))
        assert torch.equal(torch.random.get_rng_state(), before)
        return fitted.edit(sampled(fitted.generator, 4), TILES[1], 1.0).values

    assert torch.equal(run(1), run(2))


def test_ctrl_c_keeps_what_is_trained(rng):
    def stop(done, total, message=""):
        if done == SHORT["samples"] + 10:
            raise KeyboardInterrupt

    fitted = StyleFlow(READER, **SHORT).fit(TileGenerator(True), rng, stop)
    assert len(fitted.history) == 10
    assert fitted.edit(sampled(fitted.generator, 2), TILES[0], 1.0).values.isfinite().all()


def test_codes_that_vary_in_few_directions_are_moved_in_these(rng):
    class Flat(TileGenerator):
        def sample(self, n, space, rng, truncation=1.0, labels=None):
            values = super().sample(n, space, rng, truncation).values
            return Latents(values @ self.truth(0).T @ self.truth(0), space)

    generator = Flat(True)
    method = StyleFlow(READER, attributes=(TILES[0],), **(SHORT | {"steps": 40}))
    fitted = method.fit(generator, rng)
    assert fitted.whiten.shape == (12, 3)
    latents = sampled(generator, 16)
    moved = fitted.edit(latents, TILES[0], 1.0)
    assert (fitted.classify(moved) - fitted.classify(latents))[:, 0].mean() > 0.1
    change = moved.values - latents.values
    torch.testing.assert_close(change @ generator.truth(0).T @ generator.truth(0), change, atol=1e-4, rtol=0)


def test_without_zuko_the_way_to_it_is_said(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko.flows.continuous", None)
    with pytest.raises(SituError, match=r"pip install 'situ\[flow\]'"):
        StyleFlow(READER, **(SHORT | {"samples": 16})).fit(TileGenerator(True), rng)


@pytest.mark.usefixtures("unchecked")
def test_bad_input(fitted, rng):
    with pytest.raises(SituError, match="must be positive"):
        StyleFlow(READER, steps=0)
    with pytest.raises(SituError, match="must be positive"):
        StyleFlow(READER, lr=float("nan"))
    with pytest.raises(SituError, match="at least 2 samples"):
        StyleFlow(READER, samples=1)
    with pytest.raises(SituError, match="hidden"):
        StyleFlow(READER, hidden=())
    with pytest.raises(SituError, match="truncation"):
        StyleFlow(READER, truncation=0.0)
    with pytest.raises(SituError, match="attributes of this model are top-left"):
        StyleFlow(READER, attributes=("smile",))
    with pytest.raises(SituError, match="got smile"):
        fitted.edit(sampled(fitted.generator, 1), "smile", 1.0)
    with pytest.raises(SituError, match="target of top-left"):
        fitted.edit(sampled(fitted.generator, 1), TILES[0], float("inf"))
    with pytest.raises(SituError, match="square never varies over 100 pictures"):
        StyleFlow(ConstantClassifier(), samples=100).fit(TileGenerator(True), rng)


def test_a_constant_attribute_that_nobody_asked_for_does_no_harm(rng):
    method = StyleFlow(ConstantClassifier(), attributes=("bright",), **(SHORT | {"steps": 3}))
    assert method.fit(TileGenerator(True), rng).history
