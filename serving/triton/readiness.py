"""Readiness, tested by inference requests to public models."""

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
from .ports import LOOPBACK, Ports
from .process import ServerProcess

POLL_S = 0.05
HEALTH_TIMEOUT_S = 2.0
"""Short, so that another program on the port that never answers does not hide that our process has ended."""
METRICS_WAIT_S = 5.0
"""The server starts the metrics endpoint last, and continues without it where its port is taken."""


BUSY = (http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.GATEWAY_TIMEOUT)


class ServerEndedError(ServerError):
    """The process ended before it was ready."""


class BusyError(ServerError):
    """The server turned a request away for now."""


@dataclass(frozen=True)
class ModelCounts:
    """Requests of a model that went through, those that did not, and batches that were executed."""

    success: int
    fail: int
    executions: int


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
        infer(ports.http, model, max(0.1, deadline - time.monotonic()))
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


def infer(port: int, model: PublicModel, timeout_s: float) -> None:
    """Returns once `model` has answered one request with a finite embedding.

    Args:
        port: the server's own port for HTTP.

    Raises:
        BusyError: it has too much to do.
        ServerError: no answer, an error, or an embedding that is none.
    """
    embed(LOOPBACK, port, model, _sample(model), timeout_s)


def embed(host: str, port: int, model: PublicModel, item: bytes, timeout_s: float) -> Sequence[float]:
    """The embedding of one item, `[D]`, over HTTP; finite. Raises as `infer`."""
    try:
        path = f"/v2/models/{model.name}/infer"
        answer = _request(host, port, "POST", path, timeout_s, item)
    except (OSError, http.client.HTTPException) as error:
        reason = error or type(error).__name__
        raise ServerError(f"{model.name}: no answer to a request for a test: {reason}") from error
    if answer.status != http.HTTPStatus.OK:
        kind = BusyError if answer.status in BUSY else ServerError
        raise kind(f"{model.name}: a request for a test failed with {answer.status}: {_message(answer.body)}")
    values = _embedding(model, answer)
    if len(values) != model.embedding_dim or not all(math.isfinite(value) for value in values):
        raise ServerError(
            f"{model.name}: the answer is not {model.embedding_dim} finite values: export the model again"
        )
    return values


@dataclass(frozen=True)
class ModelState:
    """What the server says of a model: READY, LOADING, UNLOADING or UNAVAILABLE, and the reason of the last."""

    state: str
    reason: str


def model_states(port: int, timeout_s: float) -> dict[str, ModelState]:
    """Every model that the server has tried to load, by name.

    Raises:
        ServerError: the server does not say.
    """
    try:
        body = _request(LOOPBACK, port, "POST", "/v2/repository/index", timeout_s, b"{}", binary=False).body
        return {m["name"]: ModelState(m.get("state", ""), m.get("reason", "")) for m in json.loads(body)}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise ServerError(f"the server does not list its models: {error or type(error).__name__}") from error


def is_ready(port: int, name: str, timeout_s: float) -> bool:
    """Whether a model takes requests; raises ServerError where the server does not answer."""
    try:
        return _request(LOOPBACK, port, "GET", f"/v2/models/{name}/ready", timeout_s).status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(f"{name}: the server does not say whether it is ready: {error}") from error


def model_parameters(port: int, name: str, timeout_s: float) -> dict[str, str]:
    """The parameters of a model that is loaded; none where it is not.

    Raises:
        ServerError: the server does not answer.
    """
    try:
        answer = _request(LOOPBACK, port, "GET", f"/v2/models/{name}/config", timeout_s)
        found = json.loads(answer.body).get("parameters", {}) if answer.status == http.HTTPStatus.OK else {}
        return {key: value["string_value"] for key, value in found.items()}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise ServerError(f"{name}: the server gives no configuration: {error or type(error).__name__}") from error


def statistics(port: int, timeout_s: float) -> dict[str, ModelCounts]:
    """What each model has done since the server started, by name.

    Raises:
        ServerError: the server does not say.
    """
    try:
        models = json.loads(_request(LOOPBACK, port, "GET", "/v2/models/stats", timeout_s).body)["model_stats"]
        return {
            model["name"]: ModelCounts(
                model["inference_stats"]["success"]["count"],
                model["inference_stats"]["fail"]["count"],
                model["execution_count"],
            )
            for model in models
        }
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise ServerError(f"the server gives no statistics: {error or type(error).__name__}") from error


def _request(
    host: str,
    port: int,
    method: str,
    path: str,
    timeout_s: float,
    body: bytes | None = None,
    *,
    binary: bool = True,
) -> Answer:
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        # Triton takes a body without a JSON part as the only element of the model's only input.
        connection.request(method, path, body, {"Inference-Header-Content-Length": "0"} if body and binary else {})
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
    raise ServerError(f"{model.name}: the answer has no embedding")


def _values(output: dict[str, Any], binary: bytes) -> Sequence[float]:
    return output["data"] if "data" in output else struct.unpack(f"<{len(binary) // 4}f", binary)


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
