"""Sheets of pictures with captions, laid out for a person to enjoy."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from situ.core.files import write_whole
from situ.core.images import Images, to_pil
from situ.figures.overlays import enlarge

_INK, _QUIET, _PAPER = "#22262e", "#6b7280", "#ffffff"


@dataclass(frozen=True)
class Row:
    """One row of a grid: a caption and pictures."""

    caption: str
    images: Images


@dataclass(frozen=True)
class Grid:
    """Rows of pictures under a title, with a caption over each column."""

    rows: Sequence[Row]
    title: str = ""
    columns: Sequence[str] = field(default_factory=tuple)
    note: str = ""
    cell: int = 112  # pixels of one picture on the sheet


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _text(
    draw: ImageDraw.ImageDraw, at: tuple[int | float, int | float], text: str, size: int, ink: str, anchor: str = "la"
) -> None:
    draw.text(at, text, fill=ink, font=_font(size), anchor=anchor)


def draw_grid(grid: Grid) -> Image.Image:
    """One grid as a Pillow image. Missing cells stay white."""
    cell, gap = grid.cell, 4
    words = max(len(line) for row in grid.rows for line in row.caption.split("\n"))
    left = 12 + (8 + 9 * words if words else 0)
    top = 10 + (30 if grid.title else 0) + (20 if grid.note else 0) + (20 if grid.columns else 0)
    widest = max(len(row.images) for row in grid.rows)
    texts = ((grid.title, 20), (grid.note, 13))
    width = max(left + widest * (cell + gap) + 8, *(24 + int(_font(size).getlength(text)) for text, size in texts))
    canvas = Image.new("RGB", (width, top + len(grid.rows) * (cell + gap) + 6), _PAPER)
    draw = ImageDraw.Draw(canvas)
    if grid.title:
        _text(draw, (12, 8), grid.title, 20, _INK)
    if grid.note:
        _text(draw, (12, 36), grid.note, 13, _QUIET)
    for i, caption in enumerate(grid.columns):
        _text(draw, (left + i * (cell + gap) + cell / 2, top - 7), caption, 13, _QUIET, "ms")
    for j, row in enumerate(grid.rows):
        y = top + j * (cell + gap)
        for line, words in enumerate(row.caption.split("\n")):
            _text(
                draw,
                (12, y + cell / 2 - 8 + 16 * line),
                words,
                14 if line == 0 else 12,
                _INK if line == 0 else _QUIET,
            )
        for i, image in enumerate(enlarge(row.images, cell)):
            picture = to_pil(image)
            if picture.size != (cell, cell):
                picture = picture.resize((cell, cell), Image.Resampling.LANCZOS)
            canvas.paste(picture, (left + i * (cell + gap), y))
    return canvas


def lay_out(rows: Sequence[Sequence[Image.Image]], title: str = "", note: str = "") -> Image.Image:
    """Sheets in rows, as one page."""
    gap, head = 16, (44 if title else 0) + (24 if note else 0)
    width = max(sum(sheet.width + gap for sheet in row) for row in rows)
    heights = [max(sheet.height for sheet in row) + gap for row in rows]
    page = Image.new("RGB", (width, head + sum(heights)), _PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        _text(draw, (12, 12), title, 28, _INK)
    if note:
        _text(draw, (12, 48), note, 14, _QUIET)
    y = head
    for row, height in zip(rows, heights, strict=True):
        x = 0
        for sheet in row:
            page.paste(sheet, (x, y))
            x += sheet.width + gap
        y += height
    return page


def save_page(page: Image.Image, path: Path | str) -> None:
    """Write a page, whole or not at all."""
    write_whole(path, page.save)
