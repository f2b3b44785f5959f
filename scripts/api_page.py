"""Public names and signatures, `docs/reference/signatures.md`: `python -m scripts.api_page FILE`."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, ForwardRef, get_args, get_origin, is_typeddict

from pydantic import BaseModel

MODULES = ("protoclip", "protoclip.client", "protoclip.search")
_HEAD = """# Names and signatures

Made from the code by `make api-page`. These names and signatures stay, or the changelog says otherwise; what does
not stand here may change at any time. What each does, takes and raises is in its docstring:
`help(protoclip.Client.search)`. The commands say what they take by `--help`.
"""
_INTRODUCTIONS = {
    "protoclip": "Everything below is imported from `protoclip`, and loaded when it is first used.",
    "protoclip.client": "Beside those above, for tests, and for transports of one's own.",
    "protoclip.search": "Beside those above.",
}


class _Shown(str):
    """A text that stands in a signature as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def api_page() -> str:
    """The page in Markdown."""
    seen: set[str] = set()
    sections = []
    for name in MODULES:
        module = import_module(name)
        names = [one for one in sorted(module.__all__, key=str.lower) if one not in seen and one != "__version__"]
        seen.update(names)
        parts = "\n".join(_entry(one, getattr(module, one)) for one in names)
        sections.append(f"\n## {name}\n{_INTRODUCTIONS[name]}\n\n{parts}")
    return _HEAD + "".join(sections)


def _entry(name: str, value: Any) -> str:
    """One line for a function or an error, several for a class."""
    says = _first_line(value)
    if not inspect.isclass(value):
        signature = f"{name}{_signature(value)}" if inspect.isfunction(value) else name
        return f"### {name}\n{says}\n```python\n{signature}\n```\n"
    if issubclass(value, BaseException):
        bases = ", ".join(base.__name__ for base in value.__bases__)
        return f"### {name}\n{says} A kind of `{bases}`.\n"
    if issubclass(value, BaseModel):
        return f"### {name}\n{says} Its fields are in [settings.md](../settings.md).\n"
    lines = "\n".join([_head(name, value), *(f"    {line}" for line in _members(value))])
    return f"### {name}\n{says}\n```python\n{lines}\n```\n"


def _head(name: str, value: type) -> str:
    if dataclasses.is_dataclass(value):
        return f"class {name}{_signature(value)}"
    return f"class {name}{_signature(value.__init__, without_self=True)}" if _has_init(value) else f"class {name}"


def _has_init(value: type) -> bool:
    """Whether people make one themselves: an Index is opened, and a Protocol written."""
    return (
        not is_typeddict(value)
        and value.__init__ is not object.__init__
        and not (inspect.getdoc(value.__init__) or "").startswith("Use ")
    )


def _members(value: type) -> Iterator[str]:
    """The public methods and properties, inherited ones too, by name; what a dictionary may hold."""
    if is_typeddict(value):
        yield from (f"{name}: {_field(type_)}" for name, type_ in value.__annotations__.items())
        return
    for name in sorted(dir(value)):
        if name.startswith("_") or (name == "url" and getattr(value, "_is_protocol", False)):
            continue
        member = inspect.getattr_static(value, name)
        if isinstance(member, property):
            returns = inspect.signature(member.fget).return_annotation if member.fget else Any
            yield f"{name}: {_text(returns)}"
        elif isinstance(member, classmethod | staticmethod):
            yield f"{type(member).__name__} {name}{_signature(getattr(value, name))}"
        elif inspect.isfunction(member):
            yield f"{'async ' if _is_async(member) else ''}{name}{_signature(member, without_self=True)}"


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _signature(value: Callable[..., Any], *, without_self: bool = False) -> str:
    """As it stands in the code: annotations are texts there."""
    found = inspect.signature(value)
    parameters = [
        one.replace(annotation=_text(one.annotation), default=_default(one.default))
        for one in list(found.parameters.values())[int(without_self) :]
    ]
    returns = _text(found.return_annotation)
    if returns == "None" or inspect.isclass(value):
        returns = inspect.Signature.empty
    return str(found.replace(parameters=parameters, return_annotation=returns))


def _text(annotation: Any) -> Any:
    if annotation is inspect.Signature.empty:
        return annotation
    if isinstance(annotation, str):
        return _Shown(annotation)
    plain = inspect.isclass(annotation) and get_origin(annotation) is None and not get_args(annotation)
    return _Shown(annotation.__name__ if plain else str(annotation))


def _field(annotation: Any) -> Any:
    return annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else _text(annotation)


def _default(value: Any) -> Any:
    if isinstance(value, Enum):
        return _Shown(value.name)
    return _Shown(value.__name__) if inspect.isroutine(value) else value


def _first_line(value: Any) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(api_page(), encoding="utf-8")
