"""Where files lie that are made again if they are missing: tokens of large data."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(setting: str | None) -> Path:
    """The folder of `data.cache_dir`; without one `protoclip` in the user's cache folder, `~/.cache` by default.

    It need not exist. All that is in it can be deleted at any time, also while it is in use.
    """
    if setting is not None:
        return Path(setting)
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The standard ignores relative paths there: https://specifications.freedesktop.org/basedir-spec/
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "protoclip"
