"""MAGEC's tables: their rows, their claims, what they share, and what each of their figures means."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_runs import new_run, ran, rows_of
from torch.nn import functional

from situ.bench import (
    magec_consistency,
    magec_editability,
    magec_inversions,
    magec_reconstruction,
    magec_truth,
)
from situ.bench.experiment import Cells, Claim
from situ.bench.magec_comparisons import claim, differences
from situ.bench.magec_editors import (
    ATTRIBUTES,
    GANSPACE,
    INTERPOLATION,
    STYLEFLOW,
    Editor,
    _flowed,
    editors_of,
    ganspace_edits,
)
from situ.bench.magec_inversions import (
    ENCODER,
    FULL,
    IMAGE2STYLEGAN,
    LONGER,
    PUBLISHED,
    REFINED,
    REFINED_WITHOUT,
    WITHOUT,
    Inverted,
    Photos,
    inverted,
    methods_of,
    photos_of,
    pictures,
)
from situ.bench.run import Bench, Size
from situ.core.errors import InversionError, SituError
from situ.core.inversion import Inversion, invert
from situ.core.latents import Latents
from situ.core.progress import silent
from situ.discovery.styleflow import FittedStyleFlow
from situ.inversion.descriptors import Attributes
from situ.inversion.magec import AttributeEditor, attribute_magec, save_link
from situ.inversion.optimization import Optimization
from situ.metrics.consistency import ReversibleEdit
from situ.metrics.perceptual import PyramidDistance
from situ.packs.library import open_model
from situ.packs.pack import FactorReader, Pack
from situ.packs.portraits.renderer import attributes, sample_factors
from toys import TileGenerator, tiny_stylegan2

GAN = tiny_stylegan2()
NAMES = ("red", "green")
FEW = Size(pictures=4, searches=1, parts=(), minutes=0)


with torch.no_grad():
    USUAL = GAN.synthesize(GAN.sample(64, GAN.spaces["z"], torch.Generator().manual_seed(9))).images.mean(dim=(0, 2, 3))


def read(images: torch.Tensor) -> torch.Tensor:
    """Whether a picture is redder, and greener, than the generator's usually are."""
    return torch.sigmoid(20 * (images.mean(dim=(2, 3)) - USUAL)[:, :2])


def embed(images: torch.Tensor) -> torch.Tensor:
    return functional.normalize(functional.avg_pool2d(images, 4).flatten(1), dim=1)


@dataclass(frozen=True)
class MeanEncoder:
    """Reads the mean code off every picture."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            mean = GAN.sample(1, GAN.spaces["w+"], torch.Generator().manual_seed(0), 0.0).values
        return mean.expand(len(images), -1).unflatten(1, (6, 8))


READER = FactorReader(NAMES, NAMES, (), NAMES, NAMES, read, read)
BARE = Pack("bare", GAN, unit_distance=0.001)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A tiny StyleGAN2 with all that MAGEC asks for."""
    path, rng = tmp_path_factory.mktemp("link") / "link.safetensors", torch.Generator().manual_seed(0)
    made = attribute_magec(GAN, Attributes(READER), PyramidDistance(), embed, rng, 64)
    assert isinstance(made.editor, AttributeEditor)
    save_link(made.link, made.editor, GAN.name, path)
    return Pack("tiny", GAN, reader=READER, embed=embed, encoder=MeanEncoder(), link=path, unit_distance=0.001)


# what every claim says, as places from best to worst
PLACES = {IMAGE2STYLEGAN: 1, FULL: 2, REFINED: 2, PUBLISHED: 3, WITHOUT: 4, REFINED_WITHOUT: 4, LONGER: 5}
EDITING = {FULL: 1, REFINED: 1, PUBLISHED: 3, WITHOUT: 4, REFINED_WITHOUT: 4, IMAGE2STYLEGAN: 5}
LOW = ("MSE", "perceptual", "MSE edited", "ECS attributes glasses", "ECS GANSpace component-1")
HIGH = ("cosine", *(f"{f} {e}" for f in "Rt" for e in magec_editability.EDITORS))


