"""Where an encoder runs, at which batches, and its first runs."""

from __future__ import annotations

from collections.abc import Sequence

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from protoclip.contract.manifest import Engine

INSTANCES = 2
"""Of every model with a queue, at least.

As its sources read, Triton 2.51 wakes what makes batches a moment before the instance that has computed one counts
as free. Where a queue has priorities, a length or a time-out, what waits then waits on until another instance is
done, another request comes, or half a second is over: behind a single instance, often until then
(`benchmarks/batcher_stalls.py`).
"""
_FOR_CPUS = frozenset({"int8"})
"""Precisions of ONNX engines that are made for CPUs: a GPU runs their operators one by one, or not at all."""


def usual_batches(engine: Engine, bulk_batch_size: int, max_batch_size: int) -> tuple[int, ...]:
    """Sizes of batches that are served most, ascending, from 1 to that of bulk requests.

    Of a plan also what its profiles are optimised for: a GPU computes many as fast as few.
    """
    profiles = () if engine.build is None else engine.build.profiles
    bulk = max([bulk_batch_size, *(profile.opt for profile in profiles)])
    sizes = {1, bulk, *(profile.opt for profile in profiles)}
    return tuple(sorted({min(size, max_batch_size) for size in sizes}))


def add_instances(config: ModelConfig, engine: Engine, count: int = INSTANCES) -> None:
    """Instances of an engine, `count` on every GPU that Triton finds, or on the CPU.

    An ONNX engine that is made for CPUs stays there.
    """
    instance = config.instance_group.add(count=count)
    if engine.format == "openvino" or (engine.format == "onnx" and engine.precision in _FOR_CPUS):
        instance.kind = ModelInstanceGroup.KIND_CPU
    if engine.format != "tensorrt":
        return
    instance.kind = ModelInstanceGroup.KIND_GPU
    profiles = () if engine.build is None else engine.build.profiles
    if len(profiles) > 1:
        # Without a list Triton uses the first profile only.
        instance.profile.extend(str(place) for place in range(len(profiles)))


def add_warmup(
    config: ModelConfig, name: str, data_type: int, dims: Sequence[int], batches: Sequence[int]
) -> None:
    """A run of zeros at each batch: the first one of a size allocates memory and, on a GPU, chooses kernels."""
    for size in batches:
        warmup = config.model_warmup.add(name=f"zeros_{size}", batch_size=size)
        tensor = warmup.inputs[name]
        tensor.data_type = data_type
        tensor.dims.extend(dims)
        tensor.zero_data = True


def add_cuda_graphs(config: ModelConfig, name: str, dims: Sequence[int], batches: Sequence[int]) -> None:
    """A CUDA graph for each batch, which starts all kernels of a run at once; other batches run as ever."""
    cuda = config.optimization.cuda
    cuda.graphs = True
    for size in batches:
        cuda.graph_spec.add(batch_size=size).input[name].dim.extend(dims)
