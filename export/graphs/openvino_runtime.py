"""ONNX graphs in OpenVINO on the CPU, as functions of one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.install import install_command
from protoclip.contract.manifest import Precision
from protoclip.contract.openvino_encoder import (
    INFERENCE_PRECISIONS,
    OpenVinoEncoder,
    OpenVinoError,
    computes_bf16,
    has_openvino,
)

from .runtime import Array, Encode, Encoders
from .to_onnx import Signature

OPENVINO_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8_static")


def openvino_name(precision: Precision) -> str:
    """Name of an OpenVINO engine: `openvino_bf16`."""
    return f"openvino_{precision}"


def graph_precision(precision: Precision) -> Precision:
    """Precision of the ONNX engine whose graphs an OpenVINO engine runs."""
    return "fp32" if precision == "bf16" else precision


def check_openvino(precision: str) -> None:
    """Raises ConfigError where OpenVINO has no engine of that precision, or can't run it on this machine."""
    if precision not in INFERENCE_PRECISIONS:
        reason = f"is none of OpenVINO's, which are {', '.join(OPENVINO_PRECISIONS)}"
        if precision == "int8":
            reason = "quantizes as it runs, which OpenVINO computes in float32: use int8_static"
        raise ConfigError(f"OpenVINO engine: precision {precision} {reason}")
    if not has_openvino():
        raise ConfigError(f"OpenVINO engines need the package openvino: {install_command('openvino')}")
    if precision == "bf16" and not computes_bf16():
        raise ConfigError(
            "OpenVINO engine: this processor has no bf16, and OpenVINO would compute in float32: "
            "leave it out, or export on the machine that serves"
        )


def open_openvino_engine(
    image: Path,
    text: Path,
    signatures: tuple[Signature, Signature],
    precision: Precision,
    threads: int | None = None,
) -> Encoders:
    """Both encoders of an engine, from the graphs that `precision` is computed from: bf16 from float32.

    Args:
        threads: None: as many as torch uses. Embeddings do not depend on it.

    Raises:
        ConfigError: as `check_openvino`.
        ModelError: a file can't be loaded; from the functions, a batch can't be run.
    """
    check_openvino(precision)
    wanted, count = INFERENCE_PRECISIONS[precision], threads or torch.get_num_threads()
    try:
        both = [
            OpenVinoEncoder(path, wanted, signature.input_name, signature.output_name, count)
            for path, signature in zip((image, text), signatures, strict=True)
        ]
    except OpenVinoError as error:
        raise ModelError(str(error)) from error
    backend = f"OpenVINO {both[0].version} on the CPU, computing in {both[0].precision}"
    return Encoders(_encode(both[0]), _encode(both[1]), backend)


def _encode(encoder: OpenVinoEncoder) -> Encode:
    def run(batch: NDArray[Any]) -> Array:
        try:
            return encoder(batch)
        except OpenVinoError as error:
            raise ModelError(str(error)) from error

    return run
