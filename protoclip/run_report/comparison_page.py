"""The page of `protoclip compare`: the table, and the pictures on which two models differ most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from protoclip.contract.files import write_text
from protoclip.evaluation.comparing import Compared, most_different
from protoclip.evaluation.item_scores import Measured
from protoclip.reports.pages import render_page

from .filters import FILTERS

_SHOWN = 12


@dataclass(frozen=True)
class Answer:
    """What one model says of a picture: its own text's rank (1 is best) and cosine, and the text found first."""

    model: str
    rank: int
    cosine: float
    found: str
    found_cosine: float


@dataclass(frozen=True)
class DifferentPicture:
    """A picture, its label text, and both models' answers."""

    picture: bytes
    label: str
    answers: tuple[Answer, Answer]


def write_comparison(path: Path, compared: Compared, *, num_pictures: int = _SHOWN) -> None:
    """Writes the page; the pictures are of the first arm against each other one.

    Raises:
        DataError: a picture can't be read any more.
        ProtoclipError: the file can't be written.
    """
    first, *others = compared.comparison.arms
    pairs = []
    for place, other in enumerate(others, start=1):
        better, worse = most_different(
            compared.measured[0].ranks, compared.measured[place].ranks, compared.asked.labels.groups, num_pictures
        )
        shown = [[_picture(compared, place, row) for row in rows] for rows in (better, worse)]
        pairs.append({"name": other.name, "better": shown[0], "worse": shown[1]})
    context = {"comparison": compared.comparison, "first": first, "pairs": pairs}
    write_text(path, render_page("protoclip.run_report", "comparison_page.html.j2", context, FILTERS))


def _picture(compared: Compared, place: int, row: int) -> DifferentPicture:
    arms, measured = compared.comparison.arms, compared.measured
    answers = tuple(_answer(compared, arms[arm].name, measured[arm], row) for arm in (0, place))
    labels = compared.asked.labels
    return DifferentPicture(
        compared.asked.pairs.read_image(row), labels.texts[labels.owners[row]], (answers[0], answers[1])
    )


def _answer(compared: Compared, name: str, measured: Measured, row: int) -> Answer:
    found = compared.asked.labels.texts[measured.found[row]]
    rank, own, best = measured.ranks[row] + 1, measured.own[row], measured.found_cosines[row]
    return Answer(name, int(rank), float(own), found, float(best))
