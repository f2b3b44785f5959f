"""What was left out: counted by reason, written to a table, and too much of it stops the reading."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from protoclip.contract.errors import DataError
from protoclip.contract.files import write_bytes
from protoclip.contract.picture_folders import Skipped

LEFT_OUT_FILE = "left_out.csv"
_NUM_REASONS = 5


def counts_by_reason(left_out: Sequence[Skipped]) -> str:
    """`3 no text, 2 names no picture`: the most frequent reasons first."""
    counts = Counter(skipped.reason for skipped in left_out).most_common()
    shown = [f"{count} × {reason}" for reason, count in counts[:_NUM_REASONS]]
    more = sum(count for _, count in counts[_NUM_REASONS:])
    return "; ".join(shown + ([f"{more} for other reasons"] if more else []))


def check_left_out(left_out: Sequence[Skipped], num_kept: int, limit: float, where: str) -> None:
    """Raises DataError where more was left out than `limit`: below 1 a share of everything, else a number."""
    if math.isnan(limit):
        raise DataError("data.max_left_out=nan: give a share below 1, or a number of rows and files")
    allowed = limit if limit >= 1 else limit * (num_kept + len(left_out))
    if len(left_out) <= allowed:
        return
    shown = f"{limit:g}" if limit >= 1 else f"{limit:.0%}"
    raise DataError(
        f"{where}: {len(left_out)} of {num_kept + len(left_out)} rows and files would be left out "
        f"({counts_by_reason(left_out)}), and data.max_left_out is {shown}; the first: {left_out[0].name}: "
        f"{left_out[0].reason}: mend them, or raise data.max_left_out"
    )


def write_left_out(left_out: Sequence[Skipped], path: Path) -> None:
    """Writes a CSV file with the columns `name` and `reason`; removes an old one where nothing was left out."""
    if not left_out:
        path.unlink(missing_ok=True)
        return
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(("name", "reason"))
    writer.writerows((skipped.name, skipped.reason) for skipped in left_out)
    write_bytes(path, stream.getvalue().encode("utf-8", "backslashreplace"))
