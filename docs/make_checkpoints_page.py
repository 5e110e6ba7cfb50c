"""Write `docs/checkpoints.md` from the tables in the code: formats of generators, and published networks."""

from pathlib import Path

from situ.checkpoints.networks import PUBLISHED
from situ.checkpoints.open import FORMATS

PAGE = Path(__file__).parent / "checkpoints.md"

TEXT = """# Files that Situ opens

## Generators

`--model FILE`, `situ convert FILE OUT.safetensors` and `situ pack create NAME --generator FILE` take any of these. The kind
is told by what is in the file, never by its name; sizes, widths, depth and classes are read from the tensors. Nothing in a
file is run: pickles go through a reader that knows arrays and plain containers and refuses the rest.

| format | what it is |
|---|---|
{formats}

What a file does not hold is made or assumed, and said (`situ inspect FILE --card`): a missing mean of W is the mean of
10,000 mapped codes, noise maps that a file lacks are drawn from a seed.

## Networks

`--segmenter`, `--embedder` and `--lpips` take published weights. A path works, and so does a file of this name in the folder
that `SITU_WEIGHTS` names, in your data folder (`~/.local/share/situ/weights`), or in the hub's cache. Nothing is fetched.

| network | file | where people get it | licence |
|---|---|---|---|
{networks}
"""


def page() -> str:
    formats = [f"| `{each.name}` | {each.what} |" for each in FORMATS]
    networks = [f"| {each.what} | `{each.files[0]}` | {each.source} | {each.licence} |" for each in PUBLISHED.values()]
    return TEXT.format(formats="\n".join(formats), networks="\n".join(networks))


if __name__ == "__main__":
    PAGE.write_text(page())
