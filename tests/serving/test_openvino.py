"""OpenVINO engines in the repository and in a real Triton: the same rows as without a server."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from protoclip.client import ArtifactTransport, Client
from protoclip.contract.errors import ServerError
from protoclip.contract.manifest import Engine, Manifest, load_manifest
from protoclip.contract.openvino_encoder import computes_bf16
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.pbtxt import from_pbtxt, to_pbtxt
from serving.triton.repository import SOURCES, write_repository

COMPUTED = {"fp32": "f32", "bf16": "bf16", "int8_static": "f32"}
SERVED = "bf16" if computes_bf16() else "fp32"
PREFIX = f"tiny_012345_openvino_{SERVED}"
ENCODERS = ("image", "text")


@pytest.fixture(scope="module")
def artifact(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifact with an engine `openvino_fp32` and one `openvino_bf16`."""
    folder = tmp_path_factory.mktemp("openvino") / "artifact"
    shutil.copytree(tiny_artifact, folder)
    manifest = load_manifest(folder)
    fields = [
        {"name": f"openvino_{precision}", "precision": precision, "inference_precision": COMPUTED[precision]}
        for precision in ("fp32", "bf16")
    ]
    made = [Engine(**(manifest.engine.model_dump() | own | {"format": "openvino"})) for own in fields]
    changed = manifest.model_copy(update={"engines": (manifest.engine, *made)})
    Manifest.model_validate(changed.model_dump()).save(folder)
    return folder


@pytest.fixture(scope="module")
def repository(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openvino") / "repository"
    write_repository(artifact, folder, engine=f"openvino_{SERVED}", encoder_threads=1)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[LaunchedServer]:
    with TritonServer(repository) as launched:
        yield launched


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_is_a_python_model_around_the_graph(artifact: Path, repository: Path, kind: str) -> None:
    folder = repository / f"{PREFIX}_{kind}_encoder"
    names = [path.name for path in (folder / "1").iterdir()]
    assert sorted(names) == ["given_up.py", "model.onnx", "model.py", "openvino_encoder.py"]
    assert (folder / "1" / "model.onnx").read_bytes() == (artifact / f"{kind}.onnx").read_bytes()
    assert (folder / "1" / "model.py").read_bytes() == (SOURCES / "openvino_encoder" / "model.py").read_bytes()
    shared = (files("protoclip.contract") / "openvino_encoder.py").read_bytes()
    assert (folder / "1" / "openvino_encoder.py").read_bytes() == shared


def test_its_configuration_says_what_it_computes_in(repository: Path, tiny_repository: Path) -> None:
    read = [
        from_pbtxt((folder / "config.pbtxt").read_bytes(), "here")
        for folder in (repository / f"{PREFIX}_image_encoder", tiny_repository / "tiny_012345_image_encoder")
    ]
    found, onnx = read
    assert (found.backend, found.platform, found.instance_group[0].kind) == ("python", "", 2)
    assert found.parameters["inference_precision"].string_value == COMPUTED[SERVED]
    assert found.parameters["inference_num_threads"].string_value == "1"
    assert list(found.input) == list(onnx.input)
    assert list(found.output) == list(onnx.output)
    assert found.dynamic_batching == onnx.dynamic_batching
    assert not found.model_warmup


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_served_rows_are_those_of_the_artifact(
    artifact: Path, server: LaunchedServer, tiny_artifact: Path, protocol: str
) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 256, (70, 40, 30, 3), dtype=np.uint8))
    texts = [f"shoe number {number}" for number in range(70)]
    url = server.grpc_url if protocol == "grpc" else server.http_url
    with (
        Client(url) as served,
        Client(transport=ArtifactTransport(artifact, engine=f"openvino_{SERVED}")) as alone,
        Client(str(tiny_artifact)) as onnx,
    ):
        assert served.model.precision == SERVED
        np.testing.assert_allclose(served.embed_images(pictures), alone.embed_images(pictures), atol=1e-6)
        np.testing.assert_allclose(served.embed_texts(texts), alone.embed_texts(texts), atol=1e-6)
        if SERVED == "bf16":
            assert np.abs(served.embed_images(pictures) - onnx.embed_images(pictures)).max() > 1e-5


def _changed(repository: Path, folder: Path, **parameters: str) -> Path:
    shutil.copytree(repository, folder)
    file = folder / f"{PREFIX}_text_encoder" / "config.pbtxt"
    config = from_pbtxt(file.read_bytes(), "here")
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    file.write_bytes(to_pbtxt(config))
    return folder


def test_a_server_that_computes_in_another_precision_does_not_start(repository: Path, tmp_path: Path) -> None:
    changed = _changed(repository, tmp_path / "repository", inference_precision="f16")
    with (
        pytest.raises(ServerError, match=r"text_encoder'.*.*computes in b?f\d\d, though asked for f16"),
        TritonServer(changed, names=[f"{PREFIX}_text"]),
    ):
        pass


def test_without_openvino_the_embedded_server_names_the_way_out(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with (
        pytest.raises(ServerError, match=r"_image_encoder runs in OpenVINO.*: pip install .*onnx_fp32"),
        TritonServer(repository),
    ):
        pass
