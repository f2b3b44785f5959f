"""Artifacts with a detector, and detectors for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from export.carried_detector import GivenDetector, describe_detector, write_detector
from protoclip import Client, Detector, fit_detector
from protoclip.contract.manifest import Manifest, load_manifest


def fit_on(artifact: Path, pictures: Sequence[bytes | Image.Image], **options: object) -> Detector:
    """A detector of what `pictures` show, for the artifact's model."""
    with Client(str(artifact)) as client:
        model = client.model
        vectors = client.embed_images(pictures)
    return fit_detector(vectors, fingerprint=model.fingerprint, model=model.prefix, **options)  # type: ignore[arg-type]


def add_detector(artifact: Path, detector: Detector) -> Manifest:
    """Puts the detector into the artifact, without any agreement."""
    file = artifact / "given.detector"
    detector.save(file)
    given = GivenDetector(file, detector)
    write_detector(given, artifact)
    file.unlink()
    manifest = load_manifest(artifact)
    manifest = manifest.model_copy(update={"detector": describe_detector(given, artifact, [])})
    manifest.save(artifact)
    return manifest
