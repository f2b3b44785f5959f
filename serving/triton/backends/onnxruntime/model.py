"""Backend for `platform: "onnxruntime_onnx"` where the server has none: ONNX Runtime from Python.

Triton loads it for every model of that platform. It reads the same settings of the model configuration as
Triton's own backend: `intra_op_thread_count` (0: all cores, or one for short runs), `optimization.graph.level`
and, on a GPU, the CUDA provider's options in `optimization.execution_accelerators`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from given_up import GivenUp  # type: ignore[import-not-found]  # copied beside this file when the server starts

GRAPH_LEVELS = {
    "-1": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "0": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "1": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "2": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

SHORT_RUN_S = 0.005
"""A run of one row that takes no more of the processor gains nothing by more threads, which have to be woken."""
SPIN_US = 20
"""How long a thread looks for its next part of a run before it sleeps."""
_TRIES, _FAR_FROM_SHORT = 6, 4.0


class TritonPythonModel:
    """One instance of one ONNX model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the session. Raises what ONNX Runtime raises; Triton then reports the model as unavailable."""
        config = json.loads(args["model_config"])
        self._given_up = GivenUp()
        file = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / file
        self._inputs = [item["name"] for item in config["input"]]
        self._outputs = [item["name"] for item in config["output"]]
        self._dtypes = [pb_utils.triton_string_to_numpy(item["data_type"]) for item in config["output"]]
        providers = _providers(args, config)
        self._session = session = _open(path, config, providers, _threads(config))
        _check_tensors("input", config["input"], session.get_inputs())
        _check_tensors("output", config["output"], session.get_outputs())
        if providers == ["CPUExecutionProvider"] and not _threads(config) and _is_short(session, config):
            pb_utils.Logger.log_info(f"{args['model_name']}: one thread, as a run is short")
            self._session = _open(path, config, providers, 1)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs as one batch all requests that somebody waits for; each gets its own rows of the result."""
        answers: list[Any] = self._given_up.run(requests, self._run)
        return answers

    def _run(self, requests: list[Any]) -> list[Any]:
        sizes = [_tensor(request, self._inputs[0]).shape()[0] for request in requests]
        feeds = {name: _gather(requests, name) for name in self._inputs}
        try:
            results = self._session.run(self._outputs, feeds)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base class
            failure = pb_utils.TritonError(f"ONNX Runtime: {error}", pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse([], failure) for _ in requests]
        results = [np.asarray(result, dtype) for result, dtype in zip(results, self._dtypes, strict=True)]
        return self._split(results, sizes)

    def _split(self, results: list[Any], sizes: list[int]) -> list[Any]:
        ends = np.cumsum(sizes)
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(name, result[end - size : end])
                    for name, result in zip(self._outputs, results, strict=True)
                ]
            )
            for size, end in zip(sizes, ends, strict=True)
        ]


def _open(path: Path, config: dict[str, Any], providers: list[Any], threads: int) -> Any:
    options = _session_options(config, threads)
    return onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)


def _threads(config: dict[str, Any]) -> int:
    parameters = config.get("parameters", {})
    return int(parameters.get("intra_op_thread_count", {}).get("string_value") or 0)


def _is_short(session: Any, config: dict[str, Any]) -> bool:
    # The processor's time: waiting for it says nothing of the model. The first run allocates, and is not counted.
    rows = {
        item["name"]: np.zeros(
            (1, *(max(int(size), 1) for size in item["dims"])), pb_utils.triton_string_to_numpy(item["data_type"])
        )
        for item in config["input"]
    }
    session.run(None, rows)
    for _ in range(_TRIES):
        began_s = time.process_time()
        session.run(None, rows)
        spent_s = time.process_time() - began_s
        if spent_s <= SHORT_RUN_S or spent_s > _FAR_FROM_SHORT * SHORT_RUN_S:
            return spent_s <= SHORT_RUN_S
    return False


def _session_options(config: dict[str, Any], threads: int) -> Any:
    level = str(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.graph_optimization_level = GRAPH_LEVELS[level]
    # Threads that spin use cores that the other instance and preprocessing need; those that never do have to be
    # woken for every operator of a run.
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _providers(args: dict[str, str], config: dict[str, Any]) -> list[Any]:
    if args["model_instance_kind"] != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pb_utils.Logger.log_warn(
            f"{args['model_name']}: placed on a GPU, but this onnxruntime has no CUDA: running on the CPU"
        )
        return ["CPUExecutionProvider"]
    options = {"device_id": args["model_instance_device_id"], **_cuda_options(config)}
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def _cuda_options(config: dict[str, Any]) -> dict[str, str]:
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    found: dict[str, str] = {}
    for accelerator in accelerators.get("gpu_execution_accelerator", []):
        if accelerator["name"] != "cuda":
            raise ValueError(
                f"execution accelerator {accelerator['name']!r} is unknown here: only cuda can be set"
            )
        found |= accelerator.get("parameters", {})
    return found


def _check_tensors(kind: str, configured: list[dict[str, Any]], tensors: list[Any]) -> None:
    # Checked here, because this server crashes on an error during warm-up.
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    for item in configured:
        name, dims = item["name"], [int(size) for size in item["dims"]]
        if name not in shapes:
            raise ValueError(f"{kind} {name!r} is in config.pbtxt and the graph has {sorted(shapes)}")
        sizes = shapes[name][1:]
        if len(sizes) != len(dims) or any(
            isinstance(size, int) and size != dim for size, dim in zip(sizes, dims, strict=True)
        ):
            raise ValueError(f"{kind} {name!r} has dims {dims} in config.pbtxt and {sizes} in the graph")


def _tensor(request: Any, name: str) -> Any:
    return pb_utils.get_input_tensor_by_name(request, name)


def _gather(requests: list[Any], name: str) -> Any:
    arrays = [_tensor(request, name).as_numpy() for request in requests]
    # A single request is passed on without a copy, as a view of shared memory.
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
