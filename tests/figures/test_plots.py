"""Plots: what is written is a PNG and an SVG with its words in it, the same for the same numbers."""

from pathlib import Path

from PIL import Image

from situ.figures.plots import GREY, Bars, Line, Panel, draw_bars, draw_panels, save_figure

LINES = [
    Line("ours", [1.0, 2.0, 4.0], [3.0, 2.0, 1.0], [2.5, 1.5, 0.5], [3.5, 2.5, 1.5]),
    Line("random", [1.0, 2.0, 4.0], [1.0, 1.0, 1.0], baseline=True),
]


def panels():
    return draw_panels([Panel(f"part {i}", "d (unit)", "share", LINES, log_x=True) for i in range(3)], "A title")


def test_panels_are_written_twice_and_alike(tmp_path: Path) -> None:
    png, svg = save_figure(panels(), tmp_path, "curves")
    with Image.open(png) as picture:
        assert picture.width > 1000
    words = svg.read_text()
    for text in ("A title", "part 2", "d (unit)", "ours", "random"):
        assert text in words
    again = [path.read_bytes() for path in save_figure(panels(), tmp_path, "again")]
    assert again == [png.read_bytes(), svg.read_bytes()]


def test_a_label_looks_the_same_in_all_panels_and_the_baseline_is_grey() -> None:
    figure = panels()
    assert len(figure.axes) == 3, "the fourth place is empty"
    looks = {(line.get_label(), line.get_color(), line.get_marker()) for axes in figure.axes for line in axes.lines}
    assert len(looks) == 2
    assert {label: colour for label, colour, _ in looks}["random"] == GREY


def test_bars_with_bounds_and_marks(tmp_path: Path) -> None:
    bars = Bars("eyes", "share inside", ["lelsd", "random"], [0.9, 0.1], [0.8, 0.05], [1.0, 0.2], {"chance": 0.5})
    figure = draw_bars([bars, bars, bars], "Truth")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["lelsd", "random"]
    _, svg = save_figure(figure, tmp_path, "bars")
    assert "chance" in svg.read_text()
