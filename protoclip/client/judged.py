"""Asks a served model's detector, beside the embedding. `n` pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError, ServerError
from protoclip.contract.served_detector import KNOWN, KNOWN_SCORE

from .discovery import ServedModel
from .results import Detection
from .tensor_bytes import EMBEDDING, ERROR, TensorTransport, items_tensor, read_answer
from .transport import Answer, Array

_OUTPUTS = (EMBEDDING, ERROR, KNOWN, KNOWN_SCORE)


@runtime_checkable
class JudgingTransport(Protocol):
    """A transport that asks the detector in a way of its own; errors as of `Transport`."""

    def infer_judged(self, model: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        """As `Transport.infer` of pictures, with `known` and `known_scores`."""


def infer_judged(
    transport: object, url: str, model: str, items: Sequence[bytes], timeout_s: float | None
) -> Answer:
    """As `Transport.infer` of pictures, with `known` and `known_scores`.

    Raises:
        ConfigError: the transport can't be asked for them.
        ServerError: as `Transport.infer`.
    """
    if isinstance(transport, JudgingTransport):
        return transport.infer_judged(model, items, timeout_s)
    if not isinstance(transport, TensorTransport):
        raise ConfigError(f"detector='served': {type(transport).__name__} has no infer_tensors to ask for it")
    tensors = transport.infer_tensors(model, items_tensor("image", items), _OUTPUTS, timeout_s)
    answer = read_answer(url, tensors, len(items))
    if answer.known is None:
        raise ServerError(f"{url}: {model} does not say what is known: write the repository anew")
    return answer


def check_has_detector(model: ServedModel) -> None:
    """Raises ConfigError where the model is served without a detector."""
    if model.detector is None:
        raise ConfigError(
            f"{model.prefix} is served without a detector: export it with `protoclip export --detector FILE`, or "
            "give a Detector to classify"
        )


def detections(model: ServedModel, known: NDArray[np.bool_], scores: Array) -> list[Detection]:
    """One for each of `known` `[n]` and `scores` `[n]`, of a model that has a detector."""
    check_has_detector(model)
    told = model.detector
    assert told is not None
    pairs = zip(known.tolist(), scores.tolist(), strict=True)
    return [Detection(is_known, score, told.reason(score, is_known)) for is_known, score in pairs]
