"""Pairs with their vectors: what belongs together stays together."""

from __future__ import annotations

import numpy as np
import pytest

from protoclip.run_report.embedded import Embedded


@pytest.mark.parametrize("as_mask", [False, True])
def test_selected_rows_keep_their_own_vectors_and_texts(embedded: Embedded, as_mask: bool) -> None:
    rows = np.sort(np.random.default_rng(0).choice(len(embedded), 60, replace=False))
    some = embedded.select(np.isin(np.arange(len(embedded)), rows) if as_mask else rows)
    assert len(some) == 60
    assert len(some.labels.texts) == len(some.text_vectors) == len(set(embedded.labels.owners[rows]))
    for place, row in enumerate(rows):
        assert some.label(place) == embedded.label(row) == embedded.pairs.texts[row][0]
        assert some.pairs.read_image(place) == embedded.pairs.read_image(row)
        assert some.labels.groups[place] == embedded.labels.groups[row]
        np.testing.assert_array_equal(some.image_vectors[place], embedded.image_vectors[row])
        own = some.text_vectors[some.labels.owners[place]]
        np.testing.assert_array_equal(own, embedded.text_vectors[embedded.labels.owners[row]])


def test_every_text_knows_its_first_row(embedded: Embedded) -> None:
    for text, row in enumerate(embedded.text_rows()):
        assert embedded.labels.owners[row] == text
        assert text not in embedded.labels.owners[:row]
