"""What a run stored of its rows and of its plan. `N` training pairs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ModelError
from protoclip.data.rows_before import RowsAtFirst
from protoclip.data.sections import Section

from .files import PLAN_FILE, ROWS_FILE

_DAMAGE = (OSError, ValueError, KeyError, TypeError)
ANEW = "train anew, with another --out"
_IN_SECTIONS = " in sections"


@dataclass(frozen=True)
class RowsRecord:
    """What rows at the end of the data are told from others by; hashes are those of `protoclip.training.rows`.

    Attributes:
        first: rows that the run began with.
        num_rows: of the training split, those that are held out included.
        num_texts: of these rows.
        texts, pictures: hashes of samples of these rows.
        held_out: hash of a sample of the texts that are validated on; None where none are.
        held_out_pictures: hash of a sample of their pictures.
        groups: hash of the group of each pair; None where there are no groups.
        left_out: those among the rows to train on whose pictures could not be read.
    """

    first: RowsAtFirst
    num_rows: int
    num_texts: int
    texts: str
    pictures: str
    held_out: str | None
    held_out_pictures: str | None
    groups: str | None
    left_out: tuple[int, ...]


@dataclass(frozen=True)
class StoredRows:
    """The rows of a run.

    Attributes:
        pairs: N.
        digest: hash of a sample of their texts.
        record: None in a run of an earlier version.
    """

    pairs: int
    digest: str
    record: RowsRecord | None


def load_rows(run: Path) -> StoredRows | None:
    """What `rows.json` holds; None where the run has none.

    Raises:
        ModelError: the file is damaged.
    """
    path = run / ROWS_FILE
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_bytes())
        record = stored.get("record")
        return StoredRows(
            int(stored["pairs"]), str(stored["digest"]), None if record is None else _record_of(record)
        )
    except (*_DAMAGE, AttributeError) as error:
        raise ModelError(f"{path}: can't be read: {error}: {ANEW}") from error


def rows_at_first(run: Path) -> RowsAtFirst | None:
    """The rows that a run began with, among which are those to validate on; None where it has not stored that.

    Raises:
        ModelError: the file is damaged.
    """
    stored = load_rows(run)
    return None if stored is None or stored.record is None else stored.record.first


def load_plan(run: Path) -> tuple[str, tuple[Section, ...]] | None:
    """How the run permutes its pairs, and its sections, none where it has one; None where it has not stored that.

    Raises:
        ModelError: the file is damaged.
    """
    path = run / PLAN_FILE
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_bytes())
        sections = tuple(Section(int(first), int(count)) for first, count in stored.get("sections", ()))
        order = str(stored["order"])
        if order.endswith(_IN_SECTIONS) != bool(sections) or not _follow_each_other(sections):
            raise ValueError("its sections don't follow each other")
        return order.removesuffix(_IN_SECTIONS), sections
    except (*_DAMAGE, AttributeError) as error:
        raise ModelError(f"{path}: can't be read: {error}: {ANEW}") from error


def plan_text(order: str, sections: tuple[Section, ...]) -> str:
    """The content of `plan.json`.

    The order of a plan in sections has a name that earlier versions don't know: they must not go on without them.
    """
    if len(sections) == 1:
        return json.dumps({"order": order}) + "\n"
    listed = [[section.first_episode, section.turn_length] for section in sections]
    return json.dumps({"order": order + _IN_SECTIONS, "sections": listed}) + "\n"


def _follow_each_other(sections: tuple[Section, ...]) -> bool:
    grow = all(
        earlier.first_episode < later.first_episode and 0 < earlier.turn_length < later.turn_length
        for earlier, later in pairwise(sections)
    )
    return grow and (not sections or sections[0].first_episode == 0)


def _record_of(values: dict[str, Any]) -> RowsRecord:
    fields = values | {"first": RowsAtFirst(**values["first"]), "left_out": tuple(map(int, values["left_out"]))}
    return RowsRecord(**fields)
