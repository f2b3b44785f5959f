"""Maps from old to new vectors: known ones are found, and what they lose is measured as a loop measures it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError
from protoclip.search.adapter_fit import MapChoice, choices, fit, fit_best
from protoclip.search.adapter_recall import measure_recall

Rows = NDArray[np.float32]


def unit(rows: NDArray[np.float64]) -> Rows:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def crowded(count: int, dim: int, seed: int = 0) -> Rows:
    """As vectors of a model: a common direction, and components of unequal variance."""
    rng = np.random.default_rng(seed)
    return unit(rng.standard_normal((count, dim)) * np.linspace(0.2, 1, dim) + 0.5)


def rotation(old: int, new: int, seed: int = 0) -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((max(old, new), max(old, new))))[0][:old, :new]


@pytest.mark.parametrize("dims", [(32, 32), (24, 40)])
def test_a_rotation_is_found(dims: tuple[int, int]) -> None:
    old = crowded(400, dims[0])
    turned = rotation(*dims)
    found = fit_best(old, unit(old @ turned), choices(min(dims), None))
    assert found.choice.kind == "procrustes"
    assert found.error < 1e-6
    others = crowded(50, dims[0], seed=1)
    np.testing.assert_allclose(found.map(others), unit(others @ turned), atol=1e-5)


def test_a_linear_map_and_an_offset_are_found() -> None:
    old = crowded(2000, 16)
    rng = np.random.default_rng(3)
    # Norms must be one before and after: of equal lengths, or the map isn't linear.
    weight = 0.2 * rng.standard_normal((16, 16)) + np.eye(16)
    new = unit(old @ weight)
    found = fit_best(old, new, choices(16, None))
    assert found.choice.kind == "ridge"
    assert found.error < 0.005
    assert found.error < 1 - np.mean(np.sum(fit(old, new, MapChoice("procrustes"))(old) * new, axis=1))


def test_ridge_is_the_closed_form() -> None:
    """(XᵀX + λ mean(diag) I)⁻¹ XᵀY of what is centred: the mean of the eigenvalues is that of the diagonal."""
    old, new = crowded(300, 8), crowded(300, 12, seed=5)
    found = fit(old, new, MapChoice("ridge", 0.01))
    x, y = old - old.mean(axis=0, dtype=np.float64), new - new.mean(axis=0, dtype=np.float64)
    gram = x.T @ x
    expected = np.linalg.solve(gram + 0.01 * np.trace(gram) / 8 * np.eye(8), x.T @ y)
    np.testing.assert_allclose(found.weight, expected, atol=1e-8)


def test_a_low_rank_is_found_and_kept() -> None:
    rng = np.random.default_rng(0)
    old = crowded(1000, 24)
    weight = rng.standard_normal((24, 3)) @ rng.standard_normal((3, 24))
    new = unit(old @ weight)
    found = fit_best(old, new, choices(24, 3))
    assert found.choice.rank == 3
    assert np.linalg.matrix_rank(found.map.weight, tol=1e-6) == 3
    assert found.error < fit_best(old, new, choices(24, 1)).error
    for wrong in (0, 25):
        with pytest.raises(ConfigError, match=rf"rank={wrong} \(--rank\) must be between 1 and 24"):
            choices(24, wrong)


def test_each_entry_is_mapped_by_what_did_not_see_it() -> None:
    """Of noise nothing can be learnt: whoever had seen an entry would map it to itself."""
    old, new = unit(np.random.default_rng(0).standard_normal((120, 40))), crowded(120, 40, seed=9)
    centred = unit((new - new.mean(axis=0)).astype(np.float64))
    found = fit_best(old, centred, (MapChoice("ridge", 1e-4),))
    assert found.error > 0.8
    assert 1 - np.mean(np.sum(found.held_out * centred, axis=1)) == pytest.approx(found.error, abs=1e-5)
    assert 1 - np.mean(np.sum(found.map(old) * centred, axis=1)) < 0.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            crowded(99, 8),
            crowded(99, 8),
            "from 8 to 8 dimensions needs 100 entries with both vectors, but there are 99",
        ),
        (crowded(150, 8), crowded(150, 80), "from 8 to 80 dimensions needs 160 entries"),
        (
            crowded(200, 8) * np.where(np.arange(200) == 7, np.nan, 1)[:, None],
            crowded(200, 8),
            "old vectors: row 7 has NaN",
        ),
        (
            crowded(200, 8),
            crowded(200, 8) * np.where(np.arange(200) == 3, np.inf, 1)[:, None],
            "new vectors: row 3 has NaN",
        ),
        (crowded(200, 8), crowded(201, 8), "don't fit"),
    ],
)
def test_one_clear_line(old: Rows, new: Rows, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit_best(old, new, choices(8, None))


@pytest.mark.parametrize("has_own", [True, False])
def test_recall_is_what_a_loop_counts(has_own: bool) -> None:
    embedded = crowded(80, 8)
    mapped = unit(embedded + 0.1 * np.random.default_rng(1).standard_normal((80, 8)))
    own = np.arange(0, 80, 4)
    queries = embedded[own] if has_own else crowded(20, 8, seed=2)
    shares = []
    for row, query in enumerate(queries):
        best = []
        for vectors in (embedded, mapped):
            order = [int(name) for name in np.argsort(-(vectors @ query)) if not has_own or name != own[row]]
            best.append(set(order[:10]))
        shares.append(len(best[0] & best[1]) / 10)
    found = measure_recall(queries, embedded, mapped, own if has_own else None)
    assert found.mean == pytest.approx(np.mean(shares))
    assert 0.3 < found.low < found.mean < found.high < 1
    assert (found.queries, found.among) == (20, 80)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(shares) / np.sqrt(20), rel=0.2)
    assert measure_recall(queries, embedded, embedded).mean == 1
