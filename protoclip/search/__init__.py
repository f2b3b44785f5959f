"""Search indexes; needs neither torch nor faiss.

Example:
    index = Index.build("shop.index", client, images="photos/", metadata="photos.csv")
    hits = client.search(index, text="red shoes")
"""

from __future__ import annotations

from protoclip.client import Hit

from .building import BuildProgress
from .entries import Entry
from .index import Index
from .reader import IndexStats
from .sources import SkippedWarning
from .view import SegmentWarning

__all__ = ["BuildProgress", "Entry", "Hit", "Index", "IndexStats", "SegmentWarning", "SkippedWarning"]
