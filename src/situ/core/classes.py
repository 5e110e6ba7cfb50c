"""The classes of conditional generators: by number or by name."""

import difflib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.errors import FileError, GeneratorError, LatentError


def one_hot_classes(
    classes: int | str | Sequence[int | str], count: int, names: Sequence[str], owner: str
) -> Float[Tensor, "n c"]:
    """One-hot rows, as `Latents.labels` holds them.

    Args:
        classes: each a number, or a name; a name is one of `names` or one of its synonyms, in any case, and digits are
            a number.
        count: how many classes there are.
        names: of the classes in order, synonyms separated by commas ("tench, Tinca tinca"); may be empty.
        owner: the generator's name, for the error messages.

    Raises:
        GeneratorError: no such class, no names known, or a name that several classes have.
    """
    given = [classes] if isinstance(classes, (int, str)) else classes
    if not count:
        raise GeneratorError(f"{owner} has no classes, got {', '.join(map(str, given))}")
    numbers = torch.tensor([_number(item, count, names, owner) for item in given], dtype=torch.long)
    return functional.one_hot(numbers, count).float()


def class_labels(
    n: int,
    count: int,
    rng: torch.Generator,
    labels: Float[Tensor, "m c"] | None = None,
    usual: Float[Tensor, "1 c"] | None = None,
) -> Float[Tensor, "n c"] | None:
    """The labels of n codes: those given, the usual ones, or a class drawn for each; None where there are no classes.

    Raises:
        LatentError: labels of another shape, or for a generator without classes.
    """
    if not count:
        if labels is not None:
            raise LatentError("this generator has no classes, but labels were given")
        return None
    if labels is None and usual is not None:
        labels = usual.expand(n, -1)
    if labels is None:
        labels = functional.one_hot(torch.randint(count, [n], generator=rng, device=rng.device), count).float()
    if labels.shape != (n, count):
        raise LatentError(f"labels of this generator have shape {(n, count)}, got {tuple(labels.shape)}")
    return labels


def _number(given: int | str, count: int, names: Sequence[str], owner: str) -> int:
    if isinstance(given, int) or given.strip().isdecimal():
        number = int(given)
        if not 0 <= number < count:
            raise GeneratorError(f"classes of {owner} are numbered from 0 to {count - 1}, got {number}")
        return number
    if not names:
        raise GeneratorError(
            f'{owner} does not know the names of its {count} classes, got "{given}": give a number, or a file with one '
            "name a line"
        )
    known: dict[str, set[int]] = defaultdict(set)
    for number, name in enumerate(names):
        for synonym in (name, *name.split(",")):
            known[_plain(synonym)].add(number)
    found = sorted(known.get(_plain(given), ()))
    if len(found) > 1:
        choices = ", ".join(f"{number} ({names[number]})" for number in found)
        raise GeneratorError(f'several classes are called "{given}": give the number, one of {choices}')
    if not found:
        close = difflib.get_close_matches(_plain(given), known, n=5, cutoff=0.5)
        hint = f"the nearest are {', '.join(close)}" if close else "no class has a name like it"
        raise GeneratorError(f'no class of {owner} is called "{given}": {hint}')
    return found[0]


def read_class_names(path: Path | str) -> tuple[str, ...]:
    """Names of classes from a text file, one a line, in the order of their numbers.

    Raises:
        FileError: no such file, no text, or an empty line among the names.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read names of classes from {path} ({error}): expected a text, a name a line") from None
    names = [line.strip() for line in text.rstrip().splitlines()]
    if not names or not all(names):
        line = names.index("") + 1 if names else 1
        raise FileError(f"line {line} of {path} is empty: expected the name of a class on every line")
    return tuple(names)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
