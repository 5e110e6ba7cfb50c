"""The store of a preference study: who sees what, what is kept, and what the votes say."""

import io
import itertools
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from scipy.stats import norm

from situ.core.errors import FileError, SituError
from situ.studio.study import LARGEST, Preference, Study, Trial, create_study, deal_pairs
from toys_study import METHODS, methods_folder


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return methods_folder(tmp_path / "methods")


@pytest.fixture
def study(folder: Path, tmp_path: Path) -> Study:
    return create_study(folder, tmp_path / "study.sqlite", seeded(), judges=3)


def colour(png: bytes) -> tuple[int, int]:
    """(method, picture) of a toy picture."""
    with Image.open(io.BytesIO(png)) as picture:
        method, name, _ = picture.getpixel((0, 0))
    return method, name


def answer_all(study: Study, token: str, choose: Callable[[Trial], str]) -> list[Trial]:
    seen = []
    while trial := study.next_trial(token):
        seen.append(trial)
        assert study.vote(token, trial.position, choose(trial), seconds=2.0)
    return seen


def preferring(*order: int) -> Callable[[Trial], str]:
    """Someone who always takes the method that comes first in an order, by number."""
    return lambda trial: "left" if order.index(colour(trial.left)[0]) < order.index(colour(trial.right)[0]) else "right"


def test_every_judge_sees_every_pair_once_two_edits_of_one_picture(study: Study) -> None:
    wanted = {(p, *pair) for p in range(4) for pair in itertools.combinations(range(3), 2)}
    orders = []
    for judge in study.judges:
        seen = answer_all(study, judge.token, lambda trial: "left")
        shown = [(colour(t.left), colour(t.right)) for t in seen]
        assert all(left[1] == right[1] for left, right in shown)
        pairs = [(left[1], *sorted((left[0], right[0]))) for left, right in shown]
        assert len(pairs) == len(wanted)
        assert set(pairs) == wanted
        assert [t.voted for t in seen] == list(range(12))
        orders.append(pairs)
    assert orders[0] != orders[1]


def test_sides_are_balanced_for_every_judge_and_every_pair(study: Study) -> None:
    by_pair = Counter[tuple[int, int, int]]()
    for judge in study.judges[:2]:
        on_left = Counter[tuple[int, int]]()
        for trial in answer_all(study, judge.token, lambda trial: "left"):
            (left, picture), (right, _) = colour(trial.left), colour(trial.right)
            on_left[left, right] += 1
            by_pair[picture, left, right] += 1
        assert all(count == 2 for count in on_left.values()), "4 pictures: each of two methods twice on the left"
        assert len(on_left) == 6
    assert set(by_pair.values()) == {1}, "the second judge sees every pair the other way round"


def test_fewer_pairs_a_judge_are_dealt_evenly(folder: Path, tmp_path: Path) -> None:
    study = create_study(folder, tmp_path / "study.sqlite", seeded(), pairs=6, judges=4)
    shown = Counter[tuple[int, ...]]()
    for judge in study.judges:
        seen = answer_all(study, judge.token, lambda trial: "neither")
        assert len(seen) == 6
        rivals = Counter(tuple(sorted((colour(t.left)[0], colour(t.right)[0]))) for t in seen)
        assert set(rivals.values()) == {2}, "each two methods meet equally often before each judge"
        shown.update((colour(t.left)[1], *sorted((colour(t.left)[0], colour(t.right)[0]))) for t in seen)
    assert set(shown.values()) == {2}, "4 judges x 6 = twice 12 pairs"
    study.add_judges(1, seeded(1))
    assert [judge.asked for judge in study.judges] == [6] * 5


@pytest.mark.parametrize(("pictures", "methods"), [(1, 2), (5, 3), (8, 4)])
def test_what_is_dealt_holds_everything_once(pictures: int, methods: int) -> None:
    dealt = deal_pairs(pictures, methods, seeded())
    assert sorted(row[:3] for row in dealt) == sorted(
        (p, *pair) for p in range(pictures) for pair in itertools.combinations(range(methods), 2)
    )
    for pair in itertools.combinations(range(methods), 2):
        swapped = [row[3] for row in dealt if row[1:3] == pair]
        assert abs(2 * sum(swapped) - pictures) <= 1


