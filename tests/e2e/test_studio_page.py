"""The studio as a person uses it, in a real browser: an hour's work in a minute."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from situ.core.direction import load_direction
from situ.core.images import save_image
from situ.packs.portraits.renderer import render, sample_factors

pytestmark = pytest.mark.slow
READY = 60_000  # milliseconds


def picture(page: Any) -> str:
    """The address of the picture that is shown; another picture has another."""
    return page.locator("#picture img").get_attribute("src")


def changed(page: Any, before: str, timeout: int = 20_000) -> str:
    page.wait_for_function(
        "before => { const i = document.querySelector('#picture img'); return i && i.src != before && i.complete }",
        arg=before,
        timeout=timeout,
    )
    return picture(page)


def command(page: Any) -> str:
    page.get_by_role("tab", name="Take away").click()
    return page.locator("#command textarea").input_value()


def slide(page: Any, number: int, strength: float) -> None:
    """Type a strength into a slider's box."""
    box = page.locator(f"#strength-{number} input[type=number]")
    box.fill(str(strength))
    box.press("Tab")


def opened(page: Any, url: str) -> Any:
    page.goto(url)
    page.wait_for_selector("#picture img", timeout=READY)
    page.wait_for_selector("#library img", timeout=READY)
    return page


def test_sample_find_drag_undo_export_and_come_back(
    serve: Callable[..., Any], window: Callable[..., Any], screenshot: Callable[..., Path], tmp_path: Path
) -> None:
    server = serve("studio", "--workspace", "work")
    page = window(accept_downloads=True)
    elsewhere, errors = [], []
    page.on(
        "request", lambda r: elsewhere.append(r.url) if not re.match(r"(http://127\.0\.0\.1|data:|blob:)", r.url) else 0
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    opened(page, server.url)
    screenshot(page, "studio")

    # another picture, a part by a click, its outline
    before = picture(page)
    page.get_by_role("button", name="Surprise me").click()
    before = changed(page, before)
    page.get_by_role("tab", name="Find").click()
    box = page.locator("#picture img").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 0.72 * box["height"])
    page.wait_for_selector("#said >> text=Region:")
    page.get_by_label("Region", exact=True).check()
    before = changed(page, before)
    screenshot(page, "studio-region")
    page.get_by_label("Edited", exact=True).check()

    # directions of that place, one of them on the stack, dragged
    page.get_by_role("button", name="Find directions here").click()
    page.wait_for_selector("#said >> text=Found", timeout=READY)
    found = list((tmp_path / "work" / "directions").glob("*-resefa*.safetensors"))
    assert len(found) == 2
    assert load_direction(found[0]).found_by.startswith("ReSeFa")
    page.get_by_role("tab", name="Edit", exact=True).click()
    page.locator("#library button").first.click()
    page.wait_for_selector("#strength-1 input[type=range]", state="visible")
    before = changed(page, before)
    handle = page.locator("#strength-1 input[type=range]").bounding_box()
    page.mouse.move(handle["x"] + 0.6 * handle["width"], handle["y"] + handle["height"] / 2)
    page.mouse.down()
    for share in (0.65, 0.7, 0.75):
        page.mouse.move(handle["x"] + share * handle["width"], handle["y"] + handle["height"] / 2)
    page.mouse.up()
    before = changed(page, before)
    screenshot(page, "studio-edit")
    line = command(page)
    assert "--apply" in line
    assert "situ edit" in line

    # before and after, where it changed
    page.get_by_label("Before | after").check()
    page.wait_for_selector("#compare img", state="attached")
    screenshot(page, "studio-compare")
    page.get_by_label("Change", exact=True).check()
    page.wait_for_selector("#picture img", state="visible")
    screenshot(page, "studio-change")
    page.get_by_label("Edited", exact=True).check()

    # undo, redo
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("line => document.querySelector('#command textarea').value != line", arg=line)
    page.get_by_role("button", name="Redo").click()
    page.wait_for_function("line => document.querySelector('#command textarea').value == line", arg=line)

    # taken away
    page.get_by_role("button", name="Stack", exact=True).click()
    with page.expect_download() as waiting:
        page.get_by_role("link", name=re.compile("download", re.I)).or_(page.locator("a[download]")).first.click()
    stack = json.loads(Path(waiting.value.path()).read_text())
    assert len(stack["apply"]) == 1
    assert stack["apply"][0]["strength"] > 1

    # the page loaded anew finds the work again; another person does not
    page.reload()
    page.wait_for_selector("#strength-1 input[type=range]", state="visible", timeout=READY)
    assert command(page) == line
    stranger = opened(window(), server.url)
    assert "--apply" not in command(stranger)

    # the server killed and started again: the work is there
    server.kill()
    again = serve("studio", "--workspace", "work", port=int(server.url.rsplit(":", 1)[1].strip("/")))
    opened(page, again.url)
    assert command(page) == line
    assert not elsewhere
    assert not errors


def test_a_photo_comes_in_and_what_is_none_is_refused(
    serve: Callable[..., Any], window: Callable[..., Any], screenshot: Callable[..., Path], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    save_image(render(sample_factors(1, torch.Generator().manual_seed(5_000_004)), 64).images[0], photo)
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:300])
    page = opened(window(), serve("studio", "--workspace", "work").url)
    page.get_by_role("tab", name="Picture").click()
    before = picture(page)
    page.locator("#upload input[type=file]").set_input_files(broken)
    page.wait_for_selector("#said >> text=did not work", timeout=READY)
    page.locator("#upload input[type=file]").set_input_files(photo)
    page.wait_for_selector("#said >> text=Your photo is in", timeout=READY)
    changed(page, before)
    screenshot(page, "studio-photo")
    assert "--photo" in command(page)


def test_a_search_is_stopped_and_keeps_what_it_has(
    serve: Callable[..., Any], window: Callable[..., Any], tmp_path: Path
) -> None:
    page = opened(window(), serve("studio", "--workspace", "work").url)
    page.get_by_role("tab", name="Find").click()
    page.get_by_label("Where").click()
    page.get_by_role("option", name="mouth").click()
    page.wait_for_selector("#said >> text=Region:")
    page.get_by_label(re.compile("Careful")).check()
    page.get_by_role("button", name="Find directions here").click()
    page.wait_for_selector("#said >> text=/[1-9][0-9]* %/", timeout=READY)
    page.reload()  # the search goes on, and is shown again
    page.wait_for_selector("#said >> text=/[1-9][0-9]* %/", timeout=READY)
    page.get_by_role("tab", name="Find").click()
    page.get_by_role("button", name="Stop and keep").click()
    page.wait_for_selector("#said >> text=/Found|Stopped before/", timeout=READY)
    page.get_by_role("button", name="Surprise me").click()  # the page is as usable as before
    changed(page, picture(page))


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_the_window(
    serve: Callable[..., Any], window: Callable[..., Any], screenshot: Callable[..., Path], width: int, dark: bool
) -> None:
    page = opened(window(width=width, dark=dark), serve("studio", "--workspace", "work").url)
    screenshot(page, f"studio-{width}-{'dark' if dark else 'light'}")
    wide = "[...document.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    too_wide = page.evaluate(f"{wide}.map(e => e.outerHTML.slice(0, 120))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, too_wide
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input')].filter(e => e.offsetParent && !(e.innerText || e.ariaLabel "
        "|| e.title || e.querySelector('img[alt]:not([alt=\"\"])') || e.labels?.length || e.closest('label') || "
        "e.placeholder)).map(e => e.outerHTML.slice(0, 90))"
    )
    assert not unnamed
