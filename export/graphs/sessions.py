"""ONNX Runtime's sessions: on the CPU, or on an NVIDIA GPU with all arithmetic in the graph's own types."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ModelError
from protoclip.contract.graph_level import CUDA_OPTIONS, GraphLevel, graph_level
from protoclip.contract.manifest import Precision

from .to_onnx import Signature

Array = NDArray[np.float32]
Encode = Callable[[NDArray[Any]], Array]
Device = Literal["cpu", "cuda"]
_CUDA = "CUDAExecutionProvider"
_FLOATS = ("float", "float16", "bfloat16", "double")


def find_device() -> Device:
    """`cuda` where torch sees an NVIDIA GPU and ONNX Runtime is the build for it (onnxruntime-gpu)."""
    import onnxruntime
    import torch

    return "cuda" if torch.cuda.is_available() and _CUDA in onnxruntime.get_available_providers() else "cpu"


def open_session(path: Path, level: GraphLevel, device: Device = "cpu", **cuda_options: str) -> Any:
    """An InferenceSession with as many threads as torch uses.

    Args:
        cuda_options: instead of `CUDA_OPTIONS`, which turn TF32 off.

    Raises:
        ModelError: the file can't be loaded, or CUDA can't be started: nothing falls back to the CPU unseen.
    """
    import onnxruntime

    return _open(path, session_options(level), _providers(device, cuda_options), onnxruntime)


def session_options(level: GraphLevel) -> Any:
    """Session options at that level, with as many threads as torch uses."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return options


def as_encoder(session: Any, path: Path, signature: Signature, run_options: Any = None) -> Encode:
    """The session as a function of one batch; it raises ModelError where the batch can't be run."""
    refused: tuple[type[Exception], ...] = (*runtime_errors(), ValueError)

    def run(batch: NDArray[Any]) -> Array:
        try:
            output: Array = session.run([signature.output_name], {signature.input_name: batch}, run_options)[0]
        except refused as error:
            raise ModelError(f"{path.name}: ONNX Runtime fails on a batch of {len(batch)}: {error}") from error
        return output

    return run


def open_encoder(
    path: Path, signature: Signature, precision: Precision = "fp32", device: Device = "cpu"
) -> Encode:
    """A file as a function of one batch, at the level it is served with.

    Raises:
        ModelError: the file can't be loaded; from the function, the batch can't be run.
    """
    return as_encoder(open_session(path, graph_level(precision), device), path, signature)


def nodes_off_the_gpu(path: Path, precision: Precision, example: NDArray[Any], signature: Signature) -> list[str]:
    """Operators of the graph that yield floating-point numbers and that ONNX Runtime runs on the CPU.

    It gives the CPU what CUDA has no kernel for, and says nothing; arithmetic of shapes belongs there.

    Raises:
        ModelError: as `open_session`, and where the batch can't be run.
    """
    import onnxruntime

    options = session_options(graph_level(precision))
    with tempfile.TemporaryDirectory(prefix="protoclip-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = _open(path, options, _providers("cuda", {}), onnxruntime)
        as_encoder(session, path, signature)(example)
        events = json.loads(Path(session.end_profiling()).read_text())
    return sorted({event["args"]["op_name"] for event in events if _is_float_on_cpu(event)})


def runtime_errors() -> tuple[type[Exception], ...]:
    """The exceptions of ONNX Runtime; they have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        *(state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf),
        *(state.NoSuchFile, state.NotImplemented, state.RuntimeException),
    )


def _open(path: Path, options: Any, providers: Sequence[Any], onnxruntime: Any) -> Any:
    refused: tuple[type[Exception], ...] = (*runtime_errors(), ValueError)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except refused as error:
        raise ModelError(f"{path.name}: ONNX Runtime can't load it: {error}") from error
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != wanted:
        raise ModelError(
            f"{path.name}: ONNX Runtime can't start CUDA here and would run on the CPU unseen: install the CUDA "
            "and cuDNN that onnxruntime-gpu is built for, or set CUDA_VISIBLE_DEVICES=-1 to mean the CPU"
        )
    return session


def _providers(device: Device, cuda_options: dict[str, str]) -> list[Any]:
    cuda = [(_CUDA, cuda_options or dict(CUDA_OPTIONS))] if device == "cuda" else []
    return [*cuda, "CPUExecutionProvider"]


def _is_float_on_cpu(event: dict[str, Any]) -> bool:
    facts = event.get("args", {})
    if facts.get("provider") != "CPUExecutionProvider" or facts.get("op_name", "").startswith("Memcpy"):
        return False
    return any(kind in _FLOATS for output in facts.get("output_type_shape", ()) for kind in output)
