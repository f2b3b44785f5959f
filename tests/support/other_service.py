"""Somebody else's service, to which a gateway passes on what is not its own: it notes forms, answers as told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class OtherService:
    """`seen` are the parts of the last form by name; `body` is answered where it is set, else `answer` as JSON."""

    status: int = 200
    answer: Any = field(default_factory=dict)
    body: bytes | None = None
    seen: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    _server: ThreadingHTTPServer | None = None

    def stop(self) -> None:
        """Listens no more; may be called twice."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


@contextmanager
def other_service() -> Iterator[OtherService]:
    """The service, on a free port of the loopback."""
    service = OtherService()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            form = BytesParser(policy=HTTP).parsebytes(head + self.rfile.read(int(self.headers["Content-Length"])))
            service.seen = {
                part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
                for part in form.iter_parts()
            }
            body = json.dumps(service.answer).encode() if service.body is None else service.body
            self.send_response(service.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Tests are quiet."""

    service._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{service._server.server_address[1]}"
    thread = Thread(target=service._server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        service.stop()
        thread.join()
