"""Groups of nearly the same entries, against a loop over all pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError
from protoclip.search import Index, duplicates, upkeep

FINGERPRINT = "0123456789abcdef"
Groups = dict[str, list[tuple[str, float]]]


def crowded(count: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors around few centres, so that groups overlap; some are the same."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count // 6, dim))
    rows = centres[rng.integers(0, len(centres), count)] + 0.25 * rng.standard_normal((count, dim))
    rows[rng.integers(0, count, count // 10)] = rows[rng.integers(0, count, count // 10)]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def expected(vectors: NDArray[np.float32], names: list[str], threshold: float) -> Groups:
    """Each entry in turn joins the nearest representative before it, or becomes one."""
    found: dict[int, list[tuple[int, float]]] = {}
    exact = vectors.astype(np.float64)
    for row in range(len(exact)):
        cosines = {leader: float(exact[row] @ exact[leader]) for leader in found}
        nearest = max(cosines, key=lambda leader: cosines[leader], default=None)
        if nearest is None or cosines[nearest] < threshold:
            found[row] = []
        else:
            found[nearest].append((row, cosines[nearest]))
    return {
        names[leader]: [(names[row], cosine) for row, cosine in sorted(others, key=lambda one: (-one[1], one[0]))]
        for leader, others in found.items()
        if others
    }


def groups(index: Index, threshold: float, **options: object) -> Groups:
    found = index.duplicates(threshold, **options)  # type: ignore[arg-type]
    sizes = [len(group.others) for group in found]
    assert sizes == sorted(sizes, reverse=True)
    assert {group.representative.score for group in found} <= {1.0}
    return {group.representative.id: [(hit.id, hit.score) for hit in group.others] for group in found}


def same(found: Groups, wanted: Groups) -> None:
    assert found.keys() == wanted.keys()
    for leader, others in wanted.items():
        assert [name for name, _ in found[leader]] == [name for name, _ in others]
        np.testing.assert_allclose([one for _, one in found[leader]], [min(1.0, one) for _, one in others])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_ROWS", 16)
    monkeypatch.setattr(duplicates, "_PART_ROWS", 50)
    monkeypatch.setattr(upkeep, "SEGMENT_ROWS", 64)
    monkeypatch.setattr(upkeep, "MAX_ROWS", 100)


def filled(path: Path, vectors: NDArray[np.float32]) -> tuple[Index, list[str]]:
    names = [f"n{row}" for row in range(len(vectors))]
    index = Index.create(path, FINGERPRINT, vectors.shape[1])
    index.add(vectors, names, [{"even": row % 2 == 0} for row in range(len(vectors))])
    return index, names


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9, 0.97, 0.999])
def test_as_the_loop_finds_them(tmp_path: Path, threshold: float) -> None:
    vectors = crowded(300, 12, seed=1)
    index, names = filled(tmp_path / "x.index", vectors)
    assert index.stats().segments > 1
    wanted = expected(vectors, names, threshold)
    assert len(wanted) > 1
    same(groups(index, threshold), wanted)


@pytest.mark.usefixtures("small_blocks")
def test_of_what_is_left_and_of_what_fits(tmp_path: Path) -> None:
    vectors = crowded(300, 12, seed=2)
    index, names = filled(tmp_path / "x.index", vectors)
    index.remove(names[40:60])
    left = [row for row in range(300) if not 40 <= row < 60]
    same(groups(index, 0.85), expected(vectors[left], [names[row] for row in left], 0.85))
    even = [row for row in left if row % 2 == 0]
    told: list[tuple[str, int, int]] = []
    found = groups(index, 0.85, where={"even": True}, progress=lambda *one: told.append(one))
    same(found, expected(vectors[even], [names[row] for row in even], 0.85))
    assert told[-1] == ("compare", len(even), len(even))


@pytest.mark.usefixtures("small_blocks")
def test_representatives_are_apart_and_others_near(tmp_path: Path) -> None:
    """A chain, each like the next: its ends are not in one group."""
    angles = np.arange(100) * 0.1
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    index, names = filled(tmp_path / "x.index", vectors)
    found = groups(index, 0.97)
    rows = {name: row for row, name in enumerate(names)}
    dropped = {name for others in found.values() for name, _ in others}
    kept = vectors[[rows[name] for name in names if name not in dropped]].astype(np.float64)
    cosines = kept @ kept.T
    np.fill_diagonal(cosines, -1)
    assert cosines.max() < 0.97
    assert min(one for others in found.values() for _, one in others) >= 0.97
    assert len(kept) > 10


def test_the_same_but_for_rounding(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((40, 512)).astype(np.float32)
    index, _ = filled(tmp_path / "x.index", np.concatenate([vectors, vectors[::-1] * 3]))
    found = groups(index, 1.0)
    assert {leader: [name for name, _ in others] for leader, others in found.items()} == {
        f"n{row}": [f"n{79 - row}"] for row in range(40)
    }


def test_nothing_and_one(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "x.index", FINGERPRINT, 4)
    assert index.duplicates() == []
    index.add(np.eye(4), list("abcd"))
    assert index.duplicates() == []
    assert index.duplicates(where={"x": 1}) == []
    for wrong in (0, -0.5, 1.1, float("nan"), True, "0.9"):
        with pytest.raises(ConfigError, match=r"threshold=.* must be a cosine above 0, and at most 1"):
            index.duplicates(wrong)  # type: ignore[arg-type]
