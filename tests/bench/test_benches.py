"""The benches on tiles whose true directions are known, and on a model that has nothing but a generator."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bench_runs import new_run, ran, rows_of, verdict_of

from situ.bench import (
    interactivity,
    lelsd_distance,
    lelsd_palette,
    lelsd_properties,
    lelsd_sequence,
    resefa_edits,
    truth,
)
from situ.bench.benches import BENCHES
from situ.bench.lelsd_properties import Discs, discs, inside_shares
from situ.bench.run import Run, Size
from situ.bench.searches import sampled
from situ.core.errors import SituError
from situ.core.region import Box
from situ.discovery.resefa import ReSeFa
from situ.packs.pack import FactorReader, Pack
from toys import TILES, TileGenerator, TileSegmenter, tiny_stylegan2

GAN = TileGenerator(rotate=True)
BOX = Box(4, 4, 8, 8)


def read(images: torch.Tensor) -> torch.Tensor:
    """The mean red of each tile, on a scale of 0 to 1."""
    tiles = images[:, 0].unflatten(1, (2, 8)).unflatten(3, (2, 8)).mean(dim=(2, 4))
    return (tiles.flatten(1) + 1) / 2


READER = FactorReader(TILES, TILES, (), TILES, TILES, read, lambda images: torch.sigmoid(20 * (read(images) - 0.5)))
PACK = Pack(
    "tiles",
    GAN,
    TileSegmenter(),
    READER,
    embed=lambda images: torch.nn.functional.avg_pool2d(images, 4).flatten(1),
    unit_distance=0.004,
    best_subspaces=dict.fromkeys(TILES, "w"),
)
SMALL = Size(pictures=6, searches=2, parts=TILES[:2], minutes=0)
ONE = replace(SMALL, searches=1, parts=TILES[:1])


def test_equal_distances_on_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lelsd_distance, "TIMES", (0.5, 2.0))
    monkeypatch.setattr(lelsd_distance, "METHODS", ("lelsd", "resefa", "lowrankgan", "random"))
    report = ran(lelsd_distance.BENCH, PACK, tmp_path, ONE)
    rows = rows_of(report, "curves")
    assert {row["method"] for row in rows} == {"lelsd", "resefa", "random"}
    assert any("lowrankgan on top-left: nothing of" in note for note in report["notes"]), "its reason is told"
    for row in rows:
        assert row["reached"] == 1
        local = row["method"] != "random"
        assert (row["share of the change inside the part"]["mean"] > 0.9) == local
    leaks = {row["method"]: row["leakage"]["mean"] for row in rows}
    assert max(leaks["lelsd"], leaks["resefa"]) < leaks["random"]
    gaps = {(row["part"], row["method"]): row for row in rows_of(report, "gaps")}
    assert gaps["top-left", "random"]["gap at largest d"]["low"] > 0.3
    assert abs(gaps["top-left", "resefa"]["gap at largest d"]["mean"]) < 0.1
    assert verdict_of(report, "lowrankgan falls behind") is None, "nothing measured decides nothing"
    assert {"curves.png", "curves.svg", "sheet.png"} <= {path.name for path in (tmp_path / "lelsd-fig4").iterdir()}


def test_both_sides_are_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(PACK, ONE, tmp_path)
    solve, signs = lelsd_distance.solve_distance, []

    def solved(*given, **options):
        found = solve(*given, **options)
        signs.append(float(found.alpha.sign().sum()))
        return found

    monkeypatch.setattr(lelsd_distance, "solve_distance", solved)
    lelsd_distance.measured(run, "resefa", TILES[0], 0, 0.004)
    assert signs == [-6, 6]


def test_an_interrupted_bench_goes_on_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lelsd_distance, "TIMES", (1.0, 2.0))
    monkeypatch.setattr(lelsd_distance, "METHODS", ("lelsd", "random"))
    whole = ran(lelsd_distance.BENCH, PACK, tmp_path / "whole", ONE)
    made = lelsd_distance.measured
    calls: list[tuple] = []

    def stopping(*given):
        calls.append(given[1:])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return made(*given)

    monkeypatch.setattr(lelsd_distance, "measured", stopping)
    with pytest.raises(KeyboardInterrupt):
        ran(lelsd_distance.BENCH, PACK, tmp_path / "part", ONE)
    assert not (tmp_path / "part/lelsd-fig4/report.json").exists()
    again = ran(lelsd_distance.BENCH, PACK, tmp_path / "part", ONE)
    assert len(calls) == 2 * 2 + 1, "only what was interrupted is measured twice"
    assert again["tables"] == whole["tables"]
    with pytest.raises(SituError, match="pictures 6 there, 7 now"):
        ran(lelsd_distance.BENCH, PACK, tmp_path / "part", replace(ONE, pictures=7))


def test_two_directions_of_a_tile(tmp_path: Path) -> None:
    report = ran(lelsd_palette.BENCH, PACK, tmp_path, replace(SMALL, parts=TILES[:1]))
    rows = {row["directions"]: row for row in rows_of(report, "pairs")}
    assert rows["with R"]["|cosine| between the two"]["mean"] < 0.2
    assert rows["with R"]["share inside, both together"]["mean"] > 0.9
    assert verdict_of(report, "as locally as each alone") is True


def test_one_edit_after_another(tmp_path: Path) -> None:
    report = ran(lelsd_sequence.BENCH, PACK, tmp_path, SMALL)
    for row in rows_of(report, "steps"):
        if row["method"] == "lelsd":
            assert row["share of the step's change inside the part"]["mean"] > 0.9
            assert row["of the change of the part's factors, left at the end"]["mean"] == pytest.approx(1, abs=0.1)
    assert verdict_of(report, "only changes the desired part") is True
    assert verdict_of(report, "leave the changes of earlier ones alone") is True


def test_what_later_edits_undo_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second edit that takes back the first."""
    steps = lelsd_sequence.steps_of

    def undone(run: Run, method: str, seed: int):
        plain, first, _ = steps(run, method, seed)
        return [plain, first, plain]

    monkeypatch.setattr(lelsd_sequence, "steps_of", undone)
    report = ran(lelsd_sequence.BENCH, PACK, tmp_path, SMALL)
    assert verdict_of(report, "leave the changes of earlier ones alone") is False


