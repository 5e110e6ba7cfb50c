"""The settings of methods as options: each documented field of a method is an option of its verb."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from inspect import Parameter
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from situ.packs.methods import NamedMethod
from situ.packs.stacks import parse_number


def documented(method: type) -> dict[str, tuple[Any, str, Field]]:
    """The fields that say in words what they are: name -> type, words, field."""
    hints = get_type_hints(method, include_extras=True)
    found = {}
    for each in fields(method):
        hint = hints[each.name]
        if get_origin(hint) is Annotated:
            kind, words = get_args(hint)[:2]
            found[each.name] = (kind, str(words), each)
    return found


def _default(each: Field, name: str, method: NamedMethod) -> object:
    if method.settings and name in method.settings:
        return method.settings[name]
    return each.default if each.default is not MISSING else each.default_factory()  # pyright: ignore[reportCallIssue]


def options_of(method: NamedMethod) -> list[Parameter]:
    """An option for each documented field. Lists and mappings are repeatable options in the singular."""
    found = []
    for name, (kind, words, each) in documented(method.build).items():
        default = _default(each, name, method)
        flag = "-k" if name == "k" else f"--{name.replace('_', '-')}"
        if get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis:
            kind, flag, default = list[str] | None, flag.removesuffix("s"), None
            words = f"{words}; repeatable"
        elif get_origin(kind) is Mapping:
            usual = ", ".join(f"{key}={value:g}" for key, value in default.items())  # pyright: ignore[reportAttributeAccessIssue]
            kind, flag, default = list[str] | None, flag.removesuffix("s"), None
            words = f"NAME=NUMBER; {words}; repeatable" + (f" (default {usual})" if usual else "")
        elif kind is bool:
            flag = f"{flag}/--no-{flag.removeprefix('--')}"
        elif name == "space":
            words = f"{words} (default {'where the part scores best, or w+' if method.local else default})"
            kind, default = str | None, None
        annotation = Annotated[kind, typer.Option(flag, help=words)]
        found.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation))
    return found


def settings_of(method: NamedMethod, given: Mapping[str, Any]) -> dict[str, object]:
    """The settings that the options name; those that were not given keep their default."""
    settings: dict[str, object] = {}
    for name, (kind, _, each) in documented(method.build).items():
        value = given.get(name)
        if get_origin(kind) is Mapping:
            usual: dict = dict(_default(each, name, method))  # pyright: ignore[reportCallIssue, reportArgumentType]
            settings[name] = {**usual, **dict(_weight(text) for text in value or [])}
        elif value is None:
            continue
        else:
            settings[name] = tuple(value) if isinstance(value, list) else value
    return settings


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    return name, parse_number(number, f'the weight in "{text}"')
