"""JSON as the files of these formats have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ModelError
from protoclip.contract.files import write_text


def write_json(path: Path, content: Any) -> None:
    """Writes `content` atomically; raises as `write_text`."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file.

    Raises:
        ModelError: there is no such file, or no object in it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds a {type(found).__name__}, not an object")
    return found