def figures_in(places: dict[str, int], turned: bool) -> dict[str, dict[str, list[float]]]:
    """Figures of 12 photos, which differ more between photos than between rows."""
    photos = torch.rand(12, generator=torch.Generator().manual_seed(0)).double()
    rows = {}
    for row, place in places.items():
        better = (6 - place if not turned else place) / 2
        rows[row] = {name: (photos + 3 - better).tolist() for name in LOW}
        rows[row] |= {name: (photos + better).tolist() for name in HIGH}
    return rows


def claims_of(bench: str, turned: bool) -> list[Claim]:
    figures = figures_in(PLACES if bench == "table1" else EDITING, turned)
    if bench == "table1":
        seconds = {FULL: 6.0 if turned else 4.5, WITHOUT: 4.0}
        return magec_reconstruction._claims(figures, {name: timed(s) for name, s in seconds.items()})
    if bench == "table2":
        return magec_editability._claims(figures)
    if bench == "table3":
        return magec_consistency._claims(figures, [name for name in LOW if name.startswith("ECS")])
    return magec_truth._claims(figures)


def timed(seconds: float) -> Inverted:
    codes = Latents(torch.zeros(2, 48), GAN.spaces["w+"])
    return Inverted(Inversion(codes, GAN.name, "nothing", {}), seconds)


@pytest.mark.parametrize(("bench", "count"), [("table1", 8), ("table2", 8), ("table3", 3), ("truth", 8)])
def test_claims_hold_where_figures_say_so_and_fail_where_they_are_turned(bench: str, count: int) -> None:
    claims = claims_of(bench, turned=False)
    assert len(claims) == count
    assert {c.text: c.holds for c in claims} == {c.text: True for c in claims}
    assert {c.text: c.holds for c in claims_of(bench, turned=True)} == {c.text: False for c in claims}


def test_what_the_rows_do_not_decide_is_undecided() -> None:
    same = {row: {"MSE": [1.0, 2.0, 3.0], "perceptual": [1.0, 2.0, 3.0]} for row in PLACES}
    for row in (FULL, REFINED, IMAGE2STYLEGAN):
        same[row] = {"MSE": [0.5, 2.0, 3.5], "perceptual": [1.5, 2.0, 2.5]}
    verdicts = {c.holds for c in magec_reconstruction._claims(same, {}) if "par" not in c.text}
    assert verdicts == {None}


def test_on_a_par_allows_a_share_of_the_others_figure() -> None:
    theirs = [1.0, 2.0, 4.0]

    def par(factor: float, higher: bool) -> bool | None:
        figures = {"a": {"x": [factor * value for value in theirs]}, "b": {"x": theirs}}
        (found,) = claim("a is on a par with b", "here", figures, ("a", "b"), ("x",), higher, slack=0.1)
        return found.holds

    assert (par(1.05, False), par(1.2, False), par(0.5, False)) == (True, False, True)
    assert (par(0.95, True), par(0.8, True), par(1.5, True)) == (True, False, True)


def test_rows_and_figures_that_are_not_there_claim_nothing() -> None:
    figures = {"a": {"x": [1.0, math.nan]}, "b": {"x": [math.nan, 1.0]}}
    assert claim("", "", figures, ("a", "c"), ("x",), True) == []
    assert claim("", "", figures, ("a", "b"), ("y",), True) == []
    assert claim("", "", figures, ("a", "b"), ("x",), True) == [], "no photo has both"


