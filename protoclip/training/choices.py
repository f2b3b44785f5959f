"""The settings of a run that are no defaults, and where each comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoclip.config.load import load_config
from protoclip.config.schema import RunConfig
from protoclip.config.settings import setting_origins


@dataclass(frozen=True)
class Choice:
    """A setting, its value, and where that comes from: from what was given, or why it was chosen."""

    setting: str
    value: Any
    reason: str


def config_from_file(
    file: Path | None, overrides: Iterable[str] = (), *, preset: str | None = None
) -> tuple[RunConfig, tuple[Choice, ...]]:
    """As `load_config`, with every setting that was given.

    Raises:
        ConfigError: as `load_config`.
    """
    overrides = tuple(overrides)
    config = load_config(file, overrides, preset=preset)
    values = config.model_dump(mode="json")
    origins = setting_origins(file, overrides, preset)
    return config, tuple(Choice(name, value_of(values, name), origin) for name, origin in origins.items())


def given_besides(
    choices: Iterable[Choice], values: Mapping[str, Any], origins: Mapping[str, str]
) -> Iterator[Choice]:
    """The settings of `origins` that none of the choices is about, with their plain values."""
    chosen = {choice.setting for choice in choices}
    for setting, origin in origins.items():
        if setting not in chosen:
            yield Choice(setting, value_of(values, setting), origin)


def value_of(values: Mapping[str, Any], setting: str) -> Any:
    """The plain value of `section.field`; None where it is not set."""
    found: Any = values
    for part in setting.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
