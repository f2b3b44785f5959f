"""Half precision, by ModelOpt's AutoCast: weights and products in 16 bits, what half spoils in 32."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .tool_output import suppress_tool_output

FLOAT32_OPS = ("Softmax", "LayerNormalization", "Exp", "Pow", "ReduceL2", "Clip", "Div", "Expand")
"""Softmax and LayerNorm, and the division by the norm that ends both encoders (ReduceL2, Clip, Expand, Div):
their sums and exponentials leave the range of half precision. Pow and Exp: GELU's and scores' inner steps."""


def write_half_precision(source: Path, target: Path, precision: Literal["fp16", "bf16"]) -> None:
    """Writes the float32 graph `source` to `target` in fp16 (opset 19 or above) or bf16 (22).

    Input and output keep their types. Raises what ModelOpt raises.
    """
    import onnx

    with suppress_tool_output():
        from modelopt.onnx.autocast import convert_to_f16

        half = convert_to_f16(
            onnx.load(source), low_precision_type=precision, keep_io_types=True, op_block_list=list(FLOAT32_OPS)
        )
    onnx.save(half, target, save_as_external_data=True, location=f"{target.name}.half", size_threshold=2**20)
