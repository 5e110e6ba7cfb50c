"""What the site is built from besides its pages: the commands, from the program itself, and folders as one entry."""

import html
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# files of the repository that are pages, too: where they are, what they become
BORROWED = {"CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """`folder/*` in the navigation stands for the folder's pages, its index first; those named elsewhere are left out."""
    config.nav = _expanded(config.nav, Path(config.docs_dir), _named(config.nav))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are no files of this folder."""
    files.append(File.generated(config, "commands.md", content=commands_page()))
    for name, page in BORROWED.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def commands_page() -> str:
    """Every verb with its options, as the program itself lists them."""
    command = [sys.executable, "-m", "typer", "situ.cli.main", "utils", "docs", "--name", "situ"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    text = html.unescape(text[text.index("## `situ ") :])
    text = re.sub(r"^\* `--help`.*\n", "", text, flags=re.M)
    text = re.sub(r"\*\*Usage\*\*:\n\n```console\n\$ (.*)\n```", r"`\1`", text)
    intro = (
        "# Commands\n\nEvery verb with its options, as `situ VERB --help` lists them. Every verb takes `--json`: results on\n"
        "standard output, progress on standard error. Bad input gets one line that says what was expected, what came and\n"
        "what to do, and the exit code 2; Ctrl-C gives 130, and where something was found it is kept.\n\n"
    )
    return intro + text


def _expanded(nav: Any, docs: Path, named: set[str]) -> Any:
    if isinstance(nav, list):
        found: list[Any] = []
        for each in nav:
            if isinstance(each, str) and each.endswith("/*"):
                folder = each.removesuffix("*")
                pages = sorted((docs / folder).glob("*.md"), key=lambda page: (page.stem != "index", page.stem))
                found += [folder + page.name for page in pages if folder + page.name not in named]
            else:
                found.append(_expanded(each, docs, named))
        return found
    return {key: _expanded(value, docs, named) for key, value in nav.items()} if isinstance(nav, dict) else nav


def _named(nav: Any) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    inside = nav.values() if isinstance(nav, dict) else nav
    return set().union(*(_named(each) for each in inside))
