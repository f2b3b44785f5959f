"""The verdict on an artifact's ONNX engines, the same for `export` and for `verify`."""

from __future__ import annotations

from pathlib import Path

from export.graphs.precision import engine_name
from export.graphs.runtime import Encoders
from export.parity.reference import Reference
from export.parity.report import EngineReport
from export.parity.verify import verify_engine
from protoclip.contract.manifest import Precision
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.progress import Progress, silent

from .engines import open_engine


def judge_graphs(
    reference: Reference,
    folder: Path,
    precision: Precision,
    *,
    pixels: PixelSpec | None = None,
    progress: Progress = silent,
) -> tuple[EngineReport, Encoders]:
    """Opens the ONNX engine of that precision in `folder`, compares it, and makes every check of it.

    Args:
        pixels: preprocessing by the manifest; None: the model's own.

    Raises:
        ModelError: a file can't be loaded, or a batch can't be run.
    """
    encoders = open_engine(folder, precision)
    report = verify_engine(
        reference, encoders, engine_name(precision), precision, pixels=pixels, progress=progress
    )
    return report, encoders
