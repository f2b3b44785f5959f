"""What a conversion wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Converted:
    """A folder in another program's format.

    Attributes:
        kind: the class that it is for, or the program.
        notes: what the format can't say of the model, a sentence each.
    """

    folder: Path
    kind: str
    notes: tuple[str, ...] = ()
