import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from situ.core.errors import RegionError, SituError
from situ.core.latents import parse_subspace
from situ.core.region import Box, Brush, Part, Rest
from situ.discovery import stylespace
from situ.discovery.stylespace import StyleSpace, _Contest, channel_name
from toys import TILES, TileGenerator, TileSegmenter, tiny_stylegan2
from toys_styles import BlinkingSegmenter, LeakyTileGenerator

TILE_PARTS = [Part(TileSegmenter(), (tile,)) for tile in TILES]
SHORT = {"space": "w", "pictures": 4, "sigma_samples": 50}


def channels(directions):
    return sorted(int(d.vector.abs().argmax()) for d in directions)


def test_finds_the_coordinates_of_every_tile(rng):
    found = StyleSpace(k=3, **SHORT).find(LeakyTileGenerator(False, leak=0.1), TILE_PARTS, rng)
    for tile, directions in enumerate(found):
        assert channels(directions) == [3 * tile, 3 * tile + 1, 3 * tile + 2]
        for d in directions:
            assert (d.figures["rate"], d.figures["lead"], d.figures["local"]) == (1, 1, 1)
            assert d.figures["overlap"] > 0.99
            assert d.region == TILES[tile]


def test_no_channel_of_a_mixed_space_edits_a_tile_alone(rng):
    generator = TileGenerator(True)
    found = StyleSpace(space="w", pictures=4, sigma_samples=50).find(generator, TILE_PARTS, rng)
    assert all((generator.truth(tile) @ d.vector).norm() < 0.95 for tile, (d,) in enumerate(found))


def test_dead_channels_belong_to_nobody(rng):
    generator = LeakyTileGenerator(False, dead=(10,))
    ((*alive, dead),) = StyleSpace(k=3, **SHORT).find(generator, TILE_PARTS[3:], rng)
    assert channels(alive) == [9, 11]
    assert dead.figures["rate"] == 0


def test_boxes_brushes_and_rests_compete_with_what_they_leave(rng):
    painted = torch.zeros(1, 1, 16, 16)
    painted[..., 8:, 8:] = 1
    regions = [Box(4, 4, 8, 8), Rest(TILE_PARTS[1]), Brush(painted)]
    box, rest, brush = StyleSpace(k=3, **SHORT).find(TileGenerator(False), regions, rng)
    assert channels(box) == [0, 1, 2]
    assert channels(brush) == [9, 10, 11]
    assert set(channels(rest)) <= {0, 1, 2, 6, 7, 8, 9, 10, 11}
    assert all(d.figures["rate"] == 1 for d in [*box, *rest, *brush])


def test_a_channel_that_mostly_changes_the_rest_is_not_the_boxs(rng):
    generator = TileGenerator(False)
    contest = _Contest((Box(4, 4, 8, 8),), 4, 2.0)
    masks = contest.mark(generator.synthesize(generator.sample(1, generator.spaces["w"], rng)))[0]
    box, rest = masks
    assert (box.sum(), rest.sum()) == (4, 12)
    maps = 2.0 + rest.float()[None].repeat(2, 1)  # all of the rest, then the box
    maps[0, box.nonzero()[:1]] = 4.0  # but one position of the box first: 1 / 16 against 11 / 144
    maps[1, box.nonzero()[:2]] = 4.0  # two of them: 2 / 16 against 10 / 144
    contest.hold(maps, masks)
    assert contest.result(0)[0].tolist() == [0, 1]


def test_a_union_does_not_compete_with_its_own_parts(rng):
    union = Part(TileSegmenter(), TILES[:2])
    found = StyleSpace(k=6, **SHORT).find(TileGenerator(False), [union, TILE_PARTS[0]], rng)
    assert channels(found[0]) == [0, 1, 2, 3, 4, 5]
    assert all(d.figures["rate"] == 1 for d in found[0])
    assert channels(found[1][:3]) == [0, 1, 2]


def test_rates_are_of_the_pictures_that_show_the_part(rng):
    segmenter = BlinkingSegmenter()
    regions = [Part(segmenter, (tile,)) for tile in TILES]
    found = StyleSpace(k=3, space="w", pictures=12, sigma_samples=50).find(TileGenerator(False), regions, rng)
    assert channels(found[3]) == [9, 10, 11]
    assert all(d.figures["rate"] == 1 for d in found[3])
    # while it hides, its channels are the third part's: half of a part twice as large
    assert all(-1 < d.figures["lead"] < 1 for d in found[3])


def test_channels_have_the_names_of_their_layers():
    space = tiny_stylegan2().spaces
    subspace = parse_subspace("s:conv", space)
    names = [channel_name(subspace, c) for c in range(subspace.dim)]
    assert len(set(names)) == subspace.dim
    for c in (0, 7, 8, subspace.dim - 1):
        layer, _, within = names[c].rpartition(":")
        unit = subspace.lift(torch.eye(subspace.dim)[c])
        at = [s.name for s in subspace.space.slices].index(layer)
        assert subspace.space.split(unit)[at][int(within)] == 1
        assert unit.sum() == 1
    assert channel_name(parse_subspace("w:1-2", space), 3) == "w:1-2:3"
    with pytest.raises(SituError, match="run from 0 to 7"):
        channel_name(parse_subspace("w", space), 8)


