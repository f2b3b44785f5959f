"""Requests whose clients have gone: no model works on them, and Triton does not learn of it."""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc

from protoclip.client import Client
from serving.guard import http2_frames as http2
from serving.guard.given_up import CALL_HEADER, NUMBER_BYTES, SLOTS, GivenUp, make_table
from serving.triton.binary import GIVEN_UP
from serving.triton.launcher import GIVEN_UP_VARIABLE, LaunchedServer, TritonServer
from serving.triton.repository import write_repository
from serving.triton.scheduling import Scheduling

IMAGE = "tiny_012345_image"
EACH = 100
"""Calls that are given up over each protocol."""
FIRST = 6
WAIT_S = 120.0


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


SMALL = _file(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG")
BROKEN = b"no picture"
SLOW = _file(Image.radial_gradient("L").resize((6200, 6200)).convert("RGB"), "WEBP", lossless=True, method=0)
"""0.7 s of a core."""


class Request:
    """As the models see it."""

    def __init__(self, parameters: dict[str, object] | str) -> None:
        self._parameters = parameters if isinstance(parameters, str) else json.dumps(parameters)

    def parameters(self) -> str:
        return self._parameters


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[GivenUp, Any]:
    """What writes, and what reads."""
    make_table(tmp_path / "table")
    monkeypatch.setenv(GIVEN_UP_VARIABLE, str(tmp_path / "table"))
    spec = spec_from_file_location("read_given_up", GIVEN_UP)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return GivenUp(str(tmp_path / "table")), module.GivenUp()


def _request(number: int) -> Request:
    return Request({CALL_HEADER.decode(): str(number)})


def test_models_find_the_calls_that_were_given_up(table: tuple[GivenUp, Any]) -> None:
    writes, reads = table
    numbers = [writes.next_call() for _ in range(10)]
    assert len(set(numbers)) == 10
    writes.add(numbers[3])
    writes.add(0)
    assert [reads.has(_request(number)) for number in numbers] == [number == numbers[3] for number in numbers]
    # Another call at the same place of the table.
    assert not reads.has(_request(numbers[3] + SLOTS))
    writes.add(numbers[3] + SLOTS)
    assert reads.has(_request(numbers[3] + SLOTS))


def test_a_guard_that_starts_again_takes_other_numbers(tmp_path: Path) -> None:
    make_table(tmp_path / "table")
    before = [GivenUp(str(tmp_path / "table")).next_call() for _ in range(3)]
    assert before == sorted(set(before))
    assert GivenUp("").next_call() == 0


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        "",
        {"x": 1},
        {CALL_HEADER.decode(): 5},
        {CALL_HEADER.decode(): "-5"},
        {CALL_HEADER.decode(): "٥"},
        {CALL_HEADER.decode(): "9" * 5000},
        f'{{"{CALL_HEADER.decode()}"',
    ],
)
def test_what_is_no_number_of_a_call_is_nothing(parameters: Any, table: tuple[GivenUp, Any]) -> None:
    assert not table[1].has(Request(parameters))


def test_without_a_table_everybody_waits(table: tuple[GivenUp, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    number = table[0].next_call()
    table[0].add(number)
    monkeypatch.delenv(GIVEN_UP_VARIABLE)
    assert not type(table[1])().has(_request(number))


@pytest.fixture(scope="module")
def server(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    repository = tmp_path_factory.mktemp("given_up")
    write_repository(
        tiny_artifact,
        repository,
        encoder_threads=1,
        scheduling=Scheduling(preprocess_instances=1, max_queued=1000, queue_timeout_s=WAIT_S),
    )
    with TritonServer(repository) as server:
        yield server


def _message(picture: bytes, number: int) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=IMAGE)
    request.inputs.add(name="image", datatype="BYTES", shape=[number, 1])
    request.raw_input_contents.append((struct.pack("<I", len(picture)) + picture) * number)
    message: bytes = request.SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


def _calls(numbers: range) -> bytes:
    """Whole calls for a broken picture on one connection, as gRPC sends them."""
    path = b"/inference.GRPCInferenceService/ModelInfer"
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"localhost")]
    headers += [(b"te", b"trailers"), (b"content-type", b"application/grpc"), (CALL_HEADER, b"1")]
    data = memoryview(_message(BROKEN, 1))
    return b"".join(
        http2.headers(number, headers, 0) + b"".join(http2.data(number, data, http2.END_STREAM))
        for number in numbers
    )


def _worked_on(server: LaunchedServer) -> list[int]:
    """Pictures that were encoded, and those that were found to be none."""
    encoded = _metric(server, f'nv_inference_count{{model="{IMAGE}_encoder"')
    return [encoded, _metric(server, f'protoclip_refused_items{{model="{IMAGE}_preprocess"}}')]


def _metric(server: LaunchedServer, name: str) -> int:
    with urllib.request.urlopen(server.metrics_url, timeout=WAIT_S) as answer:
        text = answer.read().decode()
    (value,) = re.findall(rf"^{re.escape(name)}.* (\d+)", text, re.MULTILINE)
    return int(value)


