"""OpenVINO engines of an artifact: an ONNX engine's files once more, in another runtime and maybe precision.

They have no files of their own: bf16 is what OpenVINO computes in, from the float32 graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from export.graphs.openvino_runtime import (
    check_openvino,
    graph_precision,
    open_openvino_engine,
    openvino_name,
)
from export.graphs.precision import engine_name
from export.graphs.runtime import Encoders
from export.parity.reference import Reference
from export.parity.report import EngineReport, unseen_report
from export.parity.verify import verify_engine
from protoclip.contract.errors import ModelError
from protoclip.contract.manifest import Engine, Precision, Verdict
from protoclip.contract.openvino_encoder import INFERENCE_PRECISIONS
from protoclip.contract.progress import Progress

from .engines import SIGNATURES, describe_engine


@dataclass(frozen=True)
class OpenVinoEngine:
    """An engine's report, and its encoders; None: OpenVINO can't run its graphs."""

    report: EngineReport
    encoders: Encoders | None = None


def check_openvino_engines(wanted: Sequence[str]) -> tuple[Precision, ...]:
    """The precisions without duplicates; raises ConfigError where one can't be made on this machine."""
    for name in wanted:
        check_openvino(name)
    known: tuple[Precision, ...] = get_args(Precision)
    return tuple(precision for precision in known if precision in wanted)


def judge_openvino_engines(
    reference: Reference, folder: Path, wanted: Sequence[Precision], kept: Sequence[str], progress: Progress
) -> Iterator[OpenVinoEngine]:
    """Compares one engine after the other; one that can't be run has a report that says why.

    Args:
        folder: artifact with the ONNX engines.
        kept: names of the ONNX engines that passed.
    """
    for precision in wanted:
        name, graphs = openvino_name(precision), engine_name(graph_precision(precision))
        if graphs not in kept:
            failure = f"not built: {graphs}, its graph, failed its own comparison"
            yield OpenVinoEngine(unseen_report(name, precision, "openvino", failure))
            continue
        try:
            image, text = (folder / graphs / signature.file for signature in SIGNATURES)
            encoders = open_openvino_engine(image, text, SIGNATURES, precision)
            report = verify_engine(reference, encoders, name, precision, progress=progress)
        except ModelError as error:
            yield OpenVinoEngine(unseen_report(name, precision, "openvino", f"not built: {error}"))
            continue
        yield OpenVinoEngine(report, encoders)


def describe_openvino(folder: Path, report: EngineReport, verdict: Verdict, speed: float | None) -> Engine:
    """The manifest's entry for an engine that was run."""
    graphs = describe_engine(folder, graph_precision(report.precision), verdict, speed)
    own = {
        "name": report.name,
        "format": "openvino",
        "precision": report.precision,
        "inference_precision": INFERENCE_PRECISIONS[report.precision],
    }
    return Engine.model_validate(graphs.model_dump() | own)
