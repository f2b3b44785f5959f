"""Every setting of a run with its values, default and reason, read from the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

from .schema import RunConfig
from .section import REASON

_KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: `section.field`, as in `--set`.
        values: what it takes, in words.
        default: as it is written in TOML; `none` where it is unset, empty where it has to be given.
        reason: why the default is what it is; empty where the description says it.
    """

    name: str
    values: str
    default: str
    description: str
    reason: str


@dataclass(frozen=True)
class SettingsSection:
    """The settings of a section of the configuration, `model.head` say."""

    name: str
    description: str
    settings: tuple[Setting, ...]


@cache
def settings_sections() -> tuple[SettingsSection, ...]:
    """All sections in the schema's order."""
    schema = RunConfig.model_json_schema()
    return tuple(section for section in _sections(schema, "", schema["$defs"]) if section.name)


@cache
def known_names() -> frozenset[str]:
    """The `section.field` names of all settings."""
    return frozenset(setting.name for section in settings_sections() for setting in section.settings)


def is_known(name: str) -> bool:
    """Whether `name` is a setting, a section, or stands inside a setting that is a table."""
    sections = {section.name for section in settings_sections()}
    return any(name == known or name.startswith(f"{known}.") for known in known_names()) or name in sections


def unknown_setting(name: str) -> str:
    """What is said of a name that is no setting, with the nearest one."""
    near = nearest_name(name)
    way_out = f"did you mean {near}?" if near else "`protoclip train --settings` lists them all"
    return f"unknown setting {name}: {way_out}"


def nearest_name(name: str) -> str | None:
    """The setting or section that was probably meant by `name`; None where nothing is like it.

    `optim.learning_rate` for `train.learning_rate`: the same field of another section comes first.
    """
    field, names = name.rpartition(".")[2], sorted(known_names())
    same = [known for known in names if known.rpartition(".")[2] == field]
    if same:
        return get_close_matches(name, same, n=1, cutoff=0)[0]
    sections = [part.name for part in settings_sections() if part.name.count(".") == name.count(".")]
    found = get_close_matches(name, [*sections, *names], n=1, cutoff=0.7)
    if found:
        return found[0]
    near = get_close_matches(field, [known.rpartition(".")[2] for known in names], n=1, cutoff=0.8)
    return next((known for known in names if [known.rpartition(".")[2]] == near), None)


def _sections(schema: dict[str, Any], prefix: str, known: dict[str, Any]) -> Iterator[SettingsSection]:
    fields = {name: _resolved(field, known) for name, field in schema["properties"].items()}
    required = schema.get("required", ())
    plain = {name: field for name, field in fields.items() if "properties" not in field}
    settings = (_setting(prefix + name, field, name in required) for name, field in plain.items())
    yield SettingsSection(prefix.rstrip("."), schema.get("description", ""), tuple(settings))
    for name, field in fields.items():
        if name not in plain:
            yield from _sections(field, f"{prefix}{name}.", known)


def _resolved(field: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return known[field["$ref"].rpartition("/")[2]] if "$ref" in field else field


def _setting(name: str, field: dict[str, Any], required: bool) -> Setting:
    default = "" if required else _written(field.get("default"))
    return Setting(name, _values(field), default, field.get("description", ""), field.get(REASON, ""))


def _written(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}" if value != int(value) else f"{value:.1f}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _values(field: dict[str, Any]) -> str:
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    return " or ".join(map(_kind, kinds))


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field.get("type") == "array":
        parts = field.get("prefixItems", ())
        kinds = list(dict.fromkeys(map(_kind, parts or [field["items"]])))
        return f"{len(parts)} × {' or '.join(kinds)}" if parts else f"list of {kinds[0]}"
    if field.get("type") == "object":
        return f"table of {_kind(field['additionalProperties'])}"
    limits = [f"{sign} {field[limit]:g}" for limit, sign in _LIMITS.items() if limit in field]
    return " ".join([_KINDS[field["type"]], *([", ".join(limits)] if limits else [])])
