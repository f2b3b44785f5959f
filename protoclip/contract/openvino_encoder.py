"""An ONNX graph in OpenVINO on a CPU, in exactly the precision that is asked for; for export, client and server.

OpenVINO chooses precisions by itself: bf16 wherever the processor has it, and float32, without a word, where bf16
is asked for and the processor lacks it. So the precision is always given, and read back. Nothing of ours is
imported: the server's Python model is a copy of this file. Shapes: `B` batch, `D` embedding.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

InferencePrecision = Literal["f32", "bf16"]

INFERENCE_PRECISIONS: Mapping[str, InferencePrecision] = {"fp32": "f32", "bf16": "bf16", "int8_static": "f32"}
"""By an engine's precision, what OpenVINO computes in; nodes between Q/DQ pairs stay in 8 bits."""

_REPORTER = "openvino_telemetry"
_PRODUCTS = ("Convolution", "FullyConnected", "MatMul")
_ONE_CORE = threading.Lock()


class OpenVinoError(RuntimeError):
    """OpenVINO is not installed, can't load or run the graph, or does not compute in the precision asked for."""


def has_openvino() -> bool:
    """Whether the package is installed; it is not imported."""
    return find_spec("openvino") is not None


def load_openvino() -> Any:
    """The module `openvino`, which otherwise reports every import to a server of its maker's.

    Raises:
        OpenVinoError: it isn't installed, or can't be imported.
    """
    known = sys.modules.get(_REPORTER)
    # Without its reporter the package takes an empty one of its own.
    sys.modules[_REPORTER] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    except ImportError as error:
        raise OpenVinoError(f"OpenVINO can't be imported ({error}): pip install openvino") from error
    finally:
        sys.modules.pop(_REPORTER, None)  # another thread may have been first
        if known is not None:
            sys.modules[_REPORTER] = known


def openvino_core() -> Any:
    """The process's only `openvino.Core`, which is never freed; raises as `load_openvino`.

    OpenVINO gives the thread that first uses a processor a stack for signals, and frees it with the core that made
    it, while the thread still points there: the next Ctrl-C was a segmentation fault.
    """
    openvino = load_openvino()
    with _ONE_CORE:
        return _core_of(openvino)


@cache
def _core_of(openvino: Any) -> Any:
    return openvino.Core()


def computes_bf16() -> bool:
    """Whether OpenVINO has bf16 on this processor; raises as `load_openvino`."""
    found = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in found


class OpenVinoEncoder:
    """uint8 `[B, H, W, 3]` or int32 `[B, T]` → float32 `[B, D]`, for one thread of the caller's at a time.

    Args:
        path: the ONNX graph.
        precision: what it computes in.
        threads: 0: as many as this process has cores.

    Attributes:
        version: OpenVINO's.
        precision: as read back after compiling.

    Raises:
        OpenVinoError: as `load_openvino`; the graph can't be loaded or has no such tensors; OpenVINO computes in
            another precision than asked for; from a call: the batch can't be run.
    """

    def __init__(
        self, path: Path, precision: InferencePrecision, input_name: str, output_name: str, threads: int = 0
    ) -> None:
        openvino = load_openvino()
        self.version: str = openvino.__version__.split("-")[0]
        self._name, self._input, self._output = path.name, input_name, output_name
        try:
            compiled = openvino_core().compile_model(str(path), "CPU", _settings(precision, threads))
            used = _used_precisions(compiled)
            compiled.input(input_name)
            compiled.output(output_name)
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            raise self._failure("can't load it", error) from error
        if not used <= {precision, "f32"} or (used and precision not in used):
            lacks = "; this processor has no bf16" if precision == "bf16" and not computes_bf16() else ""
            raise OpenVinoError(
                f"{path.name}: OpenVINO {self.version} computes in {' and '.join(sorted(used))}, though asked for "
                f"{precision}{lacks}"
            )
        self.precision: InferencePrecision = precision

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        try:
            results = self._request.infer({self._input: batch})
        except RuntimeError as error:
            raise self._failure(f"fails on a batch of {len(batch)}", error) from error
        return np.array(results[self._output], dtype=np.float32)

    def _failure(self, what: str, error: RuntimeError) -> OpenVinoError:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return OpenVinoError(f"{self._name}: OpenVINO {self.version} {what}: {reason}")


def _settings(precision: InferencePrecision, threads: int) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads or cores,
        "INFERENCE_PRECISION_HINT": precision,
        # Two encoders, each in a process of its own, would both be tied to the same first cores.
        "ENABLE_CPU_PINNING": False,
    }


def _used_precisions(compiled: Any) -> set[str]:
    """What OpenVINO says that it computes in, and what its products of matrices are in, but for 8 bits."""
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    products = {
        node["runtimePrecision"].astype(str) for node in nodes if node["layerType"].astype(str) in _PRODUCTS
    }
    hint: str = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return (products | {hint}) - {"i8", "u8"}
