"""Zero-shot classes of a softmax and of a sigmoid model, over every transport."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protoclip.client import Client, InMemoryTransport, MemoryModel
from protoclip.contract.errors import ConfigError, ItemError


class TestClassification:
    LABELS = ("red", "green", "a blue thing")

    def test_is_the_softmax_over_mean_text_vectors(
        self, client: Client, arrays: list[Any], expected: NDArray[np.float32], memory_model: MemoryModel
    ) -> None:
        templates = ["{}", "a photo of {}, isn't it"]
        answers = client.classify(arrays, self.LABELS, templates)
        classes = []
        for label in self.LABELS:
            mean = sum(np.asarray(memory_model.embed_text(text.format(label))) for text in templates)
            classes.append(mean / np.linalg.norm(mean))
        logits = 100.0 * expected @ np.stack(classes).T
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        for answer, row in zip(answers, scores, strict=True):
            assert list(answer.scores) == list(self.LABELS)
            np.testing.assert_allclose(list(answer.scores.values()), row, atol=2e-3)
            assert answer.label == max(answer.scores, key=lambda label: answer.scores[label])
            assert answer.score == answer.scores[answer.label]

    def test_one_picture_gives_one_answer(self, client: Client, arrays: list[Any]) -> None:
        answer = client.classify(arrays[0], self.LABELS, "photo")
        again = client.classify(arrays[:1], self.LABELS, "photo")[0]
        assert answer.label == again.label
        assert sum(answer.scores.values()) == pytest.approx(1)
        assert client.classify([], self.LABELS) == []

    def test_labels_may_come_from_a_generator_and_hold_commas(self, client: Client, arrays: list[Any]) -> None:
        labels = ["red, blue", "green"]
        answer = client.classify(arrays[0], (label for label in labels))
        assert list(answer.scores) == labels
        assert answer == client.classify(arrays[0], np.array(labels))

    def test_bad_pictures(self, client: Client, arrays: list[Any]) -> None:
        with pytest.raises(ItemError, match="item 1"):
            client.classify([arrays[0], b"no"], self.LABELS)
        first, bad, last = client.classify([arrays[0], b"no", arrays[2]], self.LABELS, errors="return")
        assert isinstance(bad, ItemError)
        assert bad.position == 1
        assert [first, last] == client.classify([arrays[0], arrays[2]], self.LABELS)

    @pytest.mark.parametrize(
        ("labels", "templates", "message"),
        [
            ([], "plain", "labels is empty"),
            ("cat,dog", "plain", "labels='cat,dog' is one text"),
            (["a", "b", "a"], "plain", "labels has 'a' more than once"),
            (["a b", "c", " a  b"], "plain", "labels has ' a  b' more than once"),
            (["caf\u00e9", "cafe\u0301"], "plain", "more than once"),
            (["a", " "], "plain", r"labels\[1\]=' ' is no label"),
            (["a", "b\0"], "plain", r"label 'b\\x00' can't be encoded: the text holds a NUL"),
            (["cat"], "plain", "labels has 'cat' alone, and its probability is 1 for every picture"),
            (("cat",), "photo", "labels has 'cat' alone"),
            (io.StringIO("cat"), "plain", "labels is a file: give its lines"),
            (["a", "b"], "poem", "templates='poem' is unknown"),
            (["a", "b"], ["no place"], "needs exactly one {}"),
        ],
    )
    def test_wrong_labels(
        self, client: Client, arrays: list[Any], labels: Sequence[str], templates: Any, message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            client.classify(arrays[0], labels, templates)


class TestSigmoidModel:
    """Labels do not exclude each other: a model with a bias gives each a probability of its own."""

    @pytest.fixture(params=["memory", "artifact"])
    def client(
        self,
        request: pytest.FixtureRequest,
        memory_model: MemoryModel,
        write_artifact: Callable[..., Path],
        tmp_path: Path,
    ) -> Iterator[Client]:
        fields = {"temperature": 12.0, "logit_bias": -2.5}
        if request.param == "memory":
            model = replace(memory_model, **fields)
            with Client(transport=InMemoryTransport(model)) as client:
                yield client
        else:
            with Client(str(write_artifact(tmp_path / "artifact", **fields))) as client:
                yield client

    def test_scores_are_the_sigmoids_of_the_logits(self, client: Client, arrays: list[Any]) -> None:
        answer = client.classify(arrays[0], ["red", "green", "blue"])
        cosines = client.embed_texts(["red", "green", "blue"]) @ client.embed_images(arrays[0])
        expected = 1 / (1 + np.exp(-(12 * cosines - 2.5)))
        np.testing.assert_allclose(list(answer.scores.values()), expected, rtol=1e-4)
        assert answer.score == max(answer.scores.values()) == answer.scores[answer.label]
        assert sum(answer.scores.values()) != pytest.approx(1, abs=1e-3)

    def test_one_label_is_enough(self, client: Client, arrays: list[Any]) -> None:
        several = client.classify(arrays[0], ["red", "green"])
        assert client.classify(arrays[0], ["red"]).score == pytest.approx(several.scores["red"], rel=1e-5)


def test_the_best_of_rounded_probabilities_is_that_of_the_largest_cosine() -> None:
    def embed(item: object) -> list[float]:
        return [1.0, {"near": 0.1, "nearest": 0.0}.get(str(item), 0.0)]

    model = MemoryModel(embed, embed, 2, temperature=500.0, logit_bias=-10.0)
    with Client(transport=InMemoryTransport(model)) as client:
        answer = client.classify(b"picture", ["near", "nearest"])
    assert answer.scores == {"near": 1.0, "nearest": 1.0}
    assert answer.label == "nearest"