def test_a_unit_step_is_one_standard_deviation(rng):
    generator = tiny_stylegan2()
    method = StyleSpace(pictures=1, k=2, sigma_samples=400, truncation=1.0)
    ((first, second),) = method.find(generator, [Box(8, 8, 8, 8)], rng)
    sampled = generator.sample(2000, generator.spaces["s"], torch.Generator().manual_seed(9))
    for d in (first, second):
        column = int(d.subspace.lift(d.vector).argmax())
        assert d.figures["sigma"] == pytest.approx(float(sampled.values[:, column].std()), rel=0.15)
        moved = d.apply(generator, sampled[:3], 1.0).values - sampled[:3].values
        assert moved[:, column].numpy() == pytest.approx(d.figures["sigma"], rel=1e-3)
        assert moved.abs().sum(dim=1).numpy() == pytest.approx(d.figures["sigma"], rel=1e-3)
        assert d.name.startswith("box[8,8,8,8]-b")


@pytest.mark.parametrize("space", ["s", "s:3", "w+:2-3", "w:2-3", "z"])
def test_any_subspace_will_do(space, rng):
    ((d,),) = StyleSpace(space=space, pictures=1, sigma_samples=50).find(tiny_stylegan2(), [Box(8, 8, 8, 8)], rng)
    assert d.vector.abs().sum() == d.vector.max() == 1
    assert d.unit > 0


def brute_force(maps, masks, power):
    """The winner of every channel among disjoint parts, by the definition: (channels,) index or -1."""
    found = []
    for row in maps.tolist():
        scores = []
        for mask in masks.tolist():
            area = sum(mask)
            kept = sorted(range(len(row)), key=lambda p: (-row[p], p))[:area]
            on = sum(1 for p in kept if mask[p] and row[p] > 0)
            scores.append(on / area**power if area else -1.0)
        best = max(range(len(scores)), key=lambda q: (scores[q], -q))
        found.append(best if scores[best] > 0 else -1)
    return found


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=9, max_size=9), min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=9, max_size=9),
    st.sampled_from([1.0, 2.0]),
)
def test_the_contest_is_the_definition(maps, labels, power):
    contest = _Contest((), 3, power)
    contest.regions, contest.rivals = tuple(TILE_PARTS), ~torch.eye(4, dtype=torch.bool)
    masks = torch.tensor(labels) == torch.arange(4)[:, None]
    contest.hold(torch.tensor(maps).float(), masks)
    winners = brute_force(torch.tensor(maps), masks, power)
    for r in range(4):
        rate, lead, _ = contest.result(r)
        expected = [float(w == r) for w in winners]
        assert rate.tolist() == expected
        others = [float(w not in (r, -1)) for w in winners]
        assert lead.tolist() == [a - b for a, b in zip(expected, others, strict=True)]


def test_one_jacobian_serves_a_picture(rng, monkeypatch):
    calls = []

    def counted(*arguments, **named):
        calls.append(1)
        return original(*arguments, **named)

    original = stylespace.jacobian
    monkeypatch.setattr(stylespace, "jacobian", counted)
    StyleSpace(**SHORT).find(TileGenerator(False), TILE_PARTS, rng)
    assert len(calls) == 4


def test_the_same_seed_gives_the_same_channels():
    def run():
        own = torch.Generator().manual_seed(3)
        return StyleSpace(k=2, **SHORT).find(TileGenerator(True), TILE_PARTS, own)

    for first, second in zip(run(), run(), strict=True):
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a.vector, b.vector)
            assert a.figures == b.figures


def test_ctrl_c_ranks_by_the_pictures_so_far(rng):
    def stop(done, total, message=""):
        if done == 2:
            raise KeyboardInterrupt

    found = StyleSpace(space="w", pictures=50, k=3, sigma_samples=50).find(TileGenerator(False), TILE_PARTS, rng, stop)
    assert channels(found[2]) == [6, 7, 8]


@pytest.mark.usefixtures("unchecked")
def test_bad_input(rng):
    with pytest.raises(SituError, match="must be positive"):
        StyleSpace(pictures=0)
    with pytest.raises(SituError, match="sigma_samples"):
        StyleSpace(sigma_samples=1)
    with pytest.raises(SituError, match="local_rate"):
        StyleSpace(local_rate=50)
    with pytest.raises(SituError, match="truncation"):
        StyleSpace(truncation=0.0)
    with pytest.raises(SituError, match="area_power"):
        StyleSpace(area_power=float("nan"))
    with pytest.raises(SituError, match="too few for k=13"):
        StyleSpace(space="w", k=13).find(TileGenerator(False), TILE_PARTS, rng)
    corner = torch.zeros(1, 1, 64, 64)
    corner[..., :2, :2] = 1
    with pytest.raises(RegionError, match="none of 4 pictures shows brush"):
        StyleSpace(**SHORT).find(TileGenerator(False), [Brush(corner)], rng)
