"""What `protoclip detect` prints and writes. `N` entries."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import join

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from protoclip.cli.app import console
from protoclip.cli.client.output import print_json
from protoclip.detection.detector import Detector
from protoclip.detection.measures import Measure, Separation
from protoclip.detection.vectors import Scores

from .entries import Entries

_NUM_SHOWN = 10


@dataclass(frozen=True)
class Evaluated:
    """One index of strangers; `accepted` is the share of them that the threshold takes for known."""

    source: str
    measures: Separation
    accepted: float


def print_detector(path: Path, detector: Detector, as_json: bool) -> None:
    """What was made, and what to do next."""
    threshold = detector.threshold
    if as_json:
        facts = {
            "detector": str(path),
            "kind": detector.kind,
            "model": detector.model,
            "fingerprint": detector.fingerprint,
            "num_classes": len(detector.classes),
            "num_fit": detector.num_fit,
            "threshold": asdict(threshold),
        }
        print_json(facts)
        return
    classes = f" of {len(detector.classes)} classes" if detector.classes else ""
    _print(
        f"{escape(str(path))}: {detector.kind}, from {detector.num_fit} pictures{classes}; the threshold from "
        f"{threshold.num} others accepts {threshold.accept:.1%} of known pictures, {threshold.low:.1%} to "
        f"{threshold.high:.1%} by chance of the sample"
    )
    _print(f"next: [bold]{escape(join(['protoclip', 'detect', 'score', str(path), 'other.index']))}[/]")


def tell_unlabelled(count: int, field: str) -> None:
    """Says how many entries were left out, if any."""
    if count:
        _print(f"left out: {count} entries without {escape(field)}")


def write_scores(path: Path, entries: Entries, scores: Scores, threshold: float) -> None:
    """`id,known,score` of all, the lowest score first.

    Raises:
        ProtoclipError: the file can't be written.
    """
    from protoclip.contract.files import write_bytes

    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(("id", "known", "score"))
    for row in np.argsort(scores, kind="stable"):
        rows.writerow((entries.ids[row], str(bool(scores[row] >= threshold)).lower(), f"{scores[row]:.6g}"))
    # An id may be a file's name that is no UTF-8.
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))


def print_scores(entries: Entries, scores: Scores, threshold: float, out: Path | None, as_json: bool) -> None:
    """How many are known, and those with the lowest scores."""
    order = np.argsort(scores, kind="stable")
    strangers = int((scores < threshold).sum())
    if as_json:
        listed = [
            {"id": entries.ids[row], "known": bool(scores[row] >= threshold), "score": float(scores[row])}
            for row in order
        ]
        facts = {"index": entries.source, "entries": len(entries), "unknown": strangers, "threshold": threshold}
        print_json({**facts, **({"scores": listed} if out is None else {"out": str(out)})})
        return
    if out is None and strangers:
        table = Table("score", "id, the least known first")
        for row in order[: min(strangers, _NUM_SHOWN)]:
            table.add_row(f"{scores[row]:.4g}", Text(entries.ids[row], overflow="fold"))
        Console().print(table)
    more = f": {escape(str(out))}" if out is not None else ""
    if out is None and strangers > _NUM_SHOWN:
        more = "; --out scores.csv has all"
    _print(f"{strangers} of {len(entries)} entries are of no known kind (score below {threshold:.4g}){more}")


def print_evaluated(
    detector: Detector, known: str, share: float, found: Sequence[Evaluated], as_json: bool
) -> None:
    """The measures for every index of strangers."""
    if as_json:
        each = [{"strangers": one.source, "accepted": one.accepted, **asdict(one.measures)} for one in found]
        print_json({"kind": detector.kind, "known": known, "known_accepted": share, "strangers": each})
        return
    table = Table("strangers", "AUROC", "FPR at 95 %", "AUPR known", "AUPR strangers", "accepted")
    for one in found:
        measures = one.measures
        cells = map(_cell, (measures.auroc, measures.fpr95, measures.aupr_known, measures.aupr_strangers))
        table.add_row(
            Text(f"{one.source}\n{measures.num_strangers}", overflow="fold"), *cells, f"{one.accepted:.1%}"
        )
    Console().print(table)
    _print(
        f"{detector.kind}; of {found[0].measures.num_known} known pictures of {escape(known)} it accepts "
        f"{share:.1%}, {detector.threshold.accept:.1%} are wanted; below each value its 95 % interval"
    )


def _cell(measure: Measure) -> str:
    return f"{measure.value:.1%}\n{measure.low:.1%} to {measure.high:.1%}"


def _print(line: str) -> None:
    console.print(line, highlight=False)
