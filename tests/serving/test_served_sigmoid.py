"""A sigmoid model in a real Triton: probabilities of its own classes, over both protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from protoclip.client import Client
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.repository import write_repository

# Not exact in fewer digits: what configurations carry as text must come back to the last bit.
TEMPERATURE, BIAS = 112.33076477, -1.0 / 3.0
LABELS = ["a red shoe", "a hat", "two words"]


@pytest.fixture(scope="module")
def server(
    write_artifact: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LaunchedServer]:
    folder = tmp_path_factory.mktemp("sigmoid")
    fields = {"temperature": TEMPERATURE, "logit_bias": BIAS, "probabilities": "sigmoid"}
    write_repository(write_artifact(folder / "artifact", **fields), folder / "repository", encoder_threads=1)
    with TritonServer(folder / "repository") as launched:
        yield launched


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_probabilities_are_sigmoids_of_the_logits(server: LaunchedServer, protocol: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    with Client(server.grpc_url if protocol == "grpc" else server.http_url) as client:
        model = client.model
        assert (model.temperature, model.logit_bias, model.probabilities) == (TEMPERATURE, BIAS, "sigmoid")
        cosines = client.embed_texts(LABELS) @ client.embed_images([picture])[0]
        expected = 1 / (1 + np.exp(-(TEMPERATURE * cosines.astype(np.float64) + BIAS)))
        answer = client.classify(picture, LABELS)
    np.testing.assert_allclose([answer.scores[label] for label in LABELS], expected, rtol=1e-3, atol=1e-6)
    assert answer.label == LABELS[int(np.argmax(cosines))]
    assert abs(expected.sum() - 1) > 0.01  # which a softmax would give
