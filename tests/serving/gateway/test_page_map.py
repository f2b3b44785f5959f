"""What the page computes of all of an index: its clusters, and the map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protoclip.search import Index
from serving.gateway.page.asked import read_asked
from serving.gateway.page.clusters import find_clusters, spherical_kmeans
from serving.gateway.page.projected import points_of, project_index

FINGERPRINT = "0123456789abcdef"


def _planted(clusters: int, each: int, dim: int = 8) -> np.ndarray:
    """Unit vectors around as many axes, one kind after the other."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(dim)[:clusters], each, axis=0) + 0.05 * rng.normal(size=(clusters * each, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class TestClusters:
    def test_planted_ones_are_found(self) -> None:
        labels, centres = spherical_kmeans(_planted(4, 30), 4)
        assert all(len(set(labels[start : start + 30].tolist())) == 1 for start in range(0, 120, 30))
        assert len(set(labels.tolist())) == 4
        np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)

    def test_copies_of_one_vector(self) -> None:
        labels, centres = spherical_kmeans(np.ones((5, 4), np.float32) / 2, 3)
        assert len(set(labels.tolist())) == 1
        assert np.isfinite(centres).all()

    def test_of_an_index(self, tmp_path: Path) -> None:
        vectors = _planted(2, 20)[:-8]
        with Index.create(tmp_path / "x.index", FINGERPRINT, 8) as index:
            assert find_clusters(index).clusters == ()
            index.add(vectors, [str(row) for row in range(32)])
            found = find_clusters(index)
        assert sorted(name for cluster in found.clusters for name in cluster.ids) == sorted(map(str, range(32)))
        assert [len(cluster.ids) for cluster in found.clusters] == sorted(
            (len(cluster.ids) for cluster in found.clusters), reverse=True
        )
        for cluster in found.clusters:
            assert (np.diff(cluster.cosines) <= 0).all()
            assert all(found.of_id[name] == cluster.number for name in cluster.ids)
            assert len({int(name) < 20 for name in cluster.ids}) == 1


class TestTheMap:
    @pytest.fixture
    def index(self, tmp_path: Path) -> Index:
        index = Index.create(tmp_path / "x.index", FINGERPRINT, 8)
        metadata = [
            {"kind": f"kind {row % 12:02}", "price": row, "title": f"<b>{row}</b>", "stock": row % 2 == 0}
            for row in range(60)
        ]
        del metadata[0]["price"]
        index.add(_planted(3, 20), [str(row) for row in range(60)], metadata)
        return index

    def test_points(self, index: Index) -> None:
        projected = project_index(index)
        assert projected is not None
        assert [column.name for column in projected.columns] == ["kind", "stock", "price"]
        clusters = find_clusters(index)
        found = points_of(projected, "", clusters)
        assert found["legend"] == [f"cluster {number + 1}" for number in range(len(clusters.clusters))]
        assert [point[2] for point in found["points"]] == [clusters.of_id[name] for name in found["ids"]]
        assert found["titles"][1] == "<b>1</b>"

    def test_colours_by_a_choice(self, index: Index) -> None:
        projected = project_index(index)
        assert projected is not None
        found = points_of(projected, "kind", None)
        assert found["legend"] == [*(f"kind {number:02}" for number in range(9)), "others"]
        assert [point[2] for point in found["points"]][:12] == [*range(9), 9, 9, 9]
        assert found["others"] == 9

    def test_colours_by_a_flag(self, index: Index) -> None:
        projected = project_index(index)
        assert projected is not None
        assert points_of(projected, "stock", None)["legend"] == ["no", "yes"]

    def test_colours_by_a_number(self, index: Index) -> None:
        projected = project_index(index)
        assert projected is not None
        found = points_of(projected, "price", None)
        assert len(found["legend"]) == 6
        assert found["legend"][0].startswith("1 to ")
        classes = [point[2] for point in found["points"]]
        assert classes[0] == 5
        assert classes[1:] == sorted(classes[1:])
        assert {classes[1:].count(number) for number in range(5)} <= {11, 12}

    def test_ranges_of_large_numbers_are_told_apart(self, tmp_path: Path) -> None:
        with Index.create(tmp_path / "times.index", FINGERPRINT, 8) as index:
            metadata = [{"time": 1_700_000_000 + row} for row in range(60)]
            index.add(_planted(3, 20), [str(row) for row in range(60)], metadata)
            projected = project_index(index)
        assert projected is not None
        found = points_of(projected, "time", None)
        assert len(set(found["legend"])) == 5
        assert found["legend"][0].startswith("1,700,000,000 to ")
        assert {point[2] for point in found["points"]} == set(range(5))

    def test_values_that_end_in_what_is_no_decimal(self, tmp_path: Path) -> None:
        with Index.create(tmp_path / "x.index", FINGERPRINT, 8) as index:
            metadata = [{"unit": "m ²" if row % 2 else "m 3"} for row in range(60)]
            index.add(_planted(3, 20), [str(row) for row in range(60)], metadata)
            projected = project_index(index)
        assert projected is not None
        assert points_of(projected, "unit", None)["legend"] == ["m 3", "m ²"]

    def test_ids_stand_as_in_an_address(self, tmp_path: Path) -> None:
        names = ["a/b #1?.jpg", "50%.jpg", "odd\udcff.jpg"]
        with Index.create(tmp_path / "x.index", FINGERPRINT, 8) as index:
            index.add(np.eye(8)[:3], names)
            projected, clusters = project_index(index), find_clusters(index)
        assert projected is not None
        ids = points_of(projected, "", clusters)["ids"]
        assert [read_asked(f"like={name}".encode()).like for name in ids] == [(name,) for name in names]

    def test_points_that_are_in_no_sample_of_the_clusters_have_one_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("serving.gateway.page.clusters.MAX_SAMPLE", 40)
        monkeypatch.setattr("serving.gateway.page.projected.MAX_POINTS", 33)
        with Index.create(tmp_path / "x.index", FINGERPRINT, 8) as index:
            index.add(_planted(4, 50), [str(row) for row in range(200)])
            projected, clusters = project_index(index), find_clusters(index)
        assert projected is not None
        found = points_of(projected, "", clusters)
        assert "others" not in found["legend"]
        # No cluster holds points of two of the planted kinds.
        kinds: dict[int, set[int]] = {}
        for name, point in zip(found["ids"], found["points"], strict=True):
            kinds.setdefault(point[2], set()).add(int(name) // 50)
        assert all(len(one) == 1 for one in kinds.values())

    def test_too_few(self, tmp_path: Path) -> None:
        with Index.create(tmp_path / "few.index", FINGERPRINT, 8) as index:
            index.add(np.eye(8)[:2], ["a", "b"])
            assert project_index(index) is None
        with Index.create(tmp_path / "narrow.index", FINGERPRINT, 1) as index:
            index.add(np.ones((3, 1)), ["a", "b", "c"])
            assert project_index(index) is None
