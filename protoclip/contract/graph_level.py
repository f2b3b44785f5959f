"""How ONNX Runtime runs an engine: its graph optimisation level and, on a GPU, CUDA's options.

Shared by export, benchmark, server and client, so that what is judged and measured is what is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from .manifest import Precision

GraphLevel = Literal["ORT_ENABLE_ALL", "ORT_ENABLE_EXTENDED", "ORT_DISABLE_ALL"]

_LEVELS: Mapping[Precision, GraphLevel] = {"fp16": "ORT_ENABLE_EXTENDED", "fp8": "ORT_DISABLE_ALL"}


def graph_level(precision: Precision) -> GraphLevel:
    """Name of ONNX Runtime's highest optimisation level that is correct for a graph of this precision.

    At the highest the CPU provider crashes on fp16, and fuses fp8 into operators that don't support it.
    """
    return _LEVELS.get(precision, "ORT_ENABLE_ALL")


CUDA_OPTIONS: Mapping[str, str] = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
"""Options of ONNX Runtime's CUDA provider. By default it computes float32 products in TF32, with 10 bits of
mantissa, and a float32 engine would not be what its verdict measured; it tries every algorithm of a convolution
for each batch size that it has not seen yet, within the request that brings it."""

TRITON_CONVOLUTION_SEARCH = {"cudnn_conv_algo_search": "1"}
"""HEURISTIC as a parameter of Triton's configuration. Its backend overwrites the option by EXHAUSTIVE where a
configuration has parameters and this one is not among them (`ModelState::LoadModel` in its src/onnxruntime.cc)."""
