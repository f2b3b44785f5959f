"""OpenVINO engines in an artifact: made, compared, described, verified and evaluated as they are served."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import runner

from export.artifact import export_artifact
from export.engine_openvino import check_openvino_engines
from export.measured_engine import measured_engine
from export.parity.samples import Samples
from export.verify_artifact import verify_artifact
from protoclip.cli.pairs import PairsOptions
from protoclip.client import ArtifactTransport, Client
from protoclip.contract import openvino_encoder
from protoclip.contract.errors import ConfigError
from protoclip.contract.manifest import Manifest, load_manifest
from protoclip.contract.openvino_encoder import computes_bf16, load_openvino
from protoclip.encoders.model import ClipModel

pytestmark = pytest.mark.usefixtures("traced_once")

IN_OPENVINO = ("fp32", "bf16") if computes_bf16() else ("fp32",)


@pytest.fixture(scope="module")
def made(tiny_clip: ClipModel, samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the tiny ViT with all of IN_OPENVINO; nobody may write into it.

    Random weights crowd embeddings, and miss bf16's gate in every runtime.
    """
    folder = tmp_path_factory.mktemp("openvino") / "artifact"
    settings = {"openvino": IN_OPENVINO, "random_weights": True, "allow_inaccurate": True}
    export_artifact(tiny_clip, folder, "tiny", samples, **settings)  # type: ignore[arg-type]
    return folder


def test_engines_run_the_files_of_the_onnx_engine(made: Path) -> None:
    manifest = load_manifest(made)
    assert [engine.name for engine in manifest.engines] == ["onnx_fp32", *(f"openvino_{p}" for p in IN_OPENVINO)]
    onnx = manifest.engine_named("onnx_fp32")
    for precision in IN_OPENVINO:
        engine = manifest.engine_named(f"openvino_{precision}")
        assert (engine.format, engine.precision) == ("openvino", precision)
        assert engine.verdict.passed or precision == "bf16"
        assert engine.inference_precision == {"fp32": "f32", "bf16": "bf16"}[precision]
        assert engine.files() == onnx.files()
        assert engine.pictures_per_s is not None
    assert sorted(path.name for path in made.iterdir() if path.is_dir()) == ["onnx_fp32"]
    assert manifest.versions["openvino"] == load_openvino().__version__.split("-")[0]


def test_the_verdict_is_of_openvino(made: Path) -> None:
    engines = {engine["name"]: engine for engine in json.loads((made / "verdict.json").read_text())["engines"]}
    computed = {"fp32": "f32", "bf16": "bf16"}
    for precision in IN_OPENVINO:
        words = engines[f"openvino_{precision}"]["candidate"]
        assert words.startswith("OpenVINO ")
        assert words.endswith(f"computing in {computed[precision]}")
    differences = {
        name: max(found["max_abs_difference"] for found in engine["image"]["by_batch_size"].values())
        for name, engine in engines.items()
    }
    assert differences["openvino_fp32"] < 1e-5
    assert all(differences[f"openvino_{precision}"] > 1e-5 for precision in IN_OPENVINO if precision == "bf16")


def test_what_is_evaluated_is_what_the_client_runs(made: Path, tiny_clip: ClipModel) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for precision in IN_OPENVINO:
        name = f"openvino_{precision}"
        measured = measured_engine(made, name, tiny_clip).embed_pixels(pixels)
        with Client(transport=ArtifactTransport(made, engine=name)) as client:
            np.testing.assert_allclose(client.embed_images(list(pixels)), measured, atol=1e-6)


def test_it_is_verified_again(made: Path, tiny_clip: ClipModel, samples: Samples) -> None:
    report = verify_artifact(made, tiny_clip, samples)
    assert report.engines[1].passed, report.failures
    assert [(e.not_run, e.candidate[:9]) for e in report.engines[1:]] == [(None, "OpenVINO ")] * len(IN_OPENVINO)
    again = verify_artifact(made, tiny_clip, samples, against=made)
    assert [engine.image.by_batch_size[8].max_abs_difference for engine in again.engines] == [0.0] * len(
        report.engines
    )