def test_differences_are_paired_and_have_the_papers_test() -> None:
    photos = torch.rand(30, generator=torch.Generator().manual_seed(1)).tolist()
    noise = torch.randn(30, generator=torch.Generator().manual_seed(2)).tolist()
    ours = [p + 0.1 + 0.01 * z for p, z in zip(photos, noise, strict=True)]
    table = differences({FULL: {"mse": [*ours, math.nan]}, WITHOUT: {"mse": [*photos, 5.0]}})
    ((row, less, figure, found, p),) = table.rows
    assert (row, less, figure) == (FULL, WITHOUT, "mse")
    assert found.mean == pytest.approx(0.1, abs=0.01)  # pyright: ignore
    assert found.n == 30  # pyright: ignore
    assert p < 1e-6  # pyright: ignore


def test_the_photos_are_renders_whose_truth_is_known(tmp_path: Path) -> None:
    run = new_run(open_model("portraits"), FEW, tmp_path)
    photos = photos_of(run)
    factors = sample_factors(4, torch.Generator().manual_seed(magec_inversions.PHOTOS))
    assert photos.factors is not None
    assert torch.equal(photos.factors, factors)
    assert photos.shown is not None
    assert torch.equal(photos.shown, attributes(factors))
    assert run.pack.reader is not None
    read_off = run.pack.reader.classify(photos.images) > 0.5
    assert float((read_off == photos.shown).float().mean()) > 0.85, "columns stand in the reader's order"
    other = photos_of(replace(run, seed=1))
    assert not torch.equal(other.images, photos.images)


def test_other_models_photos_are_their_own_pictures(pack: Pack, tmp_path: Path) -> None:
    photos = photos_of(new_run(pack, FEW, tmp_path))
    assert photos.factors is None
    assert "of the generator itself" in photos.words
    assert torch.equal(photos.shown, read(photos.images) > 0.5)  # pyright: ignore[reportArgumentType]
    assert photos_of(new_run(BARE, FEW, tmp_path / "bare")).shown is None


def test_the_rows_are_the_papers(pack: Pack) -> None:
    rows: dict[str, Any] = methods_of(pack, quick=False)
    assert next(iter(rows)) == ENCODER
    assert (rows[PUBLISHED].magec, rows[WITHOUT].magec) == (3e-4, 0.0)
    assert (rows[FULL].first_steps, rows[FULL].second_steps, rows[FULL].magec) == (100, 100, 0.03)
    assert (rows[LONGER].first_steps, rows[LONGER].second_steps, rows[LONGER].magec) == (150, 150, 0.0)
    assert (rows[REFINED].first_steps, rows[REFINED].second_steps, rows[REFINED_WITHOUT].magec) == (0, 40, 0.0)
    assert isinstance(rows[REFINED].start.encoder, MeanEncoder)
    assert (rows[IMAGE2STYLEGAN].steps, rows[IMAGE2STYLEGAN].noise_steps) == (1000, 1000)
    quick: dict[str, Any] = methods_of(pack, quick=True)
    assert (quick[FULL].first_steps, quick[FULL].magec, quick[IMAGE2STYLEGAN].steps) == (5, 0.03, 50)


def test_a_model_without_networks_has_the_rows_that_need_none() -> None:
    rows = methods_of(BARE, quick=False)
    assert list(rows) == [WITHOUT, LONGER, IMAGE2STYLEGAN]
    assert [rows[name].steps for name in (WITHOUT, LONGER)] == [200, 300]  # pyright: ignore
    only_encoder = methods_of(replace(BARE, encoder=MeanEncoder()), quick=False)
    assert list(only_encoder)[:2] == [ENCODER, REFINED_WITHOUT]
    with pytest.raises(InversionError, match=r"codes in W\+, tiles-plain-0 has z, w: take a StyleGAN"):
        methods_of(Pack("tiles", TileGenerator(rotate=False)), quick=False)


