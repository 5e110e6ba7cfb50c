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
import urllib.request
from typing import Any

from playwright.sync_api import sync_playwright

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


SERVER = """
import situ.studio.app
from situ.cli.main import run
print("imported", flush=True)
run()
"""


def opened(browser: Any, url: str) -> tuple[Any, dict[str, float]]:
    """The page, and when what was there: seconds of the clock."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    while True:
        try:
            with urllib.request.urlopen(url):
                break
        except OSError:
            time.sleep(0.01)
    times = {"the server answers": time.monotonic()}
    page.goto(url, wait_until="commit")
    page.wait_for_selector("#picture canvas", timeout=60_000)  # the picture, with the tools on it
    page.get_by_role("tab", name="Find").click()
    page.get_by_role("button", name="Find directions here").wait_for(timeout=60_000)
    times["the picture, the tools and the controls work"] = time.monotonic()
    page.wait_for_selector("#library img", state="attached", timeout=60_000)
    times["the library's previews are there"] = time.monotonic()
    page.get_by_role("tab", name="Edit", exact=True).click()
    return page, times


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    chromium = parser.parse_args().chromium
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as workspace, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        command = [sys.executable, "-c", SERVER, "studio", "--port", str(port), "--workspace", workspace]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert server.stdout is not None
            server.stdout.readline()
            imported = time.monotonic()
            page, times = opened(browser, f"http://127.0.0.1:{port}/")
            print("after the imports:")
            for what, when in times.items():
                print(f"  {when - imported:.1f} s: {what}")
            page.locator("#library button").first.click()
            page.wait_for_selector("#strength-1 input[type=range]", state="visible")
            page.wait_for_timeout(1500)
            took = sorted(page.evaluate(DRAG, POSITIONS))
            p95 = statistics.quantiles(took, n=20)[-1]
            middle = statistics.median(took)
            print(f"slider to painted picture: median {middle:.0f} ms, p95 {p95:.0f} ms, {POSITIONS} times")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
