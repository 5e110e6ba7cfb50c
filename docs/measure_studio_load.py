"""The studio under load: many programs at once through its client API, and a restart in the middle.

    python docs/measure_studio_load.py [--clients 50] [--seconds 120]

Every client asks again and again for pictures of its own seed and edits, and compares each with the one it was given when it
asked alone: a picture of somebody else would be another. Half way the server is killed and started anew on the same workspace.
"""

import argparse
import json
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from gradio_client import Client
from PIL import Image


def answered(url: str) -> Client:
    """A client, once the server is there."""
    end = time.monotonic() + 120
    while True:
        try:
            return Client(url, verbose=False)
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def memory(process: subprocess.Popen) -> float:
    """Of the server, in MB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


class Asking(threading.Thread):
    """One client's requests."""

    def __init__(self, url: str, number: int, names: list[str], until: float, paused: threading.Event) -> None:
        super().__init__(daemon=True)
        self.client, self.url, self.until, self.paused = answered(url), url, until, paused
        self.chance = random.Random(number)
        self.requests = [
            (number * 100 + i, [[self.chance.choice(names), self.chance.uniform(-2, 2)]]) for i in range(3)
        ]
        self.right = [self.picture(*request) for request in self.requests]  # asked alone
        self.seconds: list[float] = []
        self.wrong, self.errors, self.lost = 0, list[str](), 0

    def picture(self, seed: int, apply: list) -> np.ndarray:
        with Image.open(self.client.predict(seed, 0.7, apply, api_name="/edit")) as image:
            return np.asarray(image).astype(int)

    def run(self) -> None:
        while time.monotonic() < self.until:
            k = self.chance.randrange(len(self.requests))
            started, was_paused = time.monotonic(), self.paused.is_set()
            try:
                got = self.picture(*self.requests[k])
            except Exception as error:
                if was_paused or self.paused.is_set():  # the server was restarted under it
                    self.lost += 1
                    while self.paused.is_set():
                        time.sleep(0.1)
                    self.client = answered(self.url)
                else:
                    self.errors.append(f"{type(error).__name__}: {error}")
                continue
            if not (was_paused or self.paused.is_set()):
                self.seconds.append(time.monotonic() - started)
            self.wrong += int(np.abs(got - self.right[k]).max() > 1)
            time.sleep(self.chance.uniform(0, 0.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    given = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as workspace:
        command = [sys.executable, "-m", "situ", "studio", "--port", str(port), "--workspace", workspace]

        def start() -> subprocess.Popen:
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        server = start()
        try:
            client, paused = answered(url), threading.Event()
            names = [each["name"] for each in client.predict(api_name="/directions")]
            saved = client.predict("mouth", "resefa", 3, api_name="/find")
            until = time.monotonic() + 3600
            asking = [Asking(url, number, names, until, paused) for number in range(given.clients)]
            before = memory(server)
            started = time.monotonic()
            for each in asking:
                each.until = started + given.seconds
                each.start()
            sizes, restarted = [before], False
            while time.monotonic() - started < given.seconds:
                time.sleep(2)
                sizes.append(memory(server))
                if not restarted and time.monotonic() - started > given.seconds / 2:
                    first, restarted = list(sizes), True
                    paused.set()
                    server.send_signal(signal.SIGKILL)
                    server.wait()
                    server = start()
                    answered(url)
                    time.sleep(1)
                    paused.clear()
                    sizes = []
            for each in asking:
                each.join(60)
            there = [each["name"] for each in answered(url).predict(api_name="/directions")]
            seconds = sorted(s for each in asking for s in each.seconds)
            report = {
                "clients": given.clients,
                "answers": len(seconds),
                "polite refusals of a full queue": sum("Queue is full" in e for each in asking for e in each.errors),
                "other errors": [e for each in asking for e in each.errors if "Queue is full" not in e][:5],
                "wrong pictures": sum(each.wrong for each in asking),
                "lost to the restart": sum(each.lost for each in asking),
                "median s": round(statistics.median(seconds), 2),
                "p95 s": round(statistics.quantiles(seconds, n=20)[-1], 2),
                "answers a second": round(len(seconds) / given.seconds, 1),
                "server MB": {"alone": round(before), "first half": [round(first[1]), round(first[-1])],
                              "second half": [round(sizes[0]), round(sizes[-1])]},
                "saved work there after the restart": set(saved) <= set(there),
            }  # fmt: skip
            print(json.dumps(report, indent=1))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
