"""What is taken away from the studio, as files; and the stacks that come back."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from situ.core.errors import FileError
from situ.core.latents import save_latents
from situ.studio.session import MOST, Entry, Session
from situ.studio.verbs import Studio

STACK_FORMAT = "situ-studio-stack-1"
FRAME = 60  # milliseconds of a frame of an animation

Export = Callable[[Studio, Session, Path], Path]  # writes one file into a folder


def picture(studio: Studio, session: Session, folder: Path) -> Path:
    """The edited picture; of a photo all of it."""
    studio.finished(session, session.now).save(folder / "edited.png")
    return folder / "edited.png"


def strip(studio: Studio, session: Session, folder: Path) -> Path:
    """The stack at growing shares, side by side."""
    frames = studio.strip(session, session.now)
    row = Image.new("RGB", (sum(frame.width for frame in frames), frames[0].height))
    for i, frame in enumerate(frames):
        row.paste(frame, (i * frame.width, 0))
    row.save(folder / "strip.png")
    return folder / "strip.png"


def animation(studio: Studio, session: Session, folder: Path) -> Path:
    """From the picture to its edit and back, for ever."""
    first, *rest = studio.frames(session, session.now)
    first.save(folder / "edit.webp", save_all=True, append_images=rest, duration=FRAME, loop=0, quality=85)
    return folder / "edit.webp"


def palette(studio: Studio, session: Session, folder: Path) -> Path:
    """The first two edits against each other."""
    studio.palette(session, session.now).save(folder / "palette.png")
    return folder / "palette.png"


def latents(studio: Studio, session: Session, folder: Path) -> Path:
    """The codes of the picture, unedited."""
    path = folder / "latents.safetensors"
    save_latents(studio.latents(session, session.now), path, studio.pack.generator.name)
    return path


def stack(studio: Studio, session: Session, folder: Path) -> Path:
    """The stack, by names of the library."""
    content = {"format": STACK_FORMAT, "apply": [asdict(entry) for entry in session.now.stack]}
    (folder / "stack.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder / "stack.json"


EXPORTS: Mapping[str, Export] = {
    "Picture": picture,
    "Strip": strip,
    "Animation": animation,
    "Palette of two": palette,
    "Stack": stack,
    "Latents": latents,
}


def read_stack(studio: Studio, path: Path) -> tuple[Entry, ...]:
    """A stack that the studio wrote. Raises FileError; DirectionError for directions that are not in the library."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != STACK_FORMAT:
            raise ValueError(content["format"])
        entries = tuple(
            Entry(str(e["direction"]), float(e["strength"]), str(e["layers"]), bool(e["on"])) for e in content["apply"]
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileError(f"{path.name} is no stack as the studio saves it ({type(error).__name__})") from None
    if len(entries) > MOST:
        raise FileError(f"a stack holds {MOST} edits, {path.name} has {len(entries)}")
    for entry in entries:
        studio.direction(entry)
    return entries