def test_inversions_are_shared_and_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method, asked = Optimization(PyramidDistance(), steps=3), []

    def counted(*given: Any) -> Inversion:
        asked.append(len(given[1]))
        return invert(*given)

    monkeypatch.setattr(magec_inversions, "invert", counted)
    run = new_run(BARE, FEW, tmp_path)
    first = inverted(run, WITHOUT, method, photos_of(run))
    other = replace(run, cells=Cells(tmp_path / "another", {}))
    again = inverted(other, WITHOUT, method, photos_of(other))
    assert asked == [4]
    assert torch.equal(first.inversion.latents.values, again.inversion.latents.values)
    assert first.seconds == again.seconds > 0
    assert again.steps == 3
    more = replace(run, size=replace(FEW, pictures=5))
    inverted(more, WITHOUT, method, photos_of(more))
    inverted(replace(run, seed=1), WITHOUT, method, photos_of(replace(run, seed=1)))
    assert asked == [4, 5, 4], "other photos are inverted anew"
    with pytest.raises(SituError, match="quick False there, True now"):
        inverted(replace(run, quick=True), WITHOUT, method, photos_of(run))


def test_an_interrupted_inversion_is_no_result_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method, run = Optimization(PyramidDistance(), steps=30), new_run(BARE, FEW, tmp_path)
    photos = photos_of(run)
    whole = invert(GAN, photos.images, method, torch.Generator().manual_seed(0))
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(magec_inversions, "clock", lambda pack: lambda: next(clock))
    counts: list[float] = []

    class Stops(magec_inversions._Counted):
        def __call__(self, done: int | float, total: int, message: str = "") -> None:
            super().__call__(done, total, message)
            counts.append(done)
            if len(counts) == 25:
                raise KeyboardInterrupt

    monkeypatch.setattr(magec_inversions, "_Counted", Stops)
    with pytest.raises(KeyboardInterrupt):
        inverted(run, WITHOUT, method, photos)
    cells = tmp_path / "inversions" / "cells"
    assert not list(cells.glob("*.json")), "the best so far is no measurement"
    found = inverted(run, WITHOUT, method, photos)
    assert counts[25:] == list(range(21, 31)), "it goes on from the state that was kept"
    torch.testing.assert_close(found.inversion.latents.values, whole.latents.values)
    assert found.seconds == pytest.approx(10 / (10 / 30) / 4), "seconds are of all the steps"
    assert not list(cells.glob("*under_way*"))


def test_pictures_of_an_inversion_have_its_noise(pack: Pack) -> None:
    without, rng = codes_of(40), torch.Generator().manual_seed(0)
    noise = {name: torch.randn(40, 1, side, side, generator=rng) for name, side in GAN.noise_layers().items()}
    found = replace(without, noise=noise)
    assert not torch.equal(pictures(pack, found), pictures(pack, without))
    torch.testing.assert_close(pictures(pack, found)[35:36], pictures(pack, found[35:36]))
    moved = found.latents.with_values(found.latents.values + 0.1)
    assert not torch.equal(pictures(pack, found, moved), pictures(pack, found))


def codes_of(n: int = 4, seed: int = 5) -> Inversion:
    latents = GAN.sample(n, GAN.spaces["w+"], torch.Generator().manual_seed(seed))
    return Inversion(latents, GAN.name, "drawn", {})


def test_realism_and_t_are_means_over_edits_towards_what_is_not_shown(pack: Pack, tmp_path: Path) -> None:
    run, found = new_run(pack, FEW, tmp_path, quick=True), codes_of()
    shown = torch.tensor([[True, False], [False, False], [True, True], [False, True]])
    photos = Photos(pictures(pack, found), "drawn", shown, None)
    still = Editor({name: lambda latents: latents for name in NAMES}, attributes=True)
    cell = magec_editability.measured(run, photos, found, still)
    assert cell["t"] == [0.0] * 4
    changed = codes_of(seed=6)
    moving = Editor({"red": lambda latents: latents, "green": lambda latents: changed.latents}, attributes=True)
    cell = magec_editability.measured(run, photos, found, moving)
    rise = (read(pictures(pack, changed)) - read(pictures(pack, found)))[:, 1]  # of the attribute that is edited
    wanted = torch.where(shown[:, 1], -rise, rise) / 2
    torch.testing.assert_close(torch.tensor(cell["t"]), wanted)
    both = [run.realism.score(pack.distance.summary(pictures(pack, each))) for each in (changed, found)]
    torch.testing.assert_close(torch.tensor(cell["R"]), torch.stack(both).mean(dim=0))
    assert list(magec_editability.measured(run, photos, found, replace(moving, attributes=False))) == ["R"]


