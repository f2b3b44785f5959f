"""The client for models served by `protoclip serve`; needs no torch.

Example:
    with Client("grpc://localhost:8001") as client:  # or an artifact's folder, without a server
        vectors = client.embed_images(["cat.jpg", "dog.png"])
"""

from __future__ import annotations

from .artifact_transport import ArtifactTransport
from .async_client import AsyncClient
from .class_bank import ClassBank
from .client import Client
from .core import Searchable
from .discovery import ServedModel
from .errors import DeadlineExceeded, ModelNotFound, NotAuthorized, Refused, Unavailable
from .memory_transport import InMemoryTransport, MemoryModel
from .results import Classification, Detection, Embeddings, Hit
from .transport import Transport
from .wanted import SearchOptions

__all__ = [
    "ArtifactTransport",
    "AsyncClient",
    "ClassBank",
    "Classification",
    "Client",
    "DeadlineExceeded",
    "Detection",
    "Embeddings",
    "Hit",
    "InMemoryTransport",
    "MemoryModel",
    "ModelNotFound",
    "NotAuthorized",
    "Refused",
    "SearchOptions",
    "Searchable",
    "ServedModel",
    "Transport",
    "Unavailable",
]
