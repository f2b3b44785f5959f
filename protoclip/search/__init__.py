"""Search indexes; needs no torch, and faiss only when one is used.

Example:
    index = Index.build("shop.index", client, images="photos/", metadata="photos.csv")
    hits = client.search(index, text="red shoes")
"""

from __future__ import annotations

from protoclip.client import Hit

from .building import BuildProgress, SkippedWarning
from .index import Index
from .store import VectorStore

__all__ = ["BuildProgress", "Hit", "Index", "SkippedWarning", "VectorStore"]