def test_the_editors_turn_over_what_is_shown_and_go_both_ways(pack: Pack, tmp_path: Path) -> None:
    run, found = new_run(pack, FEW, tmp_path, quick=True), codes_of(32)
    shown = read(pictures(pack, found)) > 0.5
    makers = editors_of(run, Photos(pictures(pack, found), "drawn", shown, None))
    assert list(makers) == [ATTRIBUTES, STYLEFLOW, GANSPACE, INTERPOLATION]
    assert list(editors_of(run, Photos(pictures(pack, found), "drawn", None, None))) == [GANSPACE, INTERPOLATION]
    for i, (name, edit) in enumerate(makers[ATTRIBUTES]().edits.items()):
        rise = (read(pictures(pack, found, edit(found.latents))) - read(pictures(pack, found)))[:, i]
        assert float(rise[~shown[:, i]].mean()) > 0 > float(rise[shown[:, i]].mean()), name
    half = makers[INTERPOLATION]().edits["half 2"](found.latents).values
    torch.testing.assert_close(half[5], (found.latents.values[5] + found.latents.values[3]) / 2)
    edits = ganspace_edits(run)
    assert len(edits) == 8
    there, back = (edits[name].apply(found.latents).values for name in ("component-1", "component-1 back"))
    torch.testing.assert_close((there + back) / 2, found.latents.values)
    undone = edits["component-1"].undo(edits["component-1"].apply(found.latents))
    torch.testing.assert_close(undone.values, found.latents.values)


def test_styleflow_removes_what_is_shown_and_adds_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def edit(flow: FittedStyleFlow, latents: Latents, attribute: str, target: float) -> Latents:
        return latents.with_values(latents.values + (10 if target == 1.0 else -10))

    monkeypatch.setattr(FittedStyleFlow, "edit", edit)
    codes, shown = codes_of().latents, torch.tensor([True, False, False, True])
    moved = _flowed(codes, object.__new__(FittedStyleFlow), "red", shown)
    torch.testing.assert_close(moved.values - codes.values, torch.tensor([-10.0, 10, 10, -10])[:, None].expand(4, 48))


@dataclass(frozen=True)
class Knowing:
    """Finds the codes that pictures were made of, among those it was given."""

    codes: Latents

    def invert(self, generator: Any, target: torch.Tensor, rng: torch.Generator, progress: Any = silent) -> Inversion:
        made = generator.synthesize(self.codes).images.clamp(-1, 1)
        nearest = torch.cdist(target.flatten(1), made.flatten(1)).argmin(dim=1)
        return Inversion(self.codes.with_values(self.codes.values[nearest]), GAN.name, "known", {})


def test_codes_that_come_back_score_zero_and_those_that_show_it_are_left_out(pack: Pack, tmp_path: Path) -> None:
    run, found = new_run(pack, FEW, tmp_path), codes_of()
    step = torch.linspace(-0.3, 0.3, 48)
    edit = ReversibleEdit(
        lambda latents: latents.with_values(latents.values + step),
        lambda latents: latents.with_values(latents.values - step),
    )
    both = found.latents.with_values(torch.cat([found.latents.values, found.latents.values + step]))
    shown = torch.tensor([[True, False], [False, False], [True, True], [False, True]])
    photos = Photos(pictures(pack, found), "drawn", shown, None)
    red = magec_consistency.measured(run, photos, found, Knowing(both), f"{ATTRIBUTES} red", edit)
    assert [math.isnan(score) for score in red] == [True, False, True, False]
    assert max(score for score in red if not math.isnan(score)) < 1e-6
    every = magec_consistency.measured(run, photos, found, Knowing(both), f"{GANSPACE} component-1", edit)
    assert max(every) < 1e-6
    stuck = magec_consistency.measured(run, photos, found, Knowing(found.latents), f"{GANSPACE} component-1", edit)
    assert min(stuck) > 0.3, "codes that do not follow the edit do not come back"
    none = replace(photos, shown=torch.ones(4, 2, dtype=torch.bool))
    left = magec_consistency.measured(run, none, found, Knowing(both), f"{ATTRIBUTES} red", edit)
    assert all(math.isnan(score) for score in left)


