"""Run the commands of `docs/tour.md` as they stand, and keep the pictures that the page shows in `docs/tour/`.

python docs/make_tour_pictures.py
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from situ.core.files import write_whole

DOCS = Path(__file__).parent
LARGEST = 1200  # pixels on a side


def main() -> None:
    page = (DOCS / "tour.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, flags=re.M | re.S)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("situ ")]
    situ = Path(sys.executable).parent / "situ"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for command in commands:
            print(command, flush=True)
            subprocess.run([situ, *command.split()[1:]], cwd=folder, check=True)
        for link in re.findall(r"\]\((tour/[^)]+)\)", page):
            stem = Path(link).stem
            made = folder / f"{stem}.png"
            keep(made if made.exists() else next((folder / stem).glob("*.png")), DOCS / link)


def keep(made: Path, path: Path) -> None:
    """A picture as JPEG, no larger than a page shows it."""
    path.parent.mkdir(exist_ok=True)
    picture = Image.open(made).convert("RGB")
    picture.thumbnail((LARGEST, LARGEST))
    write_whole(path, lambda place: picture.save(place, quality=85, optimize=True, progressive=True))


if __name__ == "__main__":
    main()
