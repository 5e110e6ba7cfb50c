"""Claims of the benches, from made-up figures: each holds where they say so, and fails where they are turned."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_runs import new_run
from test_benches import ONE, PACK, SMALL

from situ.bench import (
    interactivity,
    lelsd_distance,
    lelsd_palette,
    lelsd_properties,
    lelsd_sequence,
    resefa_edits,
    truth,
)
from situ.bench.experiment import Claim
from situ.bench.run import Run, over_searches, summarised
from situ.bench.searches import Found, Searches
from situ.core.direction import Edit
from toys import TILES

PARTS = TILES[:2]
EDITS = tuple(resefa_edits.NamedEdit(f"red {tile}", tile, tile, 1) for tile in PARTS)


def photos(level: float, seed: int = 0) -> list[float]:
    """Numbers of 12 pictures, which differ more between pictures than between levels."""
    return (torch.rand(12, generator=torch.Generator().manual_seed(seed)).double() + level).tolist()


def verdicts(claims: list[Claim]) -> dict[str, bool | None]:
    return {claim.text: claim.holds for claim in claims}


def distances(turned: bool) -> list[Claim]:
    """LELSD's lead over both grows with d."""
    curves, shares = {}, {}
    for part in PARTS:
        for i, d in enumerate((0.1, 0.2)):
            for method in ("lelsd", *lelsd_distance.FIRST_ORDER):
                lead = 0.1 * (i + 1) * (-1 if turned else 1) if method == "lelsd" else 0.0
                curves[part, method, d] = {"inside": photos(lead)}
                shares[part, method, d] = 1.0
    return lelsd_distance._claims(curves, shares, PARTS, [0.1, 0.2])


def palettes(turned: bool) -> list[Claim]:
    good, bad = (0.9, 0.1) if turned else (0.1, 0.9)
    cells = {
        words: [{"cosine": level + 0.01 * i, "alike": photos(level), "first": photos(0.5), "second": photos(0.6),
                 "both": photos(0.5 - 0.2 * turned)} for i in range(3)]
        for words, level in ((lelsd_palette.WITH, good), (lelsd_palette.WITHOUT, bad))
    }  # fmt: skip
    return lelsd_palette._claims(cells)


def sequences(turned: bool) -> list[Claim]:
    level = -0.8 if turned else 0.2
    ours = {"inside": photos(level + 0.5), "alike": photos(level), "kept": [0.5 if turned else 1.0] * 12}
    random = {"inside": photos(0.0), "alike": photos(0.0), "kept": [1.0] * 12}
    figures = {"lelsd": dict.fromkeys(PARTS, ours), "random": dict.fromkeys(PARTS, random)}
    return lelsd_sequence._claims(figures, PARTS)


@pytest.mark.parametrize(("made", "count"), [(distances, 6), (palettes, 3), (sequences, 4)])
def test_claims_of_lelsd(made: Any, count: int) -> None:
    claims = made(turned=False)
    assert len(claims) == count
    assert verdicts(claims) == dict.fromkeys(verdicts(claims), True)
    assert verdicts(made(turned=True)) == dict.fromkeys(verdicts(claims), False)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(resefa_edits, "EDITS", EDITS)
    return new_run(PACK, SMALL, tmp_path)


def test_claims_of_resefas_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def claims(turned: bool) -> list[Claim]:
        seconds = {"resefa": (2.0, 1.0), "stylespace": (3.0, 2.0), "lowrankgan": (4.0, 3.0)}
        if turned:
            seconds["resefa"] = (9.0, 9.0)
        monkeypatch.setattr(resefa_edits, "_seconds", lambda run, method: seconds[method])
        figures, features, real = {}, {}, torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        for edit in EDITS:
            for method in ("resefa", *resefa_edits.RIVALS):
                worse = (method != "resefa") != turned
                figures[edit.name, method] = {"outside": photos(0.3 * worse), "identity": photos(-0.3 * worse)}
                features[edit.name, method] = real[None, :32] + 2.0 * worse
        return resefa_edits._table_claims(run, figures, features, real)

    held, failed = claims(turned=False), claims(turned=True)
    assert len(held) == 8
    assert verdicts(held) == dict.fromkeys(verdicts(held), True)
    assert verdicts(failed) == dict.fromkeys(verdicts(held), False)


def test_claims_of_resefas_figure(run: Run) -> None:
    def claims(turned: bool) -> list[Claim]:
        curves = {}
        for edit in EDITS:
            for method in ("resefa", *resefa_edits.RIVALS):
                worse = (method != "resefa") != turned
                inside, outside = [photos(2.0)] * 2, [photos(1.0), photos(1.0 + 3 * worse)]  # worse at one strength
                curves[edit.name, method] = {"inside": inside, "outside": outside}
        return resefa_edits._figure_claims(run, curves)

    assert verdicts(claims(turned=False)) == dict.fromkeys(verdicts(claims(turned=False)), True)
    assert verdicts(claims(turned=True)) == dict.fromkeys(verdicts(claims(turned=True)), False)


def test_seconds_without_the_jacobian(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Searches, "find", lambda *_: Found((), 10.0, 4.0))
    assert resefa_edits._seconds(run, "resefa") == (10.0, 6.0)


def test_numbers_of_several_searches_are_averaged_where_there_are_any() -> None:
    assert over_searches([[1.0, math.nan], [3.0, 2.0]]) == [2.0, 2.0]
    assert math.isnan(over_searches([[math.nan], [math.nan]])[0])


