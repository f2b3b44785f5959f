"""Cosines beside probabilities, the best k, several labels a picture, and what thousands of classes cost."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

from protoclip.client import ClassBank, Client, InMemoryTransport, MemoryModel
from protoclip.client.classification import Choice, best_places, scored
from protoclip.contract.errors import ConfigError

TEMPERATURE = 20.0
COSINES = {"cat": 0.3, "dog": 0.8, "bird": 0.5, "fish": 0.5, "worm": -0.6}
LABELS = list(COSINES)


def _model(**fields: Any) -> MemoryModel:
    """Every picture has the cosine with a label that `COSINES` says."""

    def embed_text(text: str) -> list[float]:
        cosine = COSINES.get(text, 0.1)
        return [cosine, math.sqrt(1 - cosine**2)]

    return MemoryModel(lambda data: [1.0, 0.0], embed_text, 2, temperature=TEMPERATURE, **fields)


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(transport=InMemoryTransport(_model())) as client:
        yield client


@pytest.fixture
def sigmoid_client() -> Iterator[Client]:
    with Client(transport=InMemoryTransport(_model(logit_bias=-10.0))) as client:
        yield client


def test_cosines_stand_beside_probabilities(client: Client) -> None:
    answer = client.classify(b"picture", LABELS)
    assert (answer.label, answer.labels) == ("dog", ("dog",))
    assert list(answer.cosines) == list(answer.scores) == LABELS
    assert answer.cosines == pytest.approx(COSINES, abs=1e-6)
    assert answer.cosine == answer.cosines["dog"]
    weights = {label: math.exp(TEMPERATURE * cosine) for label, cosine in COSINES.items()}
    expected = {label: weight / sum(weights.values()) for label, weight in weights.items()}
    assert answer.scores == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("k", "best"), [(1, ["dog"]), (3, ["dog", "bird", "fish"]), (99, None)])
def test_the_best_k_stand_best_first_and_keep_their_probabilities(
    client: Client, k: int, best: list[str] | None
) -> None:
    every = client.classify(b"picture", LABELS)
    answer = client.classify(b"picture", LABELS, top_k=k)
    assert list(answer.scores) == list(answer.cosines) == (best or ["dog", "bird", "fish", "cat", "worm"])
    assert answer.scores == {label: every.scores[label] for label in answer.scores}
    assert (answer.label, answer.score, answer.cosine) == (every.label, every.score, every.cosine)


def test_several_labels_fit_or_none(client: Client) -> None:
    answer = client.classify(b"picture", LABELS, multi_label=True, threshold=0.4)
    assert answer.labels == ("dog", "bird", "fish")
    assert (answer.label, answer.cosine) == ("dog", pytest.approx(0.8))
    assert math.isnan(answer.score)
    assert answer.scores == {}
    assert list(answer.cosines) == LABELS
    [answer] = client.classify([b"picture"], LABELS, multi_label=True, threshold=0.9)
    assert (answer.label, answer.labels) == ("dog", ())
    answer = client.classify(b"picture", LABELS, multi_label=True, threshold=0.4, top_k=2)
    assert (answer.labels, list(answer.cosines)) == (("dog", "bird"), ["dog", "bird"])


def test_one_label_has_a_cosine_and_no_probability(client: Client) -> None:
    answer = client.classify(b"picture", ["cat"], multi_label=True, threshold=0.2)
    assert (answer.labels, answer.cosine) == (("cat",), pytest.approx(0.3))
    assert math.isnan(answer.score)
    with pytest.raises(ConfigError, match="ask for its cosine: multi_label=True with threshold="):
        client.classify(b"picture", ["cat"])


def test_a_sigmoid_model_has_probabilities_for_several_labels(sigmoid_client: Client) -> None:
    answer = sigmoid_client.classify(b"picture", LABELS, multi_label=True, threshold=0.4)
    assert answer.labels == ("dog", "bird", "fish")
    expected = {label: 1 / (1 + math.exp(10 - TEMPERATURE * cosine)) for label, cosine in COSINES.items()}
    assert answer.scores == pytest.approx(expected, rel=1e-4)
    assert answer.score == answer.scores["dog"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k=0 must be a whole number, at least 1"),
        ({"top_k": 1.5}, "top_k=1.5 must be"),
        ({"multi_label": True}, "multi_label=True needs threshold="),
        ({"threshold": 0.2}, "threshold=0.2 is for multi_label=True"),
        ({"multi_label": True, "threshold": 20}, "threshold=20 is no cosine"),
        ({"multi_label": True, "threshold": math.nan}, "threshold=nan is no cosine"),
        ({"labels": []}, "labels is empty"),
        ({"labels": [["cat"], "dog"]}, r"labels\[0\]=\['cat'\] is no label"),
    ],
)
def test_wrong_options(client: Client, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        client.classify(b"picture", **{"labels": LABELS, **options})


def test_a_bank_stands_for_its_labels(client: Client) -> None:
    bank = client.class_bank(LABELS, ["{}", "a {}"])
    assert (bank.labels, bank.templates, len(bank)) == (tuple(COSINES), ("{}", "a {}"), 5)
    np.testing.assert_allclose(np.linalg.norm(bank.vectors, axis=1), 1, rtol=1e-6)
    assert client.classify([b"a", b"b"], bank) == client.classify([b"a", b"b"], LABELS, ["{}", "a {}"])
    with pytest.raises(ConfigError, match="templates= beside a class bank"):
        client.classify(b"a", bank, "photo")


def test_a_bank_of_another_model_is_refused(client: Client) -> None:
    bank = client.class_bank(LABELS)
    message = r"embedded by .*, and pictures would be by .*fedcba987654"
    transport = InMemoryTransport(_model(fingerprint="fedcba987654"))
    with Client(transport=transport) as other, pytest.raises(ConfigError, match=message):
        other.classify(b"picture", bank)


@pytest.mark.parametrize("k", range(1, 41))
def test_the_best_places_are_those_of_a_stable_sort(k: int) -> None:
    cosines = (np.random.default_rng(k).integers(-5, 5, 40) / 10).astype(np.float32)
    np.testing.assert_array_equal(best_places(cosines, k), np.argsort(-cosines, kind="stable")[:k])


def test_many_pictures_are_answered_as_one_by_one(sigmoid_client: Client, client: Client) -> None:
    """Cosines of 256 pictures are in memory at once."""
    for one in (client, sigmoid_client):
        vectors = np.random.default_rng(0).standard_normal((300, 2)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        bank = one.class_bank(LABELS)
        every = list(scored(vectors, bank, one.model, Choice()))
        assert len(every) == 300
        for row in (0, 255, 256, 299):
            [single] = scored(vectors[row : row + 1], bank, one.model, Choice())
            np.testing.assert_allclose(every[row].cosines, single.cosines, atol=1e-6)
            np.testing.assert_allclose(every[row].probabilities, single.probabilities, atol=1e-5)


class _CountedLabel(str):
    """Counts what Python does with it; each time anew, since a str keeps its hash and this does not."""

    counts: ClassVar[Counter[str]] = Counter()

    def __hash__(self) -> int:
        self.counts["hash"] += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        self.counts["eq"] += 1
        return super().__eq__(other)


def _num_calls(work: Callable[[], object]) -> int:
    """Of Python and C functions, in this thread."""
    count = 0

    def count_one(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(count_one)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("templates", ["plain", "imagenet"])
def test_cached_classes_cost_a_call_nothing_for_each_label(client: Client, templates: str) -> None:
    """`labels.count` in a loop took 0.95 s a call for 10,000 of them, and filling templates anew took more."""
    num_calls = {}
    for count in (20, 120):
        labels = [f"label {number}" for number in range(count)]
        client.classify(b"picture", labels, templates, top_k=5)
        num_calls[count] = _num_calls(lambda: client.classify(b"picture", labels, templates, top_k=5))  # noqa: B023
    assert num_calls[120] <= num_calls[20] + 50


def test_cached_classes_are_hashed_and_compared_once(client: Client) -> None:
    labels = [_CountedLabel(f"label {number}") for number in range(500)]
    client.classify(b"picture", labels, top_k=5)
    again = [_CountedLabel(label) for label in labels]
    _CountedLabel.counts.clear()
    client.classify(b"picture", again, top_k=5)
    assert _CountedLabel.counts["hash"] <= 4 * len(labels)
    assert _CountedLabel.counts["eq"] <= 4 * len(labels)


def test_labels_of_very_many_characters_are_not_kept(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protoclip.client.class_cache._MOST_CHARACTERS", 10)
    for labels in (["cat", "dog"], ["cat", "d" * 20]):
        assert client.classify(b"picture", labels).cosines["cat"] == pytest.approx(COSINES["cat"], abs=1e-6)
    (kept,) = client._core._classes._kept
    assert kept[0] == ("cat", "dog")


def test_a_bank_is_not_even_compared(client: Client) -> None:
    bank: ClassBank = client.class_bank([_CountedLabel(f"label {number}") for number in range(500)])
    _CountedLabel.counts.clear()
    client.classify(b"picture", bank, top_k=5)
    assert _CountedLabel.counts.total() <= 20
