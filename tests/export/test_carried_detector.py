"""A detector in an artifact: its files, the verdict on it in every precision, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.artifact import export_artifact
from export.carried_detector import FILE, GRAPH_FILE, open_detector, write_detector
from export.parity.detector_agreement import Agreement, Judges, agreement, detector_check
from export.parity.samples import Samples
from export.parity.verdict_page import verdict_page
from export.verify_artifact import verify_artifact
from protoclip import Detector, fit_detector
from protoclip.client import Client
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import load_manifest, manifest_files


@pytest.fixture(scope="module")
def detector(exported_vit: Any, samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that knows half of the samples."""
    with Client(str(exported_vit.folder)) as client:
        vectors = client.embed_images(samples.pictures)
        fingerprint = client.model.fingerprint
    file = tmp_path_factory.mktemp("detector") / "shop.detector"
    noise = np.random.default_rng(0).normal(size=(60, vectors.shape[1])) * vectors.std()
    known = np.repeat(vectors, 3, axis=0) + noise
    made = fit_detector(known, kind="mahalanobis", accept=0.5, fingerprint=fingerprint, model="tiny")
    middle = float(np.sort(made.score(vectors))[9:11].mean())
    replace(made, maybe_threshold=replace(made.threshold, value=middle)).save(file)
    return file


@pytest.fixture(scope="module")
def carrying(
    exported_vit: Any, samples: Samples, detector: Path, tmp_path_factory: pytest.TempPathFactory, traces: Any
) -> Path:
    """An artifact with it, in float32 and int8."""
    folder = tmp_path_factory.mktemp("carrying") / "artifact"
    given = open_detector(detector)
    with traces():
        export_artifact(
            exported_vit.clip, folder, "tiny", samples, precisions=["int8"], detector=given, random_weights=True
        )
    return folder


def test_the_artifact_holds_the_detector_and_the_manifest_its_hash_and_agreement(
    carrying: Path, detector: Path
) -> None:
    manifest = load_manifest(carrying)
    carried = manifest.detector
    assert carried is not None
    assert (carrying / FILE).read_bytes() == detector.read_bytes()
    assert carried.files() == {FILE: sha256_file(carrying / FILE), GRAPH_FILE: sha256_file(carrying / GRAPH_FILE)}
    assert carried.files().items() <= manifest_files(manifest).items()
    opened = Detector.open(carrying / FILE)
    assert (carried.kind, carried.threshold) == ("mahalanobis", opened.threshold.value)
    assert set(carried.agreement) == {engine.name for engine in manifest.engines} >= {"onnx_fp32"}
    exact = carried.agreement["onnx_fp32"]
    assert (exact.num_pictures, exact.same_known) == (20, 1.0)
    assert exact.max_score_difference < 1e-2


def test_the_verdict_says_how_alike_every_precision_decides(carrying: Path) -> None:
    report = json.loads((carrying / "verdict.json").read_text())
    found = {engine["name"]: engine for engine in report["engines"]}
    assert set(found) == {"onnx_fp32", "onnx_int8"}
    for engine in found.values():
        assert engine["detector"]["known"][0] == 0.5
        assert "detector" in [check["name"] for check in engine["checks"]]
    assert found["onnx_int8"]["detector"]["max_score_difference"] > 0
    assert "20 pictures" in (carrying / "verdict.html").read_text()


def test_a_manifest_without_a_detector_is_as_earlier_versions_wrote_it(exported_vit: Any) -> None:
    assert "detector" not in json.loads((exported_vit.folder / "manifest.json").read_text())


