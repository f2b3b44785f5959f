"""What stands before a server where operators want TLS, tokens and paths: it passes requests on to Triton."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from certificates import Certificate

_OWN = ("host", "connection", "transfer-encoding", "content-length", "authorization")


@dataclass
class Gateway:
    """`url` is for clients; `seen` are the headers of every request, with lower-case names."""

    url: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def gateway(
    target: str,
    *,
    certificate: Certificate | None = None,
    client_authority: Certificate | None = None,
    token: str | None = None,
    prefix: str = "",
) -> Iterator[Gateway]:
    """A gateway to `target` (`http://…` or `grpc://…`); with `token`, requests without it are not let in."""
    scheme, _, address = target.partition("://")
    host, _, port = address.partition(":")
    serve = _serve_http if scheme == "http" else _serve_grpc
    made = Gateway()
    with serve(made, host, int(port), certificate, client_authority, token, prefix) as own_port:
        made.url = f"{scheme}{'s' if certificate else ''}://127.0.0.1:{own_port}{prefix}"
        yield made


@contextmanager
def _serve_http(
    made: Gateway,
    host: str,
    port: int,
    certificate: Certificate | None,
    client_authority: Certificate | None,
    token: str | None,
    prefix: str,
) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            made.seen.append({name.lower(): value for name, value in self.headers.items()})
            if token is not None and self.headers["Authorization"] != f"Bearer {token}":
                self._answer(401, {}, b'{"error": "who are you?"}')
            elif not self.path.startswith(f"{prefix}/v2/"):
                self._answer(404, {}, b'{"error": "no such path"}')
            else:
                self._pass_on(body)

        do_POST = do_GET

        def _pass_on(self, body: bytes) -> None:
            connection = http.client.HTTPConnection(host, port, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
            connection.request(self.command, self.path.removeprefix(prefix), body, headers)
            response = connection.getresponse()
            data = response.read()
            connection.close()
            kept = {name: value for name, value in response.getheaders() if name.lower() not in _OWN}
            self._answer(response.status, kept, data)

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Tests are quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request: Any, client_address: Any) -> None:
            if certificate is not None:
                try:
                    request = certificate.server_context(client_authority).wrap_socket(request, server_side=True)
                except OSError:
                    return
            super().finish_request(request, client_address)
            request.close()

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that leaves is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _serve_grpc(
    made: Gateway,
    host: str,
    port: int,
    certificate: Certificate | None,
    client_authority: Certificate | None,
    token: str | None,
    prefix: str,
) -> Iterator[int]:
    import grpc

    channel = grpc.insecure_channel(f"{host}:{port}", options=[("grpc.enable_http_proxy", 0)])

    class PassOn(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            headers = {name: str(value) for name, value in details.invocation_metadata}
            made.seen.append(headers)

            def answer(request: bytes, context: Any) -> Any:
                if token is not None and headers.get("authorization") != f"Bearer {token}":
                    context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
                try:
                    return channel.unary_unary(details.method)(request, timeout=60)
                except grpc.RpcError as error:
                    return context.abort(error.code(), error.details())

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[PassOn()])
    if certificate is None:
        own_port = server.add_insecure_port("127.0.0.1:0")
    else:
        roots = client_authority.pem.read_bytes() if client_authority else None
        pair = (certificate.key.read_bytes(), certificate.pem.read_bytes())
        own_port = server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials([pair], roots, client_authority is not None)
        )
    server.start()
    try:
        yield own_port
    finally:
        server.stop(0).wait()
        channel.close()
