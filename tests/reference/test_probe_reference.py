"""The k-NN vote against a loop, and the linear probe against its own objective."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from protoclip.evaluation.probes import fit_linear, neighbour_votes
from protoclip.evaluation.regression import cross_entropy, decay_path, logits


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
    weights, bias = probe.weights[:-1], probe.weights[-1]
    scores = inputs @ weights + bias
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    error = (shares - np.eye(3)[labels]) / len(labels)
    assert np.abs(inputs.T @ error + decay * weights).max() < 1e-3
    assert np.abs(error.sum(axis=0)).max() < 1e-3


@pytest.mark.parametrize("decay", [1.0, 1e-2, 1e-4])
def test_the_regression_finds_the_minimum_that_scikit_learn_finds(decay: float) -> None:
    rng = np.random.default_rng(0)
    labels = np.minimum(rng.geometric(0.3, size=500) - 1, 5)
    mixing = rng.normal(size=(12, 12)) * np.logspace(0, -2, 12)
    features = (rng.normal(size=(500, 12)) @ mixing + 0.5 * rng.normal(size=(6, 12))[labels]).astype(np.float32)
    features -= features.mean(axis=0)
    (weights,) = decay_path(features, labels, 6, [decay])
    theirs = LogisticRegression(C=1 / (decay * 500), tol=1e-8, max_iter=10_000).fit(features.astype(float), labels)
    expected = np.vstack([theirs.coef_.T, theirs.intercept_])

    def value(solution: np.ndarray) -> float:
        return cross_entropy(solution, features, labels)[0] + decay / 2 * float(np.square(solution[:-1]).sum())

    assert value(weights) == pytest.approx(value(expected), abs=2e-5)
    assert np.allclose(logits(weights, features).argmax(1), theirs.predict(features)) or decay < 1e-3


def test_the_gradient_is_the_derivative() -> None:
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(4, size=40)
    weights = rng.normal(size=(4, 4))
    _, gradient = cross_entropy(weights, inputs, labels)
    step = np.zeros_like(weights)
    for place in [(0, 0), (2, 3), (3, 1)]:
        step[:] = 0
        step[place] = 1e-2
        rise = cross_entropy(weights + step, inputs, labels)[0] - cross_entropy(weights - step, inputs, labels)[0]
        assert rise / 2e-2 == pytest.approx(gradient[place], abs=1e-4)
