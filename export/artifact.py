"""The artifact folder: encoders, tokenizer, manifest and verdict, written atomically."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from export.graphs.fingerprint import fingerprint
from export.graphs.openvino_runtime import graph_precision, openvino_name
from export.graphs.precision import Calibration, check_precisions, engine_name
from export.graphs.runtime import Encoders
from export.graphs.speeds import MEASURED_BATCH, Speeds, measure_speeds
from export.graphs.to_onnx import DEFAULT_OPSET, MAX_EMBEDDED_BYTES
from export.parity.checks import failed_lines
from export.parity.reference import Reference, torch_reference
from export.parity.report import VERDICT_FILE, EngineReport, Report
from export.parity.samples import Samples, sample_pixels, sample_tokens
from export.parity.tokens import check_tokens
from export.parity.verdict_page import verdict_page
from export.parity.verify import make_report
from export.parity.weights import WEIGHTS, check_weights
from protoclip.contract.errors import VerdictError
from protoclip.contract.files import atomic_path, sha256_file, write_text
from protoclip.contract.golden import Golden
from protoclip.contract.manifest import Engine, Manifest, Precision
from protoclip.contract.progress import Progress, silent
from protoclip.contract.served_parameters import MAX_BATCH_SIZE
from protoclip.contract.speed_margin import fastest_engine
from protoclip.contract.text import Tokenizer
from protoclip.encoders.model import ClipModel

from .carried_detector import GivenDetector, describe_detector, write_detector
from .engine_graphs import judge_graphs
from .engine_openvino import check_openvino_engines, describe_openvino, judge_openvino_engines
from .engine_plans import Plan, Plans, describe_plan, make_plans
from .engines import describe_engine, write_engines
from .golden import make_golden
from .target import check_target, failed_path

TOKENIZER_FILE = "tokenizer.json"
_PACKAGES = ("protoclip", "torch", "open_clip_torch", "timm", "onnx", "onnxscript", "onnxruntime", "numpy")
_IN_EXTRAS = ("nvidia-modelopt", "openvino")

_ALL_THE_SAME = "`--allow-inaccurate` writes it all the same"
_BROKEN = "the weights or the graph are broken"


def export_artifact(
    clip: ClipModel,
    out: Path,
    name: str,
    samples: Samples,
    *,
    opset: int = DEFAULT_OPSET,
    precisions: Sequence[str] = (),
    openvino: Sequence[str] = (),
    calibration: Samples | None = None,
    plans: Plans | None = None,
    detector: GivenDetector | None = None,
    random_weights: bool = False,
    allow_inaccurate: bool = False,
    max_embedded_bytes: int = MAX_EMBEDDED_BYTES,
    largest_batch: int = MAX_BATCH_SIZE,
    progress: Progress = silent,
) -> Manifest:
    """Exports `clip` to the folder `out`, compares it with torch on `samples`, and writes manifest and verdict.

    `out` is replaced only at the very end: an export that fails or is killed leaves an existing artifact
    unchanged. Where the float32 graph fails the gate, the export is kept at `<out>.failed`, without a
    manifest, so that it is not served by mistake; another precision that fails is left out of the
    artifact, and its failures are in `verdict.json`.

    Args:
        name: prefix of the served models' names, `[a-z][a-z0-9_]*`.
        precisions: to write besides fp32. Where there are several, the image encoders' throughput is
            measured, and the fastest engine becomes the default.
        openvino: precisions of OpenVINO engines; the ONNX graphs that they run are written too.
        calibration: pairs for int8_static and fp8, other ones than `samples`.
        plans: TensorRT plans to build from the ONNX engines, each an additional engine. The ONNX engines are
            kept even if their plans fail, and a plan that was not run is never the default.
        detector: says whether pictures are of known kinds; it is served behind the image encoder, and the verdict
            compares its decisions on every engine's embeddings with those on torch's.
        random_weights: the weights are untrained; the verdict says that it proves the graph only.
        allow_inaccurate: keep an engine that fails the gate, marked as failed. Engines whose embeddings, and
            models whose weights, are NaN or infinite are refused all the same.
        max_embedded_bytes: weights larger than this are stored in a file beside the graph.
        largest_batch: the largest that is going to be served, up to which ONNX engines are compared.

    Raises:
        ConfigError: `name`, `opset` or a precision can't be used, here or at all, a precision needs
            `calibration`, `detector` is another model's, or `out` holds something that is not an artifact.
        DataError: a sample can't be used.
        ModelError: the model can't be exported.
        VerdictError: the float32 graph differs from torch by more than the gate allows, or a check of the whole
            artifact fails.
    """
    check_target(out, name, opset)
    in_openvino = check_openvino_engines(openvino)
    graphs = (*precisions, *map(graph_precision, in_openvino), *(plans.precisions if plans else ()))
    wanted = check_precisions(graphs, opset)
    out = Path(out).resolve()
    identity = fingerprint(clip)
    if detector is not None:
        detector.check_model(identity, clip.source, clip.embedding_dim)
    metadata = {"producer": f"protoclip {version('protoclip')}", "model": clip.source, "fingerprint": identity}
    with atomic_path(out) as folder:
        folder.mkdir()
        ir_version = write_engines(
            clip,
            folder,
            wanted,
            None if calibration is None else _calibration(clip, calibration),
            opset=opset,
            metadata=metadata,
            max_embedded_bytes=max_embedded_bytes,
            progress=progress,
        )
        write_text(folder / TOKENIZER_FILE, clip.tokenizer_json)
        judges = None if detector is None else write_detector(detector, folder)
        reference = torch_reference(
            clip, samples, progress, random_weights=random_weights, largest_batch=largest_batch, judges=judges
        )
        tokens = check_tokens(folder / TOKENIZER_FILE, clip.text, clip, samples.texts)
        report, made, opened = _verify(
            reference, folder, wanted, in_openvino, plans, random_weights, allow_inaccurate, progress
        )
        report = report.with_checks(tokens, check_weights(clip))
        write_report(report, folder)
        engines = _keep(report, made, folder, out, allow_inaccurate)
        golden = make_golden(clip, reference, engines, opened)
        manifest = _manifest(clip, folder, name, identity, engines, golden, (opset, ir_version))
        if detector is not None:
            kept = [found for found in report.engines if found.name in {engine.name for engine in engines}]
            manifest = manifest.model_copy(update={"detector": describe_detector(detector, folder, kept)})
        manifest.save(folder)
    return manifest


def write_report(report: Report, folder: Path, stem: str = "verdict") -> None:
    """Writes `<stem>.json` and `<stem>.html` into `folder`."""
    write_text(folder / f"{stem}.json", report.to_json())
    write_text(folder / f"{stem}.html", verdict_page(report))


def _calibration(clip: ClipModel, samples: Samples) -> Calibration:
    tokenizer = Tokenizer(clip.tokenizer_json, clip.text)
    return Calibration(sample_pixels(samples, clip.pixels), sample_tokens(samples, tokenizer))


def _verify(
    reference: Reference,
    folder: Path,
    precisions: Sequence[Precision],
    openvino: Sequence[Precision],
    plans: Plans | None,
    random_weights: bool,
    allow_inaccurate: bool,
    progress: Progress,
) -> tuple[Report, Mapping[str, Plan], Mapping[str, Encoders]]:
    judged = [judge_graphs(reference, folder, precision, progress=progress) for precision in precisions]
    engines = [report for report, _ in judged]
    opened = {report.name: encoders for report, encoders in judged}
    made: dict[str, Plan] = {}
    graphs = _right_graphs(engines, allow_inaccurate)
    for found in judge_openvino_engines(reference, folder, openvino, graphs, progress):
        engines.append(found.report)
        opened |= {found.report.name: found.encoders} if found.encoders is not None else {}
    if plans is not None:
        made = {plan.report.name: plan for plan in make_plans(reference, folder, plans, graphs, progress)}
        engines += [plan.report for plan in made.values()]
        opened |= {name: plan.encoders for name, plan in made.items() if plan.encoders is not None}
    speeds = None
    if len(opened) > 1:
        speeds = _measured(opened, reference.images.real[:MEASURED_BATCH], progress)
        rates = speeds.pictures_per_s
        engines = [replace(engine, pictures_per_s=rates.get(engine.name)) for engine in engines]
    report = make_report(reference, engines, random_weights)
    return replace(report, speeds=None if speeds is None else speeds.described), made, opened


def _right_graphs(engines: Sequence[EngineReport], allow_inaccurate: bool) -> list[str]:
    names = [engine.name for engine in engines if engine.finite and (engine.passed or allow_inaccurate)]
    return names if engine_name("fp32") in names else []


def _measured(opened: Mapping[str, Encoders], pixels: NDArray[np.uint8], progress: Progress) -> Speeds:
    progress("measuring", 0, 1)
    native = {
        name: encoders.image
        for name, encoders in opened.items()
        if encoders.native and (encoders.largest_batch is None or len(pixels) <= encoders.largest_batch)
    }
    return measure_speeds(native, pixels)


def _keep(
    report: Report, made: Mapping[str, Plan], folder: Path, out: Path, allow_inaccurate: bool
) -> tuple[Engine, ...]:
    broken = any((check.name, check.outcome) == (WEIGHTS, "failed") for check in report.checks)
    if broken or (failed_lines(report.checks) and not allow_inaccurate):
        _refuse(report, folder, out, _BROKEN if broken else _ALL_THE_SAME)
    kept = []
    for found in report.engines:
        plan = made.get(found.name)
        # Only a plan can be kept that was built and not run.
        there = found.ran if plan is None else plan.built is not None
        if found.finite and (found.passed or allow_inaccurate) and there:
            kept.append(_describe(report, found, plan, folder))
        elif found.name == engine_name("fp32"):
            _refuse(found, folder, out, _ALL_THE_SAME if found.finite else _BROKEN)
        elif (folder / found.name).exists():
            shutil.rmtree(folder / found.name)
    return tuple(kept)


def _describe(report: Report, found: EngineReport, plan: Plan | None, folder: Path) -> Engine:
    verdict, speed = report.verdict(found), found.pictures_per_s
    if plan is not None:
        return describe_plan(plan, verdict, speed)
    if found.name == openvino_name(found.precision):
        return describe_openvino(folder, found, verdict, speed)
    return describe_engine(folder, found.precision, verdict, speed)


def _refuse(found: EngineReport | Report, folder: Path, out: Path, way_out: str) -> NoReturn:
    failed = failed_path(out)
    with atomic_path(failed) as place:
        shutil.copytree(folder, place)
    raise VerdictError(f"{failure_line(found)}: see {failed / VERDICT_FILE}; {way_out}")


def failure_line(found: EngineReport | Report) -> str:
    """The first failure of an engine, with its name, or of a whole report, and the names of the others."""
    more = f" (failed too: {'; '.join(found.failed_names[1:])})" if len(found.failures) > 1 else ""
    name = f"{found.name}: " if isinstance(found, EngineReport) else ""
    return f"{name}{found.failures[0]}{more}"


def _manifest(
    clip: ClipModel,
    folder: Path,
    name: str,
    identity: str,
    engines: tuple[Engine, ...],
    golden: Golden,
    opset_and_ir: tuple[int, int],
) -> Manifest:
    return Manifest(
        name=name,
        fingerprint=identity,
        source=clip.source,
        embedding_dim=clip.embedding_dim,
        pixels=clip.pixels,
        mean=clip.mean,
        std=clip.std,
        text=clip.text,
        tokenizer_file=TOKENIZER_FILE,
        tokenizer_sha256=sha256_file(folder / TOKENIZER_FILE),
        engines=engines,
        default_engine=fastest_engine(engines),
        temperature=clip.temperature,
        logit_bias=clip.logit_bias,
        probabilities=clip.probabilities,
        opset=opset_and_ir[0],
        ir_version=opset_and_ir[1],
        golden=golden,
        versions={"python": platform.python_version(), **_versions()},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in _PACKAGES}
    for name in _IN_EXTRAS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
