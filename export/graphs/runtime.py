"""ONNX engines as functions of one batch, by ONNX Runtime on a GPU where there is one, and else on the CPU.

Shapes: `B` batch, `D` embedding; a batch is uint8 `[B, H, W, 3]` or int32 `[B, T]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from protoclip.contract.manifest import Precision

from .rounded import Measure, open_rounded
from .rounding import sixteen_bits
from .sessions import Array, Device, Encode, find_device, open_encoder, runtime_errors
from .to_onnx import Signature

__all__ = ["Array", "Encode", "Encoders", "open_encoder", "open_onnx_engine", "runtime_errors"]


@dataclass(frozen=True)
class OnnxFile:
    """An encoder's file, and the names of its input and output."""

    path: Path
    signature: Signature


@dataclass(frozen=True)
class Encoders:
    """An opened engine: both encoders return float32 `[B, D]`, and `backend` names the runtime.

    `native` is false where the backend only emulates another device, so that its speed is meaningless;
    `largest_batch` is None where there is no limit; `ranges` are those of the image and the text encoder's 16-bit
    tensors, where they are emulated; `files` are an ONNX engine's.
    """

    image: Encode
    text: Encode
    backend: str
    native: bool = True
    largest_batch: int | None = None
    device: Device = "cpu"
    ranges: tuple[Measure, Measure] | None = None
    files: tuple[OnnxFile, ...] = ()


def open_onnx_engine(
    image: Path,
    text: Path,
    signatures: tuple[Signature, Signature],
    precision: Precision,
    device: Device | None = None,
    *,
    as_served: bool = False,
) -> Encoders:
    """Both encoders of an ONNX engine.

    Args:
        device: None takes the GPU if there is one, except for int8, which quantizes as it runs, on CPUs only.
        as_served: on the CPU too, compute fp16 as ONNX Runtime does, in float32, instead of rounding 16 bits as a
            GPU rounds them.

    Raises:
        ModelError: a file can't be loaded, or CUDA can't be started.
    """
    device = device or ("cpu" if precision == "int8" else find_device())
    files = (OnnxFile(image, signatures[0]), OnnxFile(text, signatures[1]))
    rounded = None if device == "cuda" or as_served else sixteen_bits(precision)
    if rounded is not None:
        (pictures, first), (texts, second) = (open_rounded(each.path, each.signature, rounded) for each in files)
        backend = f"{_runtime()} on the CPU, rounded as {precision} rounds"
        return Encoders(pictures, texts, backend, native=False, ranges=(first, second), files=files)
    pictures, texts = (open_encoder(each.path, each.signature, precision, device) for each in files)
    if device == "cuda":
        return Encoders(pictures, texts, f"{_runtime()} on {_gpu_name()}, TF32 off", device="cuda", files=files)
    return Encoders(pictures, texts, f"{_runtime()} on the CPU", native=precision != "fp8", files=files)


def _runtime() -> str:
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name()
