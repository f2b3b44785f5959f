"""Arrays that know which model made them: what NumPy makes of them does, and two models' are never mixed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from protoclip.client.model_vectors import of_model, vectors_model
from protoclip.contract.errors import ConfigError

OURS, THEIRS = "aaaaaa", "bbbbbb"


def _of(fingerprint: str) -> Any:
    return of_model(np.arange(1, 7, dtype=np.float32).reshape(2, 3), fingerprint)


MIXED: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a - b,
    lambda a, b: b + a,
    lambda a, b: np.add(a, b, out=np.zeros((2, 3), np.float32)),
    lambda a, b: a.__iadd__(b),
    lambda a, b: a @ b.T,
    lambda a, b: a[0].dot(b[0]),
    lambda a, b: np.concatenate([a, b]),
    lambda a, b: np.vstack([b, a]),
    lambda a, b: np.stack([a[0], b[0]]),
    lambda a, b: np.where(True, a, b),
    lambda a, b: np.dot(a[0], b[0]),
    lambda a, b: np.einsum("ij,ij->i", a, b),
]


@pytest.mark.parametrize("number", range(len(MIXED)))
def test_two_models_are_not_mixed(number: int) -> None:
    with pytest.raises(ConfigError, match="two models meet, aaaaaa and bbbbbb"):
        MIXED[number](_of(OURS), _of(THEIRS))
    MIXED[number](_of(OURS), _of(OURS))


KEPT: list[Callable[[Any], Any]] = [
    lambda a: a[0],
    lambda a: 2 * a - np.ones(3),
    lambda a: np.ones((2, 3)) - a,
    lambda a: a / np.linalg.norm(a, axis=1, keepdims=True),
    lambda a: a.mean(0),
    lambda a: np.mean(a, axis=0),
    lambda a: a.astype(np.float64),
    lambda a: np.concatenate([a, a]),
    lambda a: np.concatenate([a, np.ones((1, 3))]),
    lambda a: np.stack([a[0], a[1]]),
    lambda a: np.vstack([a, a]),
    lambda a: np.where(True, a, a),
    lambda a: a.__iadd__(1),
    lambda a: a.dot(np.eye(3)),
    lambda a: a[:, ::-1].copy(),
]


@pytest.mark.parametrize("number", range(len(KEPT)))
def test_what_is_made_of_them_knows_the_model(number: int) -> None:
    plain = np.asarray(_of(OURS)).copy()
    made = KEPT[number](_of(OURS))
    assert vectors_model(made) == OURS
    np.testing.assert_array_equal(np.asarray(made), np.asarray(KEPT[number](plain)))


def test_what_is_no_vector_is_plain() -> None:
    vectors = _of(OURS)
    for made in (vectors.sum(), vectors > 1, vectors == vectors, np.argsort(vectors[0]), vectors.shape):
        assert vectors_model(made) == ""
    assert type(vectors.sum()) is np.float32
    assert vectors_model(pickle.loads(pickle.dumps(vectors))) == ""  # noqa: S301 - our own


def test_unknown_is_no_other_model() -> None:
    assert vectors_model(_of("") + _of(OURS)) == OURS
    assert vectors_model(_of(OURS) + _of("")) == OURS
    assert vectors_model(np.concatenate([_of(""), _of(OURS)])) == OURS


def test_whether_two_models_agree_may_be_asked() -> None:
    ours, theirs = _of(OURS), _of(THEIRS)
    assert type(ours == theirs) is np.ndarray
    assert np.array_equal(ours, theirs)
    assert np.allclose(ours, theirs)
    np.testing.assert_allclose(ours, theirs)
    assert vectors_model(np.asarray(ours) - np.asarray(theirs)) == ""
