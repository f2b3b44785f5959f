"""Nearest pictures: against a loop, never the picture itself, and a choice that nobody makes by hand."""

from __future__ import annotations

import numpy as np
import pytest

from protoclip.run_report.embedded import Embedded
from protoclip.run_report.neighbours import middle_rows, nearest_others, show_neighbours


def test_the_nearest_are_those_of_a_loop(embedded: Embedded) -> None:
    vectors = embedded.image_vectors
    asked = np.arange(0, len(vectors), 40)
    rows, cosines = nearest_others(vectors, asked, 5)
    for place, query in enumerate(asked):
        others = sorted(((float(vectors[query] @ v), row) for row, v in enumerate(vectors) if row != query))
        assert cosines[place] == pytest.approx([cosine for cosine, _ in others[:-6:-1]], abs=1e-6)
        assert query not in rows[place]


def test_a_copy_is_found_and_equal_cosines_stand_in_order() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], dtype=np.float32)
    rows, cosines = nearest_others(vectors, np.array([2]), 3)
    assert rows.tolist() == [[0, 3, 1]]
    assert cosines.tolist() == [[1, 1, 0]]


def test_wrong_numbers_and_vectors_are_refused() -> None:
    vectors = np.eye(3, dtype=np.float32)
    for k in (0, 3):
        with pytest.raises(ValueError, match="number of other pictures"):
            nearest_others(vectors, np.array([0]), k)
    with pytest.raises(ValueError, match="not finite"):
        nearest_others(np.full((3, 2), np.nan, np.float32), np.array([0]), 1)


def test_the_middle_row_of_every_class_is_shown() -> None:
    classes = np.array(list("babbacbb"), dtype=object)
    assert middle_rows(np.array([7, 6, 4, 3, 2, 1, 0]), classes) == [4, 3]
    assert middle_rows(np.array([], dtype=np.int64), classes) == []


def test_panels_hold_real_pictures_and_count_all_that_was_asked(embedded: Embedded) -> None:
    asked = embedded.pairs.column("split") == "unseen_both"
    shown = show_neighbours(embedded, asked, "category")
    assert shown is not None
    assert [panel.kind for panel in shown.panels] == sorted(set(embedded.pairs.column("category")[asked]))
    assert (shown.num_asked, shown.num_pictures) == (asked.sum(), len(embedded))
    concepts, right = embedded.pairs.column("concept"), 0
    for row in np.flatnonzero(asked):
        others = [other for other in range(len(embedded)) if other != row]
        best = max(others, key=lambda other: float(embedded.image_vectors[row] @ embedded.image_vectors[other]))
        right += concepts[best] == concepts[row]
    assert shown.num_right == right
    assert 0 < right < shown.num_asked
    files = {embedded.pairs.read_image(row): concepts[row] for row in range(len(embedded))}
    for panel in shown.panels:
        assert panel.num_same == (concepts == files[panel.picture]).sum() - 1
        for found in panel.found:
            assert found.same == (files[found.picture] == files[panel.picture])
            assert found.picture != panel.picture


def test_nothing_asked_is_nothing_shown(embedded: Embedded) -> None:
    assert show_neighbours(embedded, np.zeros(len(embedded), dtype=bool), "category") is None
    assert show_neighbours(embedded.select(np.array([0])), np.array([True]), "category") is None
