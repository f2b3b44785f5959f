"""Artifacts of the same name as another one, and of another model."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from protoclip import Client
from protoclip.contract.golden import TEXTS, Golden, GoldenBound, GoldenVectors, golden, golden_pictures
from protoclip.contract.manifest import Manifest, load_manifest


def other_artifact(source: Path, folder: Path, fingerprint: str) -> Path:
    """`source` with other weights, which follow from the fingerprint."""
    shutil.copytree(source, folder)
    rng = np.random.default_rng(int(fingerprint, 16))
    for name in ("image.onnx", "text.onnx"):
        graph = onnx.load(folder / name)
        for tensor in graph.graph.initializer:
            if tensor.name == "matrix":
                changed = rng.standard_normal(numpy_helper.to_array(tensor).shape).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(changed, "matrix"))
        onnx.save(graph, folder / name)
    resign(folder, fingerprint=fingerprint)
    return folder


def resign(folder: Path, **fields: object) -> Manifest:
    """Writes the manifest anew, for the files as they are now and with other fields."""
    manifest = load_manifest(folder)
    engine = manifest.engine
    files = {
        name: encoder.model_copy(
            update={"sha256": hashlib.sha256((folder / encoder.file).read_bytes()).hexdigest()}
        )
        for name, encoder in (("image_encoder", engine.image_encoder), ("text_encoder", engine.text_encoder))
    }
    manifest = manifest.model_copy(update={"engines": (engine.model_copy(update=files),), **fields})
    manifest.save(folder)
    return manifest


def add_golden(folder: Path) -> Golden:
    """Adds golden vectors by the artifact's engine, as an export does by torch."""
    with Client(str(folder)) as client:
        image = client.embed_images(golden_pictures())
        text = client.embed_texts(list(TEXTS))
    made = golden(
        golden_pictures(),
        GoldenVectors.of(image, image.mean(axis=0)),
        GoldenVectors.of(text, text.mean(axis=0)),
    )
    bounds = {"onnx_fp32": GoldenBound(max_abs_difference=1e-5)}
    resign(folder, golden=made.model_copy(update={"bounds": bounds}))
    return made


def fail_verdict(folder: Path) -> None:
    """Writes the manifest anew, as an export with --allow-inaccurate does of an engine that misses its gate."""
    manifest = load_manifest(folder)
    engine = manifest.engine
    verdict = engine.verdict.model_copy(update={"passed": False})
    manifest.model_copy(update={"engines": (engine.model_copy(update={"verdict": verdict}),)}).save(folder)
