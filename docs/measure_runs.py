"""How the cost of a run grows: `situ photos` in this process and on one and two workers, with more and more photos.

    python docs/measure_runs.py [--items 10 100 1000]

Prints the rows of the table in docs/runs.md: seconds from the first item to the last (starting the program, Ray and the models
apart), seconds for each item, and the memory of a worker.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from situ.core.direction import Direction
from situ.core.images import save_image
from situ.core.latents import parse_subspace
from situ.packs.library import open_model
from situ.packs.portraits.renderer import render, sample_factors

WAYS = {"in process": [], "1 worker": ["--workers", "1"], "2 workers": ["--workers", "2"]}


def prepared(folder: Path, n: int) -> None:
    """A direction and renders of the generator's size."""
    pack = open_model("portraits")
    subspace = parse_subspace("w+:2-9", pack.generator.spaces)
    vector = torch.randn(subspace.dim, generator=torch.Generator().manual_seed(0))
    made = Direction(vector / vector.norm(), subspace, pack.generator.name, "mouth", "drawn", name="d", unit=2.0)
    made.save(folder / "d.safetensors")
    (folder / "photos").mkdir()
    factors = sample_factors(n, torch.Generator().manual_seed(5_000_030))
    for i, some in enumerate(factors.split(100)):
        for k, image in enumerate(render(some, 64).images.clamp(-1, 1)):
            save_image(image, folder / "photos" / f"{i * 100 + k:05d}.png")


def memory_of(pattern: bytes) -> float:
    """The largest process whose command has this in it, in MB of its own memory (shared pages counted once)."""
    largest = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if pattern in (process / "cmdline").read_bytes():
                pages = int((process / "statm").read_text().split()[1])
                largest = max(largest, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        except OSError:
            continue
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[10, 100, 1000])
    given = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepared(folder, max(given.items))
        everything = sorted((folder / "photos").iterdir())
        for n in given.items:
            some = folder / f"some{n}"
            some.mkdir()
            for path in everything[:n]:
                os.link(path, some / path.name)
            for i, (way, options) in enumerate(WAYS.items()):
                out = folder / f"out-{n}-{i}"
                command = [sys.executable, "-m", "situ", "photos", str(some), "--apply", f"{folder / 'd.safetensors'}:1",
                           "--method", "encoder", "-o", str(out), *options]  # fmt: skip
                started = time.time()
                process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
                most = 0.0
                while process.poll() is None:
                    most = max(most, memory_of(b"ray::_Remote" if options else str(out).encode()))
                    time.sleep(0.1)
                whole = time.time() - started
                stamps = sorted(path.stat().st_mtime for path in (out / ".run" / "items").glob("*.json"))
                manifest = json.loads((out / ".run" / "run.json").read_text())
                busy = stamps[-1] - manifest["started"]
                print(f"| {n} | {way} | {whole:.1f} | {busy:.1f} | {1000 * busy / n:.0f} | {most:.0f} |", flush=True)


if __name__ == "__main__":
    main()