def test_an_entry_that_names_another_engines_file_is_found(
    tiny_clip: ClipModel, samples: Samples, tmp_path: Path
) -> None:
    made = tmp_path / "artifact"
    export_artifact(
        *(tiny_clip, made, "tiny", samples), openvino=("fp32",), precisions=("int8",), random_weights=True
    )

    values = load_manifest(made).model_dump()
    engines = {engine["name"]: engine for engine in values["engines"]}
    engines["openvino_fp32"]["text_encoder"] = engines["onnx_int8"]["text_encoder"]
    Manifest.model_validate(values).save(made)
    report = verify_artifact(made, tiny_clip, samples)
    failed = {
        engine.name: {check.name for check in engine.checks if check.outcome == "failed"}
        for engine in report.engines
    }
    assert {"graphs", "text, batch 8"} <= failed["openvino_fp32"]
    assert failed["onnx_fp32"] == failed["onnx_int8"] == set()


def test_weights_beside_the_graph(tiny_clip: ClipModel, samples: Samples, tmp_path: Path) -> None:
    manifest = export_artifact(
        *(tiny_clip, tmp_path / "artifact", "tiny", samples),
        openvino=("fp32",),
        random_weights=True,
        max_embedded_bytes=1000,
    )
    engine = manifest.engine_named("openvino_fp32")
    assert engine.image_encoder.data_file == "onnx_fp32/image.onnx.data"
    assert engine.verdict.passed


def test_int8_static_brings_its_graph(tiny_clip: ClipModel, samples: Samples, tmp_path: Path) -> None:
    manifest = export_artifact(
        *(tiny_clip, tmp_path / "artifact", "tiny", samples),
        openvino=("int8_static",),
        calibration=samples,
        random_weights=True,
        allow_inaccurate=True,
    )
    engine = manifest.engine_named("openvino_int8_static")
    assert engine.files() == manifest.engine_named("onnx_int8_static").files()
    assert (engine.precision, engine.inference_precision) == ("int8_static", "f32")


def test_an_engine_of_another_precision_than_asked_for_is_left_out(
    tiny_clip: ClipModel, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where OpenVINO computes in float32 what was to be bf16, its good numbers prove nothing."""
    ask_for = openvino_encoder._settings
    monkeypatch.setattr(openvino_encoder, "_settings", lambda precision, threads: ask_for("f32", threads))
    monkeypatch.setattr("export.graphs.openvino_runtime.computes_bf16", lambda: True)
    manifest = export_artifact(
        *(tiny_clip, tmp_path / "artifact", "tiny", samples), openvino=("bf16",), allow_inaccurate=True
    )
    assert [engine.name for engine in manifest.engines] == ["onnx_fp32"]
    report = json.loads((tmp_path / "artifact" / "verdict.json").read_text())
    assert "computes in f32, though asked for bf16" in report["engines"][1]["failures"][0]


@pytest.mark.parametrize(
    ("precision", "reason"),
    [
        ("int8", "precision int8 quantizes as it runs, which OpenVINO computes in float32: use int8_static"),
        ("fp8", "precision fp8 is none of OpenVINO's, which are fp32, bf16, int8_static"),
        ("fp4", "precision fp4 is none of OpenVINO's"),
    ],
)
def test_other_precisions_are_refused(precision: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        check_openvino_engines([precision])


def test_a_processor_without_bf16_is_told_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.graphs.openvino_runtime.computes_bf16", lambda: False)
    assert check_openvino_engines(["fp32", "fp32"]) == ("fp32",)
    with pytest.raises(
        ConfigError, match="this processor has no bf16, and OpenVINO would compute in float32: leave"
    ):
        check_openvino_engines(["bf16"])


def test_without_openvino_every_command_names_the_way_out(
    made: Path,
    samples: Samples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(PairsOptions, "samples", lambda self: samples)
    run = runner(monkeypatch, capsys)
    out = tmp_path / "out"
    for arguments in (
        ("export", "ViT-B-32", "--openvino", "bf16", "--out", out),
        ("benchmark", made, "--candidate", "openvino_fp32"),
    ):
        done = run(*arguments)
        (line,) = [line for line in done.err.splitlines() if line.startswith("error:")]
        assert done.code == 2
        assert "pip install" in line
        assert "openvino" in line
    assert not out.exists()


def test_verify_without_openvino_says_what_was_not_run(
    made: Path, tiny_clip: ClipModel, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    report = verify_artifact(made, tiny_clip, samples)
    assert report.engines[0].passed
    assert all(not engine.ran for engine in report.engines[1:])
    assert report.failures[0].startswith("openvino_fp32: not run: OpenVINO engines need the package openvino: pip")