def test_the_seed_decides_what_is_shown_and_not_the_links(folder: Path, tmp_path: Path) -> None:
    def shown(name: str, seed: int) -> tuple[list[tuple[bytes, bytes]], str]:
        study = create_study(folder, tmp_path / name, seeded(seed))
        token = study.judges[0].token
        return [(t.left, t.right) for t in answer_all(study, token, lambda trial: "left")], token

    (first, a), (same, b), (other, _) = shown("a.sqlite", 3), shown("b.sqlite", 3), shown("c.sqlite", 4)
    assert first == same
    assert first != other
    assert a != b
    assert len(a) >= 22, "128 bits"


def test_a_judge_goes_on_where_they_stopped_and_votes_once(study: Study) -> None:
    one, other = study.judges[0].token, study.judges[1].token
    first = study.next_trial(one)
    assert first is not None
    assert study.vote(one, first.position, "left", 1.5)
    assert not study.vote(one, first.position, "right")
    (vote,) = study.votes
    assert (vote.choice, vote.seconds, vote.judge) == ("left", 1.5, "judge 1")
    assert (vote.left, vote.right) == tuple(METHODS[colour(png)[0]] for png in (first.left, first.right))
    assert vote.preferred == vote.left
    assert vote.picture == f"{colour(first.left)[1]}.png"
    assert vote.voted.endswith("+00:00")
    again = Study(study.path).next_trial(one)
    assert again is not None
    assert (again.position, again.voted) == (1, 1)
    untouched = study.next_trial(other)
    assert untouched is not None
    assert untouched.voted == 0


def test_many_at_once_lose_nothing_and_count_nothing_twice(study: Study) -> None:
    asked = [(judge.token, position) for judge in study.judges for position in range(12)] * 3

    def vote(key: tuple[str, int]) -> bool:
        return Study(study.path).vote(*key, "left")

    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(vote, asked))
    assert sum(kept) == 36
    assert len(study.votes) == 36


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (("nobody", 0, "left"), "belongs to no judge"),
        (("", 12, "left"), "not asked about a pair 12"),
        (("", -1, "left"), "not asked about a pair -1"),
        (("", 0, "both"), "left, right or neither"),
    ],
)
def test_votes_that_are_refused(study: Study, key: tuple[str, int, str], words: str) -> None:
    token, position, choice = key
    with pytest.raises(SituError, match=words):
        study.vote(token or study.judges[0].token, position, choice)
    assert study.votes == []


def test_results_of_judges_who_agree(study: Study) -> None:
    for judge in study.judges:
        answer_all(study, judge.token, preferring(2, 0, 1))  # resefa, lelsd, random
    found = study.results()
    assert list(found.methods) == ["resefa", "lelsd", "random"]
    assert [each.rate for each in found.methods.values()] == [1, 0.5, 0]
    assert [(c.first, c.second) for c in found.comparisons] == [
        ("resefa", "lelsd"), ("resefa", "random"), ("lelsd", "random"),
    ]  # fmt: skip
    for comparison in found.comparisons:
        assert comparison.votes == Preference(12, 0, 0)
        assert comparison.pictures == Preference(4, 0, 0)
        assert comparison.votes.p == pytest.approx(2 / 2**12)
    assert found.votes == 36
    assert 16 <= found.left.wins <= 20, "each method stood on the left half of the time"
    assert [(tally.voted, tally.ties, tally.median_seconds) for tally in found.judges] == [(12, 0, 2.0)] * 3
    json.dumps(found.described(), allow_nan=False)


def test_ties_are_told_and_count_for_nobody(study: Study) -> None:
    for judge in study.judges:
        answer_all(study, judge.token, lambda trial: "neither")
    found = study.results()
    assert all(each == Preference(0, 0, 24) for each in found.methods.values())
    assert all(math.isnan(c.votes.rate) and math.isnan(c.votes.p) for c in found.comparisons)
    assert str(found.comparisons[0].votes) == found.comparisons[0].votes.p_text == "–"
    text = json.dumps(found.described(), allow_nan=False)
    assert json.loads(text)["comparisons"][0]["votes"]["rate"] is None


