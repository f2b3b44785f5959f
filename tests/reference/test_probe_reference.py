"""The k-NN vote against a loop, and the linear probe against its own objective."""

from __future__ import annotations

import math

import numpy as np
import pytest

from protoclip.evaluation.probes import fit_linear, neighbour_votes


def unit(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def loop_vote(known: np.ndarray, labels: np.ndarray, query: np.ndarray, k: int) -> int:
    order = sorted(range(len(known)), key=lambda row: -float(known[row] @ query))[:k]
    votes: dict[int, float] = {}
    for row in order:
        votes[labels[row]] = votes.get(labels[row], 0.0) + math.exp(float(known[row] @ query) / 0.07)
    return max(votes, key=lambda label: votes[label])


@pytest.mark.parametrize("chunk", [3, 512])
def test_votes_equal_the_loop(chunk: int) -> None:
    rng = np.random.default_rng(0)
    known, queries = unit(rng, 80, 6), unit(rng, 20, 6)
    labels = rng.integers(5, size=80)
    found = neighbour_votes(known, labels, 5, queries, [1, 4, 30], chunk)
    for k in (1, 4, 30):
        assert found[k].tolist() == [loop_vote(known, labels, query, k) for query in queries]


def test_the_linear_probe_is_at_the_minimum_of_the_documented_objective() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    features = (rng.normal(size=(300, 4)) + np.eye(3, 4)[labels]).astype(np.float32)
    decay = 0.05
    probe = fit_linear(features, labels, np.arange(300), 3, decays=[decay])
    inputs = (features.astype(np.float64) - features.mean(axis=0)) / features.std(axis=0)
    weights, bias = probe.regression.coef_, probe.regression.intercept_
    scores = inputs @ weights.T + bias
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    error = (shares - np.eye(3)[labels]) / len(labels)
    assert np.abs(error.T @ inputs + decay * weights).max() < 1e-3
    assert np.abs(error.sum(axis=0)).max() < 1e-3
