"""The page of an evaluation of a detector, and the same as JSON beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from protoclip.contract.errors import DataError
from protoclip.contract.files import write_bytes
from protoclip.contract.pixels import PictureError
from protoclip.detection.curves import roc_curve, score_edges, shares_of_bins
from protoclip.detection.detector import Detector
from protoclip.detection.measures import ACCEPTED
from protoclip.reports.charts import Frame, Line, Mark, line_chart
from protoclip.reports.pages import render_page
from protoclip.reports.thumbnails import data_uri

from .compared import Compared, Mistake, Strangers
from .entries import Entries
from .output import facts_of

_HISTOGRAM = Frame(420, 220, "score", "share of pictures", left=66)
_ROC = Frame(640, 420, "share of strangers accepted", "share of known accepted", left=54)
_KNOWN_STYLE, _FIRST_STYLE, _NUM_STYLES, _GREY = 0, 4, 9, 13


def write_report(path: Path, file: Path, detector: Detector, found: Compared) -> None:
    """Writes the page to `path`, and the figures to FILE.json, in place of older ones.

    Raises:
        ProtoclipError: one of them can't be written.
    """
    page = render_page(
        "protoclip.cli.detect",
        "evaluation.html.j2",
        {
            "file": str(file),
            "detector": detector,
            "found": found,
            "kinds": [_kind(place, found, one) for place, one in enumerate(found.strangers)],
            "roc": _roc(found),
            "lost": [_card(one, found.known, None) for one in found.mistakes],
            "num_lost": int((found.scores < found.cut).sum()),
        },
        {"percent": _percent, "score": lambda value: f"{value:.4g}".replace("-", "−")},
    )
    figures = json.dumps(report_facts(file, detector, found), ensure_ascii=False, indent=1)
    for target, text in ((path, page), (path.with_suffix(".json"), figures + "\n")):
        # An id may be a file's name that is no UTF-8.
        write_bytes(target, text.encode("utf-8", "backslashreplace"))


def report_facts(file: Path, detector: Detector, found: Compared) -> dict[str, Any]:
    """What FILE.json holds: the output of --json, the detector, and the mistakes."""
    facts = facts_of(detector, found)
    strangers = [
        {**its, "mistakes": [asdict(mistake) for mistake in one.mistakes]}
        for its, one in zip(facts["strangers"], found.strangers, strict=True)
    ]
    return {
        "detector": str(file),
        "model": detector.model,
        "fingerprint": detector.fingerprint,
        "threshold": None if detector.maybe_threshold is None else asdict(detector.maybe_threshold),
        "cut": found.cut,
        **facts,
        "mistakes": [asdict(one) for one in found.mistakes],
        "strangers": strangers,
    }


def _kind(place: int, found: Compared, one: Strangers) -> dict[str, Any]:
    return {
        "one": one,
        "style": _style(place),
        "histogram": _histogram(place, found, one),
        "taken": [_card(mistake, one.entries, found.known) for mistake in one.mistakes],
        "num_taken": int((one.scores >= found.cut).sum()),
    }


def _histogram(place: int, found: Compared, one: Strangers) -> Markup:
    edges = score_edges([found.scores, one.scores])
    xs = edges.repeat(2)[1:-1].tolist()
    lines = [
        Line(name, style, xs, shares_of_bins(scores, edges).repeat(2).tolist())
        for name, style, scores in (("known", _KNOWN_STYLE, found.scores), (one.name, _style(place), one.scores))
    ]
    return line_chart(lines, _HISTOGRAM, [Mark(found.cut, "threshold")])


def _roc(found: Compared) -> Markup:
    curves = [(one.name, _style(place), one.scores) for place, one in enumerate(found.strangers)]
    lines = [Line("by chance", _GREY, (0.0, 1.0), (0.0, 1.0)), Line("", _GREY, (0.0, 1.0), (ACCEPTED, ACCEPTED))]
    for name, style, scores in curves:
        curve = roc_curve(found.scores, scores)
        lines.append(Line(name, style, curve.strangers.tolist(), curve.known.tolist()))
    return line_chart(lines, _ROC)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _style(place: int) -> int:
    return _FIRST_STYLE + place % _NUM_STYLES


def _card(mistake: Mistake, entries: Entries, known: Entries | None) -> dict[str, Any]:
    like = _shown(known, mistake.like) if known is not None else None
    return {"mistake": mistake, "picture": _shown(entries, mistake.id), "like": like}


def _shown(entries: Entries, name: str) -> str | None:
    """A picture as a `data:` address; None where it can't be read any more, or nobody knows where it is."""
    try:
        return data_uri(entries.picture(name), 160)
    except (DataError, PictureError):
        return None
