"""Compares an existing artifact with its model again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from export.graphs.fingerprint import fingerprint
from export.graphs.precision import engine_name
from export.parity.manifest_fields import check_fields
from export.parity.recorded_verdicts import check_verdicts
from export.parity.reference import Reference, engine_reference, torch_reference
from export.parity.report import EngineReport, Report, unseen_report
from export.parity.samples import Samples
from export.parity.tokens import check_tokens
from export.parity.verify import make_report
from export.parity.weights import check_weights
from export.plans.package import load_builder
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.manifest import Engine, Manifest, check_files, load_manifest, manifest_files
from protoclip.contract.progress import Progress, silent
from protoclip.contract.served_parameters import MAX_BATCH_SIZE
from protoclip.encoders.model import ClipModel
from protoclip.encoders.registry import first_line

from .carried_detector import open_carried
from .engine_graphs import judge_graphs
from .engine_plans import PlanOpener, judge_plans, open_on_gpu
from .listed_engines import check_graphs, open_listed


def verify_artifact(
    folder: Path,
    clip: ClipModel,
    samples: Samples,
    random_weights: bool = False,
    progress: Progress = silent,
    *,
    against: Path | None = None,
    largest_batch: int = MAX_BATCH_SIZE,
    opener: PlanOpener = open_on_gpu,
) -> Report:
    """Compares an artifact's engines with the model they were made from.

    An engine that can't be run here, a plan without a GPU or its builder, or one of OpenVINO without OpenVINO or
    bf16, has a report that says so and fails.

    Args:
        against: another artifact of the same model, instead of torch: its engines of the same names, and for
            plans its ONNX engines of the same precisions.
        largest_batch: the largest that is served, up to which engines are compared; plans to what they take.
        opener: opens plans.

    Raises:
        ModelError: a folder is no artifact, a file was changed since, it was made from another model, or
            `against` lacks an engine.
        ConfigError: an OpenVINO engine of `against` can't be run here.
        DataError: a sample can't be used.
    """
    manifest = open_artifact(folder, clip)
    other = None if against is None else open_artifact(against, clip)
    judges = None
    if manifest.detector is not None:
        judges = open_carried(Path(folder), manifest.detector, manifest.fingerprint)
    reference = torch_reference(
        clip, samples, progress, random_weights=random_weights, largest_batch=largest_batch, judges=judges
    )
    found = []
    for engine in manifest.engines:
        expected = reference
        if against is not None and other is not None:
            build = open_listed(against, other.engine_named(_graph_of(engine)))
            expected = engine_reference(reference, build.image, build.text, str(against))
        found.append(_verify(expected, folder, engine, manifest, opener, progress))
    described = reference if against is None else replace(reference, described=f"the engines of {against}")
    tokens = check_tokens(Path(folder) / manifest.tokenizer_file, manifest.text, clip, samples.texts)
    checks = [*check_fields(manifest, clip), tokens, check_weights(clip), check_verdicts(folder, manifest)]
    return make_report(described, found, random_weights, checks)


def _graph_of(engine: Engine) -> str:
    return engine.name if engine.format in ("onnx", "openvino") else engine_name(engine.precision)


def _verify(
    expected: Reference, folder: Path, engine: Engine, manifest: Manifest, opener: PlanOpener, progress: Progress
) -> EngineReport:
    if engine.format == "onnx" or engine.format == "openvino":
        return _verify_graphs(expected, Path(folder), engine, manifest, progress)
    if engine.build is None:
        why = "not run: the manifest does not say how it was built: export the model again"
        return unseen_report(engine.name, engine.precision, engine.format, why)
    try:
        builder = load_builder(engine.format)
    except ConfigError as error:
        return unseen_report(engine.name, engine.precision, engine.format, f"not run: {error}")
    report, _ = judge_plans(
        expected,
        Path(folder) / engine.name,
        engine.precision,
        engine.build.profiles,
        builder,
        files=(Path(folder) / engine.image_encoder.file, Path(folder) / engine.text_encoder.file),
        pixels=manifest.pixels,
        opener=opener,
        progress=progress,
    )
    return report


def _verify_graphs(
    expected: Reference, folder: Path, engine: Engine, manifest: Manifest, progress: Progress
) -> EngineReport:
    graphs = check_graphs(folder, engine, manifest)
    try:
        report, _ = judge_graphs(
            expected, folder, engine.precision, listed=engine, pixels=manifest.pixels, progress=progress
        )
    except ConfigError as error:  # no OpenVINO, or a processor without bf16
        report = unseen_report(engine.name, engine.precision, engine.format, f"not run: {error}")
    except (ModelError, ValueError) as error:  # other names or shapes, or pixels that refuse every picture
        report = unseen_report(engine.name, engine.precision, engine.format, f"not run: {first_line(error)}")
    return report.with_checks(graphs)


def open_artifact(folder: Path, clip: ClipModel | None) -> Manifest:
    """The manifest of an artifact, after checking that its files are unchanged since the export.

    Without `clip` it isn't asked what they were made from.

    Raises:
        ModelError: no artifact, a file was changed since, or it was made from another model than `clip`.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    check_files(folder, manifest_files(manifest))
    if clip is not None and manifest.fingerprint != fingerprint(clip):
        raise ModelError(
            f"{folder}: was made from {manifest.source} with other weights or settings than {clip.source}"
        )
    return manifest
