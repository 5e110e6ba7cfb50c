"""A folder of methods for preference studies: small pictures of one colour."""

from pathlib import Path

from PIL import Image

METHODS = ("lelsd", "random", "resefa")


def methods_folder(
    folder: Path, methods: tuple[str, ...] = METHODS, pictures: int = 4, size: tuple[int, int] = (8, 8)
) -> Path:
    """FOLDER/METHOD/PICTURE.png, each picture in a colour of its own: (method, picture, 0)."""
    for m, method in enumerate(methods):
        (folder / method).mkdir(parents=True)
        for p in range(pictures):
            Image.new("RGB", size, (m, p, 0)).save(folder / method / f"{p}.png")
    return folder
