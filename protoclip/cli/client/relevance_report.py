"""The page of a calibration: cut-offs, and how often hits of a relevance are answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoclip.contract.files import write_text
from protoclip.reports.charts import Frame, Line, line_chart
from protoclip.reports.pages import render_page

if TYPE_CHECKING:
    from protoclip.search import CalibratedQueries, Calibration

_FRAME = Frame(640, 400, "relevance", "share of answers")


def write_report(path: Path, index: str, found: Calibration) -> None:
    """Writes the page to `path`, in place of an older one.

    Raises:
        ProtoclipError: it can't be written.
    """
    kinds = [_kind("texts", found.text), _kind("pictures or entries", found.image)]
    context = {"index": index, "found": found, "kinds": kinds}
    page = render_page(
        "protoclip.cli.client", "relevance.html.j2", context, {"percent": lambda share: f"{share:.1%}"}
    )
    write_text(path, page)


def _kind(name: str, measured: CalibratedQueries | None) -> dict[str, Any]:
    if measured is None:
        return {"name": name, "measured": None}
    cuts = (
        (f"a relevance of {measured.advised.value:.2f} or more, as advised", measured.advised),
        (f"a relevance of {measured.at_half.value:g} or more", measured.at_half),
        (f"a cosine of {measured.by_cosine.value:.3f} or more", measured.by_cosine),
    )
    right = Line("as probable as said", 0, (0.0, 1.0), (0.0, 1.0))
    bins = Line("measured", 1, [one.relevance for one in measured.bins], [one.share for one in measured.bins])
    return {"name": name, "measured": measured, "cuts": cuts, "diagram": line_chart([right, bins], _FRAME)}
