"""The verdict on an artifact's ONNX engines, the same for `export` and for `verify`; for this OpenVINO's too."""

from __future__ import annotations

from pathlib import Path

from export.graphs.precision import engine_name
from export.graphs.runtime import Encoders
from export.parity.reference import Reference
from export.parity.report import EngineReport
from export.parity.verify import verify_engine
from protoclip.contract.manifest import Engine, Precision
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.progress import Progress, silent

from .device_checks import device_checks
from .engines import open_engine
from .listed_engines import open_listed


def judge_graphs(
    reference: Reference,
    folder: Path,
    precision: Precision,
    *,
    listed: Engine | None = None,
    pixels: PixelSpec | None = None,
    progress: Progress = silent,
) -> tuple[EngineReport, Encoders]:
    """Opens the ONNX engine of that precision, or the listed one, compares it, and makes every check of it.

    Args:
        listed: a manifest's entry, whose files are opened; None: those that `write_engines` wrote.
        pixels: preprocessing by the manifest; None: the model's own.

    Raises:
        ModelError: a file can't be loaded, or a batch can't be run.
        ConfigError: a listed OpenVINO engine can't be run here.
    """
    encoders = open_engine(folder, precision) if listed is None else open_listed(folder, listed)
    name = engine_name(precision) if listed is None else listed.name
    report = verify_engine(reference, encoders, name, precision, pixels=pixels, progress=progress)
    if listed is not None and listed.format == "openvino":
        # It runs on the processor that it was just compared on, and no GPU will ever run it.
        return report, encoders
    return report.with_checks(*device_checks(reference, encoders, precision, progress)), encoders
