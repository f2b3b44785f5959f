"""Where encoders run, and the batches that they are prepared for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from protoclip.contract.manifest import BatchProfile, Engine, EngineBuild, Precision, load_manifest
from serving.triton.instances import add_instance, add_warmup, usual_batches


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
    add_instance(config, engine.model_copy(update={"precision": precision}))
    kind = ModelInstanceGroup.KIND_CPU if on_cpu else ModelInstanceGroup.KIND_AUTO
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, kind)]


def test_every_usual_batch_is_run_once_before_the_first_request(engine: Engine) -> None:
    config = ModelConfig()
    add_warmup(config, "pixels", 2, [32, 32, 3], (1, 4, 32))
    assert [(warmup.name, warmup.batch_size) for warmup in config.model_warmup] == [
        ("zeros_1", 1),
        ("zeros_4", 4),
        ("zeros_32", 32),
    ]
    assert all(list(warmup.inputs["pixels"].dims) == [32, 32, 3] for warmup in config.model_warmup)
