"""A detector's ONNX graph as a function of embeddings, by ONNX Runtime on the CPU, where servers run it too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ModelError
from protoclip.contract.reasons import REASON_BYTES
from protoclip.contract.served_detector import DETECTOR_INPUTS, KNOWN, KNOWN_SCORE

from .sessions import Array, open_session, runtime_errors

Judge = Callable[[Array], tuple[NDArray[np.bool_], Array]]
"""Embeddings `[B, D]` → which are known `[B]`, and their scores `[B]`."""


def open_detector_graph(path: Path) -> Judge:
    """The graph as a function of embeddings of pictures that were not refused.

    Raises:
        ModelError: the file can't be loaded; from the function, the batch can't be run.
    """
    session = open_session(path, "ORT_ENABLE_ALL")
    refused: tuple[type[Exception], ...] = (*runtime_errors(), ValueError)

    def judge(embeddings: Array) -> tuple[NDArray[np.bool_], Array]:
        errors = np.zeros((len(embeddings), REASON_BYTES), dtype=np.uint8)
        feeds = dict(zip(DETECTOR_INPUTS, (embeddings, errors), strict=True))
        try:
            known, scores = session.run([KNOWN, KNOWN_SCORE], feeds)
        except refused as error:
            raise ModelError(
                f"{path.name}: ONNX Runtime fails on {len(embeddings)} embeddings: {error}"
            ) from error
        return known[:, 0], scores[:, 0]

    return judge
