"""The training curves of a run's metrics, as charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from protoclip.reports.charts import Frame, Line, Mark, line_chart, smooth

Metrics = Sequence[Mapping[str, Any]]

WIDE = Frame(1080, 340, x_label="step")
NARROW = Frame(380, 280, x_label="step")
SMALL = Frame(360, 200, x_label="step")

_LOSSES = {
    "loss": "total",
    "loss_clip": "alignment",
    "loss_proto": "prototypes",
    "loss_ext": "external teacher",
}
_RECALLS = {
    "mean_recall": "mean of the six recalls",
    "image_to_text_r1": "picture → text, first",
    "text_to_image_r1": "text → picture, first",
    "image_to_text_r5": "picture → text, among five",
}
_EPISODE_FIGURES = (
    (
        "Cluster agreement",
        "normalised mutual information of picture and text clusters",
        {"agreement": "agreement"},
    ),
    (
        "Cluster sizes",
        "their entropy; the higher, the more even",
        {"entropy_image": "pictures", "entropy_text": "texts"},
    ),
)
_STEP_FIGURES = (
    ("Inverse temperature", "learnt scale of the logits", {"scale": "alignment", "scale_proto": "prototypes"}),
    ("Mixtures", "losses of PALM", {"loss_mixture": "likelihood", "loss_contrast": "contrast of prototypes"}),
    ("Own class", "share of pictures whose nearest prototype is their class's", {"class_accuracy": "pictures"}),
    ("Speed", "pairs trained on a second", {"pairs_per_s": "pairs a second"}),
)


@dataclass(frozen=True)
class Figure:
    """A chart for wide pages, the same for narrow ones, and the names of its curves."""

    title: str
    note: str
    wide: Markup
    narrow: Markup
    legend: tuple[tuple[int, str], ...]


def loss_figure(metrics: Metrics) -> Figure | None:
    """The losses over the steps, smoothed, with a mark where each episode begins; None without steps."""
    steps = [line for line in metrics if line["kind"] == "step"]
    window = max(1, len(steps) // 40)
    lines = _lines(steps, _LOSSES, window)
    marks = [Mark(line["step"], f"episode {line['episode']}") for line in _episode_starts(steps)]
    note = "vertical lines are where an episode begins"
    if window > 1:
        note = f"moving mean over {window} points; {note}"
    narrow = [Mark(mark.x, mark.label.removeprefix("episode ")) for mark in marks]
    return _figure("Loss", note, lines, marks, narrow) if lines else None


def validation_figure(metrics: Metrics) -> Figure | None:
    """Recall on the validation pairs over the steps, in percent; None where nothing was validated twice."""
    rows = [
        {name: 100 * value if name in _RECALLS else value for name, value in line.items()}
        for line in metrics
        if line["kind"] == "validation"
    ]
    note = "share of the held-out pairs whose counterpart is found, in percent"
    lines = _lines(rows, _RECALLS, window=1)
    return _figure("Validation", note, lines, [], []) if lines else None


def small_figures(metrics: Metrics) -> list[Figure]:
    """Charts of the other metrics; one without data is left out."""
    kinds = (("episode", _EPISODE_FIGURES), ("step", _STEP_FIGURES))
    figures = []
    for kind, wanted in kinds:
        rows = [line for line in metrics if line["kind"] == kind]
        for title, note, fields in wanted:
            if lines := _lines(rows, fields, window=1):
                chart = line_chart(lines, SMALL)
                figures.append(Figure(title, note, chart, chart, _legend(lines)))
    return figures


def _lines(rows: Metrics, fields: Mapping[str, str], window: int) -> list[Line]:
    lines = []
    xs = [row["step"] for row in rows]
    for style, (field, name) in enumerate(fields.items()):
        values = [row.get(field) for row in rows]
        if sum(value is not None for value in values) > 1:
            lines.append(Line(name, style, xs, smooth(values, window)))
    return lines


def _episode_starts(steps: Metrics) -> list[Mapping[str, Any]]:
    return [here for before, here in pairwise(steps) if before["episode"] != here["episode"]]


def _figure(title: str, note: str, lines: Sequence[Line], marks: Sequence[Mark], narrow: Sequence[Mark]) -> Figure:
    return Figure(title, note, line_chart(lines, WIDE, marks), line_chart(lines, NARROW, narrow), _legend(lines))


def _legend(lines: Sequence[Line]) -> tuple[tuple[int, str], ...]:
    return tuple((line.style, line.name) for line in lines)
