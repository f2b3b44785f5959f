"""Engines of 16-bit numbers on the CPU, rounded as accelerators round, and the ranges of all their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from protoclip.contract.errors import ModelError

from .rounding import RangeOutput, Rounded, emulated
from .sessions import Encode, as_encoder, open_session, runtime_errors
from .to_onnx import Signature


@dataclass(frozen=True)
class TensorRange:
    """Of one tensor over all inputs seen: the largest finite absolute value before it is rounded, and the part of
    all absolute values together that rounding takes away."""

    largest: float
    rounding: float


Measure = Callable[[NDArray[Any]], Mapping[str, TensorRange]]
"""The ranges of an engine's tensors, by name and in the graph's order, for one batch."""


def open_rounded(path: Path, signature: Signature, precision: Rounded) -> tuple[Encode, Measure]:
    """The graph at `path` as a function of one batch, and its tensors' ranges as another.

    Raises:
        ModelError: the file can't be loaded; from the functions, the batch can't be run.
    """
    import onnxruntime

    with emulated(path, precision) as (file, outputs):
        # Any optimisation could remove the casts that round.
        session = open_session(file, "ORT_DISABLE_ALL")
    names = [name for each in outputs for name in (each.largest, each.total, each.error)]
    refused: tuple[type[Exception], ...] = (*runtime_errors(), ValueError)
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True

    def measure(batch: NDArray[Any]) -> Mapping[str, TensorRange]:
        try:
            values = session.run(names, {signature.input_name: batch}, options)
        except refused as error:
            raise ModelError(f"{path.name}: ONNX Runtime fails on a batch of {len(batch)}: {error}") from error
        return _ranges(outputs, [float(value) for value in values])

    return as_encoder(session, path, signature, options), measure


def _ranges(outputs: tuple[RangeOutput, ...], values: list[float]) -> dict[str, TensorRange]:
    found = {}
    for place, output in enumerate(outputs):
        largest, total, error = values[3 * place : 3 * place + 3]
        found[output.tensor] = TensorRange(largest, error / total if total else 0.0)
    return found
