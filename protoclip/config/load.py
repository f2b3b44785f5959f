"""Reads a run's configuration: files, presets and overrides, checked against the schema."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from protoclip.contract.errors import ConfigError

from .catalogue import unknown_setting
from .schema import RunConfig
from .settings import read_settings


def load_config(path: Path | None, overrides: Iterable[str] = (), *, preset: str | None = None) -> RunConfig:
    """Reads a TOML or JSON file and applies `section.field=value` overrides, which take precedence.

    Settings in neither come from the preset, if one is named, and then from the defaults.

    Paths in the file are relative to its folder, paths in overrides to the working directory.
    Values of overrides are TOML (`[1, 2]`, `0.5`, `true`); what is not TOML is taken as text;
    `none` resets a setting to its default.

    Raises:
        ConfigError: no such file, bad syntax, an unknown field or a bad value; names the field.
    """
    return build_config(read_settings(path, overrides, preset), str(path) if path is not None else "settings")


def build_config(values: dict[str, Any], origin: str) -> RunConfig:
    """Checks plain values; raises ConfigError that names the first bad field and `origin`.

    Unknown settings come first: the right one is often called missing besides.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        field = ".".join(str(part) for part in first["loc"]) or "train"
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{origin}: {_unknown(field, first['input'])}") from None
        raise ConfigError(f"{origin}: {field}: {_reason(first)}") from None


def _unknown(field: str, value: Any) -> str:
    """`trian` with `{"steps": 5}` is the setting `trian.steps`."""
    if isinstance(value, dict) and len(value) == 1:
        field = f"{field}.{next(iter(value))}"
    return unknown_setting(field)


def _reason(error: Any) -> str:
    if error["type"] == "missing":
        return "is missing: set it in a TOML file or with --set section.field=value"
    return f"{error['msg']} (got {error['input']!r})" if error["type"] != "value_error" else str(error["msg"])