def test_true_edits_turn_one_attribute_over(tmp_path: Path) -> None:
    run = new_run(open_model("portraits"), replace(FEW, pictures=2), tmp_path)
    photos = photos_of(run)
    assert photos.shown is not None
    true = magec_truth.truths(run, photos)
    assert [truth.attribute for truth in true] == list(range(18))
    assert run.pack.reader is not None
    names = run.pack.reader.attributes
    turned = []
    for truth in true:
        read_off = run.pack.reader.classify(truth.images)[:, truth.attribute] > 0.5
        turned.append(float((read_off != photos.shown[:, truth.attribute]).float().mean()))
    assert sum(turned) / len(turned) > 0.85, dict(zip(names, turned, strict=True))


def test_an_edit_that_is_the_truth_has_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strength 1 gives the true picture, others half of the change, none the photo."""
    run = new_run(open_model("portraits"), FEW, tmp_path)
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    photos = Photos(images, "drawn", torch.zeros(4, 18, dtype=torch.bool), torch.zeros(4, 1))
    true = [magec_truth.Truth(i, images + 0.1 * (i + 1) * torch.randn(4, 3, 8, 8)) for i in range(2)]
    found = Inversion(Latents(torch.zeros(4, 1280), run.pack.generator.spaces["w+"]), "portraits", "drawn", {})

    @dataclass(frozen=True)
    class Known(AttributeEditor):
        def turned(self, latents: Latents, attribute: int, present: torch.Tensor, strength: float = 1.0) -> Latents:
            return latents.with_values(latents.values + (attribute + 1) * 100 + strength)

    def drawn(pack: Pack, found: Inversion, latents: Latents | None = None) -> torch.Tensor:
        code = 0.0 if latents is None else float(latents.values[0, 0])
        if code == 0:
            return images
        share = 1.0 if code % 100 == 1 else 0.5
        return images + share * (true[int(code // 100) - 1].images - images)

    monkeypatch.setattr(magec_truth, "pictures", drawn)
    cell = magec_truth.measured(run, photos, found, Known(torch.zeros(18, 1280)), true)
    assert max(cell["mse"]) < 1e-12
    assert min(cell["cosine"]) > 1 - 1e-5
    wanted = torch.stack([(t.images - images).square().mean(dim=(1, 2, 3)) for t in true]).mean(dim=0)
    torch.testing.assert_close(torch.tensor(cell["unedited"]), wanted)


TABLES = (magec_reconstruction.BENCH, magec_editability.BENCH, magec_consistency.BENCH)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose inversions all tables share."""
    return tmp_path_factory.mktemp("out")


