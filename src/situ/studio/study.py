"""A preference study: which of two edits of one picture do people prefer (MAGEC, figure 5)?

A study is one SQLite file: the pictures, who is asked what in which order, and the votes. Judges see two edits of the
same picture side by side and never learn which method made which. Every call opens the file anew and writes in one
transaction, so that several servers may use a study at once and a killed one loses nothing.
"""

import csv
import io
import json
import math
import secrets
import sqlite3
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Literal, cast, get_args

import torch
from PIL import Image
from scipy.stats import binomtest

from situ.core.errors import FileError, ImageError, SituError
from situ.core.files import write_whole
from situ.core.images import from_pil, open_picture, to_pil
from situ.core.progress import Progress, silent

Choice = Literal["left", "right", "neither"]

ORIGINAL = "original"  # the folder of the unedited pictures
CAPTIONS = "edits.json"  # beside the folders: what was asked of each picture
QUESTION = "Which edit is better?"
LARGEST = 1024  # pixels of a picture's longer side; larger ones are shrunk
HEAVIEST = 2**30  # bytes of all pictures of a study
CONFIDENCE = 0.95

_APPLICATION, _VERSION = 0x53495455, 1  # "SITU"
_SCHEMA = """
CREATE TABLE study (
    question TEXT NOT NULL, pairs_per_judge INTEGER NOT NULL, organiser TEXT NOT NULL, made TEXT NOT NULL
);
CREATE TABLE method (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE picture (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, caption TEXT NOT NULL, original BLOB);
CREATE TABLE edit (
    picture INTEGER NOT NULL REFERENCES picture, method INTEGER NOT NULL REFERENCES method, png BLOB NOT NULL,
    PRIMARY KEY (picture, method)
);
-- in the order in which judges are dealt them; swapped: the first method stands on the right at the first showing
CREATE TABLE pair (
    id INTEGER PRIMARY KEY, picture INTEGER NOT NULL REFERENCES picture, first INTEGER NOT NULL REFERENCES method,
    second INTEGER NOT NULL REFERENCES method, swapped INTEGER NOT NULL, UNIQUE (picture, first, second)
);
CREATE TABLE judge (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, token TEXT NOT NULL UNIQUE);
CREATE TABLE trial (
    judge INTEGER NOT NULL REFERENCES judge, position INTEGER NOT NULL, pair INTEGER NOT NULL REFERENCES pair,
    left INTEGER NOT NULL REFERENCES method, right INTEGER NOT NULL REFERENCES method,
    PRIMARY KEY (judge, position), UNIQUE (judge, pair)
);
CREATE TABLE vote (
    judge INTEGER NOT NULL, position INTEGER NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'neither')), seconds REAL, voted TEXT NOT NULL,
    PRIMARY KEY (judge, position), FOREIGN KEY (judge, position) REFERENCES trial
);
CREATE VIEW ballot AS
SELECT judge.name AS judge, picture.name AS picture, l.name AS left, r.name AS right, vote.choice AS choice,
    CASE vote.choice WHEN 'left' THEN l.name WHEN 'right' THEN r.name ELSE '' END AS preferred,
    vote.seconds AS seconds, vote.voted AS voted
FROM vote JOIN trial USING (judge, position) JOIN judge ON judge.id = vote.judge JOIN pair ON pair.id = trial.pair
    JOIN picture ON picture.id = pair.picture JOIN method l ON l.id = trial.left JOIN method r ON r.id = trial.right
ORDER BY vote.voted, vote.judge, vote.position;
"""


@dataclass(frozen=True)
class Judge:
    """One person who is asked."""

    name: str
    token: str  # of the link
    asked: int  # pairs
    voted: int


@dataclass(frozen=True)
class Trial:
    """One pair as a judge sees it. Pictures are PNG; nothing here tells which method made which."""

    position: int  # from 0, in the judge's own order
    asked: int  # pairs that this judge is asked about
    voted: int
    question: str
    caption: str  # what the edits were to do; "" where nothing was said
    original: bytes | None
    left: bytes
    right: bytes


@dataclass(frozen=True)
class Vote:
    """One answer, with everything that was shown."""

    judge: str
    picture: str
    left: str  # the method shown there
    right: str
    choice: Choice
    preferred: str  # the method; "" for neither
    seconds: float | None  # from showing to voting
    voted: str  # UTC, ISO 8601


