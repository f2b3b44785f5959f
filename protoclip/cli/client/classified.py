"""What `protoclip classify` does with pictures and classes, and its output."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from protoclip.client import ClassBank, Classification, Client
from protoclip.client.classification import AnyDetector, Choice
from protoclip.contract.errors import ItemError
from protoclip.contract.picture_folders import Skipped

from .connection import as_records, new_progress
from .inputs import Inputs
from .output import print_json

_CHUNK = 256
_NUM_RUNNERS_UP = 3
_BY_ITSELF = "sigmoid model: each label has a probability of its own; they do not sum to 1"


@dataclass(frozen=True)
class Classified:
    """The answers with their pictures' names, in order; one named twice has two. And the pictures without one.

    `probabilities` as `ServedModel` has it.
    """

    model: str
    probabilities: str
    answers: list[tuple[str, Classification]]
    failed: list[Skipped]
    choice: Choice


def named_detector(name: str | None) -> AnyDetector | None:
    """The detector in the file of that name, or "served"; None for none. Raises as `Detector.open`."""
    from protoclip.detection.detector import Detector

    if name is None:
        return None
    return "served" if name == "served" else Detector.open(name)


def classify_all(client: Client, inputs: Inputs, classes: ClassBank, choice: Choice) -> Classified:
    """Classifies pictures, with a progress bar."""
    answers: list[tuple[str, Classification]] = []
    failed = list(inputs.failed)
    # Not asdict, which would make a dictionary of the detector too.
    options: dict[str, Any] = {field.name: getattr(choice, field.name) for field in fields(choice)}
    with new_progress() as progress:
        task = progress.add_task("classifying", total=len(inputs.items))
        for start in range(0, len(inputs.items), _CHUNK):
            names = inputs.names[start : start + _CHUNK]
            items = list(inputs.opened(start, start + _CHUNK))
            for name, answer in zip(
                names, client.classify(items, classes, errors="return", **options), strict=True
            ):
                if isinstance(answer, ItemError):
                    failed.append(Skipped(name, answer.reason))
                else:
                    answers.append((name, answer))
            progress.advance(task, len(items))
    return Classified(client.model.prefix, client.model.probabilities, answers, failed, choice)


def print_classified(classified: Classified, as_json: bool) -> None:
    """A table of pictures, labels and second-best labels, or JSON with all scores and cosines."""
    if as_json:
        items = [{"id": name, **_as_record(answer)} for name, answer in classified.answers]
        facts = {"model": classified.model, "probabilities": classified.probabilities}
        print_json({**facts, "items": items, "errors": as_records(classified.failed)})
    elif classified.answers and classified.choice.multi_label:
        _print_several(classified)
    elif classified.answers:
        _print_best(classified)


def _as_record(answer: Classification) -> dict[str, Any]:
    """JSON has no NaN; without a detector nothing is said of what is known."""
    record = asdict(answer)
    if math.isnan(answer.known_score):
        for name in ("known", "known_score", "reason"):
            del record[name]
    return {**record, "score": None if math.isnan(answer.score) else answer.score}


def _print_best(classified: Classified) -> None:
    columns = ["picture", "label", "score", "cosine", *_known_column(classified), "then"]
    table = Table(*columns, caption=_note(classified))
    runners_up = min(_NUM_RUNNERS_UP, (classified.choice.top_k or math.inf) - 1)
    for name, answer in classified.answers:
        others = [label for label in _best_first(answer) if label != answer.label][: int(runners_up)]
        then = ", ".join(f"{label} {answer.scores[label]:.1%}" for label in others)
        numbers = f"{answer.score:.1%}", f"{answer.cosine:.3f}"
        table.add_row(Text(name), Text(answer.label), *numbers, *_known(answer), Text(then))
    Console().print(table)


def _print_several(classified: Classified) -> None:
    threshold = classified.choice.threshold
    columns = ["picture", f"labels with a cosine from {threshold:g} on", "nearest", *_known_column(classified)]
    table = Table(*columns, caption=_note(classified))
    for name, answer in classified.answers:
        fitting = ", ".join(f"{label} {answer.cosines[label]:.3f}" for label in answer.labels)
        nearest = Text(f"{answer.label} {answer.cosine:.3f}")
        table.add_row(Text(name), Text(fitting or "none"), nearest, *_known(answer))
    Console().print(table)


def _known_column(classified: Classified) -> list[str]:
    return [] if classified.choice.detector is None else ["known"]


def _known(answer: Classification) -> list[str]:
    """One cell, where there is a detector; its score alone where that has no threshold."""
    if math.isnan(answer.known_score):
        return []
    word = {True: "yes ", False: "no ", None: ""}[answer.known]
    return [f"{word}{answer.known_score:.4g}"]


def _note(classified: Classified) -> str | None:
    return _BY_ITSELF if classified.probabilities == "sigmoid" and not classified.choice.multi_label else None


def _best_first(answer: Classification) -> list[str]:
    """By cosine: a sigmoid's probabilities may be 1, or 0, for several labels."""
    return sorted(answer.cosines, key=lambda label: -answer.cosines[label])
