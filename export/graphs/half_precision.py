"""Half precision, by ModelOpt's AutoCast: weights and products in 16 bits, sensitive operators in 32."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .tool_output import suppress_tool_output

FLOAT32_OPS = ("Softmax", "LayerNormalization", "Exp", "Pow", "ReduceL2", "Clip", "Div", "Expand")
"""Softmax and LayerNorm, and the division by the norm at the end of both encoders (ReduceL2, Clip, Expand, Div):
their sums and exponentials exceed the range of half precision. Pow and Exp: parts of GELU and of scores."""


def write_half_precision(source: Path, target: Path, precision: Literal["fp16", "bf16"]) -> None:
    """Writes the float32 graph `source` to `target` in fp16 (opset 19 or above) or bf16 (22).

    Input and output keep their types. ModelOpt's exceptions pass through.
    """
    import onnx

    with suppress_tool_output():
        from modelopt.onnx.autocast import convert_to_f16

        half = convert_to_f16(
            onnx.load(source), low_precision_type=precision, keep_io_types=True, op_block_list=list(FLOAT32_OPS)
        )
    onnx.save(half, target, save_as_external_data=True, location=f"{target.name}.half", size_threshold=2**20)
