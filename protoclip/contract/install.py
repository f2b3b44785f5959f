"""The command that installs an extra, from the same source as this copy of ProtoCLIP; an index may lack it."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

NAME = "protoclip"


def install_command(extra: str | None = None) -> str:
    """`pip install` with the checkout, repository or archive that this copy was installed from.

    The source is read from pip's record (`direct_url.json`, PEP 610); without one it is the package index.

    Args:
        extra: such as `cpu`; None for the base package only.
    """
    suffix = f"[{extra}]" if extra else ""
    origin = _origin()
    if "dir_info" in origin:
        folder = unquote(urlparse(origin["url"]).path)
        if Path(folder).is_dir():
            return _install(folder + suffix, editable=bool(origin["dir_info"].get("editable")))
    if "vcs_info" in origin:
        return _install(f"{NAME}{suffix} @ {origin['vcs_info']['vcs']}+{origin['url']}")
    if "archive_info" in origin:
        return _install(f"{NAME}{suffix} @ {origin['url']}")
    return _install(NAME + suffix)


def _install(what: str, *, editable: bool = False) -> str:
    return f"pip install {'--editable ' if editable else ''}{shlex.quote(what)}"


def _origin() -> dict[str, Any]:
    # In a checkout the metadata of its build may be found first, which has no pip record.
    notes = (found.read_text("direct_url.json") for found in distributions(name=NAME))
    try:
        origin = json.loads(next((note for note in notes if note), "{}"))
    except ValueError:
        return {}
    return origin if isinstance(origin, dict) else {}
