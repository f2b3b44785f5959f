"""How far ONNX Runtime may rewrite an engine's graph, for all who run one: export, server and client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from .manifest import Precision

GraphLevel = Literal["all", "extended", "none"]

_LEVELS: Mapping[Precision, GraphLevel] = {"fp16": "extended", "fp8": "none"}


def graph_level(precision: Precision) -> GraphLevel:
    """The highest level that keeps a graph of this precision right.

    At the full one the CPU provider crashes on fp16, and fuses fp8 into operators that don't take it.
    """
    return _LEVELS.get(precision, "all")
