"""ONNX Runtime's graph optimisation level for an engine, shared by export, server and client."""

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
