"""Requests that no client of ours sends: the server refuses or answers them, and answers rightly afterwards."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.triton.launcher import LaunchedServer, TritonServer

PREFIX = "tiny_012345"
TEXT = struct.pack("<I", 3) + b"red"
INPUTS: dict[str, tuple[str, str, list[int], bytes]] = {
    "text": ("text", "BYTES", [1, 1], TEXT),
    "text_preprocess": ("text", "BYTES", [1, 1], TEXT),
    "text_encoder": ("tokens", "INT32", [1, 77], bytes(4 * 77)),
    "image": ("image", "BYTES", [1, 1], struct.pack("<I", 4) + b"none"),
    "image_preprocess": ("image", "BYTES", [1, 1], struct.pack("<I", 4) + b"none"),
    "image_encoder": ("pixels", "UINT8", [1, 32, 32, 3], bytes(32 * 32 * 3)),
}
OUTPUTS = {
    "text": ("embedding", "error"),
    "text_preprocess": ("tokens", "error"),
    "text_encoder": ("text_embedding",),
    "image": ("embedding", "error"),
    "image_preprocess": ("pixels", "error"),
    "image_encoder": ("image_embedding",),
}
PARAMETERS = {
    "sequence_id": (5, "five"),
    "sequence_start": (True,),
    "sequence_end": (True,),
    "priority": (1, 99, 2**63 - 1, -1),
    "timeout": (1, 2**63 - 1, -1, "soon"),
    "unknown": (1, 1.5, "x" * 100_000),
    "triton_enable_empty_final_response": (True,),
}
BATCHES = (0, 2, 2**31, 2**32, 2**32 + 1, 2**62, 2**63 - 1, -1)
LYING_LENGTHS = (b"", b"\3", struct.pack("<I", 2**32 - 1) + b"red", bytes(4), TEXT * 2, TEXT + b"more", bytes(400))


class Http:
    def __init__(self, server: LaunchedServer) -> None:
        self._address = server.http_url.removeprefix("http://")

    def send(self, role: str, **changes: Any) -> None:
        """Sends one request; any answer is right, but none is not."""
        tensor, raw = _tensor(role, changes)
        header: dict[str, Any] = {"inputs": [tensor], "parameters": changes.get("parameters", {})}
        if "output" in changes:
            header["outputs"] = [{"name": changes["output"], "parameters": changes["of_output"]}]
        body = json.dumps(header).encode()
        self.post(role, body + raw, {"Inference-Header-Content-Length": str(len(body))})

    def post(self, role: str, body: bytes, headers: dict[str, str]) -> bytes:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        try:
            connection.request("POST", f"/v2/models/{PREFIX}_{role}/infer", body, headers)
            return connection.getresponse().read()
        finally:
            connection.close()


class Grpc:
    def __init__(self, server: LaunchedServer) -> None:
        self._channel = grpc.insecure_channel(server.grpc_url.removeprefix("grpc://"))
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def send(self, role: str, **changes: Any) -> None:
        tensor, raw = _tensor(role, changes)
        request = service_pb2.ModelInferRequest(model_name=f"{PREFIX}_{role}")
        source = request.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        if raw:
            request.raw_input_contents.append(raw)
        _set(source.parameters, changes.get("of_input", {}))
        _set(request.parameters, changes.get("parameters", {}))
        if "output" in changes:
            _set(request.outputs.add(name=changes["output"]).parameters, changes["of_output"])
        code = self._stub.ModelInfer.future(request, timeout=30).code()
        assert code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), (role, changes)

    def close(self) -> None:
        self._channel.close()


@pytest.fixture(scope="module")
def server(tiny_repository: Path) -> Iterator[LaunchedServer]:
    """One of its own: where a test here fails, it is no longer there."""
    with TritonServer(tiny_repository) as launched:
        yield launched


@pytest.fixture(scope="module")
def ways(server: LaunchedServer) -> Iterator[Sequence[Any]]:
    over_grpc = Grpc(server)
    yield Http(server), over_grpc
    over_grpc.close()


@pytest.fixture(autouse=True)
def _answers_as_before(server: LaunchedServer) -> Iterator[None]:
    before = _vector(server)
    yield
    assert np.array_equal(_vector(server), before)


@pytest.mark.parametrize("count", [1, 2, 10_000, 2**31, 2**63 - 1, 0, -1, "1", True])
def test_any_output_as_a_classification(ways: Sequence[Any], count: object) -> None:
    """An output of type BYTES ends this server."""
    for way in ways:
        for role, names in OUTPUTS.items():
            for name in names:
                way.send(role, output=name, of_output={"classification": count})
                way.send(role, output=name, of_output={"classification": count}, shape=[0, 1], raw=b"")


@pytest.mark.parametrize("name", PARAMETERS)
def test_any_parameter(ways: Sequence[Any], name: str) -> None:
    for way in ways:
        for role in INPUTS:
            for value in PARAMETERS[name]:
                way.send(role, parameters={name: value})


@pytest.mark.parametrize("batch", BATCHES)
def test_any_batch(ways: Sequence[Any], batch: int) -> None:
    for way in ways:
        for role, (_, _, shape, raw) in INPUTS.items():
            for data in (raw, raw * 2, b""):
                way.send(role, shape=[batch, *shape[1:]], raw=data)


@pytest.mark.parametrize(
    "shape", [[], [1], [1, 1, 1], [1] * 300, [2**32, 2**32], [2**63 - 1] * 4, [1, 0], [1, -1]]
)
def test_any_shape(ways: Sequence[Any], shape: list[int]) -> None:
    for way in ways:
        for role in INPUTS:
            way.send(role, shape=shape)


@pytest.mark.parametrize("data", LYING_LENGTHS)
def test_lengths_that_are_not_true(ways: Sequence[Any], data: bytes) -> None:
    for way in ways:
        for role in INPUTS:
            for shape in ([1, 1], [2, 1], [64, 1]):
                way.send(role, shape=shape, raw=data)


@pytest.mark.parametrize("datatype", ["FP32", "INT32", "UINT8", "BYTES", "BF16", "BOOL", "NONE", ""])
def test_any_datatype(ways: Sequence[Any], datatype: str) -> None:
    for way in ways:
        for role in INPUTS:
            way.send(role, datatype=datatype)


def test_shared_memory_that_nobody_registered(ways: Sequence[Any]) -> None:
    region = {"shared_memory_region": "x", "shared_memory_byte_size": 64, "shared_memory_offset": 2**62}
    for way in ways:
        for role, names in OUTPUTS.items():
            way.send(role, of_input=region, raw=b"")
            for name in names:
                way.send(role, output=name, of_output=region)


@pytest.mark.parametrize(
    "data",
    ['["a", "b"]', "[[]]", "[1]", "[null]", "[{}]", '"a"', "{}", "null", "[" * 1000 + "]" * 1000, '["\\u0000"]'],
)
def test_json_that_is_no_text(ways: Sequence[Any], data: str) -> None:
    tensor = f'{{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": {data}}}'
    for role in ("text", "text_preprocess"):
        assert b"error" in ways[0].post(role, f'{{"inputs": [{tensor}]}}'.encode(), {})


def _tensor(role: str, changes: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    name, datatype, shape, raw = INPUTS[role]
    raw = changes.get("raw", raw)
    tensor = {
        "name": name,
        "datatype": changes.get("datatype", datatype),
        "shape": changes.get("shape", shape),
        "parameters": changes.get("of_input", {"binary_data_size": len(raw)}),
    }
    return tensor, raw


def _set(target: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
        setattr(target[name], kind, value)


def _vector(server: LaunchedServer) -> Any:
    header = json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["red"]}]})
    outputs = json.loads(Http(server).post("text", header.encode(), {}))["outputs"]
    return np.array(next(output["data"] for output in outputs if output["name"] == "embedding"))
