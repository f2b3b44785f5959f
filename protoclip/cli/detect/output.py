"""What `protoclip detect` prints and writes. `N` entries."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path
from shlex import join
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from protoclip.cli.app import console
from protoclip.cli.client.connection import as_records
from protoclip.cli.client.output import print_json
from protoclip.detection.concepts import Concepts
from protoclip.detection.detector import Detector
from protoclip.detection.measures import Measure
from protoclip.detection.threshold import Threshold
from protoclip.detection.vectors import Scores

from .compared import Compared
from .entries import Entries

_NUM_SHOWN = 10


def print_detector(path: Path, detector: Detector, as_json: bool) -> None:
    """What was made, and what to do next."""
    threshold = detector.maybe_threshold
    if as_json:
        facts = {
            "detector": str(path),
            "kind": detector.kind,
            "model": detector.model,
            "fingerprint": detector.fingerprint,
            "num_classes": len(detector.classes),
            "num_fit": detector.num_fit,
            "num_negatives": num_negatives(detector),
            "threshold": None if threshold is None else asdict(threshold),
        }
        print_json(facts)
        return
    _print(f"{escape(str(path))}: {detector.kind}, from {_origin(detector)}; {_promise(threshold)}")
    command = ["score", str(path), "other.index"] if threshold else ["calibrate", str(path), "known.index"]
    _print(f"next: [bold]{escape(join(['protoclip', 'detect', *command]))}[/]")


def num_negatives(detector: Detector) -> int:
    """Words of a vocabulary that stand for what is not known; 0 for detectors from pictures."""
    return len(detector.scorer.negatives) if isinstance(detector.scorer, Concepts) else 0


def _origin(detector: Detector) -> str:
    classes = len(detector.classes)
    if isinstance(detector.scorer, Concepts):
        negatives = num_negatives(detector)
        far = f"{negatives} words that are far from {'it' if classes == 1 else 'them'}"
        return f"{classes} name{'' if classes == 1 else 's'}{f' and {far}' if negatives else ''}"
    return f"{detector.num_fit} pictures{f' of {classes} classes' if classes else ''}"


def _promise(threshold: Threshold | None) -> str:
    if threshold is None:
        return (
            "no threshold, which needs known pictures: it gives scores, and does not say which pictures are known"
        )
    return (
        f"the threshold from {threshold.num} others accepts {threshold.accept:.1%} of known pictures, "
        f"{threshold.low:.1%} to {threshold.high:.1%} by chance of the sample"
    )


def tell_unlabelled(count: int, field: str) -> None:
    """Says how many entries were left out, if any."""
    if count:
        _print(f"left out: {count} entries without {escape(field)}")


def write_scores(path: Path, entries: Entries, scores: Scores, detector: Detector) -> None:
    """`id,known,score` of all, the lowest score first; `known` is empty without a threshold.

    Raises:
        ProtoclipError: the file can't be written.
    """
    from protoclip.contract.files import write_bytes

    known = detector.accepts(scores)
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(("id", "known", "score"))
    for row in np.argsort(scores, kind="stable"):
        word = "" if known is None else str(bool(known[row])).lower()
        rows.writerow((entries.ids[row], word, f"{scores[row]:.6g}"))
    # An id may be a file's name that is no UTF-8.
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))


def print_scores(entries: Entries, scores: Scores, detector: Detector, out: Path | None, as_json: bool) -> None:
    """How many are known, and those with the lowest scores."""
    order = np.argsort(scores, kind="stable")
    known = detector.accepts(scores)
    strangers = None if known is None else int((~known).sum())
    value = None if known is None else detector.threshold.value
    if as_json:
        listed = [
            {
                "id": entries.ids[row],
                "known": None if known is None else bool(known[row]),
                "score": float(scores[row]),
            }
            for row in order
        ]
        facts = {"index": entries.source, "entries": len(entries), "unknown": strangers, "threshold": value}
        left_out = {"errors": as_records(entries.left_out)} if entries.left_out else {}
        print_json({**facts, **({"scores": listed} if out is None else {"out": str(out)}), **left_out})
        return
    num_listed = len(entries) if strangers is None else strangers
    if out is None and num_listed:
        table = Table("score", "id, the least known first")
        for row in order[: min(num_listed, _NUM_SHOWN)]:
            table.add_row(f"{scores[row]:.4g}", Text(entries.ids[row], overflow="fold"))
        Console().print(table)
    more = f": {escape(str(out))}" if out is not None else ""
    if out is None and num_listed > _NUM_SHOWN:
        more = "; --out scores.csv has all"
    if value is None:
        _print(f"{len(entries)} entries have scores{more}; `protoclip detect calibrate` finds which are known")
        return
    _print(f"{strangers} of {len(entries)} entries are of no known kind (score below {value:.4g}){more}")


def facts_of(detector: Detector, found: Compared) -> dict[str, Any]:
    """The figures of an evaluation, for JSON; shares from 0 to 1."""
    strangers = [
        {
            "strangers": one.name,
            "source": one.entries.source,
            "accepted": one.accepted,
            "left_out": len(one.entries.left_out),
            **asdict(one.measures),
        }
        for one in found.strangers
    ]
    return {
        "kind": detector.kind,
        "known": found.known.source,
        "known_accepted": found.accepted,
        "known_left_out": len(found.known.left_out),
        "strangers": strangers,
    }


def print_evaluated(detector: Detector, found: Compared, as_json: bool) -> None:
    """The measures for every kind of strangers."""
    if as_json:
        print_json(facts_of(detector, found))
        return
    table = Table("strangers", "AUROC", "FPR at 95 %", "AUPR known", "AUPR strangers", "accepted")
    for one in found.strangers:
        measures = one.measures
        cells = map(_cell, (measures.auroc, measures.fpr95, measures.aupr_known, measures.aupr_strangers))
        table.add_row(Text(f"{one.name}\n{measures.num_strangers}", overflow="fold"), *cells, _share(one.accepted))
    Console().print(table)
    pictures = f"{len(found.known)} known pictures of {escape(found.known.source)}"
    if detector.maybe_threshold is None:
        _print(f"{detector.kind}, without a threshold; {pictures}; below each value its 95 % interval")
        return
    _print(
        f"{detector.kind}; of {pictures} it accepts {_share(found.accepted)}, {detector.threshold.accept:.1%} are "
        "wanted; below each value its 95 % interval"
    )


def _share(accepted: float | None) -> str:
    return "-" if accepted is None else f"{accepted:.1%}"


def _cell(measure: Measure) -> str:
    return f"{measure.value:.1%}\n{measure.low:.1%} to {measure.high:.1%}"


def _print(line: str) -> None:
    console.print(line, highlight=False)
