"""An artifact that was written earlier, compared once more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from protoclip.contract.errors import ModelError
from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import Manifest, load_manifest, manifest_files
from protoclip.model import ClipModel

from .engines import open_engine
from .fingerprint import fingerprint
from .progress import Progress, silent
from .reference import engine_reference, torch_reference
from .report import Report
from .samples import Samples
from .verify import make_report, verify_engine


def verify_artifact(
    folder: Path,
    clip: ClipModel,
    samples: Samples,
    random_weights: bool = False,
    progress: Progress = silent,
    *,
    against: Path | None = None,
) -> Report:
    """Compares an artifact's ONNX engines with the model they were made from.

    Args:
        against: another artifact of the same model, in place of torch: its engines of the same names.

    Raises:
        ModelError: a folder is no artifact, a file was changed since, it was made from another model, or
            `against` lacks an engine.
        DataError: a sample can't be used.
    """
    manifest = _open_artifact(folder, clip)
    other = None if against is None else _open_artifact(against, clip)
    reference = torch_reference(clip, samples, progress)
    found = []
    for engine in manifest.engines:
        if engine.format != "onnx":
            continue
        expected = reference
        if against is not None and other is not None:
            build = open_engine(against, other.engine_named(engine.name).precision)
            expected = engine_reference(reference, build.image, build.text, str(against))
        encoders = open_engine(folder, engine.precision)
        found.append(
            verify_engine(
                expected, encoders, engine.name, engine.precision, pixels=manifest.pixels, progress=progress
            )
        )
    described = reference if against is None else replace(reference, described=f"the engines of {against}")
    return make_report(described, found, random_weights)


def _open_artifact(folder: Path, clip: ClipModel) -> Manifest:
    folder = Path(folder)
    manifest = load_manifest(folder)
    for file, expected in manifest_files(manifest).items():
        if not (folder / file).is_file() or sha256_file(folder / file) != expected:
            raise ModelError(
                f"{folder / file}: missing, or not the file that was exported: export the model again"
            )
    if manifest.fingerprint != fingerprint(clip):
        raise ModelError(
            f"{folder}: was made from {manifest.source} with other weights or settings than {clip.source}"
        )
    return manifest
