"""faiss, loaded where it is used."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from protoclip.contract.errors import ConfigError
from protoclip.contract.install import install_command


def has_faiss() -> bool:
    """Whether it is installed; doesn't load it."""
    return find_spec("faiss") is not None


def load_faiss() -> Any:
    """The module.

    Raises:
        ConfigError: it isn't installed.
    """
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"approximate search needs faiss, which isn't installed: {install_command('cpu')} (or [gpu]); without "
            "it every search is exact"
        ) from error
    return faiss
