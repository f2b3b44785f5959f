"""ONNX engines as functions of one batch, by ONNX Runtime on the CPU.

Shapes: `B` batch, `D` embedding; a batch is uint8 `[B, H, W, 3]` or int32 `[B, T]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ModelError
from protoclip.contract.graph_level import graph_level
from protoclip.contract.manifest import Precision

from .bf16_on_cpu import emulated_bf16
from .to_onnx import Signature

Array = NDArray[np.float32]
Encode = Callable[[NDArray[Any]], Array]


@dataclass(frozen=True)
class Encoders:
    """An opened engine: both encoders return float32 `[B, D]`, and `backend` names the runtime.

    `native` is false where the backend only emulates another device, so that its speed is meaningless;
    `largest_batch` is None where there is no limit.
    """

    image: Encode
    text: Encode
    backend: str
    native: bool = True
    largest_batch: int | None = None


def open_onnx_engine(
    image: Path, text: Path, signatures: tuple[Signature, Signature], precision: Precision
) -> Encoders:
    """Both encoders of an ONNX engine on the CPU; raises ModelError where a file can't be loaded."""
    import onnxruntime

    how = {"bf16": ", rounded as bf16 rounds", "fp8": ", fp8 rounded and the products in float16"}
    return Encoders(
        open_encoder(image, signatures[0], precision),
        open_encoder(text, signatures[1], precision),
        f"ONNX Runtime {onnxruntime.__version__} on the CPU{how.get(precision, '')}",
        native=precision not in how,
    )


def open_encoder(path: Path, signature: Signature, precision: Precision = "fp32") -> Encode:
    """ONNX Runtime on the CPU as a function of one batch, with as many threads as torch uses.

    Raises:
        ModelError: the file can't be loaded; from the function, the batch can't be run.
    """
    import onnxruntime
    import torch

    refused: tuple[type[Exception], ...] = (*runtime_errors(), ValueError)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Any optimisation could remove the casts that emulate bf16.
    level = "ORT_DISABLE_ALL" if precision == "bf16" else graph_level(precision)
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    try:
        graph = emulated_bf16(path) if precision == "bf16" else str(path)
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except refused as error:
        raise ModelError(f"{path.name}: ONNX Runtime can't load it: {error}") from error

    def run(batch: NDArray[Any]) -> Array:
        try:
            output: Array = session.run([signature.output_name], {signature.input_name: batch})[0]
        except refused as error:
            raise ModelError(f"{path.name}: ONNX Runtime fails on a batch of {len(batch)}: {error}") from error
        return output

    return run


def runtime_errors() -> tuple[type[Exception], ...]:
    """The exceptions of ONNX Runtime; they have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        *(state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf),
        *(state.NoSuchFile, state.NotImplemented, state.RuntimeException),
    )
