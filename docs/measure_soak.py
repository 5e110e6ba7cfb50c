"""An hour of the studio's verbs in a random order from one seed: does memory grow, do files stay open?

    python docs/measure_soak.py [--minutes 60] [--seed 0] [-o docs/soak.json]

Two people take turns. Each step is one of: another picture, an edit on the stack, a slider, undo, redo, a search (ReSeFa, at
times a short LELSD), an export, a direction renamed or removed, the session read anew from its folder. Every minute memory
and open files are noted; the report has the growth over the last two thirds, by least squares.
"""

import argparse
import gc
import json
import os
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from situ.core.discovery import discover
from situ.core.errors import SituError
from situ.core.files import write_whole
from situ.core.progress import silent
from situ.core.region import parse_part
from situ.discovery.lelsd import LELSD
from situ.packs.library import open_model
from situ.studio import exports
from situ.studio.session import MOST, new_id, open_session
from situ.studio.verbs import Studio

PARTS = ("mouth", "eyes", "hair", "nose", "brows")


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class Person:
    """One session, and what its person may do next."""

    def __init__(self, studio: Studio, chance: random.Random, folder: Path) -> None:
        self.studio, self.chance, self.folder = studio, chance, folder
        self.name, self.session = open_session(studio.workspace, new_id())
        self.found: list[str] = []

    def picture(self) -> None:
        self.session.do(replace(self.session.now, seed=self.chance.randrange(10_000)))

    def add(self) -> None:
        work = self.session.now
        if len(work.stack) < MOST:
            self.session.do(work.added(self.chance.choice(self.studio.library.items()).name))
        else:
            self.session.do(work.without(self.chance.randrange(MOST)))

    def slide(self) -> None:
        work = self.session.now
        for _ in range(8 if work.stack else 0):
            self.session.slide({self.chance.randrange(len(work.stack)): self.chance.uniform(-3, 3)})
            self.studio.pictures(self.session, self.session.now)
        self.session.settle()

    def undo(self) -> None:
        for _ in range(self.chance.randrange(1, 6)):
            self.session.undo()

    def redo(self) -> None:
        self.session.redo()

    def find(self) -> None:
        region = self.studio.region(self.session, self.chance.choice(PARTS))
        self.found += self.studio.find(self.session, self.session.now, region, "resefa", silent)

    def search(self) -> None:
        pack, part = self.studio.pack, self.chance.choice(PARTS)
        method = LELSD(samples=8, start_pictures=1)
        rng = torch.Generator().manual_seed(self.chance.randrange(1000))
        rows = discover(pack.generator, [parse_part(part, pack.segmenter)], method, rng, pack.calibration(8), random=0)
        self.found.append(self.studio.library.add(rows[0][0]))

    def export(self) -> None:
        make = self.chance.choice([exports.picture, exports.strip, exports.animation, exports.latents, exports.stack])
        make(self.studio, self.session, self.folder)

    def tidy(self) -> None:
        while len(self.found) > 4:
            name = self.found.pop(0)
            self.studio.library.remove(name)
            self.studio.forget()

    def again(self) -> None:
        self.session.save()
        self.name, self.session = open_session(self.studio.workspace, self.name)

    def step(self) -> str:
        """Do something, usual things more often; returns what."""
        usual = {
            "picture": 4,
            "add": 6,
            "slide": 10,
            "undo": 4,
            "redo": 2,
            "find": 1,
            "search": 0.3,
            "export": 2,
            "tidy": 1,
            "again": 1,
        }
        name = self.chance.choices(list(usual), list(usual.values()))[0]
        getattr(self, name)()
        self.studio.pictures(self.session, self.session.now)
        return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_name("soak.json"))
    given = parser.parse_args()
    chance, notes, counts = random.Random(given.seed), [], {}
    started = noted = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(open_model("portraits"), "portraits", Path(folder) / "workspace")
        people = [Person(studio, chance, Path(folder)) for _ in range(2)]
        refused = 0
        while time.monotonic() - started < given.minutes * 60:
            try:
                done = chance.choice(people).step()
                counts[done] = counts.get(done, 0) + 1
            except SituError:  # a direction that was removed is still on a stack: said, not suffered
                refused += 1
            if time.monotonic() - noted >= min(60, given.minutes * 6):
                noted = time.monotonic()
                gc.collect()
                note = {
                    "minutes": (noted - started) / 60,
                    "MB": resident(),
                    "files": open_files(),
                    "steps": sum(counts.values()),
                }
                notes.append(note)
                print(json.dumps(note), flush=True)
    later = [note for note in notes if note["minutes"] > given.minutes / 3]
    slopes = {
        key: float(np.polyfit([n["minutes"] for n in later], [n[key] for n in later], 1)[0]) * 60
        for key in ("MB", "files")
    }
    report = {"seed": given.seed, "minutes": given.minutes, "steps": counts, "refused": refused,
              "growth_per_hour": slopes, "notes": notes}  # fmt: skip
    write_whole(given.out, lambda place: place.write_text(json.dumps(report, indent=1)))
    print(json.dumps({key: report[key] for key in ("steps", "refused", "growth_per_hour")}))


if __name__ == "__main__":
    main()
