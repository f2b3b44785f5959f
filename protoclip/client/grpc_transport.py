"""Triton over gRPC. The stub is used directly, because it takes a deadline for every call."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
    forked,
    nobody_listens,
    not_authorized,
    not_ready,
    says_busy,
    says_dead,
    unavailable,
)
from .options import ConnectionOptions
from .priority import current_priority
from .retry_after import of_seconds
from .statistics import ModelStatistics, read_statistics
from .tensor_bytes import EMBEDDING, ERROR, InputTensor, OutputTensor, items_tensor, read_answer
from .tls import grpc_credentials, tls_error
from .transport import Answer, ModelConfig, host_and_port

if TYPE_CHECKING:
    import grpc  # type: ignore[import-untyped]

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # During its reconnect backoff gRPC fails calls without trying: the backoff must end within the client's few
    # retries, or a server that is up again would not be reached.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
    # As over HTTP: connect to the address itself, and ignore http_proxy.
    ("grpc.enable_http_proxy", 0),
]

_SURVIVES_SINCE = (2, 59)
"""Earlier Tritons could end by a request that is cancelled while answered: its pull requests 7840, 8078, 8220."""
_AFTER_FORK = (
    "gRPC does not work then: use http://, make the first call after the fork, or start processes by 'spawn'"
)
_users: list[int] = []
"""The process that has used gRPC, and by it every process that is forked off from now on."""


class GrpcTransport:
    """Uses one channel, which is thread-safe, and is opened by the first call.

    gRPC's own threads do not survive a fork: a process that was forked off after a first call is told so at once.

    Args:
        keepalive_s: after so many seconds without an answer to a running call the server is asked for a sign of
            life; without one for half that time, the connection is given up.
        tls: encrypt, as at `grpcs://`.

    Raises:
        ConfigError: a certificate of `options` can't be used.
    """

    keeps_deadlines = True
    """gRPC ends every call in time, whatever the server does."""

    def __init__(
        self,
        host: str,
        port: int,
        keepalive_s: float = 10.0,
        *,
        tls: bool = False,
        options: ConnectionOptions | None = None,
    ) -> None:
        import grpc  # noqa: F401 - a missing package is told here, and not by the first call
        from tritonclient.grpc import service_pb2

        self.url = f"{'grpcs' if tls else 'grpc'}://{host_and_port(host, port)}"
        self._options = options or ConnectionOptions()
        self._credentials = grpc_credentials(self._options) if tls else None
        self._address = host_and_port(host, port)
        self._keepalive_s = keepalive_s
        self._messages = service_pb2
        self._lock = threading.Lock()
        self._channel: Any = None
        self._stub: Any = None
        self._closed = False
        self._server_version: tuple[int, ...] | None = None

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        tensors = self.infer_tensors(model, items_tensor(input_name, items), (EMBEDDING, ERROR), timeout_s)
        return read_answer(self.url, tensors, len(items))

    def infer_tensors(
        self, model: str, tensor: InputTensor, outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, OutputTensor]:
        request = self._messages.ModelInferRequest(model_name=model)
        request.parameters["priority"].int64_param = current_priority()
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        request.raw_input_contents.append(tensor.data)
        for name in outputs:
            request.outputs.add(name=name)
        response = self._call("ModelInfer", request, timeout_s)
        pairs = zip(response.outputs, response.raw_output_contents, strict=False)
        return {out.name: OutputTensor(out.datatype, out.shape, data) for out, data in pairs}

    def ready_models(self, timeout_s: float | None) -> list[str]:
        request = self._messages.RepositoryIndexRequest(ready=True)
        return [model.name for model in self._call("RepositoryIndex", request, timeout_s).models]

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        request = self._messages.ModelConfigRequest(name=model)
        config = self._call("ModelConfig", request, timeout_s).config
        parameters = {name: value.string_value for name, value in config.parameters.items()}
        return ModelConfig(config.name, config.max_batch_size, parameters)

    def model_statistics(self, timeout_s: float | None) -> list[ModelStatistics]:
        """What the server has done since it started, of every model; errors as of the other methods."""
        from google.protobuf.json_format import MessageToDict

        response = self._call("ModelStatistics", self._messages.ModelStatisticsRequest(), timeout_s)
        return read_statistics(
            self.url, MessageToDict(response, preserving_proto_field_name=True).get("model_stats", ())
        )

    def close(self) -> None:
        self._closed = True
        if self._channel is not None and not _fork_of_a_user():
            self._channel.close()

    def _call(self, method: str, request: object, timeout_s: float | None) -> Any:
        deadline = Deadline(timeout_s, self.url)
        try:
            return self._send(method, request, deadline)
        except ModelNotFound:
            # A server that starts or stops has no models either.
            if not self._send("ServerReady", self._messages.ServerReadyRequest(), deadline).ready:
                raise not_ready(self.url, "its models are not ready") from None
            raise

    def _send(self, method: str, request: object, deadline: Deadline) -> Any:
        import grpc

        call = current_call()
        stub, left_s = self._open(), deadline.remaining_s()
        # gRPC refuses upper case, which some propagators of traces write.
        told = {name.lower(): value for name, value in call.span.headers().items()}
        headers = tuple({**self._options.headers, **told}.items())
        ask = getattr(stub, method)
        try:
            if not (call.cancellable and self._survives_cancellations(stub, left_s, headers)):
                return ask(request, timeout=left_s, metadata=headers)
            # Only a future can be cancelled; it takes one more thread, and longer.
            running = ask.future(request, timeout=left_s, metadata=headers)
            with call.ended_by(running.cancel):
                return running.result()
        except grpc.FutureCancelledError as error:
            # A cancelled call is told before, by `ended_by`: the server ended this one.
            raise closed(self.url) if self._closed else _cancelled(self.url) from error
        except grpc.RpcError as error:
            if self._closed:
                raise closed(self.url) from error
            raise _translate(self.url, error, left_s) from error
        except ValueError as error:
            # gRPC raises this for a call on a closed channel.
            raise closed(self.url) from error

    def _survives_cancellations(
        self, stub: Any, timeout_s: float | None, headers: Sequence[tuple[str, str]]
    ) -> bool:
        """Whether cancelled requests can't end the server; asks for its version the first time."""
        import grpc

        if self._server_version is None:
            try:
                told = stub.ServerMetadata(
                    self._messages.ServerMetadataRequest(), timeout=timeout_s, metadata=headers
                )
            except grpc.RpcError as error:
                # Any other failure may pass: the next call asks again.
                if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                    return False
                version = ""
            else:
                version = told.version
            self._server_version = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        return self._server_version >= _SURVIVES_SINCE

    def _open(self) -> Any:
        import grpc
        from tritonclient.grpc import service_pb2_grpc

        if _fork_of_a_user():
            raise forked(self.url, _AFTER_FORK)
        with self._lock:
            if self._closed:
                raise closed(self.url)
            if self._stub is None:
                _users[:] = [os.getpid()]
                options = [*_CHANNEL_OPTIONS, *_keepalive_options(self._keepalive_s)]
                if self._credentials is None:
                    self._channel = grpc.insecure_channel(self._address, options=options)
                else:
                    self._channel = grpc.secure_channel(self._address, self._credentials, options=options)
                self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
            return self._stub


