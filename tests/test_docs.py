"""The documentation: it builds without a broken link, loads nothing from elsewhere, and its commands are there."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import situ
from situ.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
COMMANDS = typer.main.get_command(app)


def blocks(text: str, *languages: str) -> list[str]:
    """The code of a page in some languages, as it stands or set in."""
    pattern = rf"^( *)```(?:{'|'.join(languages)})\n(.*?)^\1```"
    return [found[2] for found in re.finditer(pattern, text, flags=re.M | re.S)]


def said(text: str) -> Iterator[list[str]]:
    """The words of every `situ ...` line of a page's code, and of what it says in the running text."""
    for block in blocks(text, "sh", "console"):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            if line.strip().startswith("situ "):
                yield shlex.split(line, comments=True)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    for line in re.findall(r"`(situ [^`]+)`", prose):
        words = " ".join(line.split()).split(" ")
        yield from ([*words[:i], *word.split("|")[j : j + 1], *words[i + 1 :]] for i, word, j in _choices(words))


def _choices(words: list[str]) -> Iterator[tuple[int, str, int]]:
    """ "directions push|pull" says two commands."""
    at = next((i for i, word in enumerate(words[1:3], 1) if re.fullmatch(r"[a-z-]+(\|[a-z-]+)+", word)), 1)
    word = words[at]
    yield from ((at, word, j) for j in range(word.count("|") + 1))


def found_command(words: list[str]) -> tuple[tuple[str, ...], Any | None]:
    """The verb that a line runs, and its command; None for a group alone. Raises KeyError for one that is not there."""
    command, path = COMMANDS, ()
    for word in words[1:]:
        inside = getattr(command, "commands", None)
        if inside is None or not re.fullmatch(r"[a-z][a-z0-9-]*", word):
            break
        command, path = inside[word], (*path, word)
    return path, None if hasattr(command, "commands") else command  # pyright: ignore


def leaves(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inside = getattr(command, "commands", None)
    if inside is None:
        yield path
        return
    for name, each in inside.items():
        yield from leaves(each, (*path, name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in said(TEXTS[page]):
        try:
            path, command = found_command(words)
        except KeyError as missing:
            pytest.fail(f"{page.name} says `{shlex.join(words)}`: there is no {missing}")
        known = {name for each in getattr(command, "params", ()) for name in (*each.opts, *each.secondary_opts)}
        options = [word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)]
        if command is not None:
            unknown = [option for option in options if option not in known | {"--help", "-h"}]
            assert not unknown, f"{page.name} says `{shlex.join(words)}`: {' '.join(path)} has no {unknown[0]}"


def test_every_verb_is_told_of() -> None:
    told = {found_command(words)[0] for text in TEXTS.values() for words in said(text)}
    several = {"bench"}  # the pages of the benches are written from their runs
    wanted = {path[:1] if path[0] in several else path for path in leaves(COMMANDS)}
    missing = [" ".join(path) for path in sorted(wanted) if not any(each[: len(path)] == path for each in told)]
    assert missing == []


def test_python_on_the_pages_is_python_and_its_imports_are_there() -> None:
    snippet = re.compile(r'^--8<-- "([^":]+).*"$')
    count = 0
    for page, text in TEXTS.items():
        for block in blocks(text, "python"):
            if (included := snippet.match(block.strip())) is not None:
                assert (ROOT / included[1]).exists(), f"{page.name} includes {included[1]}"
                continue
            tree = ast.parse(block, page.name)
            imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and "situ" in str(node.module)]
            exec(compile(ast.Module(imports, []), page.name, "exec"), {})  # pyright: ignore
            count += 1
    assert count > 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages. Broken links, missing names of the API and pages that are not there are errors."""
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-3000:] + made.stdout[-1000:]
    return out


@pytest.mark.slow
def test_the_site_builds_and_asks_nobody_else(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    loaded = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=\"?(?:https?:)?//[^>]*")
    for page in pages:
        assert loaded.findall(page.read_text(encoding="utf-8")) == [], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet.name


@pytest.mark.slow
def test_the_site_has_every_public_name_and_every_bench_page(site: Path) -> None:
    from mkdocstrings import Inventory

    with (site / "objects.inv").open("rb") as file:
        known = set(Inventory.parse_sphinx(file))
    public = [getattr(situ, name) for name in situ.__all__]
    missing = [f"{each.__module__}.{each.__qualname__}" for each in public]
    assert [name for name in missing if name not in known] == []
    home = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs" / "bench").glob("*.md"):
        assert f"bench/{page.stem}.html" in home, f"{page.stem} is not in the navigation"


@pytest.mark.slow
def test_methods_have_pages_with_pictures_and_settings(site: Path) -> None:
    from situ.packs.methods import METHODS

    for name, method in METHODS.items():
        pages = [page for page in (ROOT / "docs" / "methods").glob("*.md") if f"situ discover {name} " in TEXTS[page]]
        assert pages, f"no page in docs/methods shows `situ discover {name}`"
        text = (site / "methods" / f"{pages[0].stem}.html").read_text(encoding="utf-8")
        assert method.build.__name__ in text
        assert "<img" in text
