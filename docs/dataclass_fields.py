"""What the API reference knows of dataclasses: each field with its type, default, and what is said beside it.

The words stand in `Annotated[type, "words"]` (the settings of methods) or in the comment behind the field.
"""

import dataclasses
import importlib
import tokenize
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from griffe import Class, DocstringParameter, DocstringSectionParameters, Extension, Function


def _comments(path: Path) -> Mapping[int, str]:
    """Line -> the comment that ends it."""
    tokens = tokenize.generate_tokens(StringIO(path.read_text(encoding="utf-8")).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _type(kind: Any, written: object) -> str:
    """A plain type by its name, any other as it is written."""
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(written).replace("typing.", "")


def _default(field: dataclasses.Field) -> str | None:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    if field.default_factory is dataclasses.MISSING:
        return None
    made = field.default_factory()
    return repr(made) if isinstance(made, (dict, tuple, list)) else f"{type(made).__name__}()"


class DataclassFields(Extension):
    """Adds the fields of dataclasses to their docstrings, as parameters."""

    def on_class(self, *, cls: Class, **_: Any) -> None:
        """See `griffe.Extension.on_class`."""
        if "dataclass" not in cls.labels or cls.docstring is None:
            return
        built = getattr(importlib.import_module(cls.module.path), cls.name)
        hints = get_type_hints(built, include_extras=True)
        comments = _comments(cls.filepath)  # pyright: ignore[reportArgumentType]
        rows = []
        for field in dataclasses.fields(built):
            if field.name.startswith("_") or field.name not in cls.members:
                continue
            kind, words = hints[field.name], comments.get(cls.members[field.name].lineno or 0, "")
            if get_origin(kind) is Annotated:
                kind, words = get_args(kind)[0], str(get_args(kind)[1])
                written: object = kind
            else:
                written = cls.members[field.name].annotation  # pyright: ignore[reportAttributeAccessIssue]
            rows.append(
                DocstringParameter(
                    field.name, description=words, annotation=_type(kind, written), value=_default(field)
                )
            )
        if rows:
            cls.docstring.parser = cls.docstring.parser or "google"
            cls.docstring.parsed.append(DocstringSectionParameters(rows, title="Fields"))
        made = cls.members.get("__init__")
        for row in rows:  # said once
            del cls.members[row.name]
            if isinstance(made, Function) and str(made.parameters[row.name].annotation).startswith("Annotated"):
                made.parameters[row.name].annotation = row.annotation  # the words are in the table
