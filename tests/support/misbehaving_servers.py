"""Servers on real sockets that are busy, drip, close too early, or speak another protocol."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD_HTTP = (200, {}, b'[{"name": "tiny_012345_image"}]')
_UNKNOWN_MODEL = b'{"error": "Request for unknown model: \'tiny\' is not found"}'


@contextmanager
def busy_at_first(scheme: str, times: int) -> Iterator[tuple[str, Callable[[], int]]]:
    seen: list[int] = []
    if scheme == "grpc":
        with grpc_server(seen, times) as url:
            yield url, lambda: len(seen)
        return

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(1)
        send(handler, *(GOOD_HTTP if len(seen) > times else (503, {}, b'{"error": "busy"}')))

    with http_server(answer) as url:
        yield url, lambda: len(seen)


@contextmanager
def stopping_at_first(scheme: str, times: int) -> Iterator[tuple[str, Callable[[], int]]]:
    """A server that knows no model while it is not ready: at the first `times` questions for a configuration."""
    seen: list[int] = []
    if scheme == "grpc":
        with grpc_server(seen, times) as url:
            yield url, lambda: len(seen)
        return

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/v2/health/ready":
            return send(handler, 200 if len(seen) > times else 400, {}, b"")
        seen.append(1)
        good = json.dumps({"name": "tiny_012345_text", "max_batch_size": 8}).encode()
        return send(handler, *((200, {}, good) if len(seen) > times else (404, {}, _UNKNOWN_MODEL)))

    with http_server(answer) as url:
        yield url, lambda: len(seen)


@contextmanager
def grpc_server(
    seen: list[Any],
    times: int,
    name: str = "tiny_012345_image",
    takes_s: float = 0.0,
    refusal: tuple[str, str, tuple[tuple[str, str], ...]] = ("UNAVAILABLE", "busy", ()),
) -> Iterator[str]:
    """`seen` gets the time of each question; the first `times` are refused, by a code, details and metadata."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    class Busy(service_pb2_grpc.GRPCInferenceServiceServicer):
        def RepositoryIndex(self, request: Any, context: Any) -> Any:
            seen.append(time.monotonic())
            if len(seen) <= times:
                code, details, metadata = refusal
                context.set_trailing_metadata(metadata)
                context.abort(getattr(grpc.StatusCode, code), details)
            time.sleep(takes_s)
            index = service_pb2.RepositoryIndexResponse()
            index.models.add(name=name, state="READY")
            return index

        def ModelConfig(self, request: Any, context: Any) -> Any:
            seen.append(1)
            if len(seen) <= times:
                context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'tiny' is not found")
            response = service_pb2.ModelConfigResponse()
            response.config.name = request.name
            return response

        def ServerReady(self, request: Any, context: Any) -> Any:
            return service_pb2.ServerReadyResponse(ready=len(seen) > times)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Busy(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@dataclass
class WaitingServer:
    """`arrived` and `cancelled` are set when a request is, by the client's wish."""

    port: int = 0
    arrived: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)


@contextmanager
def waiting_grpc_server(version: str | None, num_failures: int = 0) -> Iterator[WaitingServer]:
    """Never answers, and says when a request was cancelled; `version` is what it tells of itself.

    The first `num_failures` questions for it fail.
    """
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    made = WaitingServer()
    end, failures = threading.Event(), iter(range(num_failures))

    class Waiting(service_pb2_grpc.GRPCInferenceServiceServicer):
        def RepositoryIndex(self, request: Any, context: Any) -> Any:
            context.add_callback(made.cancelled.set)
            made.arrived.set()
            end.wait(60)
            context.abort(grpc.StatusCode.UNAVAILABLE, "late")

        def ServerMetadata(self, request: Any, context: Any) -> Any:
            if next(failures, None) is not None:
                context.abort(grpc.StatusCode.INTERNAL, "not now")
            if version is None:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "who knows")
            return service_pb2.ServerMetadataResponse(name="triton", version=version)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Waiting(), server)
    made.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield made
    finally:
        end.set()
        server.stop(0).wait()


@contextmanager
def http_server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            try:
                answer(self)
            except OSError:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def tcp_server(greeting: bytes) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
