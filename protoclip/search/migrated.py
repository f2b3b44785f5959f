"""What a migration to another model did, or why it did not."""

from __future__ import annotations

from dataclasses import dataclass

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped

from .adapter import AdapterReport


@dataclass(frozen=True)
class Migrated:
    """What a migration did.

    Attributes:
        entries: N, now.
        embedded: how many were embedded by this call.
        resumed: how many an earlier one that was interrupted had embedded.
        mapped: how many got their vectors by an adapter.
        left_out: entries that could not be embedded, and were left out as was asked for.
        adapter: what was measured of the adapter; None where nothing was mapped.
    """

    entries: int
    embedded: int
    resumed: int
    mapped: int
    left_out: tuple[Skipped, ...]
    adapter: AdapterReport | None = None


class NotEmbedded(DataError):
    """Entries can't be embedded again, so that the index stays with its model.

    Attributes:
        entries: their ids, and why.
    """

    def __init__(self, message: str, entries: tuple[Skipped, ...] = ()) -> None:
        super().__init__(message)
        self.entries = entries