def _fork_of_a_user() -> bool:
    return bool(_users) and _users[0] != os.getpid()


def _keepalive_options(keepalive_s: float) -> list[tuple[str, int]]:
    # gRPC sends two pings in a row, and then one a minute: servers end connections that ask more often. Its probes
    # of the bandwidth are pings too, and would use up the two before there is anything to ask.
    return [
        ("grpc.http2.bdp_probe", 0),
        # A minute by default, and the keepalive's own limit does not shorten it.
        ("grpc.http2.ping_timeout_ms", int(500 * keepalive_s)),
        ("grpc.keepalive_time_ms", int(1000 * keepalive_s)),
        ("grpc.keepalive_timeout_ms", int(500 * keepalive_s)),
        # The name is misleading: this is how long an attempt to connect may take, 20 s by default.
        ("grpc.min_reconnect_backoff_ms", int(500 * keepalive_s)),
    ]


def _translate(url: str, error: grpc.RpcError, timeout_s: float | None) -> ServerError:
    import grpc

    code, details = error.code(), " ".join((error.details() or "").split())
    if code == grpc.StatusCode.CANCELLED:
        # Closing this client is told before: the server ended the call.
        return _cancelled(url)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return deadline_exceeded(url, timeout_s)
    if "unknown model" in details or code == grpc.StatusCode.NOT_FOUND:
        return ModelNotFound(f"{url}: {details}: load it, or name another one with model=")
    if _is_busy(error):
        return busy(url, details, _retry_after_s(error))
    if code == grpc.StatusCode.UNAVAILABLE:
        return _unavailable(url, details)
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return not_authorized(url, f"{code.name}: {details}")
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED):
        return Refused(url, details)
    if says_dead(details):
        return dead(url, details)
    return ServerError(f"{url}: {code.name}: {details}")


def _cancelled(url: str) -> ServerError:
    return not_ready(url, "the server cancelled the request")


def _is_busy(error: grpc.RpcError) -> bool:
    """Too many requests; a message that is too large has the same code, and stays too large."""
    import grpc

    details = error.details() or ""
    if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return "message larger than max" not in details and "bytes in a call" not in details
    said = says_busy(details) or _retry_after_s(error) is not None
    return said and error.code() == grpc.StatusCode.UNAVAILABLE


def _unavailable(url: str, details: str) -> ServerError:
    if "onnection refused" in details:
        return nobody_listens(url, "connection refused")
    if "DNS resolution failed" in details:
        return nobody_listens(url, details)
    if url.startswith("grpcs:"):
        if "handshake failed" in details or "verification check failed" in details:
            return tls_error(url, details.rpartition("last error: ")[2])
        if details.endswith("Socket closed"):
            # gRPC does not say more of a server that ends the handshake.
            details += " (it may want a client certificate: client_cert=)"
    return unavailable(url, details)


def _retry_after_s(error: grpc.RpcError) -> float | None:
    for key, value in error.trailing_metadata() or ():
        if key == "retry-after":
            return of_seconds(value)
        if key == "grpc-retry-pushback-ms":
            return of_seconds(value, unit=1e-3)
    return None
