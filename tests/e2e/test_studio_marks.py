"""Regions marked on the picture itself, with the pointer and with keys; clusters; two strengths at once."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
READY = 60_000  # milliseconds


def opened(page: Any, url: str) -> Any:
    page.goto(url)
    page.wait_for_selector("#picture canvas", timeout=READY)
    page.wait_for_selector("#library img", timeout=READY)
    return page


def place(page: Any, across: float, down: float) -> tuple[float, float]:
    """A point of the picture, in shares of its size, on the screen."""
    box = page.locator("#picture img").bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def said(page: Any, words: str) -> None:
    page.wait_for_selector(f"#said >> text={words}", timeout=READY)


def strengths(page: Any) -> list[float]:
    return [float(page.locator(f"#strength-{i} input[type=number]").input_value()) for i in (1, 2)]


def test_regions_are_marked_by_pointer_and_by_keys(
    serve: Callable[..., Any], window: Callable[..., Any], screenshot: Callable[..., Path], tmp_path: Path
) -> None:
    server = serve("studio", "--workspace", "work")
    page, asked = window(), []
    opened(page, server.url)
    page.on("request", lambda request: asked.append(request.url))

    # pointing tells the part; once the map is there, without the server
    page.mouse.move(*place(page, 0.5, 0.72))
    page.wait_for_selector("#surface .words >> text=mouth", timeout=READY)
    asked.clear()
    for across, down, part in ((0.04, 0.04, "background"), (0.5, 0.73, "mouth"), (0.2, 0.6, "hair")):
        page.mouse.move(*place(page, across, down))
        page.wait_for_selector(f"#surface .words >> text={part}", timeout=5_000)
    assert not asked
    screenshot(page, "studio-hover", whole=False)

    # a box by a drag, and by two clicks
    page.get_by_role("button", name="Box").click()
    page.mouse.move(*place(page, 0.25, 0.5))
    page.mouse.down()
    page.mouse.move(*place(page, 0.4, 0.6))
    page.mouse.move(*place(page, 0.74, 0.74))
    page.mouse.up()
    said(page, "box[40,32,16,32]")
    for corner in ((0.02, 0.02), (0.48, 0.23)):
        page.mouse.click(*place(page, *corner))
    said(page, "box[8,16,14,30]")

    # a painted place
    page.get_by_role("button", name="Brush").click()
    page.mouse.move(*place(page, 0.35, 0.7))
    page.mouse.down()
    page.mouse.move(*place(page, 0.65, 0.7), steps=6)
    page.mouse.up()
    said(page, "what is painted")
    assert len(list((tmp_path / "work").glob("sessions/*/brush-*.png"))) == 1
    screenshot(page, "studio-brush", whole=False)

    # the same without a pointer
    page.mouse.move(5, 5)
    page.get_by_role("button", name="Part", exact=True).click()
    picture = page.get_by_role("application", name=re.compile("The picture"))
    picture.focus()
    for _ in range(2):
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#surface .words >> text=mouth", timeout=READY)
    page.keyboard.press("Enter")
    said(page, "mouth")
    page.get_by_role("tab", name="Find").click()
    where = page.get_by_label("Where")
    where.fill("eyes+brows")
    where.press("Enter")
    said(page, "eyes+brows")
    where.fill("46,32,8,18")
    where.press("Enter")
    said(page, "box[46,32,8,18]")

    # clusters, one of them chosen; the picture's directions found there; the page loaded anew knows the region
    page.get_by_role("button", name="Parts that nobody named").click()
    page.get_by_role("button", name="Show clusters").click()
    page.wait_for_selector("#clusters img", timeout=READY)
    page.locator("#clusters").screenshot(path=screenshot(page, "studio-clusters").with_name("studio-cluster-sheet.png"))
    page.locator("#clusters button").nth(3).click()
    said(page, "cluster-4 of 8")
    page.get_by_role("button", name="Find directions here").click()
    said(page, "Found cluster-4-resefa")
    page.reload()
    page.wait_for_selector("#library img", timeout=READY)
    page.get_by_role("tab", name="Find").click()
    page.wait_for_function("document.querySelector('#where input').value == 'cluster-4 of 8'")


def test_two_strengths_follow_the_point_of_the_pad(
    serve: Callable[..., Any], window: Callable[..., Any], screenshot: Callable[..., Path]
) -> None:
    page = opened(window(), serve("studio", "--workspace", "work").url)
    for number, name in enumerate(("eyes-1", "mouth-2"), 1):
        page.locator("#library button", has_text=name).click()
        page.wait_for_selector(f"#strength-{number} input[type=range]", state="visible", timeout=READY)
    page.get_by_role("button", name="Two at once").click()
    field = page.locator("#pad .field")
    field.scroll_into_view_if_needed()
    field.hover()
    page.wait_for_selector("#pad img:not([hidden])", timeout=READY)
    box = field.bounding_box()
    shown = page.locator("#picture img").get_attribute("src")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 5 / 6, box["y"] + box["height"] / 4, steps=5)
    # live: before it is let go
    page.wait_for_function("src => document.querySelector('#picture img').src != src", arg=shown, timeout=READY)
    page.wait_for_function("document.querySelector('#strength-1 input[type=number]').value == 2", timeout=READY)
    page.mouse.up()
    page.wait_for_function("document.querySelector('#strength-2 input[type=number]').value == -1.5", timeout=READY)
    screenshot(page, "studio-pad")
    field.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    page.wait_for_function("document.querySelector('#strength-1 input[type=number]').value == 1.8", timeout=READY)
    page.wait_for_function("document.querySelector('#strength-2 input[type=number]').value == -1", timeout=READY)
    page.wait_for_timeout(1500)  # the keys come to rest: one step of undo
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("document.querySelector('#strength-1 input[type=number]').value == 2", timeout=READY)
    assert strengths(page) == [2.0, -1.5]
    assert "eyes-1 2.00" in (field.get_attribute("aria-label") or "")
