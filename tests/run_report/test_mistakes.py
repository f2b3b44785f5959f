"""The hardest mistakes: really the worst, by a loop of their own; and the counts beside them."""

from __future__ import annotations

import numpy as np
import pytest

from protoclip.run_report.contents import Confusion
from protoclip.run_report.embedded import Embedded
from protoclip.run_report.mistakes import confusions, show_mistakes, worst_rows


@pytest.fixture(scope="module")
def part(embedded: Embedded) -> Embedded:
    return embedded.select(embedded.pairs.column("split") == "unseen_style")


def loop_ranks(part: Embedded) -> list[int]:
    ranks = []
    for row in range(len(part)):
        own = part.text_vectors[part.labels.texts.index(part.pairs.texts[row][0])] @ part.image_vectors[row]
        ranks.append(1 + sum(float(text @ part.image_vectors[row]) > own + 1e-6 for text in part.text_vectors))
    return ranks


def test_the_worst_is_the_worst_by_a_loop(part: Embedded) -> None:
    shown = show_mistakes(part, "subcategory")
    assert shown is not None
    ranks = loop_ranks(part)
    assert shown.worst[0].rank == max(ranks) > 50
    assert shown.num_right == ranks.count(1) > 0
    assert (shown.num_pictures, shown.num_texts) == (len(part), len(part.labels.texts))
    worst_of_class: dict[str, int] = {}
    for rank, kind in zip(ranks, part.pairs.column("subcategory"), strict=True):
        worst_of_class[kind] = max(rank, worst_of_class.get(kind, 0))
    assert [mistake.rank for mistake in shown.worst] == sorted(worst_of_class.values())[::-1][:12]


def test_a_mistake_names_what_stands_before_the_truth(part: Embedded) -> None:
    shown = show_mistakes(part, "subcategory")
    assert shown is not None
    vectors = dict(zip(part.labels.texts, part.text_vectors, strict=True))
    rows = {part.pairs.read_image(row): row for row in range(len(part))}
    for mistake in shown.worst:
        row = rows[mistake.picture]
        assert mistake.label == part.pairs.texts[row][0]
        cosines = sorted((float(vector @ part.image_vectors[row]) for vector in vectors.values()), reverse=True)
        assert [cosine for _, cosine in mistake.found] == pytest.approx(cosines[:3], abs=1e-6)
        for label, cosine in (*mistake.found, (mistake.label, mistake.cosine)):
            assert cosine == pytest.approx(float(vectors[label] @ part.image_vectors[row]), abs=1e-6)


def test_confusions_are_counted_by_a_loop(part: Embedded) -> None:
    shown = show_mistakes(part, "subcategory", num_confusions=10_000)
    assert shown is not None
    kinds = part.pairs.column("subcategory")
    kind_of = {texts[0]: kind for texts, kind in zip(part.pairs.texts, kinds, strict=True)}
    counts: dict[tuple[str, str], int] = {}
    for row in range(len(part)):
        found = max(
            range(len(part.labels.texts)), key=lambda t: float(part.text_vectors[t] @ part.image_vectors[row])
        )
        pair = kinds[row], kind_of[part.labels.texts[found]]
        counts[pair] = counts.get(pair, 0) + (pair[0] != pair[1])
    expected = {pair: count for pair, count in counts.items() if count}
    assert {(pair.true, pair.found): pair.count for pair in shown.confusions} == expected
    assert sum(expected.values()) == shown.num_other_class
    assert all(pair.size == (kinds == pair.true).sum() for pair in shown.confusions)


def test_the_most_frequent_confusion_stands_first() -> None:
    true = np.array(list("aaaabbc"), dtype=object)
    found = np.array(list("abbcaac"), dtype=object)
    assert confusions(true, found, 2) == [Confusion("a", "b", 2, 4), Confusion("b", "a", 2, 2)]
    assert confusions(true, true, 2) == []


def test_one_of_a_class_and_no_right_answer_is_among_the_worst() -> None:
    ranks = np.array([0, 9, 9, 3, 7, 0])
    cosines = np.array([0.1, 0.5, 0.4, 0.0, 0.9, 0.0])
    classes = np.array(list("aabbcd"), dtype=object)
    assert worst_rows(ranks, cosines, classes, 9) == [2, 1, 4]
    assert worst_rows(ranks, cosines, classes, 1) == [2]
    assert worst_rows(np.zeros(6, dtype=np.int64), cosines, classes, 3) == []


def test_no_pictures_are_no_mistakes(part: Embedded) -> None:
    assert show_mistakes(part.select(np.zeros(len(part), dtype=bool)), "subcategory") is None
