"""For tests, no power is ever cut: files are not waited for until they reach the disk."""

from __future__ import annotations

import os
from typing import Any


def skip_syncs() -> None:
    """`os.fsync` of this process, and of those that are forked from it, looks at the file and returns at once."""

    def look(file: Any) -> None:
        os.fstat(file if isinstance(file, int) else file.fileno())

    os.fsync = look
