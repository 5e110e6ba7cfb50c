"""Measures what docs/studio.md says of speed: the studio's start, and from a slider's input event to the painted picture.

python docs/measure_studio.py [--chromium /usr/bin/chromium]
"""

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from playwright.sync_api import Error, sync_playwright

POSITIONS = 60
DRAG = """async n => {
  const slider = document.querySelector('#strength-1 input[type=range]'), took = [];
  for (let k = 0; k < n; k++) {
    const picture = () => document.querySelector('#picture img'), before = picture().src, start = performance.now();
    slider.value = String(-2 + 4 * ((k * 7) % n) / n);
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    await new Promise(painted => {
      const look = () => {
        const now = picture();
        if (now && now.src != before && now.complete) requestAnimationFrame(() => requestAnimationFrame(painted));
        else setTimeout(look, 2);
      };
      look();
    });
    took.push(performance.now() - start);
    await new Promise(rest => setTimeout(rest, 60));
  }
  return took;
}"""


def opened(browser: Any, url: str) -> tuple[Any, float, float]:
    """The page, when the server answered, and when the first picture and the library were there."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    while True:
        try:
            page.goto(url)
            break
        except Error:
            time.sleep(0.05)
    answered = time.monotonic()
    page.wait_for_selector("#library img", timeout=60_000)
    return page, answered, time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    chromium = parser.parse_args().chromium
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as workspace, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        imports = time.monotonic()
        subprocess.run([sys.executable, "-c", "import situ.studio.app, situ.cli.main"], check=True)
        imports = time.monotonic() - imports
        command = [sys.executable, "-c", "from situ.cli.main import run; run()", "studio", "--port", str(port)]
        started = time.monotonic()
        server = subprocess.Popen([*command, "--workspace", workspace], stderr=subprocess.DEVNULL)
        try:
            page, answered, usable = opened(browser, f"http://127.0.0.1:{port}/")
            print(
                f"imports {imports:.1f} s; server answers {answered - started - imports:.1f} s after them, page usable"
            )
            print(f"{usable - started - imports:.1f} s after them")
            page.locator("#library button.thumbnail-item").first.click()
            page.wait_for_selector("#strength-1 input[type=range]", state="visible")
            page.wait_for_timeout(1500)
            took = sorted(page.evaluate(DRAG, POSITIONS))
            p95 = statistics.quantiles(took, n=20)[-1]
            print(
                f"slider to painted picture: median {statistics.median(took):.0f} ms, p95 {p95:.0f} ms, {POSITIONS} times"
            )
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
