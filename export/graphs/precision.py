"""Converts the float32 graphs to the other precisions; the precision is in the graph itself, strongly typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.install import install_command
from protoclip.contract.manifest import Precision

from .fp8 import write_fp8
from .half_precision import write_half_precision
from .onnx_files import finish_onnx
from .quantization import write_int8_dynamic, write_int8_static
from .runtime import runtime_errors
from .to_onnx import DEFAULT_OPSET, MAX_EMBEDDED_BYTES, Signature

# From opset 21 on ONNX Runtime's propagation of Q/DQ pairs writes nodes that it then rejects (seen in 1.31).
_LAST_STATIC_OPSET = 20
CALIBRATED: tuple[Precision, ...] = ("int8_static", "fp8")
MODELOPT: tuple[Precision, ...] = ("fp16", "bf16", "fp8")


@dataclass(frozen=True)
class Calibration:
    """Inputs from which the quantizer takes activation ranges; none of them is used by the parity gate.

    `pixels` uint8 `[N, H, W, 3]`, `tokens` int32 `[N, T]`.
    """

    pixels: NDArray[np.uint8]
    tokens: NDArray[np.int32]


def check_precisions(wanted: Sequence[str], opset: int = DEFAULT_OPSET) -> tuple[Precision, ...]:
    """The precisions in the order they are made, without duplicates; fp32 is always the first.

    Raises:
        ConfigError: an unknown one, one whose tool is not installed, or one that is not possible at `opset`.
    """
    known: tuple[Precision, ...] = get_args(Precision)
    for name in wanted:
        if name not in known:
            raise ConfigError(f"precision {name!r} is unknown: use {', '.join(known)}")
        if name in MODELOPT and find_spec("modelopt") is None:
            raise ConfigError(f"precision {name} needs the package nvidia-modelopt: {install_command('quantize')}")
        if name == "int8_static" and opset > _LAST_STATIC_OPSET:
            raise ConfigError(
                f"precision {name} at opset {opset}: ONNX Runtime moves its Q/DQ pairs and loses their type: "
                f"use --opset {_LAST_STATIC_OPSET} or lower"
            )
    return tuple(name for name in known if name == "fp32" or name in wanted)


def engine_name(precision: Precision) -> str:
    """Name of the ONNX engine and of its folder: `onnx_int8`."""
    return f"onnx_{precision}"


def write_precision(
    precision: Precision,
    source: Path,
    target: Path,
    signature: Signature,
    calibration: NDArray[Any] | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
    max_embedded_bytes: int = MAX_EMBEDDED_BYTES,
) -> None:
    """Writes the float32 graph `source` to `target` in another precision; input and output are unchanged.

    Args:
        calibration: inputs `[N, ...]` for the precisions in `CALIBRATED`.

    Raises:
        ConfigError: `calibration` is missing.
        ModelError: the tool can't convert the graph.
    """
    if precision in CALIBRATED and calibration is None:
        raise ConfigError(f"precision {precision} is calibrated on pictures and texts, and there are none")
    refused: tuple[type[Exception], ...] = (*runtime_errors(), ValueError, RuntimeError, TypeError, KeyError)
    try:
        if precision == "fp16" or precision == "bf16":
            write_half_precision(source, target, precision)
        elif precision == "int8":
            write_int8_dynamic(source, target)
        elif precision == "int8_static" and calibration is not None:
            write_int8_static(source, target, signature.input_name, calibration)
        elif precision == "fp8" and calibration is not None:
            write_fp8(source, target, signature.input_name, calibration)
        else:
            raise AssertionError(f"{precision} is not made from the float32 graph")
    except refused as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{signature.file}: can't be brought to {precision}: {first}") from error
    finish_onnx(target, {**(metadata or {}), "precision": precision}, max_embedded_bytes)
