"""ProtoCLIP: from image-text pairs to a search box in production.

Everything public is imported from here and loaded when first used, so that `import protoclip` and the
client need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.client import Client
    from serving.stores import Index

__version__ = "0.1.0"

_PUBLIC = {"Client": "serving.client", "Index": "serving.stores"}

__all__ = ["Client", "Index", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'protoclip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
