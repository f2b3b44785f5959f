"""The map of the joint space: pictures and texts as points, with the modality gap visible and without it.

`N` pictures, `M` texts, `D` embedding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from protoclip.reports.charts import Frame
from protoclip.reports.projection import Array, Projection, project
from protoclip.reports.scatter import Dots, Level, Point, scatter_chart

from .cosines import cosine_figure, mean_cosines
from .curves import Figure
from .embedded import Embedded

_MOST_PICTURES = 600
_NUM_LINKS = 60
_FIRST_STYLE, _NUM_STYLES = 4, 9
_AXES = ("mean picture → mean text", "first principal component", "second principal component")
_PICTURES, _TEXTS = "pictures", "texts"
_MODALITY_STYLES = {_PICTURES: 1, _TEXTS: 2}


@dataclass(frozen=True)
class MapView:
    """Two of the axes: the chart for wide pages, with names on hover, and the one for narrow pages."""

    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class EmbeddingMap:
    """Both views, and the figures that belong beside them.

    Attributes:
        across: vertical the gap's axis, horizontal the first principal component of the rest.
        along: the two principal components, where the gap can't be seen.
        cosines: histogram of the pairs' cosines; None where there is one text.
        modalities: the colours of `across`, by number, with their names.
        legend: the colours of `along`, one per class.
        column: the column that holds the classes; empty without.
        projection: the axes were made from all pictures and texts of the part.
        own_cosine: mean cosine of a picture and its own text.
        other_cosine: mean cosine of a picture and the other texts; None where there is one text.
        num_drawn: pictures that are drawn, each with its text.
        num_links: how many of them are joined by a line with their text.
    """

    across: MapView
    along: MapView
    cosines: Figure | None
    modalities: tuple[tuple[int, str], ...]
    legend: tuple[tuple[int, str], ...]
    column: str
    projection: Projection
    own_cosine: float
    other_cosine: float | None
    num_drawn: int
    num_links: int


def draw_map(part: Embedded, class_column: str | None) -> EmbeddingMap | None:
    """The map of a part; None where there are fewer than three pictures.

    Args:
        part: N pictures and their M texts.
        class_column: colours the points; classes after the nine largest share a colour. None: one colour.

    Raises:
        DataError: there is no such column.
        ValueError: a vector is not finite, or D is below 3.
    """
    if len(part) < 3:
        return None
    classes = np.full(len(part), "") if class_column is None else part.classes(class_column)
    rows = balanced_rows(classes, _MOST_PICTURES)
    linked = rows[_evenly(len(rows), _NUM_LINKS)]
    sample = _Sample(part, project(part.image_vectors, part.text_vectors), rows, linked, classes, _styles(classes))
    vectors = part.image_vectors, part.text_vectors, part.labels.owners
    own, other = mean_cosines(*vectors)
    return EmbeddingMap(
        across=sample.across(),
        along=sample.along(),
        cosines=cosine_figure(*vectors),
        modalities=tuple((style, name) for name, style in _MODALITY_STYLES.items()),
        legend=_legend(sample.styles),
        column=class_column or "",
        projection=sample.projection,
        own_cosine=own,
        other_cosine=other,
        num_drawn=len(rows),
        num_links=len(linked),
    )


def balanced_rows(classes: NDArray[np.generic], most: int) -> NDArray[np.int64]:
    """About `most` rows or fewer, ascending: of every class an equal share, or all it has, evenly spaced.

    Args:
        classes: `[N]`, the class of every row.
        most: rows in all; every class gets one even where there are more classes than that.
    """
    names = np.unique(classes)
    places = [np.flatnonzero(classes == name) for name in names]
    return np.sort(np.concatenate([own[_evenly(len(own), max(1, most // len(names)))] for own in places]))


def _evenly(length: int, most: int) -> NDArray[np.int64]:
    return np.linspace(0, length - 1, min(most, length)).round().astype(np.int64)


def _styles(classes: NDArray[np.str_]) -> dict[str, int]:
    """Colour numbers: one for each of the largest classes, in the order of their names, and one for all others."""
    largest = sorted(name for name, _ in Counter(classes.tolist()).most_common(_NUM_STYLES))
    styles = dict.fromkeys(np.unique(classes).tolist(), _FIRST_STYLE + _NUM_STYLES)
    return styles | {name: _FIRST_STYLE + place for place, name in enumerate(largest)}


def _legend(styles: Mapping[str, int]) -> tuple[tuple[int, str], ...]:
    last = _FIRST_STYLE + _NUM_STYLES
    named = sorted((style, name) for name, style in styles.items() if style != last)
    return (*named, (last, "others")) if last in styles.values() else tuple(named)


@dataclass(frozen=True)
class _Sample:
    part: Embedded
    projection: Projection
    rows: NDArray[np.int64]
    linked: NDArray[np.int64]
    classes: NDArray[np.str_]
    styles: Mapping[str, int]

    def across(self) -> MapView:
        half = self.projection.gap / 2
        levels = (Level(half, _TEXTS), Level(-half, _PICTURES))
        wide, narrow = (_frame(width, 1, 0, height=520, right=62) for width in (1120, 380))
        return MapView(
            scatter_chart(self._dots(1, 0, None, titled=True), wide, _AXES[0], self._links(1, 0), levels, 3.2),
            scatter_chart(self._dots(1, 0, None, titled=False), narrow, _AXES[0], self._links(1, 0), levels, 1.8),
        )

    def along(self) -> MapView:
        wide, narrow = (_frame(width, 1, 2, height=width - 60) for width in (560, 380))
        return MapView(
            scatter_chart(self._dots(1, 2, self.styles, titled=True), wide, _AXES[2], self._links(1, 2)),
            scatter_chart(
                self._dots(1, 2, self.styles, titled=False), narrow, _AXES[2], self._links(1, 2), radius=1.8
            ),
        )

    def _links(self, right: int, up: int) -> list[tuple[Point, Point]]:
        images, texts = self._points(right, up)
        return [(images[row], texts[row]) for row in self.linked]

    def _dots(self, right: int, up: int, styles: Mapping[str, int] | None, titled: bool) -> list[Dots]:
        """Texts, each once however many pictures own it, below pictures; coloured by class, or by modality.

        Narrow pages have no hover: titles would only make the file larger.
        """
        images, texts = self._points(right, up)
        first_rows = self.rows[np.unique(self.part.labels.owners[self.rows], return_index=True)[1]]
        dots = []
        for modality, points, rows in ((_TEXTS, texts, first_rows), (_PICTURES, images, self.rows)):
            colours = styles or dict.fromkeys(self.styles, _MODALITY_STYLES[modality])
            for style in sorted(set(colours.values())):
                own = [row for row in rows if colours[self.classes[row]] == style]
                titles = [self._title(row, modality) for row in own if titled]
                dots.append(Dots(style, modality == _TEXTS, [points[row] for row in own], titles))
        return [group for group in dots if group.points]

    def _title(self, row: int, modality: str) -> str:
        name = f"{self.part.label(row)}: {modality[:-1]}"
        return f"{name}, {self.classes[row]}" if self.classes[row] else name

    def _points(self, right: int, up: int) -> tuple[list[Point], list[Point]]:
        """Every row's picture point and text point."""
        images, texts = self.projection.images, self.projection.texts[self.part.labels.owners]
        return _places(images, right, up), _places(texts, right, up)


def _frame(width: int, right_axis: int, up_axis: int, *, height: int, right: int = 12) -> Frame:
    return Frame(width, height, _AXES[right_axis], _AXES[up_axis], left=58, right=right)


def _places(coordinates: Array, right: int, up: int) -> list[Point]:
    return [(float(row[right]), float(row[up])) for row in coordinates]
