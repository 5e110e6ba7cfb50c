"""README.md and the recipes as a reader meets them: commands and Python run as they stand, and links lead somewhere."""

import re
import runpy
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from situ.cli.main import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RECIPES = (ROOT / "docs" / "recipes.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]  # those of docs/ are checked where the site is built
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(language: str, text: str = README) -> list[str]:
    """The code of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def commands() -> list[list[str]]:
    """The words of every `situ ...` line, in order; a line that stands in both pages is run once."""
    code = [*blocks("sh"), *blocks("sh", RECIPES)]
    lines = [
        shlex.split(line, comments=True) for block in code for line in block.splitlines() if line.startswith("situ ")
    ]
    return [words for i, words in enumerate(lines) if words not in lines[:i]]


def outputs(words: list[str]) -> list[str]:
    """What a command names by -o or --out."""
    return [after for word, after in pairwise(words) if word in ("-o", "--out")]


# the checks of shapes are off, as they are for a reader
@pytest.mark.slow
def test_commands_and_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(commands()) > 5
    for words in commands():
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            run()
        assert (stop.value.code or 0) == 0, shlex.join(words)
        for name in outputs(words):
            assert Path(name).exists(), f"{shlex.join(words)} wrote no {name}"
    assert len(blocks("python")) == 1
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})


def test_the_page_of_formats_is_what_the_code_knows() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_checkpoints_page.py"), run_name="page")["page"]()
    assert (ROOT / "docs" / "checkpoints.md").read_text() == made, "run docs/make_checkpoints_page.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(page.read_text())]
    relative = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in relative if not (page.parent / target).exists()] == []
