"""The demo, small: every file it promises, and a report that holds its own targets against random directions."""

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from PIL import Image

from situ import LELSD, load_direction, open_model
from situ.bench.demo import Demo, run_demo
from situ.core.progress import Progress, silent


def no_bar(title: str) -> AbstractContextManager[Progress]:
    return nullcontext(silent)


@pytest.mark.slow
def test_demo_finds_local_directions(tmp_path: Path) -> None:
    small = Demo(
        parts=(("hair", 1), ("mouth", 2)),
        pictures=1,
        measured_on=8,
        random=1,
        method=LELSD(samples=160, layer_weights={"image": 5.0}),
    )
    pack = open_model("portraits")
    report = run_demo(pack, tmp_path, 0, small, no_bar)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    with Image.open(tmp_path / "sheet.png") as page:
        assert page.width > 600
    rows = report["directions"]
    assert isinstance(rows, list)
    assert [row["region"] for row in rows] == ["hair", "mouth", "mouth"]
    for row in rows:
        direction = load_direction(tmp_path / row["file"])
        assert direction.generator == pack.generator.name
        assert row["figures"]["LS"] > 2 * row["random"]["LS"]
        assert row["figures"]["inside"] > row["random"]["inside"] + 0.2
        # strength 1 of every direction moves pictures by the same distance
        assert row["figures"][pack.distance.name] == pytest.approx(pack.unit_distance, rel=0.35)
    a, b = (load_direction(tmp_path / row["file"]).vector for row in rows[1:])
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.5