def test_named_edits_move_their_factor_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edits = tuple(resefa_edits.NamedEdit(f"red {tile}", tile, tile, 1) for tile in TILES[:2])
    monkeypatch.setattr(resefa_edits, "EDITS", edits)
    monkeypatch.setattr(resefa_edits, "TARGET", 0.05)
    report = ran(resefa_edits.TABLE_BENCH, PACK, tmp_path, SMALL, quick=True)
    rows = rows_of(report, "edits")
    for row in rows:
        if row["method"] in ("resefa", "lelsd"):
            assert row["change of the factor"]["mean"] == pytest.approx(0.05, rel=0.5)
            assert row["MSE x 1e4 inside"]["mean"] > 100 * row["MSE x 1e4 outside"]["mean"]
        assert row["Frechet distance (embedder)"]["mean"] > 0
    assert {row["method"] for row in rows} >= {"resefa", "lelsd", "random"}
    figure = ran(resefa_edits.FIGURE_BENCH, PACK, tmp_path, SMALL, quick=True)
    curves = rows_of(figure, "curves")
    inside = [row["MSE x 1e4 inside"]["mean"] for row in curves if row["method"] == "resefa"][
        : len(resefa_edits.STRENGTHS)
    ]
    assert inside == sorted(inside)


def test_strengths_that_reach_a_change() -> None:
    assert resefa_edits._reaching([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(0.75)
    assert resefa_edits._reaching([0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert resefa_edits._reaching([0.0, 0.01, 0.02, -0.1, 0.0, 0.0, 0.0]) == resefa_edits.TRIED[-1]


def test_the_truth_of_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "METHODS", dict.fromkeys(("resefa", "ganspace", "random", "stylespace")))
    report = ran(truth.BENCH, PACK, tmp_path, replace(SMALL, parts=TILES[:1]), quick=True)
    rows = {(row["part"], row["method"]): row for row in rows_of(report, "truth")}
    ours, chance = rows["top-left", "resefa"], rows["top-left", "random"]
    assert ours["share inside"]["mean"] > 0.95 > 0.6 > chance["share inside"]["mean"]
    assert ours["leakage"]["mean"] < 0.35 < chance["leakage"]["mean"]
    assert ours["change of all other factors"]["mean"] < 2e-3
    assert 0 <= ours["repeatability"] <= 1 + 1e-6
    assert verdict_of(report, "resefa keeps more") is True
    assert [row["share inside"]["mean"] for row in rows.values() if row["part"] == "top-left"] == sorted(
        (row["share inside"]["mean"] for row in rows.values() if row["part"] == "top-left"), reverse=True
    )


def test_repeatability_is_the_cosine_between_searches() -> None:
    ((first, second),) = ReSeFa(space="w", k=2).find(GAN, [BOX], torch.Generator().manual_seed(0))
    turned = replace(first, vector=-first.vector)
    assert truth.repeatability([first, turned]) == pytest.approx(1)
    cosine = abs(float(first.vector @ second.vector))
    assert truth.repeatability([first, first, second]) == pytest.approx((1 + 2 * cosine) / 3, abs=1e-5)
    assert truth.repeatability([first]) is None


def test_interactivity_times_frames_and_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactivity, "FRAMES", 4)
    monkeypatch.setattr(interactivity, "SEARCHED", ("lelsd", "random", "stylespace"))
    monkeypatch.setattr(interactivity, "PUBLISHED_STEPS", 20)
    report = ran(interactivity.BENCH, PACK, tmp_path, SMALL, quick=True)
    assert {row["method"] for row in rows_of(report, "speed")} == {"lelsd", "random"}
    assert all(row["seconds"] > 0 for row in rows_of(report, "schedules"))
    assert verdict_of(report, "feels instantaneous") is True


def test_discs_are_mixed_and_local() -> None:
    pack, latents = discs(), sampled(discs(), 8, 0)
    before = pack.generator.synthesize(latents).images
    rotation = Discs().rotation
    for disc in range(3):
        moved = latents.with_values(latents.values + 0.5 * rotation[:, 4 * disc + 1])
        change = (pack.generator.synthesize(moved).images - before).square().mean(dim=1, keepdim=True)
        mask = Discs.box(disc).mask(pack.generator.synthesize(latents))
        assert float((change * mask).sum() / change.sum()) > 0.98
    assert pack.reader is not None
    red = pack.reader.classify(
        pack.generator.synthesize(latents.with_values(latents.values + 3 * rotation[:, 0])).images
    )
    assert float(red[:, 0].min()) > 0.5


def properties(tmp_path: Path, name: str) -> dict:
    return lelsd_properties.answers(new_run(PACK, SMALL, tmp_path), name)


def test_properties_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lelsd_properties, "preset", lambda name, size: BOX)
    ours = properties(tmp_path, "resefa")
    assert {key: ours[key]["holds"] for key in "BCDFG"} == dict.fromkeys("BCDFG", True)
    assert not ours["A"]["holds"], "tiles have no W+, where it searches boxes"
    chance = properties(tmp_path, "random")
    assert (chance["F"]["holds"], chance["G"]["holds"], chance["D"]["holds"]) == (False, False, True)
    attributes = properties(tmp_path, "interfacegan")
    assert not attributes["A"]["holds"]
    assert "classifier" in attributes["A"]["seen"]


def test_part_transfer_needs_a_second_image() -> None:
    assert not lelsd_properties.composition()["D"]["holds"]


def test_no_box_of_local_shares_is_made_up() -> None:
    ((direction,),) = ReSeFa(space="w").find(GAN, [BOX], torch.Generator().manual_seed(0))
    shares = inside_shares(PACK, replace(direction, unit=0.1), BOX, sampled(PACK, 3, 0))
    assert len(shares) == 3
    assert min(shares) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lelsd-fig4", "lelsd-fig5", "resefa-table1", "resefa-fig5", "truth", "interactivity"])
def test_a_model_without_any_network_is_measured_by_its_pixels(tmp_path: Path, name: str) -> None:
    bare = Pack("tiny", tiny_stylegan2(resolution=16), unit_distance=0.001)
    size = replace(SMALL, searches=1, parts=("eyes", "mouth", "nose")[:2])
    report = ran(BENCHES[name], bare, tmp_path, size, quick=True)
    assert report["tables"][0]["rows"]
    assert not any("leakage" in table["columns"] for table in report["tables"])


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SituError, match="two or more, got 1"):
        ran(truth.BENCH, PACK, tmp_path, replace(SMALL, pictures=1))
