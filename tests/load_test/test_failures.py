"""Every kind of failure, from what real servers made of this process do to a real transport."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from protoclip.client.connection import connect
from protoclip.client.errors import ModelNotFound
from protoclip.contract.errors import ServerError
from protoclip.load_test.failures import FAILURES, MEANINGS, failure_of


@contextmanager
def http_server(status: int) -> Iterator[str]:
    """Answers everything with `status`; -1 closes the connection, 0 never answers."""
    never = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if status > 0:
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
            elif status == 0:
                never.wait(10)
            self.close_connection = True

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        never.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def grpc_server(code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, str], ...] = ()) -> Iterator[str]:
    """Ends every call with `code`."""

    def end(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(metadata)
        context.abort(code, details)
        raise AssertionError

    class Handler(grpc.GenericRpcHandler):
        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(end)

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def raised(url: str, timeout_s: float = 60.0) -> ServerError:
    transport = connect(url)
    try:
        with pytest.raises(ServerError) as caught:
            transport.infer("m_image", "image", [b"x"], timeout_s)
    finally:
        transport.close()
    return caught.value


@pytest.mark.parametrize(
    ("status", "failure"),
    [(429, "try again"), (503, "try again"), (400, "refused"), (500, "other"), (-1, "connection"), (0, "timeout")],
)
def test_over_http(status: int, failure: str) -> None:
    with http_server(status) as url:
        assert failure_of(raised(url, 0.3 if status == 0 else 60.0)) == failure


@pytest.mark.parametrize(
    ("code", "details", "metadata", "failure"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", (), "connection"),
        (grpc.StatusCode.UNAVAILABLE, "maximum queue size", (), "try again"),
        (grpc.StatusCode.UNAVAILABLE, "busy", (("retry-after", "1"),), "try again"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls", (), "try again"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 8)", (), "refused"),
        (grpc.StatusCode.INVALID_ARGUMENT, "not a picture", (), "refused"),
        (grpc.StatusCode.INTERNAL, "oh", (), "other"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "late", (), "timeout"),
    ],
)
def test_over_grpc(
    code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, str], ...], failure: str
) -> None:
    with grpc_server(code, details, metadata) as url:
        assert failure_of(raised(url)) == failure


@pytest.mark.parametrize("address", ["http", "grpc"])
def test_where_nobody_listens(address: str) -> None:
    with socket.socket() as free:
        # Bound and not listening: nobody else can take the port meanwhile.
        free.bind(("127.0.0.1", 0))
        assert failure_of(raised(f"{address}://127.0.0.1:{free.getsockname()[1]}")) == "connection"


def test_a_missing_model_is_another_failure() -> None:
    assert failure_of(ModelNotFound("none")) == "other"
    assert set(MEANINGS) == set(FAILURES)
