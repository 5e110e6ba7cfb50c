"""A real browser on a real server: what the tests of the pages share.

Left out where no Chromium is found; pytest's summary then says so.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ARTEFACTS = HERE.parents[1] / "runs" / "e2e"  # screenshots, to be looked at; not under version control
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
# no sandbox, because containers allow none; WebGL on the CPU, because servers have no GPU
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PATIENCE = 120  # seconds for a server to answer; it imports torch and Gradio first, on what may be a busy machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is None:
        reason = f"browser tests are left out: no Chromium on the PATH (looked for {', '.join(NAMES)})"
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def base_url() -> None:
    """No address in common. In place of pytest-playwright's, whose kind of fixture pytest warns of."""


@pytest.fixture(scope="session", autouse=True)
def patience() -> None:
    """`expect` waits long enough for a machine that is busy with other tests."""
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE / 4)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """pytest-playwright's, with the Chromium of the system."""
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": FLAGS}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    """The usual window: 1280 pixels wide, light."""
    return {**browser_context_args, "viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}


@pytest.fixture
def window(new_context: Callable[..., Any]) -> Callable[..., Any]:
    """`window(width=390, dark=True)`: a page in a window of its own, with cookies and storage of its own."""

    def opened(width: int = 1280, height: int = 900, dark: bool = False, **more: Any) -> Any:
        page = new_context(**more).new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="dark" if dark else "light")
        return page

    return opened


@pytest.fixture
def screenshot() -> Callable[..., Path]:
    """`screenshot(page, "name")`: keeps a picture of the page in runs/e2e/name.png."""

    def keep(page: Any, name: str, whole: bool = True) -> Path:
        path = ARTEFACTS / f"{name}.png"
        page.screenshot(path=path, full_page=whole, animations="disabled")
        return path

    return keep


@dataclass(frozen=True)
class Server:
    """A verb that serves a page."""

    url: str  # "http://127.0.0.1:PORT/"
    process: subprocess.Popen[bytes]
    log: Path  # what it printed, of both streams
    workspace: Path  # its working folder

    def said(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:  # an answer too
        return True
    except OSError:
        return False


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`serve("studio", "--workspace", "here")`: runs the verb with --port in an empty folder until the test ends."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str, port: int | None = None, workspace: Path | None = None) -> Server:
        port, folder = port or free_port(), workspace or tmp_path
        log = tmp_path / f"server-{len(running)}.log"
        command = [sys.executable, "-c", "from situ.cli.main import run; run()", *words, "--port", str(port)]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )
        running.append(process)
        server = Server(f"http://127.0.0.1:{port}/", process, log, folder)
        until = time.monotonic() + PATIENCE
        while not _answers(server.url):
            if process.poll() is not None:
                pytest.fail(f"situ {' '.join(words)} ended with {process.returncode}:\n{server.said()}")
            if time.monotonic() > until:
                pytest.fail(f"situ {' '.join(words)} did not answer in {PATIENCE} s:\n{server.said()}")
            time.sleep(0.1)
        return server

    yield start
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
