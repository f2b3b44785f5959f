"""What `protoclip index calibrate` and `info` say of a calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protoclip.search import CalibratedQueries, Calibration


def relevance_rows(found: Calibration) -> dict[str, str]:
    """Names and values of a table."""
    source = found.field or "given queries"
    groups = f", in groups by {found.group}" if found.group else ""
    rows = {
        "relevance calibrated": f"{found.calibrated_at}, on {found.entries:,} entries, by {source}{groups}",
        "of texts": _told(found.text),
    }
    rows["of pictures"] = (
        "not calibrated: too few entries have another one with their text"
        if found.image is None
        else _told(found.image)
    )
    return rows


def rows_now(found: Calibration | None, entries: int) -> dict[str, str]:
    """As `relevance_rows`, of an index as it is now; nothing where it isn't calibrated."""
    if found is None:
        return {}
    due = {"relevance is due": "protoclip index calibrate"} if found.is_due(entries) else {}
    return {**relevance_rows(found), **due}


def _told(one: CalibratedQueries) -> str:
    cut, cosine = one.advised, one.by_cosine
    return (
        f"--min-relevance {cut.value:.2f} keeps {cut.kept:.0%} of the answers, and {cut.empty:.0%} of the queries "
        f"without an answer find nothing ({cosine.empty:.0%} by a cut-off of the cosine); probabilities are "
        f"{100 * one.error:.1f} points off on average, measured with {one.queries:,} queries"
    )
