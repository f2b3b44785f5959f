"""What Immich asks for: the field `entries`, which is JSON such as `{"clip": {"visual": {"modelName": "…"}}}`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from serving.gateway.errors import Refused
from serving.gateway.json_bodies import parse_json

CLIP = "clip"
_KINDS = ("textual", "visual")


@dataclass(frozen=True)
class ClipEntry:
    """A wish for an embedding.

    Attributes:
        kind: of a text or of a picture.
        model_name: the model as Immich calls it.
    """

    kind: Literal["textual", "visual"]
    model_name: str


@dataclass(frozen=True)
class Entries:
    """All that a request asks for.

    Attributes:
        clip: the embedding; None where none is wanted.
        others: other tasks, such as `facial-recognition` and `ocr`, as they were sent.
    """

    clip: ClipEntry | None
    others: dict[str, Any]


def read_entries(value: str | None) -> Entries:
    """The tasks in the form's field.

    Raises:
        Refused: 422, as Immich's service, for a missing field, and for JSON of another form.
    """
    if value is None:
        raise _wrong("the form has no field entries")
    try:
        tasks = parse_json(value)
    except Refused as error:
        raise _wrong(f"entries: {error.message}") from error
    if not isinstance(tasks, dict) or not tasks:
        raise _wrong("entries must be a JSON object of tasks")
    others = {task: entry for task, entry in tasks.items() if task != CLIP}
    return Entries(_clip(tasks[CLIP]) if CLIP in tasks else None, others)


def _clip(entry: object) -> ClipEntry:
    if not isinstance(entry, dict) or len(entry) != 1 or not set(entry) <= set(_KINDS):
        raise _wrong("entries.clip must have one of textual and visual")
    kind, model = next(iter(entry.items()))
    name = model.get("modelName") if isinstance(model, dict) else None
    if not isinstance(name, str):
        raise _wrong(f"entries.clip.{kind} must have a modelName")
    return ClipEntry(cast("Literal['textual', 'visual']", kind), name)


def _wrong(message: str) -> Refused:
    return Refused(422, "invalid_input", message)
