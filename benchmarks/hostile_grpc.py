"""Odd gRPC calls for a server, each a function of its random numbers. `benchmarks/fuzz_server.py` makes them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from hostile_http import DATATYPES, PARAMETERS, SHAPES, picture
from tritonclient.grpc import service_pb2

SERVICE = "/inference.GRPCInferenceService/"
OTHERS: dict[str, Callable[[str], Any]] = {
    "ServerReady": lambda name: service_pb2.ServerReadyRequest(),
    "ModelReady": lambda name: service_pb2.ModelReadyRequest(name=name, version="-1"),
    "ModelConfig": lambda name: service_pb2.ModelConfigRequest(name=name),
    "ModelMetadata": lambda name: service_pb2.ModelMetadataRequest(name=name, version="x"),
    "ModelStatistics": lambda name: service_pb2.ModelStatisticsRequest(name=name),
    "RepositoryIndex": lambda name: service_pb2.RepositoryIndexRequest(repository_name=name),
    "RepositoryModelLoad": lambda name: service_pb2.RepositoryModelLoadRequest(model_name=name),
    "RepositoryModelUnload": lambda name: service_pb2.RepositoryModelUnloadRequest(model_name=name),
    "SystemSharedMemoryStatus": lambda name: service_pb2.SystemSharedMemoryStatusRequest(),
    "SystemSharedMemoryRegister": lambda name: service_pb2.SystemSharedMemoryRegisterRequest(
        name=name, key="/x", byte_size=2**40
    ),
    "TraceSetting": lambda name: service_pb2.TraceSettingRequest(model_name=name),
    "LogSettings": lambda name: service_pb2.LogSettingsRequest(),
    "Nothing": lambda name: service_pb2.ServerLiveRequest(),
}


@dataclass(frozen=True)
class Call:
    """One call: `messages` are sent to `method`, one by one where it streams."""

    kind: str
    method: str
    messages: list[bytes]
    timeout_s: float
    streams: bool = False
    compressed: bool = False


def _parameter(rng: random.Random) -> Any:
    value = service_pb2.InferParameter()
    kind = rng.choice(["int64_param", "bool_param", "string_param", "double_param", "uint64_param"])
    values: dict[str, list[Any]] = {
        "int64_param": [0, 1, -1, 3, 2**40, -(2**63)],
        "bool_param": [True, False],
        "string_param": ["", "a", "x" * 2000],
        "double_param": [0.0, float("nan")],
        "uint64_param": [0, 2**64 - 1],
    }
    setattr(value, kind, rng.choice(values[kind]))
    return value


def _raw(rng: random.Random, role: str) -> bytes:
    item = picture(rng) if role == "image" else b"red shoes"
    right = struct.pack("<I", len(item)) + item
    if rng.random() < 0.85:
        return right
    return rng.choice(
        [b"", right[:-1], right * 2, b"\xff" * 8, b"\0" * 308, b"\1" * 3072, struct.pack("<I", 2**32 - 1)]
    )


def _infer(rng: random.Random, models: dict[str, str]) -> Any:
    role = rng.choice(["image", "text"])
    name = models[role] + rng.choice([""] * 20 + ["_encoder"] * 3 + ["_preprocess", "x"])
    request = service_pb2.ModelInferRequest(model_name=name, id=rng.choice(["", "7", "a" * 3000]))
    if rng.random() < 0.1:
        request.model_version = rng.choice(["1", "2", "-1", "x"])
    if name.endswith("_encoder") and rng.random() < 0.5:
        shape = rng.choice([[1, 32, 32, 3]] * 8 + [[2, 32, 32, 3], [1, 3072], [1, 2**62, 2, 3], [1, 32, 32, -3]])
        request.inputs.add(name="pixels", datatype="UINT8", shape=shape)
        request.raw_input_contents.append(bytes(rng.choice([3072] * 8 + [0, 1, 3071, 6144])))
        return request
    for _ in range(rng.choice([1] * 30 + [0, 2, 20])):
        tensor = request.inputs.add(
            name=rng.choice([role] * 40 + ["tokens", "pixels", ""]),
            datatype="BYTES" if rng.random() < 0.95 else str(rng.choice(DATATYPES)),
            shape=[size % 2**63 for size in ([1, 1] if rng.random() < 0.9 else rng.choice(SHAPES))],
        )
        if rng.random() < 0.1:
            tensor.parameters[rng.choice(PARAMETERS)].CopyFrom(_parameter(rng))
        if rng.random() < 0.05:
            tensor.contents.bytes_contents.append(b"red shoes")
            tensor.contents.int_contents.extend([1] * rng.choice([0, 77]))
    for _ in range(rng.choice([len(request.inputs)] * 20 + [0, 3])):
        request.raw_input_contents.append(_raw(rng, role))
    for _ in range(rng.choice([1, 1, 0, 2])):
        output = request.outputs.add(name=rng.choice(["embedding"] * 20 + ["error", "x"]))
        if rng.random() < 0.15:
            output.parameters[rng.choice(PARAMETERS)].CopyFrom(_parameter(rng))
    if rng.random() < 0.1:
        request.parameters[rng.choice(PARAMETERS)].CopyFrom(_parameter(rng))
    return request


def make_call(rng: random.Random, models: dict[str, str]) -> Call:
    """One call."""
    kind = rng.choices(["infer", "bytes", "stream", "other", "compressed", "given up"], [60, 8, 8, 14, 5, 5])[0]
    message = _infer(rng, models).SerializeToString()
    if kind == "bytes":
        data = bytearray(message)
        for _ in range(rng.choice([1, 3, 30])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return Call("gRPC, odd bytes", "ModelInfer", [bytes(data)], 10.0)
    if kind == "stream":
        messages = [_infer(rng, models).SerializeToString() for _ in range(rng.choice([0, 1, 3]))]
        return Call("gRPC in streams", "ModelStreamInfer", messages, 10.0, streams=True)
    if kind == "other":
        method = rng.choice(list(OTHERS))
        name = rng.choice([*models.values(), "", "x"])
        return Call("gRPC, other methods", method, [OTHERS[method](name).SerializeToString()], 10.0)
    if kind == "compressed":
        return Call("gRPC compressed", "ModelInfer", [message], 10.0, compressed=True)
    if kind == "given up":
        return Call("gRPC given up", "ModelInfer", [message], rng.choice([0.001, 0.003, 0.01]))
    return Call("gRPC", "ModelInfer", [message], 10.0)


def send_call(channel: grpc.Channel, call: Call) -> str:
    """Makes the call; the name of its status, or of the first error in a stream."""
    compression = grpc.Compression.Gzip if call.compressed else None
    try:
        if call.streams:
            stream = channel.stream_stream(SERVICE + call.method)
            answers = list(stream(iter(call.messages), timeout=call.timeout_s))
            return "OK" if len(answers) == len(call.messages) else f"{len(answers)} answers"
        channel.unary_unary(SERVICE + call.method)(
            call.messages[0], timeout=call.timeout_s, compression=compression
        )
        return "OK"
    except grpc.RpcError as error:
        return str(error.code().name)
