"""Which clusters are shown."""

from __future__ import annotations

import numpy as np

from protoclip.run_report.cluster_sheets import choose_clusters, distinct


def test_clusters_run_from_pure_to_mixed() -> None:
    """Cluster c of 10 has 20 members, of which c are of another class."""
    labels = np.repeat(np.arange(10), 20)
    classes = np.where(np.tile(np.arange(20), 10) < labels, "odd", "even").astype(object)
    sheets = choose_clusters(labels, classes, np.arange(200), num_clusters=4)
    assert [sheet.cluster for sheet in sheets] == [0, 3, 6, 9]
    assert [sheet.purity for sheet in sheets] == [1.0, 0.85, 0.7, 0.55]
    assert {sheet.common for sheet in sheets} == {"even"}


def test_members_show_every_group_before_any_twice() -> None:
    labels = np.zeros(9, dtype=np.int64)
    groups = np.array(list("aaaabbbcd"), dtype=object)
    (sheet,) = choose_clusters(labels, groups, groups, num_members=6)
    assert [groups[row] for row in sheet.members] == ["a", "b", "c", "d", "a", "b"]
    assert len(set(sheet.members)) == 6
    assert (sheet.size, sheet.common) == (9, "a")


def test_small_and_unclustered_rows_are_passed_over() -> None:
    labels = np.array([-1] * 8 + [0] * 3 + [1] * 5)
    sheets = choose_clusters(labels, np.full(16, "x", dtype=object), np.arange(16))
    assert [sheet.cluster for sheet in sheets] == [1]
    assert choose_clusters(np.full(5, -1), np.arange(5), np.arange(5)) == []


def test_the_choice_repeats() -> None:
    rng = np.random.default_rng(0)
    labels, classes = rng.integers(40, size=600), rng.integers(5, size=600)
    assert choose_clusters(labels, classes, np.arange(600)) == choose_clusters(labels, classes, np.arange(600))


def test_frequent_texts_come_first() -> None:
    assert distinct(["b", "a", "c", "a", "c", "d"], 3) == ["a", "c", "b"]
