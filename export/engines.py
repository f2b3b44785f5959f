"""An artifact's ONNX engines on disk: writing, describing for the manifest, and opening them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from export.graphs.encoders import ImageEncoder, TextEncoder, example_pixels, example_tokens
from export.graphs.onnx_files import data_path
from export.graphs.precision import CALIBRATED, Calibration, engine_name, write_precision
from export.graphs.runtime import Encoders, open_onnx_engine
from export.graphs.to_onnx import IMAGE, TEXT, Signature, write_onnx
from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import EncoderFile, Engine, Precision, Verdict
from protoclip.contract.progress import Progress
from protoclip.encoders.model import ClipModel

SIGNATURES = (IMAGE, TEXT)


def write_engines(
    clip: ClipModel,
    folder: Path,
    precisions: Sequence[Precision],
    calibration: Calibration | None,
    *,
    opset: int,
    metadata: Mapping[str, str],
    max_embedded_bytes: int,
    progress: Progress,
) -> int:
    """Writes `onnx_fp32/image.onnx` and all others below `folder`; returns the float32 files' IR version.

    Raises:
        ConfigError: a precision needs calibration and there is none.
        ModelError: the model can't be exported, or not in one of the precisions.
    """
    total = len(SIGNATURES) * len(precisions)
    source = folder / engine_name("fp32")
    ir_version = _write_fp32(clip, source, opset, metadata, max_embedded_bytes, progress, total)
    targets = [
        (precision, signature) for precision in precisions if precision != "fp32" for signature in SIGNATURES
    ]
    for done, (precision, signature) in enumerate(targets, start=len(SIGNATURES)):
        progress(f"writing ONNX, {precision}", done, total)
        target = folder / engine_name(precision)
        target.mkdir(exist_ok=True)
        write_precision(
            precision,
            source / signature.file,
            target / signature.file,
            signature,
            _calibration_of(signature, precision, calibration),
            metadata=metadata,
            max_embedded_bytes=max_embedded_bytes,
        )
    progress("writing ONNX", total, total)
    return ir_version


def _write_fp32(
    clip: ClipModel,
    folder: Path,
    opset: int,
    metadata: Mapping[str, str],
    max_embedded_bytes: int,
    progress: Progress,
    total: int,
) -> int:
    folder.mkdir()
    modules = (ImageEncoder(clip), example_pixels(clip)), (TextEncoder(clip), example_tokens(clip))
    ir_version = 0
    for done, (signature, (encoder, example)) in enumerate(zip(SIGNATURES, modules, strict=True)):
        progress("writing ONNX", done, total)
        ir_version = write_onnx(
            encoder,
            example,
            folder / signature.file,
            signature,
            opset=opset,
            metadata={**metadata, "precision": "fp32"},
            max_embedded_bytes=max_embedded_bytes,
        )
    return ir_version


def describe_engine(folder: Path, precision: Precision, verdict: Verdict, speed: float | None) -> Engine:
    """The manifest's entry for an ONNX engine that `write_engines` wrote."""
    name = engine_name(precision)
    return Engine(
        name=name,
        format="onnx",
        precision=precision,
        image_encoder=_encoder_file(folder, name, IMAGE),
        text_encoder=_encoder_file(folder, name, TEXT),
        verdict=verdict,
        pictures_per_s=speed,
    )


def open_engine(folder: Path, precision: Precision) -> Encoders:
    """The ONNX engine of that precision in an artifact; raises ModelError where a file can't be loaded."""
    place = folder / engine_name(precision)
    return open_onnx_engine(place / IMAGE.file, place / TEXT.file, SIGNATURES, precision)


def _calibration_of(
    signature: Signature, precision: Precision, calibration: Calibration | None
) -> NDArray[Any] | None:
    if calibration is None or precision not in CALIBRATED:
        return None
    return calibration.pixels if signature is IMAGE else calibration.tokens


def _encoder_file(folder: Path, engine: str, signature: Signature) -> EncoderFile:
    path = folder / engine / signature.file
    data = data_path(path)
    return EncoderFile(
        file=f"{engine}/{signature.file}",
        sha256=sha256_file(path),
        input_name=signature.input_name,
        output_name=signature.output_name,
        data_file=f"{engine}/{data.name}" if data.exists() else None,
        data_sha256=sha256_file(data) if data.exists() else None,
    )