def test_a_later_check_judges_again_and_sees_changes(
    carrying: Path, exported_vit: Any, samples: Samples, tmp_path: Path
) -> None:
    copy = shutil.copytree(carrying, tmp_path / "copy")
    report = verify_artifact(copy, exported_vit.clip, samples, True)
    assert report.engines[0].detector == replace(report.engines[0].detector, same_known=1.0)
    assert "of a known kind, of 20 pictures" in verdict_page(report)
    manifest = load_manifest(copy)
    assert manifest.detector is not None
    other = manifest.detector.model_copy(update={"threshold": 1.0})
    manifest.model_copy(update={"detector": other}).save(copy)
    with pytest.raises(ModelError, match=r"known\.detector: not the detector that the manifest speaks of"):
        verify_artifact(copy, exported_vit.clip, samples, True)
    (copy / GRAPH_FILE).write_bytes(b"other")
    with pytest.raises(ModelError, match=r"detector\.onnx: missing, or not the file that was exported"):
        verify_artifact(copy, exported_vit.clip, samples, True)


def test_a_detector_that_does_not_fit_is_refused_before_any_work(
    exported_vit: Any, samples: Samples, detector: Path, tmp_path: Path
) -> None:
    known = np.random.default_rng(0).normal(size=(100, 24))
    cases = [
        (fit_detector(known, fingerprint="fedcba", model="other"), "is for embeddings by other"),
        (fit_detector(known[:, :8], fingerprint=exported_vit.manifest.fingerprint), "a detector of 8 dimensions"),
    ]
    for made, line in cases:
        made.save(tmp_path / "other.detector")
        given = open_detector(tmp_path / "other.detector")
        with pytest.raises(ConfigError, match=rf"other\.detector: .*{line}|other\.detector: {line}"):
            export_artifact(exported_vit.clip, tmp_path / "out", "tiny", samples, detector=given)
    replace(fit_detector(known), maybe_threshold=None).save(tmp_path / "open.detector")
    with pytest.raises(ConfigError, match=r"open\.detector: .* has no threshold: set one by an index of them"):
        open_detector(tmp_path / "open.detector")
    (tmp_path / "torn.detector").write_bytes(detector.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"torn\.detector: can't be read as a detector"):
        open_detector(tmp_path / "torn.detector")
    assert not (tmp_path / "out").exists()


def test_a_file_that_changed_since_it_was_read_is_not_carried_under_the_old_threshold(tmp_path: Path) -> None:
    known = np.random.default_rng(0).normal(size=(100, 8))
    fit_detector(known).save(tmp_path / "shop.detector")
    given = open_detector(tmp_path / "shop.detector")
    fit_detector(known, accept=0.6).save(tmp_path / "shop.detector")
    with pytest.raises(
        ConfigError, match=r"shop\.detector: has changed since it was read: export the model again"
    ):
        write_detector(given, tmp_path)


def test_decisions_are_counted_on_both_sides() -> None:
    def score(vectors: np.ndarray) -> np.ndarray:
        return vectors[:, 0].astype(np.float64)

    rows = np.linspace(0, 1, 101, dtype=np.float32)[:, None]
    judges = Judges(score, 0.495, lambda vectors: (vectors[:, 0] >= 0.495, vectors[:, 0]))
    assert agreement(judges, rows, rows) == Agreement(101, 1.0, (51 / 101, 51 / 101), 0.0)
    moved = agreement(judges, rows, rows - np.float32(0.03))
    assert (moved.num_changed, moved.known) == (3, (51 / 101, 48 / 101))
    assert moved.max_score_difference == pytest.approx(0.03, abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "precision", "random_weights", "outcome"),
    [
        (1, "fp32", False, "passed"),
        (2, "fp32", False, "failed"),
        (2, "fp32", True, "failed"),
        (2, "bf16", False, "passed"),
        (3, "fp16", False, "failed"),
        (12, "int8", False, "passed"),
        (13, "int8", False, "failed"),
        (13, "int8", True, "not checked"),
    ],
)
def test_the_gate(changed: int, precision: Any, random_weights: bool, outcome: str) -> None:
    found = Agreement(256, 1 - changed / 256, (0.9, 0.9), 0.1)
    check = detector_check(found, precision, random_weights)
    assert (check.name, check.outcome) == ("detector", outcome)
    if outcome == "failed":
        assert check.explanation.startswith(f"{changed} of 256 pictures are judged otherwise than by torch's")