@dataclass(frozen=True)
class Preference:
    """How often one was preferred; NaN where nothing was decided."""

    wins: int
    losses: int
    ties: int  # "no difference"; they count neither way

    @property
    def decided(self) -> int:
        return self.wins + self.losses

    @property
    def rate(self) -> float:
        """Share of the decided votes."""
        return self.wins / self.decided if self.decided else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of the rate, which holds it with 95 % confidence if votes are independent."""
        if not self.decided:
            return math.nan, math.nan
        found = binomtest(self.wins, self.decided).proportion_ci(CONFIDENCE, method="wilson")
        return float(found.low), float(found.high)

    @property
    def p(self) -> float:
        """Two-sided sign test: the probability of a split as uneven as this if neither were preferred."""
        return float(binomtest(self.wins, self.decided).pvalue) if self.decided else math.nan

    def described(self) -> dict[str, float | int | None]:
        """All of it, as JSON can hold it: null where nothing was decided."""
        low, high = self.interval
        numbers = {"rate": self.rate, "low": low, "high": high, "p": self.p}
        return {**asdict(self), **{name: value if self.decided else None for name, value in numbers.items()}}

    def __str__(self) -> str:
        """ "72 % [55, 84]": the rate and its interval; a dash where nothing was decided."""
        if not self.decided:
            return "–"
        low, high = self.interval
        return f"{100 * self.rate:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"

    @property
    def p_text(self) -> str:
        """Two figures of p; a dash where nothing was decided."""
        return "–" if not self.decided else "< 0.001" if self.p < 0.001 else f"{self.p:.2g}"


@dataclass(frozen=True)
class Comparison:
    """Two methods against each other: votes, and pictures by the majority of their votes."""

    first: str
    second: str
    votes: Preference  # of the first
    pictures: Preference


@dataclass(frozen=True)
class JudgeTally:
    """What one judge did."""

    judge: str
    asked: int
    voted: int
    ties: int
    median_seconds: float | None  # that a vote took


@dataclass(frozen=True)
class Results:
    """What the votes say."""

    question: str
    methods: Mapping[str, Preference]  # against all others, most preferred first
    comparisons: Sequence[Comparison]
    judges: Sequence[JudgeTally]
    left: Preference  # of the left side, which no one should prefer

    @property
    def votes(self) -> int:
        return self.left.decided + self.left.ties

    def described(self) -> dict[str, object]:
        """All of it, as JSON can hold it."""
        return {
            "question": self.question,
            "votes": self.votes,
            "confidence": CONFIDENCE,
            "methods": [{"method": name, **each.described()} for name, each in self.methods.items()],
            "comparisons": [
                {
                    "first": each.first,
                    "second": each.second,
                    "votes": each.votes.described(),
                    "pictures": each.pictures.described(),
                }
                for each in self.comparisons
            ],
            "judges": [asdict(each) for each in self.judges],
            "left_side": self.left.described(),
        }


class Study:
    """A study in its file.

    Raises:
        FileError: there is no file, it is no study, or it cannot be read or written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileError(f"no study at {path}: make one with situ study create FOLDER -o {path}")
        with self._opened() as base:
            (application,), (version,) = (base.execute(f"PRAGMA {n}").fetchone() for n in _STAMPS)
            if application != _APPLICATION:
                raise FileError(f"{path} is no study: expected a file of situ study create")
            if version != _VERSION:
                raise FileError(f"{path} is a study of format {version}, this program reads {_VERSION}: make it anew")
            self.question, self._organiser = base.execute("SELECT question, organiser FROM study").fetchone()

    @contextmanager
    def _opened(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection; with `write`, inside one transaction that holds the file's lock."""
        try:
            base = sqlite3.connect(
                f"{self.path.resolve().as_uri()}?mode=rw", timeout=30, isolation_level=None, uri=True
            )
            try:
                base.execute("PRAGMA trusted_schema = OFF")
                base.execute("PRAGMA foreign_keys = ON")
                base.execute("PRAGMA synchronous = FULL")  # a vote that was thanked for outlives a power cut
                if write:
                    base.execute("BEGIN IMMEDIATE")
                yield base
                if write:
                    base.execute("COMMIT")
            finally:
                base.close()  # which rolls back what was not committed
        except sqlite3.Error as error:
            raise FileError(f"the study {self.path} cannot be used ({error}): is it damaged or read-only?") from None

    @property
    def organiser(self) -> str:
        """The token of the organiser's link, which shows the results."""
        return self._organiser

    def is_organiser(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._organiser.encode())

    @property
    def methods(self) -> list[str]:
        with self._opened() as base:
            return [name for (name,) in base.execute("SELECT name FROM method ORDER BY id")]

    @property
    def pictures(self) -> list[str]:
        with self._opened() as base:
            return [name for (name,) in base.execute("SELECT name FROM picture ORDER BY id")]

    @property
    def judges(self) -> list[Judge]:
        """Everyone who is asked, and how far they are."""
        with self._opened() as base:
            rows = base.execute(
                "SELECT name, token, (SELECT count(*) FROM trial WHERE trial.judge = id), "
                "(SELECT count(*) FROM vote WHERE vote.judge = id) FROM judge ORDER BY id"
            )
            return [Judge(*row) for row in rows]

    def add_judges(self, n: int, rng: torch.Generator) -> list[Judge]:
        """Ask more people, on with the pairs that have been shown least.

        Args:
            rng: draws the order of the pairs, not the links, which nobody may guess.
        """
        before = len(self.judges)
        with self._opened(write=True) as base:
            _add_judges(base, n, rng)
        return self.judges[before:]

    def next_trial(self, token: str) -> Trial | None:
        """The first pair that a judge has not voted on; None after the last.

        Raises:
            SituError: no judge has this link.
        """
        with self._opened() as base:
            judge = _judge_of(base, token)
            asked, voted = base.execute(
                "SELECT (SELECT count(*) FROM trial WHERE judge = :j), (SELECT count(*) FROM vote WHERE judge = :j)",
                {"j": judge},
            ).fetchone()
            row = base.execute(
                "SELECT trial.position, picture.caption, picture.original, l.png, r.png FROM trial "
                "JOIN pair ON pair.id = trial.pair JOIN picture ON picture.id = pair.picture "
                "JOIN edit l ON l.picture = picture.id AND l.method = trial.left "
                "JOIN edit r ON r.picture = picture.id AND r.method = trial.right "
                "WHERE trial.judge = :j AND trial.position NOT IN (SELECT position FROM vote WHERE judge = :j) "
                "ORDER BY trial.position LIMIT 1",
                {"j": judge},
            ).fetchone()
            return Trial(row[0], asked, voted, self.question, *row[1:]) if row else None

    def vote(self, token: str, position: int, choice: str, seconds: float | None = None) -> bool:
        """Keep a judge's answer about one pair. The first answer stands.

        Args:
            position: `Trial.position`.
            choice: "left", "right" or "neither".
            seconds: from showing to voting.

        Returns:
            whether it was kept: False where the judge had voted on this pair before.

        Raises:
            SituError: no such judge, pair or choice.
        """
        if choice not in get_args(Choice):
            raise SituError(f'a vote is left, right or neither, got "{choice}"')
        with self._opened(write=True) as base:
            key = (_judge_of(base, token), position)
            if not base.execute("SELECT 1 FROM trial WHERE judge = ? AND position = ?", key).fetchone():
                raise SituError(f"this judge was not asked about a pair {position}")
            if base.execute("SELECT 1 FROM vote WHERE judge = ? AND position = ?", key).fetchone():
                return False
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            base.execute("INSERT INTO vote VALUES (?, ?, ?, ?, ?)", (*key, choice, seconds, now))
            return True

    @property
    def votes(self) -> list[Vote]:
        """All votes, oldest first."""
        with self._opened() as base:
            return [Vote(*row) for row in base.execute("SELECT * FROM ballot")]

    def votes_as_csv(self) -> str:
        """All votes as a table with a header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(Vote.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(vote) for vote in self.votes)
        return text.getvalue()

    def results(self) -> Results:
        """What the votes say so far; rates are NaN where there are none."""
        votes = self.votes
        methods = {name: _preference([v for v in votes if name in (v.left, v.right)], name) for name in self.methods}
        best_first = sorted(methods, key=lambda name: -methods[name].rate if methods[name].decided else 1)
        return Results(
            self.question,
            {name: methods[name] for name in best_first},
            [_comparison(votes, a, b) for a, b in combinations(best_first, 2)],
            [_tally(judge, [v for v in votes if v.judge == judge.name]) for judge in self.judges],
            Preference(*(sum(v.choice == choice for v in votes) for choice in get_args(Choice))),
        )


_STAMPS = ("application_id", "user_version")


def _judge_of(base: sqlite3.Connection, token: str) -> int:
    row = base.execute("SELECT id FROM judge WHERE token = ?", (token,)).fetchone()
    if row is None:
        raise SituError("this link belongs to no judge of this study: check that all of it was copied")
    return row[0]


def _preference(votes: Sequence[Vote], method: str) -> Preference:
    """Of one method, over votes that it took part in."""
    wins = sum(vote.preferred == method for vote in votes)
    ties = sum(not vote.preferred for vote in votes)
    return Preference(wins, len(votes) - wins - ties, ties)


def _comparison(votes: Sequence[Vote], a: str, b: str) -> Comparison:
    between = [vote for vote in votes if {vote.left, vote.right} == {a, b}]
    pictures = [
        _preference([vote for vote in between if vote.picture == name], a) for name in {v.picture for v in between}
    ]
    wins, losses = sum(p.wins > p.losses for p in pictures), sum(p.wins < p.losses for p in pictures)
    return Comparison(a, b, _preference(between, a), Preference(wins, losses, len(pictures) - wins - losses))


def _tally(judge: Judge, votes: Sequence[Vote]) -> JudgeTally:
    seconds = [vote.seconds for vote in votes if vote.seconds is not None]
    median = statistics.median(seconds) if seconds else None
    return JudgeTally(judge.name, judge.asked, judge.voted, sum(not vote.preferred for vote in votes), median)


def create_study(
    folder: Path | str,
    path: Path | str,
    rng: torch.Generator,
    pairs: int | None = None,
    judges: int = 1,
    question: str = QUESTION,
    progress: Progress = silent,
) -> Study:
    """Make a study of a folder: `METHOD/PICTURE.png` with the same names under every method.

    `original/PICTURE.png`, where it is there, is shown above; `edits.json` ({"PICTURE.png": "smile"}) says what was
    asked of a picture. Pictures are kept in the file, without their metadata, at up to `LARGEST` pixels.

    Args:
        rng: draws which pairs a judge gets, their order and their sides.
        pairs: pairs that each judge is asked about; all of them by default.
        judges: how many people are asked; more can be added later.

    Raises:
        SituError: fewer than two methods, folders that do not hold the same pictures, or numbers that do not fit.
        ImageError: a file that is no picture, or edits of one picture that differ in size.
        FileError: there is a file at `path` already, or it cannot be written.
    """
    folder, path = Path(folder), Path(path)
    if path.exists():
        raise FileError(f"{path} is there already and may hold votes: choose another name")
    methods, names = _methods_in(folder)
    most = len(names) * math.comb(len(methods), 2)
    each = most if pairs is None else pairs
    if not 1 <= each <= most:
        raise SituError(f"a judge can be asked about 1 to {most} pairs of this folder, got {each}")
    if judges < 1:
        raise SituError(f"a study needs one judge at least, got {judges}")
    question = question.strip()
    if not question:
        raise SituError("a study needs a question to ask, got an empty one")
    captions = _captions_in(folder, names)
    originals = _originals_in(folder, names)
    edits = _edits_in(folder, methods, names, progress)
    if sum(map(len, [*originals.values(), *edits.values()])) > HEAVIEST:
        raise SituError(f"the pictures are more than {HEAVIEST >> 20} MiB in all: take fewer or smaller ones")

    def write(place: Path) -> None:
        base = sqlite3.connect(place, isolation_level=None)
        try:
            base.executescript(_SCHEMA)
            base.execute("BEGIN")
            for stamp, value in zip(_STAMPS, (_APPLICATION, _VERSION), strict=True):
                base.execute(f"PRAGMA {stamp} = {value}")
            now = datetime.now(UTC).isoformat(timespec="seconds")
            base.execute("INSERT INTO study VALUES (?, ?, ?, ?)", (question, each, secrets.token_urlsafe(16), now))
            base.executemany("INSERT INTO method VALUES (?, ?)", enumerate(methods))
            base.executemany(
                "INSERT INTO picture VALUES (?, ?, ?, ?)",
                [(i, name, captions.get(name, ""), originals.get(name)) for i, name in enumerate(names)],
            )
            base.executemany("INSERT INTO edit VALUES (?, ?, ?)", [(*key, png) for key, png in edits.items()])
            dealt = deal_pairs(len(names), len(methods), rng)
            base.executemany("INSERT INTO pair VALUES (?, ?, ?, ?, ?)", [(i, *row) for i, row in enumerate(dealt)])
            _add_judges(base, judges, rng)
            base.execute("COMMIT")
            base.execute("PRAGMA journal_mode = WAL")  # stays with the file: readers and a writer at once
        except sqlite3.Error as error:
            raise FileError(f"cannot write {path} ({error})") from None
        finally:
            base.close()

    write_whole(path, write)
    return Study(path)


def deal_pairs(pictures: int, methods: int, rng: torch.Generator) -> list[tuple[int, int, int, bool]]:
    """All pairs (picture, first method, second method, swapped) in the order in which judges are dealt them.

    Any stretch of it holds each pair of methods equally often, and each of the two equally often on the left (but
    for the remainder).
    """
    rivals = list(combinations(range(methods), 2))
    orders = [torch.randperm(pictures, generator=rng).tolist() for _ in rivals]
    sides = torch.randint(2, (len(rivals),), generator=rng).tolist()
    return [
        (orders[k][i], *rivals[k], bool((i + sides[k]) % 2))
        for i in range(pictures)
        for k in torch.randperm(len(rivals), generator=rng).tolist()
    ]


def _add_judges(base: sqlite3.Connection, n: int, rng: torch.Generator) -> None:
    """Deal each new judge the pairs that follow the last judge's; every round of all pairs turns the sides over."""
    if n < 1:
        raise SituError(f"add one judge at least, got {n}")
    (each,) = base.execute("SELECT pairs_per_judge FROM study").fetchone()
    pairs = base.execute("SELECT id, first, second, swapped FROM pair ORDER BY id").fetchall()
    (before,) = base.execute("SELECT count(*) FROM judge").fetchone()
    for judge in range(before, before + n):
        # links must not follow from the seed, so they come from the system
        base.execute("INSERT INTO judge VALUES (?, ?, ?)", (judge, f"judge {judge + 1}", secrets.token_urlsafe(16)))
        for position, k in enumerate(torch.randperm(each, generator=rng).tolist()):
            lap, at = divmod(judge * each + k, len(pairs))
            pair, first, second, swapped = pairs[at]
            sides = (second, first) if swapped ^ (lap % 2) else (first, second)
            base.execute("INSERT INTO trial VALUES (?, ?, ?, ?, ?)", (judge, position, pair, *sides))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise FileError(f"the folder {folder} cannot be read ({error.strerror})") from None


def _methods_in(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the methods, and of the pictures that each of them edited."""
    if not folder.is_dir():
        raise FileError(f"no folder at {folder}: expected METHOD/PICTURE.png in it, for two methods at least")
    methods = [path.name for path in _entries(folder) if path.is_dir() and path.name != ORIGINAL]
    if len(methods) < 2:
        got = f"only {methods[0]}" if methods else "none"
        raise SituError(f"a study compares two methods at least, each a folder of pictures in {folder}; got {got}")
    found = {method: {path.name for path in _entries(folder / method)} for method in methods}
    names = sorted(set.union(*found.values()))
    if not names:
        raise SituError(f"there are no pictures in {', '.join(str(folder / method) for method in methods)}")
    for method in methods:
        missing = [name for name in names if name not in found[method]]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise SituError(
                f"{folder / method} has no {missing[0]}{more}: under every method, the same names "
                "stand for the same pictures"
            )
    return methods, names


def _captions_in(folder: Path, names: Sequence[str]) -> dict[str, str]:
    file = folder / CAPTIONS
    if not file.exists():
        return {}
    try:
        captions = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{file} cannot be read ({error})") from None
    if not isinstance(captions, dict) or not all(isinstance(value, str) for value in captions.values()):
        raise FileError(f'{file} should say what was asked of each picture, as {{"{names[0]}": "smile"}}')
    unknown = next((name for name in captions if name not in names), None)
    if unknown is not None:
        raise FileError(f"{file} names {unknown}, but there is no such picture")
    return cast("dict[str, str]", captions)


def _originals_in(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    place = folder / ORIGINAL
    if not place.is_dir():
        return {}
    missing = [name for name in names if not (place / name).exists()]
    if missing:
        raise SituError(f"{place} has no {missing[0]}: put the original of every picture there, or none")
    return {name: _png(open_picture(place / name)) for name in names}


def _edits_in(
    folder: Path, methods: Sequence[str], names: Sequence[str], progress: Progress
) -> dict[tuple[int, int], bytes]:
    """(picture, method) -> PNG."""
    edits = dict[tuple[int, int], bytes]()
    for i, name in enumerate(names):
        sizes = dict[str, tuple[int, int]]()
        for j, method in enumerate(methods):
            picture = open_picture(folder / method / name)
            sizes[method] = picture.size
            edits[i, j] = _png(picture)
        other = next((method for method in methods if sizes[method] != sizes[methods[0]]), None)
        if other is not None:
            (w, h), (w2, h2) = sizes[methods[0]], sizes[other]
            raise ImageError(
                f"{methods[0]}/{name} is {w} x {h} pixels, {other}/{name} {w2} x {h2}, which would tell them apart: "
                "bring them to one size"
            )
        progress(i + 1, len(names), name)
    return edits


def _png(picture: Image.Image) -> bytes:
    """Only the pixels, on white, at a bounded size: metadata could tell the method."""
    plain = to_pil(from_pil(picture)[0])
    plain.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    plain.save(held, "PNG")
    return held.getvalue()
