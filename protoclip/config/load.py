"""Reads a run's configuration: files, presets and overrides, checked against the schema."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from protoclip.contract.errors import ConfigError

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
    """Checks plain values; raises ConfigError that names the first bad field and `origin`."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "train"
        raise ConfigError(f"{origin}: {field}: {_reason(first)}") from None


def _reason(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "no such setting: see `protoclip train --help`"
    if error["type"] == "missing":
        return "is missing: set it in a TOML file or with --set section.field=value"
    return f"{error['msg']} (got {error['input']!r})" if error["type"] != "value_error" else str(error["msg"])
