"""Search indexes; needs neither torch nor faiss.

Example:
    index = Index.build("shop.index", client, images="photos/", metadata="photos.csv")
    hits = client.search(index, text="red shoes")
"""

from __future__ import annotations

from protoclip.client import Hit

from .adapter import AdapterOptions, AdapterReport, LowRecall
from .adapter_recall import Recall
from .approximate.files import AcceleratorWarning
from .approximate.tuned import Effort, TunedQueries, Tuning
from .building import BuildProgress
from .duplicate_groups import DuplicateGroup
from .entries import Entry
from .index import Index
from .judging import RelevanceWarning
from .migrated import Migrated, NotEmbedded
from .migration_state import Migrating
from .pictures import IndexPictures, PicturePlace
from .relevance.calibrated import CalibratedQueries, Calibration
from .sources import SkippedWarning
from .stats import IndexStats
from .store import Store, StoreTraits, traits_of
from .stores.copying import Copied, CopyProgress, copy_index
from .stores.left_behind import left_behind
from .stores.opening import create_index, open_index
from .view import SegmentWarning

__all__ = [
    "AcceleratorWarning",
    "AdapterOptions",
    "AdapterReport",
    "BuildProgress",
    "CalibratedQueries",
    "Calibration",
    "Copied",
    "CopyProgress",
    "DuplicateGroup",
    "Effort",
    "Entry",
    "Hit",
    "Index",
    "IndexPictures",
    "IndexStats",
    "LowRecall",
    "Migrated",
    "Migrating",
    "NotEmbedded",
    "PicturePlace",
    "Recall",
    "RelevanceWarning",
    "SegmentWarning",
    "SkippedWarning",
    "Store",
    "StoreTraits",
    "TunedQueries",
    "Tuning",
    "copy_index",
    "create_index",
    "left_behind",
    "open_index",
    "traits_of",
]
