"""The folder that a conversion writes, checked before any model is loaded."""

from __future__ import annotations

from pathlib import Path

from protoclip.contract.errors import ConfigError


def check_new(out: Path, mark: str) -> None:
    """Raises ConfigError where `out` is a file, or a folder of other things: it has no `mark` in it."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file: name a new folder")
    if out.is_dir() and any(out.iterdir()) and not (out / mark).is_file():
        raise ConfigError(f"{out}: holds something else than a converted model: name a new folder")
