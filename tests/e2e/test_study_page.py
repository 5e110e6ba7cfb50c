"""A preference study as its judges and its organiser meet it, in a browser."""

import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Page, expect

from situ.core.direction import Direction, Edit
from situ.core.images import save_image
from situ.core.latents import parse_subspace
from situ.core.traversal import synthesize_edits
from situ.packs.library import open_model
from situ.studio.study import Study, create_study

METHODS = ("alpha", "beta")


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Portraits edited along two drawn directions."""
    folder = tmp_path_factory.mktemp("methods")
    pack, rng = open_model("portraits"), torch.Generator().manual_seed(0)
    latents = pack.generator.sample(3, pack.generator.spaces["z"], rng, truncation=0.7)
    subspace = parse_subspace("w+:2-5", pack.generator.spaces)
    edits = {"original": Edit()}
    for method in METHODS:
        vector = torch.randn(subspace.dim, generator=rng)
        made = Direction(vector / vector.norm(), subspace, pack.generator.name, "mouth", "drawn", unit=3.0)
        edits[method] = Edit(((made, 1.5),))
    rows = synthesize_edits(pack.generator, latents, list(edits.values()))
    for i, row in enumerate(rows):
        for name, image in zip(edits, row, strict=True):
            save_image(image, folder / name / f"{i}.png")
    (folder / "edits.json").write_text(json.dumps({f"{i}.png": "Asked for: a wider smile" for i in range(3)}))
    return folder


@pytest.fixture
def study(methods: Path, tmp_path: Path) -> Study:
    return create_study(methods, tmp_path / "study.sqlite", torch.Generator().manual_seed(0), judges=3)


def far(page: Page, done: int) -> None:
    expect(page.get_by_text(f"{done} of 3 judged")).to_be_visible()


def pressed(page: Page, key: str) -> None:
    page.keyboard.press(key)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_a_judge_and_the_organiser(
    study: Study, serve: Callable[..., Any], window: Callable[..., Page], screenshot: Callable[..., Path]
) -> None:
    server = serve("study", "serve", str(study.path))
    one, two, _ = (f"{server.url}?judge={judge.token}" for judge in study.judges)
    page = window()
    asked, problems = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(one)
    far(page, 0)
    expect(page.get_by_text("Asked for: a wider smile")).to_be_visible()
    expect(page.get_by_role("button", name="Left", exact=True)).to_be_visible()
    for name in ("Original", "Left", "Right"):
        picture = page.get_by_role("img", name=name, exact=True)
        expect(picture).to_be_visible()
        assert picture.evaluate("image => image.naturalWidth") == 64
    assert not any(method in page.content() for method in METHODS)

    # a picture grows and shrinks, and its keys are no votes meanwhile
    page.get_by_role("button", name="Right: enlarge").click()
    assert page.get_by_role("button", name="Right: enlarge").bounding_box()["width"] == 1280
    pressed(page, "ArrowLeft")
    pressed(page, "Escape")
    assert page.get_by_role("button", name="Right: enlarge").bounding_box()["width"] < 600
    far(page, 0)

    # a click, a reload, a key; two clicks on one pair are one vote
    first = study.next_trial(study.judges[0].token)
    page.get_by_role("button", name="Left", exact=True).dblclick()
    far(page, 1)
    page.reload()
    far(page, 1)
    page.keyboard.down("ArrowDown")
    far(page, 2)
    page.keyboard.down("ArrowDown")  # a key that stays down repeats
    page.keyboard.up("ArrowDown")
    page.wait_for_timeout(500)
    far(page, 2)

    # the server dies; the page that is open goes on with the next one
    server.kill()
    again = serve("study", "serve", str(study.path), port=int(server.url.rstrip("/").rpartition(":")[2]))
    far(page, 2)
    pressed(page, "3")
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    expect(page.get_by_role("button", name="Left", exact=True)).to_be_hidden()
    votes = study.votes
    assert [vote.choice for vote in votes] == ["left", "neither", "right"]
    assert first is not None
    assert all(vote.seconds is None or 0 < vote.seconds < 120 for vote in votes)
    assert votes[0].seconds is not None
    assert problems == []
    assert [url for url in asked if not url.startswith((server.url, "data:", server.url.replace("http", "ws")))] == []

    # screenshots of the main states, and room for them in a narrow window
    for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
        page = window(width, 900 if width > 600 else 800, dark)
        kind = f"{width}-{'dark' if dark else 'light'}"
        page.goto(two)
        far(page, 0)
        screenshot(page, f"study-judge-{kind}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in ("Left", "No difference", "Right"):
            box = page.get_by_role("button", name=name, exact=True).bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= (900 if width > 600 else 800), "without scrolling"
        page.goto(f"{again.url}?organiser={study.organiser}")
        expect(page.get_by_role("heading", name="Against each other")).to_be_visible()
        screenshot(page, f"study-results-{kind}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    # the organiser sees new votes at a click; nobody else sees results
    trial = study.next_trial(study.judges[2].token)
    assert trial is not None
    study.vote(study.judges[2].token, trial.position, "right")
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_text("4 votes")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("link", name="votes.csv").click()
    assert saved.value.path().read_text() == study.votes_as_csv()
    for words, said in (
        ("", "Open it with the link"),
        ("?judge=nobody", "belongs to no judge"),
        ("?organiser=nobody", "not the organiser's"),
        (f"?organiser={study.judges[0].token}", "not the organiser's"),
        (f"?judge={study.organiser}", "belongs to no judge"),
    ):
        page.goto(again.url + words)
        expect(page.get_by_text(said)).to_be_visible()
        assert not any(method in page.content() for method in METHODS)

    # no file is served or taken: neither the study nor any other
    for path in (study.path, Path("/etc/passwd"), Path(__file__)):
        assert status(f"{again.url}gradio_api/file={path}") in (403, 404)
    request = urllib.request.Request(
        f"{again.url}gradio_api/upload",
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nhello\r\n--x--\r\n',
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(request, timeout=10)

    # what every visitor gets names no method, no judge and no file
    with urllib.request.urlopen(f"{again.url}config") as answer:
        config = answer.read().decode()
    secrets = [*METHODS, study.organiser, *[judge.token for judge in study.judges], study.path.name, study.question]
    assert "No difference" in config
    assert [word for word in secrets if word in config] == []


def test_answers_that_cannot_be_kept_are_told(
    study: Study, serve: Callable[..., Any], window: Callable[..., Page]
) -> None:
    server = serve("study", "serve", str(study.path))
    page = window()
    page.goto(f"{server.url}?judge={study.judges[0].token}")
    far(page, 0)
    with sqlite3.connect(study.path) as base:
        base.execute("CREATE TRIGGER full BEFORE INSERT ON vote BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    base.close()
    pressed(page, "1")
    expect(page.get_by_role("heading", name="Your answer was not kept")).to_be_visible()
    assert str(study.path) not in page.content()
    with sqlite3.connect(study.path) as base:
        base.execute("DROP TRIGGER full")
    base.close()
    page.reload()
    far(page, 0)
    pressed(page, "1")
    far(page, 1)


def test_a_password_stands_before_every_link(
    study: Study, serve: Callable[..., Any], window: Callable[..., Page], screenshot: Callable[..., Path]
) -> None:
    server = serve("study", "serve", str(study.path), "--host", "0.0.0.0", "--password", "open sesame")
    assert status(f"{server.url}config") == 401
    page = window(390, 800)
    page.goto(f"{server.url}?judge={study.judges[0].token}")
    page.get_by_label("username").fill("anna")
    page.get_by_label("password").fill("wrong")
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_text("Incorrect Credentials")).to_be_visible()
    screenshot(page, "study-password-390-light")
    page.get_by_label("username").fill("anna")
    page.get_by_label("password").fill("open sesame")
    page.get_by_role("button", name="Login").click()
    far(page, 0)
    pressed(page, "1")
    far(page, 1)
    assert [vote.choice for vote in study.votes] == ["left"]