def test_a_picture_counts_by_the_majority_of_its_votes(folder: Path, tmp_path: Path) -> None:
    study = create_study(methods_folder(tmp_path / "two", ("a", "b"), 2), tmp_path / "s.sqlite", seeded(), judges=3)
    a_first, b_first = preferring(0, 1), preferring(1, 0)
    likes = [(a_first, b_first), (a_first, b_first), (b_first, lambda trial: "neither")]  # on pictures 0 and 1
    for judge, of_picture in zip(study.judges, likes, strict=True):
        answer_all(study, judge.token, lambda trial, of=of_picture: of[colour(trial.left)[1]](trial))
    (comparison,) = study.results().comparisons
    sign = 1 if comparison.first == "a" else -1
    votes, pictures = comparison.votes, comparison.pictures
    assert (votes.wins, votes.losses)[::sign] == (2, 3)
    assert votes.ties == 1
    assert (pictures.wins, pictures.losses, pictures.ties) == (1, 1, 0)


def test_interval_and_test_are_the_textbook_ones() -> None:
    preference = Preference(9, 1, 4)
    n, share, z = 10, 0.9, float(norm.ppf(0.975))
    centre, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    wilson = [(centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    assert preference.rate == share
    assert preference.interval == pytest.approx(wilson)
    assert preference.p == pytest.approx(2 * (1 + 10) / 2**10)
    assert str(preference) == "90 % [60, 98]"
    assert preference.p_text == "0.021"
    assert Preference(40, 0, 0).p_text == "< 0.001"


def test_results_before_all_have_voted(study: Study) -> None:
    assert study.results().votes == 0
    trial = study.next_trial(study.judges[0].token)
    assert trial is not None
    study.vote(study.judges[0].token, trial.position, "left")
    found = study.results()
    assert found.votes == 1
    assert found.judges[0].median_seconds is None
    assert sum(c.votes.decided for c in found.comparisons) == 1


def test_votes_as_a_table(study: Study) -> None:
    answer_all(study, study.judges[0].token, lambda trial: "right")
    header, *rows = study.votes_as_csv().splitlines()
    assert header == "judge,picture,left,right,choice,preferred,seconds,voted"
    assert len(rows) == 12
    assert all(row.split(",")[3] == row.split(",")[5] for row in rows)


def test_originals_and_what_was_asked_are_shown(folder: Path, tmp_path: Path) -> None:
    methods_folder(tmp_path / "more", ("original",), size=(20, 10))
    (tmp_path / "more" / "original").rename(folder / "original")
    (folder / "edits.json").write_text(json.dumps({f"{i}.png": f"asked {i}" for i in range(3)}))
    (folder / ".DS_Store").write_text("")
    study = create_study(folder, tmp_path / "study.sqlite", seeded(), question=" Which smiles better? ")
    assert study.methods == list(METHODS)
    for trial in answer_all(study, study.judges[0].token, lambda trial: "left"):
        picture = colour(trial.left)[1]
        assert trial.question == "Which smiles better?"
        assert trial.caption == (f"asked {picture}" if picture < 3 else "")
        assert trial.original is not None
        assert colour(trial.original)[1] == picture


def test_pictures_are_bounded_and_lose_what_could_tell_the_method(tmp_path: Path) -> None:
    for method in ("a", "b"):
        (tmp_path / method).mkdir()
        picture = Image.new("RGBA", (2 * LARGEST, LARGEST), (0, 0, 0, 0))
        exif = picture.getexif()
        exif[0x010E] = f"made by {method}"
        picture.save(tmp_path / method / "0.png", exif=exif)
    study = create_study(tmp_path, tmp_path / "study.sqlite", seeded())
    trial = study.next_trial(study.judges[0].token)
    assert trial is not None
    with Image.open(io.BytesIO(trial.left)) as shown:
        assert shown.size == (LARGEST, LARGEST // 2)
        assert shown.getpixel((0, 0)) == (255, 255, 255)
        assert not shown.getexif()
    assert trial.left == trial.right


def nothing(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.unlink()


def one_method(folder: Path) -> None:
    for name in ("random", "resefa"):
        for path in (folder / name).iterdir():
            path.unlink()
        (folder / name).rmdir()


SPOILT = {
    "one method": (one_method, {}, "two methods at least.*only lelsd"),
    "a picture less": (lambda f: (f / "random" / "2.png").unlink(), {}, "random has no 2.png: .*same names"),
    "two names more": (
        lambda f: [Image.new("RGB", (8, 8)).save(f / "lelsd" / f"{n}.png") for n in "xy"], {},
        "random has no x.png and 1 more",
    ),
    "no pictures": (nothing, {}, "no pictures in"),
    "a broken picture": (lambda f: (f / "random" / "2.png").write_bytes(b"hello"), {}, "2.png is not a picture"),
    "a folder for a picture": (
        lambda f: [(f / m / "4.png").mkdir() for m in METHODS], {}, "4.png is not a picture",
    ),
    "other sizes": (
        lambda f: Image.new("RGB", (9, 8)).save(f / "random" / "2.png"), {}, "8 x 8 pixels, random/2.png 9 x 8",
    ),
    "an original less": (lambda f: methods_folder(f, ("original",), 3), {}, "original has no 3.png"),
    "edits.json of no JSON": (lambda f: (f / "edits.json").write_text("{"), {}, "edits.json cannot be read"),
    "edits.json of another kind": (lambda f: (f / "edits.json").write_text("[1]"), {}, "should say what was asked"),
    "edits.json of others": (lambda f: (f / "edits.json").write_text('{"9.png": ""}'), {}, "names 9.png"),
    "too many pairs": (lambda f: None, {"pairs": 13}, "1 to 12 pairs of this folder, got 13"),
    "no pairs": (lambda f: None, {"pairs": 0}, "1 to 12 pairs"),
    "no judges": (lambda f: None, {"judges": 0}, "one judge at least, got 0"),
    "no question": (lambda f: None, {"question": "  "}, "needs a question"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_folders_that_make_no_study(name: str, folder: Path, tmp_path: Path) -> None:
    spoil, settings, words = SPOILT[name]
    spoil(folder)
    with pytest.raises(SituError, match=words):
        create_study(folder, tmp_path / "study.sqlite", seeded(), **settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["methods"], "nothing is left behind"


def test_pictures_that_are_too_many(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("situ.studio.study.HEAVIEST", 100)
    with pytest.raises(SituError, match="take fewer or smaller"):
        create_study(folder, tmp_path / "study.sqlite", seeded())


def test_a_study_is_never_overwritten(study: Study, folder: Path) -> None:
    before = study.path.read_bytes()
    with pytest.raises(FileError, match="there already and may hold votes"):
        create_study(folder, study.path, seeded())
    assert study.path.read_bytes() == before
    assert sorted(path.name for path in study.path.parent.iterdir()) == ["methods", "study.sqlite"]


def of_another_format(path: Path) -> None:
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 2")
    base.close()


BAD_FILES = {
    "missing": (lambda path: path.unlink(), "no study at"),
    "empty": (lambda path: path.write_bytes(b""), "is no study"),
    "text": (lambda path: path.write_text("hello, this is no database" * 100), "cannot be used"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:8192]), "cannot be used"),
    "of another format": (of_another_format, "format 2, this program reads 1"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_are_no_study(name: str, study: Study) -> None:
    spoil, words = BAD_FILES[name]
    spoil(study.path)
    with pytest.raises(FileError, match=words):
        Study(study.path).results()


def test_only_the_organiser_is_the_organiser(study: Study) -> None:
    assert study.is_organiser(study.organiser)
    assert not any(study.is_organiser(token) for token in ("", "é", *[judge.token for judge in study.judges]))
