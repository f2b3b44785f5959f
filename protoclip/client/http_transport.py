"""Triton over HTTP, with a pool of connections, each used by one request at a time.

The standard library's connections take a timeout for every request and are bound to no thread; those of
tritonclient take one timeout when they are made, and can't be shared.
"""

from __future__ import annotations

import contextlib
import functools
import io
import ipaddress
import json
import os
import queue
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from typing import Any

from protoclip.contract.errors import ServerError

from .call import current_call
from .deadline import Deadline
from .errors import (
    ModelNotFound,
    Refused,
    busy,
    closed,
    dead,
    deadline_exceeded,
    nobody_listens,
    not_authorized,
    not_ready,
    says_dead,
    unavailable,
)
from .infer_message import infer_header, split_outputs
from .options import ConnectionOptions
from .retry_after import of_header
from .statistics import ModelStatistics, read_statistics
from .tensor_bytes import EMBEDDING, ERROR, InputTensor, OutputTensor, items_tensor, read_answer
from .tls import http_context, tls_error
from .transport import Answer, ModelConfig, host_and_port

_HEADER_SIZE = "Inference-Header-Content-Length"
_BLOCK_BYTES = 1 << 20
_LARGEST_COPY_BYTES = 1 << 20
"""Of a request's head and body into one piece."""


@dataclass(frozen=True)
class _Response:
    status: int
    header_size: int | None
    retry_after_s: float | None
    body: bytes


class HttpTransport:
    """Opens as many connections as there are concurrent requests.

    Args:
        prefix: the path before Triton's own, such as "/models"; "" for none.
        tls: encrypt, as at `https://`.

    Raises:
        ConfigError: a certificate of `options` can't be used.
    """

    def __init__(
        self,
        host: str,
        port: int,
        prefix: str = "",
        *,
        tls: bool = False,
        options: ConnectionOptions | None = None,
    ) -> None:
        self.url = f"{'https' if tls else 'http'}://{host_and_port(host, port)}{prefix}"
        self._host, self._port, self._prefix = host, port, prefix
        self._options = options or ConnectionOptions()
        self._tls = http_context(self._options) if tls else None
        self._closed = False
        self._start_pool()

    @property
    def keeps_deadlines(self) -> bool:
        """Whether every request ends in time: looking up a name may not, nor sending in TLS."""
        return self._tls is None and _is_address(self._host)

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        tensors = self.infer_tensors(model, items_tensor(input_name, items), (EMBEDDING, ERROR), timeout_s)
        return read_answer(self.url, tensors, len(items))

    def infer_tensors(
        self, model: str, tensor: InputTensor, outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, OutputTensor]:
        header = json.dumps(infer_header(tensor, outputs)).encode()
        response = self._request("POST", f"/v2/models/{model}/infer", header + tensor.data, timeout_s, len(header))
        try:
            size = len(response.body) if response.header_size is None else response.header_size
            return split_outputs(json.loads(response.body[:size]), response.body[size:])
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"{self.url}: the answer is not one of Triton: {error}") from error

    def ready_models(self, timeout_s: float | None) -> list[str]:
        models = self._json("POST", "/v2/repository/index", b'{"ready": true}', timeout_s)
        return [str(model["name"]) for model in models]

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        config = self._json("GET", f"/v2/models/{model}/config", b"", timeout_s)
        parameters = {name: str(value["string_value"]) for name, value in config.get("parameters", {}).items()}
        return ModelConfig(config["name"], config["max_batch_size"], parameters)

    def model_statistics(self, timeout_s: float | None) -> list[ModelStatistics]:
        """What the server has done since it started, of every model; errors as of the other methods."""
        answer = self._json("GET", "/v2/models/stats", b"", timeout_s)
        return read_statistics(self.url, answer.get("model_stats", ()) if isinstance(answer, dict) else (answer,))

    def close(self) -> None:
        self._renew_after_fork()
        self._closed = True
        self._drop_idle()
        for connection in tuple(self._busy):
            _shut_down(connection)

    def _start_pool(self) -> None:
        self._pid = os.getpid()
        self._idle: queue.SimpleQueue[HTTPConnection] = queue.SimpleQueue()
        self._busy: set[HTTPConnection] = set()

    def _renew_after_fork(self) -> None:
        """Connections stay with the process that opened them: two would read each other's answers."""
        if self._pid != os.getpid():
            self._start_pool()

    def _json(self, method: str, path: str, body: bytes, timeout_s: float | None) -> Any:
        response = self._request(method, path, body, timeout_s)
        try:
            return json.loads(response.body)
        except ValueError as error:
            raise ServerError(f"{self.url}: the answer is not one of Triton: {error}") from error

    def _request(
        self, method: str, path: str, body: bytes, timeout_s: float | None, header_size: int | None = None
    ) -> _Response:
        self._renew_after_fork()
        if self._closed:
            raise closed(self.url)
        headers = {"Content-Type": "application/json" if header_size is None else "application/octet-stream"}
        if header_size is not None:
            headers[_HEADER_SIZE] = str(header_size)
        deadline = Deadline(timeout_s, self.url)
        response = self._answer(method, path, body, headers, deadline)
        try:
            _check_status(self.url, response)
        except ModelNotFound:
            # A server that starts or stops has no models either. By version, Triton's "not ready" is 400 or 503.
            if self._answer("GET", "/v2/health/ready", b"", {}, deadline).status in (400, 503):
                raise not_ready(self.url, "its models are not ready") from None
            raise
        return response

    def _answer(
        self, method: str, path: str, body: bytes, headers: dict[str, str], deadline: Deadline
    ) -> _Response:
        timeout_s = deadline.remaining_s()
        call = current_call()
        headers = {**self._options.headers, **call.span.headers(), **headers}
        try:
            return self._exchange(method, self._prefix + path, body, headers, deadline)
        except TimeoutError as error:
            raise deadline_exceeded(self.url, timeout_s) from error
        except ConnectionRefusedError as error:
            raise nobody_listens(self.url, "connection refused") from error
        except ssl.SSLEOFError as error:
            raise unavailable(self.url, "connection closed") from error
        except ssl.SSLError as error:
            raise tls_error(self.url, str(error)) from error
        except socket.gaierror as error:
            raise nobody_listens(self.url, error.strerror or str(error)) from error
        except RemoteDisconnected as error:
            raise unavailable(self.url, "connection closed") from error
        except OSError as error:
            raise unavailable(self.url, error.strerror or str(error)) from error
        except HTTPException as error:
            raise ServerError(f"{self.url}: no HTTP server answers here: is that the port for gRPC?") from error

    def _exchange(
        self, method: str, path: str, body: bytes, headers: dict[str, str], deadline: Deadline
    ) -> _Response:
        connection = self._take()
        self._busy.add(connection)
        try:
            call = current_call()
            with call.ended_by(lambda: _shut_down(connection)):
                _connect(connection, deadline)
                # While it connected there was no socket that `cancel` or `close` could shut down.
                call.check()
                if self._closed:
                    raise closed(self.url)
                connection.response_class = functools.partial(_InTime, deadline=deadline)  # type: ignore[assignment]
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                data = _read_body(response)
        except BaseException:
            connection.close()
            # Idle connections may be dead too, if the server restarted: retries must not try them one by one.
            self._drop_idle()
            raise
        finally:
            self._busy.discard(connection)
        self._give_back(connection)
        size = response.getheader(_HEADER_SIZE)
        retry_after_s = of_header(response.getheader("Retry-After"))
        return _Response(response.status, None if size is None else int(size), retry_after_s, data)

    def _take(self) -> HTTPConnection:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            if self._tls is None:
                return _InOnePiece(self._host, self._port)
            return _InOnePieceByTls(self._host, self._port, context=self._tls)

    def _give_back(self, connection: HTTPConnection) -> None:
        self._idle.put(connection)
        if self._closed:
            self._drop_idle()

    def _drop_idle(self) -> None:
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


