"""Where encoders run, and the batches that they are prepared for."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from protoclip.client import Client
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.manifest import BatchProfile, Engine, EngineBuild, Precision, load_manifest
from serving.triton.instances import add_cuda_graphs, add_instances, add_warmup, usual_batches
from serving.triton.launcher import TritonServer
from serving.triton.pbtxt import from_pbtxt, to_pbtxt
from serving.triton.repository import write_repository

BLACK = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def engine(tiny_artifact: Path) -> Engine:
    return load_manifest(tiny_artifact).engine


def _plan(engine: Engine, *ranges: tuple[int, int, int]) -> Engine:
    profiles = tuple(BatchProfile(min=low, opt=usual, max=high) for low, usual, high in ranges)
    build = EngineBuild(builder="tensorrt", builder_version="11.4", profiles=profiles, onnx_sha256=("0" * 64,) * 2)
    return engine.model_copy(update={"format": "tensorrt", "build": build})


@pytest.mark.parametrize(
    ("bulk", "most", "sizes"), [(8, 64, (1, 8)), (8, 4, (1, 4)), (1, 64, (1,)), (64, 64, (1, 64))]
)
def test_an_onnx_engine_has_single_requests_and_bulk(
    engine: Engine, bulk: int, most: int, sizes: tuple[int, ...]
) -> None:
    assert usual_batches(engine, bulk, most) == sizes


def test_a_plan_has_those_of_its_profiles(engine: Engine) -> None:
    plan = _plan(engine, (1, 1, 1), (2, 4, 16), (17, 32, 64))
    assert usual_batches(plan, 8, 64) == (1, 4, 32)
    assert usual_batches(plan, 48, 64) == (1, 4, 32, 48)


@pytest.mark.parametrize(
    ("precision", "on_cpu"), [("int8", True), ("fp32", False), ("fp16", False), ("int8_static", False)]
)
def test_no_gpu_gets_what_is_made_for_cpus(engine: Engine, precision: Precision, on_cpu: bool) -> None:
    config = ModelConfig()
    add_instances(config, engine.model_copy(update={"precision": precision}), 3)
    kind = ModelInstanceGroup.KIND_CPU if on_cpu else ModelInstanceGroup.KIND_AUTO
    assert [(group.count, group.kind) for group in config.instance_group] == [(3, kind)]


def test_every_usual_batch_is_run_once_before_the_first_request(engine: Engine) -> None:
    config = ModelConfig()
    add_warmup(config, "pixels", 2, [32, 32, 3], (1, 4, 32))
    assert [(warmup.name, warmup.batch_size) for warmup in config.model_warmup] == [
        ("zeros_1", 1),
        ("zeros_4", 4),
        ("zeros_32", 32),
    ]
    assert all(list(warmup.inputs["pixels"].dims) == [32, 32, 3] for warmup in config.model_warmup)


def test_every_usual_batch_has_a_cuda_graph_of_its_shape() -> None:
    config = ModelConfig()
    add_cuda_graphs(config, "pixels", [32, 32, 3], (1, 4, 32))
    assert config.optimization.cuda.graphs
    found = [(spec.batch_size, list(spec.input["pixels"].dim)) for spec in config.optimization.cuda.graph_spec]
    assert found == [(1, [32, 32, 3]), (4, [32, 32, 3]), (32, [32, 32, 3])]
    # Without a lower bound no graph runs a batch of another size.
    assert not any(spec.HasField("graph_lower_bound") for spec in config.optimization.cuda.graph_spec)


def test_only_plans_have_cuda_graphs(tiny_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="engine onnx_fp32: only TensorRT plans have CUDA graphs"):
        write_repository(tiny_artifact, tmp_path / "models", cuda_graphs=True)
    with pytest.raises(ConfigError, match="encoder_instances=0 is out of range: use 1 to 64"):
        write_repository(tiny_artifact, tmp_path / "models", encoder_instances=0)


def test_a_server_reads_instances_and_graphs(tiny_artifact: Path, tmp_path: Path) -> None:
    """Its binary parses what is written for GPUs; here nothing but a plan's backend would use it."""
    write_repository(tiny_artifact, tmp_path, encoder_threads=1, encoder_instances=3)
    file = tmp_path / "tiny_012345_image_encoder" / "config.pbtxt"
    config = from_pbtxt(file.read_bytes(), "here")
    assert config.instance_group[0].count == 3
    add_cuda_graphs(config, "pixels", [32, 32, 3], (1, 8))
    file.write_bytes(to_pbtxt(config))
    with TritonServer(tmp_path) as server, Client(server.http_url) as client, Client(str(tiny_artifact)) as here:
        np.testing.assert_allclose(client.embed_images(BLACK), here.embed_images(BLACK), atol=1e-6)
        url = f"{server.http_url}/v2/models/tiny_012345_image_encoder/config"
        with urllib.request.urlopen(url, timeout=10) as answer:
            read = json.load(answer)
    assert [spec["batch_size"] for spec in read["optimization"]["cuda"]["graph_spec"]] == [1, 8]
    assert read["instance_group"][0]["count"] == 3
