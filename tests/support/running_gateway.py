"""A gateway on the loopback, by the real uvicorn in a thread; and requests to it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from uuid import uuid4

from serving.gateway.logs import Log
from serving.gateway.server import address_of, listen, make_server
from serving.gateway.settings import GatewaySettings, make_settings
from serving.gateway.state import Gateway

START_S = 30.0


@dataclass(frozen=True)
class Answer:
    """Of one request; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


@dataclass
class RunningGateway:
    """Where it is, and what it logged so far."""

    url: str
    port: int
    settings: GatewaySettings
    log: list[str]

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """GET."""
        return self.ask("GET", path, None, headers)

    def post(self, path: str, value: object, headers: Mapping[str, str] | None = None) -> Answer:
        """POST of JSON."""
        return self.ask(
            "POST", path, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def post_form(self, path: str, fields: Mapping[str, str], files: Mapping[str, bytes] | None = None) -> Answer:
        """POST of a form, as browsers send it."""
        boundary = uuid4().hex
        return self.ask(
            "POST",
            path,
            form(fields, files or {}, boundary),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )

    def raw(self, data: bytes, timeout_s: float = 10.0) -> bytes:
        """Sends bytes as they are; what comes until the other side closes, or nothing does for `timeout_s`."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as connection:
            connection.sendall(data)
            parts = []
            try:
                while part := connection.recv(1 << 16):
                    parts.append(part)
            except (TimeoutError, ConnectionResetError):
                pass
            return b"".join(parts)


def form(fields: Mapping[str, str], files: Mapping[str, bytes], boundary: str) -> bytes:
    """A multipart body; each file is called picture.png."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for name, data in files.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="picture.png"\r\n'
        parts.append(head.encode() + b"Content-Type: image/png\r\n\r\n" + data + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


@contextmanager
def running_gateway(gateway: Gateway | None = None, **settings: object) -> Iterator[RunningGateway]:
    """A gateway within the block: `gateway`, or the one that `settings` name. Its port is free."""
    made = gateway.settings if gateway is not None else make_settings(host="127.0.0.1", port=0, **settings)
    lines: list[str] = []
    server = make_server(made, gateway, Log(True, lines.append))
    listener = listen(made)
    running = RunningGateway(address_of(made, listener), listener.getsockname()[1], made, lines)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    end = time.monotonic() + START_S
    while not server.started:
        assert thread.is_alive(), "the gateway ended at its start"
        assert time.monotonic() < end, "the gateway does not start"
        time.sleep(0.01)
    try:
        yield running
    finally:
        server.should_exit = True
        thread.join(START_S)
        assert not thread.is_alive(), "the gateway does not stop"
