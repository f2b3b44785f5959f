"""Readiness, tested by one inference request to every public model."""

from __future__ import annotations

import http.client
import io
import json
import math
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from protoclip.contract.errors import ServerError

from .catalog import PublicModel
from .ports import Ports
from .process import ServerProcess

LOOPBACK = "127.0.0.1"
POLL_S = 0.05
HEALTH_TIMEOUT_S = 2.0
"""Short, so that another program on the port that never answers does not hide that our process has ended."""
METRICS_WAIT_S = 5.0
"""The server starts the metrics endpoint last, and continues without it where its port is taken."""


class ServerEndedError(ServerError):
    """The process ended before it was ready."""


@dataclass(frozen=True)
class Answer:
    """A complete HTTP answer; `json_length` where binary tensors follow the JSON part."""

    status: int
    body: bytes
    json_length: int


def wait_until_serving(
    process: ServerProcess,
    ports: Ports,
    models: Sequence[PublicModel],
    deadline: float,
    *,
    metrics_host: str,
) -> None:
    """Returns once every model of `models` has answered one request with a finite embedding.

    Args:
        ports: that for HTTP is the server's own, on the loopback.
        deadline: by `time.monotonic()`.
        metrics_host: where the metrics are.

    Raises:
        ServerEndedError: the process ended meanwhile.
        ServerError: the deadline passed, or a model answered with an error.
    """
    _wait_for(process, LOOPBACK, ports.http, "/v2/health/ready", deadline)
    for model in models:
        _infer(LOOPBACK, ports.http, model, deadline)
    metrics_deadline = min(deadline, time.monotonic() + METRICS_WAIT_S)
    _wait_for(process, metrics_host, ports.metrics, "/metrics", metrics_deadline)


def _wait_for(process: ServerProcess, host: str, port: int, path: str, deadline: float) -> None:
    while True:
        if process.exit_code() is not None:
            raise ServerEndedError(f"the server ended with exit code {process.exit_code()} while it started")
        if time.monotonic() > deadline:
            raise ServerError("the server did not get ready in time")
        try:
            if _request(host, port, "GET", path, HEALTH_TIMEOUT_S).status == http.HTTPStatus.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(POLL_S)


def _infer(host: str, port: int, model: PublicModel, deadline: float) -> None:
    left = max(0.1, deadline - time.monotonic())
    try:
        answer = _request(host, port, "POST", f"/v2/models/{model.name}/infer", left, _sample(model))
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(
            f"{model.name}: no answer to the first request: {error or type(error).__name__}"
        ) from error
    if answer.status != http.HTTPStatus.OK:
        raise ServerError(f"{model.name}: the first request failed with {answer.status}: {_message(answer.body)}")
    values = _embedding(model, answer)
    if len(values) != model.embedding_dim or not all(math.isfinite(value) for value in values):
        raise ServerError(
            f"{model.name}: the first answer is not {model.embedding_dim} finite values: export the model again"
        )


def _request(host: str, port: int, method: str, path: str, timeout_s: float, body: bytes | None = None) -> Answer:
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        # Triton takes a body without a JSON part as the only element of the model's only input.
        connection.request(method, path, body, {"Inference-Header-Content-Length": "0"} if body else {})
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    length = response.getheader("Inference-Header-Content-Length")
    return Answer(response.status, data, len(data) if length is None else int(length))


def _sample(model: PublicModel) -> bytes:
    if model.role == "text":
        return b"ready"
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).save(buffer, "PNG")
    return buffer.getvalue()


def _embedding(model: PublicModel, answer: Answer) -> Sequence[float]:
    offset = answer.json_length
    for output in json.loads(answer.body[:offset])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        if output["name"] == "embedding":
            return _values(output, answer.body[offset : offset + size])
        offset += size
    raise ServerError(f"{model.name}: the first answer has no embedding")


def _values(output: dict[str, Any], binary: bytes) -> Sequence[float]:
    return output["data"] if "data" in output else struct.unpack(f"<{len(binary) // 4}f", binary)


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
