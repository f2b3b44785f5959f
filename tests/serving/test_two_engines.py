"""Two engines of one artifact on one server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protoclip.client import Client
from protoclip.contract.errors import ConfigError
from protoclip.contract.manifest import load_manifest
from serving.triton.catalog import find_models
from serving.triton.launcher import TritonServer
from serving.triton.repository import write_repository


def test_engines_of_one_artifact_are_served_side_by_side(
    write_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = write_artifact(tmp_path / "artifact")
    manifest = load_manifest(artifact)
    other = manifest.engine.model_copy(update={"name": "onnx_other"})
    manifest.model_copy(update={"engines": (manifest.engine, other)}).save(artifact)
    repository = tmp_path / "repository"
    plain = write_repository(artifact, repository, encoder_threads=1)
    named = write_repository(artifact, repository, engine="onnx_other", encoder_threads=1)
    assert (plain[0], named[0]) == ("tiny_012345_image", "tiny_012345_onnx_other_image")
    assert len({path.name for path in repository.iterdir()}) == 12
    assert len(find_models(repository, ["tiny_012345"])) == 4
    assert len(find_models(repository, ["tiny_012345_onnx_other"])) == 2
    with TritonServer(repository) as server:
        with Client(server.grpc_url, model="tiny_012345") as client:
            assert client.model.engine == "onnx_fp32"
            vector = client.embed_texts("red")
        with Client(server.http_url, model="tiny_012345_onnx_other") as client:
            assert (client.model.name, client.model.engine) == ("tiny", "onnx_other")
            np.testing.assert_allclose(client.embed_texts("red"), vector, atol=1e-6)
        with (
            Client(server.grpc_url) as client,
            pytest.raises(ConfigError, match="tiny_012345, tiny_012345_onnx_other"),
        ):
            _ = client.model