def test_only_edits_that_reach_the_distance_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, figures, moved = new_run(PACK, ONE, tmp_path), lelsd_distance._figures, []

    def seen(run: Run, region: Any, edited: Any) -> dict[str, list[float]]:
        moved.append(PACK.distance.between(edited.before, edited.after))
        return figures(run, region, edited)

    monkeypatch.setattr(lelsd_distance, "_figures", seen)
    cell: Any = lelsd_distance.measured(run, "resefa", TILES[0], 0, 0.004)
    assert cell["reached"] == 1
    for distance in moved:
        torch.testing.assert_close(distance, torch.full([6], 0.004), rtol=0.03, atol=0)
    far: Any = lelsd_distance.measured(run, "resefa", TILES[0], 0, 1e6)
    assert far["reached"] == 0
    assert all(math.isnan(value) for value in far["figures"]["inside"])


def test_the_ends_are_the_distances_that_both_methods_reach() -> None:
    shares = {("p", m, d): 1.0 for m in ("lelsd", "resefa") for d in (1.0, 2.0, 4.0)}
    assert lelsd_distance._ends(shares, "p", "resefa", [1.0, 2.0, 4.0]) == (1.0, 4.0)
    assert lelsd_distance._ends({**shares, ("p", "resefa", 4.0): 0.2}, "p", "resefa", [1.0, 2.0, 4.0]) == (1.0, 2.0)
    assert lelsd_distance._ends({**shares, ("p", "lelsd", 1.0): 0.0}, "p", "resefa", [1.0, 4.0]) is None


def test_combinations_add_and_oppose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit, signs = lelsd_palette.edited_images, []

    def edited(generator: Any, move: Edit, *rest: Any) -> Any:
        signs.append(tuple(strength for _, strength in move.terms))
        return edit(generator, move, *rest)

    monkeypatch.setattr(lelsd_palette, "edited_images", edited)
    lelsd_palette.measured(new_run(PACK, replace(ONE, pictures=2), tmp_path, quick=True), TILES[0], "with R", 0)
    assert signs == [(1.0,), (1.0,), (1.0, 1.0), (1.0, -1.0)]


def test_consistency_is_with_the_other_photos() -> None:
    assert lelsd_sequence._alike(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == [0.0, 0.0]
    alike = lelsd_sequence._alike(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]))
    assert alike == pytest.approx([0.0, 0.0, -1.0])


def test_truth_is_of_both_sides_with_their_realism(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, edit, sides, scores = new_run(PACK, ONE, tmp_path, quick=True), truth.edited_images, [], []

    def edited(generator: Any, direction: Any, region: Any, latents: Any, strength: float, *rest: Any) -> Any:
        made = edit(generator, direction, region, latents, strength, *rest)
        sides.append(strength)
        scores.append(run.realism.score(summarised(PACK, made.after)))
        return made

    monkeypatch.setattr(truth, "edited_images", edited)
    cell = truth.measured(run, "random", TILES[0], 0)["figures"]
    assert sides == [1.0, -1.0]
    assert cell["realism"] == pytest.approx(torch.stack(scores).mean(dim=0).tolist())


def test_claims_of_interactivity() -> None:
    def claims(frame: float, test_time: float, backward: float) -> list[Claim]:
        search = {interactivity.STYLESPACE_BACKWARD: backward, interactivity.LELSD_PUBLISHED: 1.0}
        frames = {"lelsd": {"whole": [frame] * 10, "resumed": [frame] * 10}}
        return interactivity._claims(search, {interactivity.AT_TEST_TIME: test_time}, frames, 100)

    assert [claim.holds for claim in claims(0.01, 5.0, 2000.0)] == [True] * 3
    assert [claim.holds for claim in claims(0.5, 0.2, 500.0)] == [False] * 3


def test_a_schedule_that_was_cut_is_multiplied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 3.0])
    monkeypatch.setattr(interactivity, "clock", lambda pack: lambda: next(ticks))
    monkeypatch.setattr(interactivity.LELSD, "find", lambda *_: [])
    assert interactivity.published_lelsd(new_run(PACK, ONE, tmp_path, quick=True)) == 30.0


def test_claims_of_the_properties() -> None:
    def rows(turned: bool) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for method, key, published, _ in lelsd_properties.PUBLISHED[0].rows:
            found.setdefault(str(method), {})[str(key)] = {"holds": bool(published) != turned, "seen": "it"}
        return found

    assert {claim.holds for claim in lelsd_properties._claims(rows(False))} == {True}
    assert {claim.holds for claim in lelsd_properties._claims(rows(True))} == {False}


def test_a_direction_that_changes_nothing_edits_nothing(tmp_path: Path) -> None:
    run = new_run(PACK, ONE, tmp_path, quick=True)
    best = run.find("random", TILES[0], 0).best
    assert lelsd_properties.no_test_time(run, best).holds
    assert not lelsd_properties.no_test_time(run, replace(best, unit=1e-6)).holds


def test_any_part_means_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = iter([True, False])
    monkeypatch.setattr(lelsd_properties, "is_local", lambda *_: lelsd_properties.Answer(next(local, True), ""))
    monkeypatch.setattr(lelsd_properties, "any_architecture", lambda *_: lelsd_properties.Answer(True, ""))
    row = lelsd_properties.answers(new_run(PACK, SMALL, tmp_path, quick=True), "resefa")
    assert (row["F"]["holds"], row["G"]["holds"]) == (True, False)
