"""Eight-bit integers, by ONNX Runtime's quantizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .onnx_files import data_path
from .row_scales import scale_rows
from .tool_output import suppress_tool_output

CALIBRATION_BATCH = 16
_WEIGHTED = ["MatMul", "Gemm", "Conv"]


def write_int8_dynamic(source: Path, target: Path) -> None:
    """int8 weights by column, activations quantized dynamically by row: for ONNX Runtime on CPUs.

    Convolutions stay float32: ONNX Runtime has no fast kernel for their dynamic form; its exceptions pass through.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    external = data_path(source).exists()
    with suppress_tool_output():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=QuantType.QInt8,
            per_channel=True,
            use_external_data_format=external,
        )
    model = onnx.load(target)
    scale_rows(model)
    if external:
        data_path(target).unlink(missing_ok=True)
    onnx.save(model, target, save_as_external_data=external, location=data_path(target).name)


def write_int8_static(source: Path, target: Path, input_name: str, calibration: NDArray[Any]) -> None:
    """int8 weights and activations as symmetric Q/DQ pairs, as TensorRT's parser requires.

    Attention's products of two activations stay float32. ONNX Runtime's exceptions pass through.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with suppress_tool_output():
        quantize_static(
            source,
            target,
            _reader(input_name, calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_WEIGHTED,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            use_external_data_format=data_path(source).exists(),
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "MatMulConstBOnly": True,
            },
        )


def _reader(input_name: str, inputs: NDArray[Any]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            starts = range(0, len(inputs), CALIBRATION_BATCH)
            self._batches = iter([{input_name: inputs[i : i + CALIBRATION_BATCH]} for i in starts])

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self._batches, None)

    return Reader()
