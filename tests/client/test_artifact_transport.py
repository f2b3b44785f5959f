"""An artifact without a server: which engine runs, and files that are not the exported ones."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protoclip.client import ArtifactTransport, Client
from protoclip.contract import openvino_encoder
from protoclip.contract.errors import ConfigError, ModelError, ServerError
from protoclip.contract.manifest import Engine, Manifest, load_manifest
from protoclip.contract.openvino_encoder import computes_bf16


def _with_engines(artifact: Path, folder: Path, default: str, *changes: dict[str, object]) -> Path:
    """A copy of `artifact` with its engine once more for each of `changes`."""
    shutil.copytree(artifact, folder)
    manifest = load_manifest(folder)
    fields = [manifest.engine.model_dump() | change for change in changes]
    engines = tuple(Engine.model_validate(field) for field in fields)
    changed = manifest.model_copy(update={"engines": engines, "default_engine": default})
    Manifest.model_validate(changed.model_dump()).save(folder)
    return folder


def _engine(name: str, precision: str, speed: float | None = None) -> dict[str, object]:
    return {"name": name, "precision": precision, "pictures_per_s": speed}


def test_the_default_engine_runs_unless_another_is_named(tiny_artifact: Path, tmp_path: Path) -> None:
    engines = _engine("onnx_fp32", "fp32", 1.0), _engine("onnx_int8", "int8", 2.0)
    folder = _with_engines(tiny_artifact, tmp_path / "two", "onnx_int8", *engines)
    with Client(str(folder)) as client:
        assert client.model.precision == "int8"
        assert client.url == str(folder)
    with Client(transport=ArtifactTransport(folder, engine="onnx_fp32")) as client:
        assert client.model.precision == "fp32"


def test_where_the_default_needs_a_gpu_the_fastest_other_one_runs(tiny_artifact: Path, tmp_path: Path) -> None:
    engines = (
        _engine("onnx_fp32", "fp32", 1.0),
        _engine("onnx_int8", "int8", 2.0),
        _engine("onnx_bf16", "bf16", 9.0),
    )
    folder = _with_engines(tiny_artifact, tmp_path / "three", "onnx_bf16", *engines)
    with Client(str(folder)) as client:
        assert client.model.precision == "int8"
    with pytest.raises(ModelError, match="engine onnx_bf16 does not run on a CPU"):
        ArtifactTransport(folder, engine="onnx_bf16")
    alone = _with_engines(tiny_artifact, tmp_path / "alone", "onnx_bf16", engines[2])
    with pytest.raises(ModelError, match="no engine of this artifact runs on a CPU"):
        ArtifactTransport(alone)


def _openvino(precision: str, computes: str) -> dict[str, object]:
    name = f"openvino_{precision}"
    return {"name": name, "format": "openvino", "precision": precision, "inference_precision": computes}


@pytest.fixture
def in_openvino(tiny_artifact: Path, tmp_path: Path) -> Path:
    """An artifact whose default engine is `openvino_fp32`."""
    engines = (_engine("onnx_fp32", "fp32"), _openvino("fp32", "f32"), _openvino("bf16", "bf16"))
    return _with_engines(tiny_artifact, tmp_path / "openvino", "openvino_fp32", *engines)


def test_an_openvino_engine_gives_what_the_graph_gives(tiny_artifact: Path, in_openvino: Path) -> None:
    picture, texts = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8), ["a shoe", "a cat"]
    with Client(str(tiny_artifact)) as onnx, Client(str(in_openvino)) as client:
        assert client.model.precision == "fp32"
        np.testing.assert_allclose(client.embed_images(picture), onnx.embed_images(picture), atol=1e-5)
        np.testing.assert_allclose(client.embed_texts(texts), onnx.embed_texts(texts), atol=1e-5)
        assert "protoclip.client.openvino_session" in sys.modules


@pytest.mark.skipif(not computes_bf16(), reason="this processor has no bf16; the refusal is tested then")
def test_an_openvino_engine_in_bf16(tiny_artifact: Path, in_openvino: Path) -> None:
    with (
        Client(str(tiny_artifact)) as onnx,
        Client(transport=ArtifactTransport(in_openvino, engine="openvino_bf16")) as client,
    ):
        assert client.model.precision == "bf16"
        difference = np.abs(client.embed_texts(["a shoe"]) - onnx.embed_texts(["a shoe"])).max()
        assert 1e-5 < difference < 2e-2


def test_without_openvino_the_way_out_is_named(in_openvino: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with Client(str(in_openvino)) as client:
        with pytest.raises(ConfigError, match="engine openvino_fp32 runs in OpenVINO: pip install ") as caught:
            client.embed_texts("a shoe")
        assert "ArtifactTransport(folder, engine='onnx_fp32')" in str(caught.value)
    with Client(transport=ArtifactTransport(in_openvino, engine="onnx_fp32")) as client:
        client.embed_texts("a shoe")


def test_a_processor_without_bf16_is_refused(in_openvino: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_for = openvino_encoder._settings
    monkeypatch.setattr(openvino_encoder, "_settings", lambda precision, threads: ask_for("f32", threads))
    with (
        Client(transport=ArtifactTransport(in_openvino, engine="openvino_bf16")) as client,
        pytest.raises(ModelError, match=r"engine openvino_bf16: text\.onnx: .* computes in f32, though asked"),
    ):
        client.embed_texts("a shoe")


def test_a_failed_verdict_is_told(
    write_artifact: Callable[..., Path], tiny_artifact: Path, tmp_path: Path
) -> None:
    failed = load_manifest(tiny_artifact).engine.verdict.model_copy(update={"passed": False})
    with Client(str(write_artifact(tmp_path / "doubtful", verdict=failed))) as client:
        assert client.model.verdict == "failed"


@pytest.mark.parametrize("format_", ["onnx", "openvino"])
@pytest.mark.parametrize("file", ["image.onnx", "text.onnx", "tokenizer.json"])
def test_files_that_are_not_the_exported_ones_are_refused(
    tiny_artifact: Path, in_openvino: Path, tmp_path: Path, file: str, format_: str
) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(tiny_artifact if format_ == "onnx" else in_openvino, folder)
    with open(folder / file, "ab") as stream:
        stream.write(b" ")
    with Client(str(folder)) as client:
        encode = client.embed_images if file == "image.onnx" else client.embed_texts
        item = np.zeros((8, 8, 3), dtype=np.uint8) if file == "image.onnx" else "a shoe"
        with pytest.raises(ModelError, match=f"{file}: missing, or not the file that was exported"):
            encode(item)  # type: ignore[arg-type]


def test_a_graph_that_the_runtime_refuses_is_one_line(
    write_artifact: Callable[..., Path], tiny_artifact: Path, tmp_path: Path
) -> None:
    from hashlib import sha256

    folder = tmp_path / "artifact"
    shutil.copytree(tiny_artifact, folder)
    (folder / "text.onnx").write_bytes(b"no graph")
    manifest = load_manifest(folder)
    text = manifest.engine.text_encoder.model_copy(update={"sha256": sha256(b"no graph").hexdigest()})
    engine = manifest.engine.model_copy(update={"text_encoder": text})
    manifest.model_copy(update={"engines": (engine,)}).save(folder)
    with (
        Client(str(folder)) as client,
        pytest.raises(ModelError, match=r"text.onnx: ONNX Runtime .* can't load it"),
    ):
        client.embed_texts("a shoe")


def test_a_folder_that_is_no_artifact_and_an_address_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no manifest.json here"):
        Client(str(tmp_path))
    with pytest.raises(ConfigError, match="or an artifact's folder"):
        Client(str(tmp_path / "missing"))


def test_a_closed_one_says_so(tiny_artifact: Path) -> None:
    transport = ArtifactTransport(tiny_artifact)
    transport.close()
    transport.close()
    with pytest.raises(ServerError, match="the client is closed"):
        transport.infer("tiny_012345_text", "text", [b"a shoe"], None)
