"""The folder that a conversion writes, checked before any model is loaded."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from protoclip.contract.errors import ConfigError, ModelError

from .json_files import read_json

_WRITTEN_BY = "protoclip_version"


def written_by() -> dict[str, str]:
    """The field by which `check_new` knows a folder of ours again; no reader of the formats looks at it."""
    return {_WRITTEN_BY: version("protoclip")}


def check_new(out: Path, config: str) -> None:
    """Raises ConfigError where `out` is a file, or a folder of other things: its `config` is not one of ours.

    Its name alone says nothing: runs and other people's models have a config.json as well.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file: name a new folder")
    if out.is_dir() and any(out.iterdir()) and not _is_ours(out / config):
        raise ConfigError(f"{out}: holds something else than a converted model: name a new folder")


def _is_ours(config: Path) -> bool:
    try:
        return _WRITTEN_BY in read_json(config)
    except ModelError:
        return False
