"""ProtoCLIP: trains CLIP-like models on image-text pairs, exports them, and serves search with them.

Everything public is imported from here and loaded when first used, so that `import protoclip` and the
client need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protoclip.config.load import build_config, load_config
    from protoclip.config.schema import RunConfig
    from protoclip.contract.errors import (
        ConfigError,
        DataError,
        IndexFileError,
        ItemError,
        ModelError,
        ProtoclipError,
        ServerError,
        VerdictError,
    )
    from protoclip.detection.detector import Detector
    from protoclip.detection.fitting import fit_detector
    from protoclip.detection.from_names import fit_names
    from protoclip.sources import Pairs
    from protoclip.training.train import train

    from .client import (
        AsyncClient,
        ClassBank,
        Classification,
        Client,
        DeadlineExceeded,
        Detection,
        Embeddings,
        Hit,
        ModelNotFound,
        NotAuthorized,
        Refused,
        ServedModel,
        Unavailable,
    )
    from .search import BuildProgress, Index, SkippedWarning

__version__ = "0.1.0"

_PUBLIC = {
    "protoclip.client": (
        "AsyncClient",
        "ClassBank",
        "Classification",
        "Client",
        "DeadlineExceeded",
        "Detection",
        "Embeddings",
        "Hit",
        "ModelNotFound",
        "NotAuthorized",
        "NotAuthorized",
        "Refused",
        "ServedModel",
        "Unavailable",
    ),
    "protoclip.config.load": ("build_config", "load_config"),
    "protoclip.config.schema": ("RunConfig",),
    "protoclip.contract.errors": (
        "ConfigError",
        "DataError",
        "IndexFileError",
        "ItemError",
        "ModelError",
        "ProtoclipError",
        "ServerError",
        "VerdictError",
    ),
    "protoclip.detection.detector": ("Detector",),
    "protoclip.detection.fitting": ("fit_detector",),
    "protoclip.detection.from_names": ("fit_names",),
    "protoclip.search": ("BuildProgress", "Index", "SkippedWarning"),
    "protoclip.sources": ("Pairs",),
    "protoclip.training.train": ("train",),
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = [
    "AsyncClient",
    "BuildProgress",
    "ClassBank",
    "Classification",
    "Client",
    "ConfigError",
    "DataError",
    "DeadlineExceeded",
    "Detection",
    "Detector",
    "Embeddings",
    "Hit",
    "Index",
    "IndexFileError",
    "ItemError",
    "ModelError",
    "ModelNotFound",
    "NotAuthorized",
    "Pairs",
    "ProtoclipError",
    "Refused",
    "RunConfig",
    "ServedModel",
    "ServerError",
    "SkippedWarning",
    "Unavailable",
    "VerdictError",
    "__version__",
    "build_config",
    "fit_detector",
    "fit_names",
    "load_config",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'protoclip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