def first_rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of the first table, by method."""
    return {row["method"]: row for row in rows_of(report, report["tables"][0]["name"])}


@pytest.mark.parametrize("bench", TABLES, ids=lambda bench: bench.name)
def test_a_whole_table_of_a_small_model(pack: Pack, out: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    report = ran(bench, pack, out, FEW, quick=True)
    wanted = magec_consistency.ROWS if bench.name == "magec-table3" else methods_of(pack, quick=True)
    assert list(first_rows(report)) == list(wanted)
    assert report["settings"]["picture_seed"] == magec_inversions.PHOTOS
    assert report["published"][0]["source"].startswith("MAGEC, table")
    assert rows_of(report, "tests")
    assert any("Pictures of the generator itself" in note for note in report["notes"])
    for module in (magec_reconstruction, magec_editability, magec_consistency):
        monkeypatch.setattr(module, "measured", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(magec_inversions, "invert", lambda *_: pytest.fail("inverted again"))
    monkeypatch.setattr("situ.bench.experiment.save_figure", lambda *_: [])
    again = ran(bench, pack, out, FEW, quick=True)
    assert again["tables"] == report["tables"]
    if bench.name == "magec-table1":
        rows = first_rows(report)
        assert (rows[ENCODER]["steps"], rows[FULL]["steps"], rows[REFINED]["steps"]) == (0, 10, 2)
        assert rows[IMAGE2STYLEGAN]["steps"] == 100, "the noise maps' steps count"
        assert rows[REFINED]["MSE"]["mean"] < rows[ENCODER]["MSE"]["mean"]
        images = photos_of(new_run(pack, FEW, out / "photos")).images
        mean = GAN.synthesize(Latents(MeanEncoder()(images).flatten(1), GAN.spaces["w+"])).images.clamp(-1, 1)
        assert rows[ENCODER]["MSE"]["mean"] == pytest.approx(float((mean - images).square().mean()), rel=1e-4)
        files = {path.name for path in (out / "magec-table1").iterdir()}
        assert {"curves.png", "curves.svg", "sheet.png", "reconstruction.csv"} <= files


COLUMNS = (
    ["MSE", "perceptual"],
    [f"R {GANSPACE}", f"R {INTERPOLATION}"],
    [f"ECS {GANSPACE} component-1"],
)


def test_a_model_without_networks_has_the_columns_that_need_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("situ.bench.experiment.save_figure", lambda *_: [])
    for bench, columns in zip(TABLES, COLUMNS, strict=True):
        report = ran(bench, BARE, tmp_path, FEW, quick=True)
        rows = first_rows(report)
        assert list(rows) == ([WITHOUT] if bench.name == "magec-table3" else [WITHOUT, LONGER, IMAGE2STYLEGAN])
        assert list(rows[WITHOUT])[1 : 1 + len(columns)] == columns
        notes = " ".join(report["notes"])
        assert "bare has no encoder" in notes
        assert "bare has no classifier of attributes" in notes


def test_an_editor_that_cannot_be_had_leaves_its_reason(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> None:
        raise SituError("StyleFlow needs zuko, which is not installed")

    monkeypatch.setattr("situ.bench.magec_editors.StyleFlow.fit", missing)
    monkeypatch.setattr("situ.bench.experiment.save_figure", lambda *_: [])
    start = {ENCODER: methods_of(pack, quick=True)[ENCODER]}
    monkeypatch.setattr(magec_editability, "methods_of", lambda *_: start)
    report = ran(magec_editability.BENCH, pack, tmp_path, FEW, quick=True)
    assert any(note.startswith("StyleFlow: StyleFlow needs zuko") for note in report["notes"])
    (row,) = first_rows(report).values()
    assert f"R {STYLEFLOW}" not in row
    assert f"t {ATTRIBUTES}" in row


def test_truth_is_refused_where_there_is_no_renderer(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(SituError, match="known of renders alone, and tiny has no renderer"):
        ran(magec_truth.BENCH, pack, tmp_path, FEW, quick=True)


@pytest.mark.slow
def test_the_truth_of_the_bundled_model(tmp_path: Path) -> None:
    report = ran(magec_truth.BENCH, open_model("portraits"), tmp_path, replace(FEW, pictures=2), quick=True)
    rows = rows_of(report, "truth")
    assert len(rows) == 9
    for row in rows:
        assert row["MSE edited"]["mean"] <= row["MSE unedited"]["mean"]
        assert row["cosine"]["mean"] > 0.1
    assert json.loads((tmp_path / "magec-truth/report.json").read_text())["claims"]
