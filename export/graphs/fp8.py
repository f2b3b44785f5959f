"""fp8 by ModelOpt, in a separate process: it permanently replaces functions of ONNX Runtime's quantizer.

Run as `python -m export.graphs.fp8 SOURCE TARGET INPUT_NAME CALIBRATION.npy`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .half_precision import FLOAT32_OPS, fill_masks
from .onnx_files import data_path

OPSET = 19
_OPS = ("MatMul", "Gemm", "Conv")


def write_fp8(source: Path, target: Path, input_name: str, calibration: NDArray[Any]) -> None:
    """fp8 (E4M3) weights and activations as Q/DQ pairs, the rest in fp16 except `FLOAT32_OPS`; for TensorRT.

    Raises:
        RuntimeError: ModelOpt failed; the message is its last line of output.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        inputs = Path(folder) / "calibration.npy"
        np.save(inputs, calibration)
        source = _copy(source, Path(folder))
        # -P: a folder called `export` in the working directory must not be imported instead of this package.
        command = [
            sys.executable,
            "-P",
            "-m",
            "export.graphs.fp8",
            str(source),
            str(target),
            input_name,
            str(inputs),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["ModelOpt ended without a word"])[-1])


def _copy(source: Path, folder: Path) -> Path:
    """Copies the graph, because ModelOpt writes into the file that it reads, with masks that fp16 holds."""
    import onnx

    model, data = onnx.load(source), data_path(source)
    fill_masks(model.graph)
    copy = folder / source.name
    onnx.save(model, copy, save_as_external_data=data.exists(), location=data.name, size_threshold=1024)
    return copy


def _quantize(source: Path, target: Path, input_name: str, calibration: Path) -> None:
    from modelopt.onnx.quantization import quantize

    quantize(
        str(source),
        quantize_mode="fp8",
        calibration_data={input_name: np.load(calibration, allow_pickle=False)},
        calibration_method="max",
        calibration_eps=["cpu"],
        op_types_to_quantize=list(_OPS),
        op_types_to_exclude_fp16=list(FLOAT32_OPS),
        high_precision_dtype="fp16",
        disable_mha_qdq=True,
        use_external_data_format=data_path(source).exists(),
        output_path=str(target),
        log_level="ERROR",
        opset=OPSET,
    )


if __name__ == "__main__":
    _quantize(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