def _waiting(server: LaunchedServer) -> int:
    return _metric(server, f'nv_inference_pending_request_count{{model="{IMAGE}_preprocess"')


def _table(server: LaunchedServer) -> Any:
    environment = Path(f"/proc/{server.pid}/environ").read_bytes().decode().split("\0")
    path = next(one for one in environment if one.startswith(f"{GIVEN_UP_VARIABLE}=")).partition("=")[2]
    return np.memmap(path, dtype=f"<u{NUMBER_BYTES}")


def _given_up(server: LaunchedServer) -> int:
    """Numbers in the guard's table."""
    return int(np.count_nonzero(_table(server)))


def _decoding_ticks(server: LaunchedServer) -> int:
    """Processor time of the worker that decodes, in clock ticks."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == server.pid and f"{IMAGE}_preprocess" in (process / "cmdline").read_text():
                ticks += int(fields[11]) + int(fields[12])
    return ticks


def _settled(read: Any) -> Any:
    """What `read` gives twice in a row: Triton counts a request a moment after it has answered it."""
    found = read()
    while True:
        time.sleep(0.2)
        before, found = found, read()
        if found == before:
            return found


def _wait(reached: Any) -> None:
    end = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("model", "name", "datatype", "shape", "data"),
    [
        ("image", "image", "BYTES", [1, 1], struct.pack("<I", len(SMALL)) + SMALL),
        ("text", "text", "BYTES", [1, 1], struct.pack("<I", 1) + b"a"),
        ("image_encoder", "pixels", "UINT8", [1, 32, 32, 3], bytes(32 * 32 * 3)),
    ],
    ids=["pictures", "texts", "encoder"],
)
def test_every_model_looks_into_the_table(
    model: str, name: str, datatype: str, shape: list[int], data: bytes, server: LaunchedServer
) -> None:
    """Asked of Triton itself: the guard numbers calls anew."""
    flag = "--grpc-port="
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().split("\0")
    port = next(value for value in arguments if value.startswith(flag)).removeprefix(flag)
    request = service_pb2.ModelInferRequest(model_name=f"tiny_012345_{model}", raw_input_contents=[data])
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    number, place = 2 * SLOTS + 77, 77
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        metadata = [(CALL_HEADER.decode(), str(number))]
        assert ask(request, metadata=metadata, timeout=WAIT_S).raw_output_contents
        table = _table(server)
        table[place] = number
        with pytest.raises(grpc.RpcError, match="nobody waits for this request any more"):
            ask(request, metadata=metadata, timeout=WAIT_S)
        assert ask(request, timeout=WAIT_S).raw_output_contents
        table[place] = 0


def test_no_model_works_on_what_nobody_waits_for(server: LaunchedServer) -> None:
    """200 abandoned requests, and then a single picture, which does not wait for theirs.

    Pictures over HTTP would reach the encoder, and broken ones over gRPC would be counted when they are decoded.
    """
    http = tuple(server.http_url.removeprefix("http://").split(":"))
    head = f"POST /v2/models/{IMAGE}/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: 0\r\n"
    ask = f"{head}Content-Length: {len(SMALL)}\r\n\r\n".encode() + SMALL
    with Client(server.grpc_url, timeout_s=WAIT_S) as client, ExitStack() as others:
        expected = client.embed_images(SMALL)
        before, idle = _settled(lambda: _worked_on(server)), _decoding_ticks(server)
        first = others.enter_context(Client(server.grpc_url, timeout_s=WAIT_S))
        busy = first.stream_images([SLOW] * FIRST)
        others.callback(busy.close)

        pool = others.enter_context(ThreadPoolExecutor(1))
        decoded = pool.submit(lambda: [len(part.vectors) for part in busy])
        # A large one is being decoded: what comes now waits behind it.
        _wait(lambda: _decoding_ticks(server) >= idle + 10)
        with ExitStack() as connections:
            for _ in range(EACH):
                connection = connections.enter_context(socket.create_connection((http[0], int(http[1])), WAIT_S))
                connection.sendall(ask)
            port = int(server.grpc_url.rsplit(":", 1)[1])
            calls = connections.enter_context(socket.create_connection(("127.0.0.1", port), WAIT_S))
            calls.sendall(http2.PREFACE + bytes([0, 0, 0, http2.SETTINGS, 0, 0, 0, 0, 0]))
            calls.sendall(_calls(range(1, 2 * EACH, 2)))
            calls.sendall(b"".join(http2.reset(number, http2.CANCEL) for number in range(1, EACH, 2)))
            _wait(lambda: _waiting(server) >= 2 * EACH)
        _wait(lambda: _given_up(server) >= 2 * EACH)
        assert not decoded.done(), "the machine was so slow that the requests were not waiting"
        np.testing.assert_allclose(client.embed_images(SMALL), expected, atol=1e-6)
        assert sum(decoded.result(WAIT_S)) == FIRST
    _wait(lambda: _waiting(server) == 0)
    assert _settled(lambda: _worked_on(server)) == [before[0] + FIRST + 1, before[1]]
    with Client(server.http_url) as client:
        np.testing.assert_allclose(client.embed_images(SMALL), expected, atol=1e-6)
