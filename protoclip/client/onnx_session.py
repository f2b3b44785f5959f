"""An artifact's encoder as a function of one batch, by ONNX Runtime on the CPU, imported on first use."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.graph_level import GraphLevel, graph_level
from protoclip.contract.install import install_command
from protoclip.contract.manifest import CarriedDetector, EncoderFile, Engine, Manifest, check_files
from protoclip.contract.served_detector import DETECTOR_INPUTS, KNOWN, KNOWN_SCORE
from protoclip.contract.speed_margin import fastest_engine

from .transport import Array

Encode = Callable[[NDArray[Any]], Array]
RunDetector = Callable[[Array, NDArray[np.uint8]], tuple[NDArray[np.bool_], Array]]


def choose_engine(manifest: Manifest, wanted: str | None, folder: Path) -> Engine:
    """The engine called `wanted`; or the default; or, where that needs a GPU, the fastest that does not.

    Raises:
        ModelError: no such engine, or none that runs on a CPU.
    """
    engine = manifest.engine if wanted is None else manifest.engine_named(wanted)
    if _runs(engine):
        return engine
    if wanted is not None:
        raise ModelError(
            f"{folder}: engine {wanted} does not run on a CPU: serve it with Triton, or choose another"
        )
    others = [engine for engine in manifest.engines if _runs(engine)]
    if not others:
        raise ModelError(f"{folder}: no engine of this artifact runs on a CPU: serve it with Triton")
    return manifest.engine_named(fastest_engine(others))


def open_session(folder: Path, encoder: EncoderFile, engine: Engine) -> Encode:
    """uint8 `[B, H, W, 3]` or int32 `[B, T]` → float32 `[B, D]`. One batch at a time, since one uses all cores.

    Raises:
        ConfigError: onnxruntime isn't installed.
        ModelError: a file is missing, not the one that was exported, or not one that this ONNX Runtime loads.
    """
    # By default ONNX Runtime counts the machine's cores, even where a container may use fewer.
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    session = _open(folder, encoder.file, encoder.files(), graph_level(engine.precision), threads)
    lock = threading.Lock()

    def encode(batch: NDArray[Any]) -> Array:
        with lock:
            output: Array = session.run([encoder.output_name], {encoder.input_name: batch})[0]
        return output

    return encode


def open_detector_session(folder: Path, carried: CarriedDetector) -> RunDetector:
    """An artifact's detector: embeddings `[B, D]` and their reasons uint8 `[B, 256]` → known `[B]`, scores `[B]`.

    Errors as of `open_session`. One thread, as a server gives it.
    """
    session = _open(folder, carried.graph_file, carried.files(), "ORT_ENABLE_ALL", 1)

    def judge(embeddings: Array, reasons: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], Array]:
        feeds = dict(zip(DETECTOR_INPUTS, (embeddings, reasons), strict=True))
        known, scores = session.run([KNOWN, KNOWN_SCORE], feeds)
        return known[:, 0], scores[:, 0]

    return judge


def _open(folder: Path, file: str, hashes: Mapping[str, str], level: GraphLevel, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"{folder}: running an artifact needs onnxruntime: {install_command('cpu')}, or name a server"
        ) from error
    check_files(folder, hashes)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = threads
    path = folder / file
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path}: ONNX Runtime {onnxruntime.__version__} can't load it: {reason}") from error


def _runs(engine: Engine) -> bool:
    # ONNX Runtime has no bf16 on CPUs; whether OpenVINO has it depends on the processor.
    return engine.format == "openvino" or (engine.format == "onnx" and engine.precision != "bf16")