class _InOnePiece(HTTPConnection):
    """Sends a request's head and body at once: two pieces would wake the server twice."""

    _pieces: list[bytes] | None = None

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **others: Any) -> None:
        self._pieces = []
        try:
            super().request(method, url, body, headers or {}, **others)
            pieces = self._pieces
        finally:
            self._pieces = None
        for piece in _joined(pieces):
            super().send(piece)

    def send(self, data: Any) -> None:
        if self._pieces is None:
            super().send(data)
        else:
            self._pieces.append(data)


class _InOnePieceByTls(_InOnePiece, HTTPSConnection):
    """The same with TLS."""


class _InTime(HTTPResponse):
    """One whose head and body are both read within the deadline, in however many pieces they come."""

    def __init__(self, sock: socket.socket, *arguments: Any, deadline: Deadline, **others: Any) -> None:
        super().__init__(sock, *arguments, **others)
        self.fp: Any = io.BufferedReader(_Reader(self.fp.detach(), sock, deadline))


class _Reader(io.RawIOBase):
    """Reads from `raw`, which reads from `sock`, with the deadline's rest as timeout."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline) -> None:
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.remaining_s())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _joined(pieces: list[bytes]) -> list[bytes]:
    return [b"".join(pieces)] if sum(map(len, pieces)) <= _LARGEST_COPY_BYTES else pieces


def _connect(connection: HTTPConnection, deadline: Deadline) -> None:
    """Opens it if it is not, and leaves the budget's rest as the socket's timeout."""
    if connection.sock is None:
        connection.timeout = deadline.remaining_s()
        connection.connect()
    connection.sock.settimeout(deadline.remaining_s())


def _shut_down(connection: HTTPConnection) -> None:
    """close() alone wouldn't wake the thread that waits for the answer."""
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            # Of TLS the socket itself: its own shutdown would take part in the other thread's conversation.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _read_body(response: HTTPResponse) -> bytes:
    blocks: list[bytes] = []
    while True:
        block = response.read1(_BLOCK_BYTES)
        blocks.append(block)
        if not block:
            break
    if response.length:
        raise RemoteDisconnected(f"{response.length} bytes of the answer are missing")
    # read1 doesn't mark a fully read response as done, and the connection could not be reused.
    response.close()
    return b"".join(blocks)


def _check_status(url: str, response: _Response) -> None:
    if response.status == 200:
        return
    try:
        reason = str(json.loads(response.body)["error"])
    except (KeyError, TypeError, ValueError):
        reason = response.body[:200].decode("utf-8", "replace") or f"status {response.status}"
    reason = " ".join(reason.split())
    if response.status == 404 or "unknown model" in reason:
        raise ModelNotFound(f"{url}: {reason}: load it, or name another one with model=")
    if response.status in (401, 403, 407):
        raise not_authorized(url, f"status {response.status}: {reason}")
    if response.status in (429, 502, 503, 504):
        raise busy(url, reason, response.retry_after_s)
    if 400 <= response.status < 500:
        raise Refused(url, reason)
    if says_dead(reason):
        raise dead(url, reason)
    raise ServerError(f"{url}: status {response.status}: {reason}")
