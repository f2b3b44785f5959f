"""What the guard lets through, and the state that it is told of the server behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Bounds on what a client may send; what exceeds one is answered with an error that names it.

    Attributes:
        header_bytes: request line and headers together.
        headers: number of headers.
        json_bytes: JSON part of a request.
        body_bytes: whole body; the client of this package sends at most 65 MiB at once.
        buffered_bytes: bodies of all requests together, whole or on their way.
        chunk_bytes: least average size of the chunks of a chunked body, after the first hundred.
        connections: open connections of clients, of both protocols together.
        calls_per_connection: gRPC calls under way on one connection.
        calls: gRPC calls under way in all.
        header_s: time for request line and headers.
        body_s: time for a body, beyond what `body_bytes_per_s` allows for its size.
        body_bytes_per_s: least pace of a body.
        idle_s: an idle connection is closed after this time.
        write_s: a client that does not read its answer is cut off after this time.
        answer_s: a gRPC call of whose answer nothing comes for this time ends its connection.
    """

    header_bytes: int = 16 * 1024
    headers: int = 64
    json_bytes: int = 4 * MIB
    body_bytes: int = 72 * MIB
    buffered_bytes: int = 512 * MIB
    chunk_bytes: int = 64
    connections: int = 1000
    calls_per_connection: int = 256
    calls: int = 2048
    header_s: float = 10.0
    body_s: float = 20.0
    body_bytes_per_s: int = 64 * 1024
    idle_s: float = 120.0
    write_s: float = 30.0
    answer_s: float = 120.0


@dataclass(frozen=True)
class Settings:
    """How a guard is started.

    Attributes:
        http_socket: file descriptor of the listening socket for HTTP.
        grpc_socket: the same for gRPC.
        models: public models at the start, which alone answer inference requests, with their largest batch.
        parts: models that may be asked for metadata and statistics only.
        limits: see `Limits`.
        given_up_file: that of `GivenUp`; "" for none.
    """

    http_socket: int
    grpc_socket: int
    models: Mapping[str, int]
    parts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    given_up_file: str = ""

    def to_json(self) -> str:
        """One line, as `from_json` reads it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Settings:
        """Reads what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        values = json.loads(text)
        limits = Limits(**values.pop("limits"))
        return Settings(**values | {"parts": tuple(values["parts"]), "limits": limits})


@dataclass(frozen=True)
class State:
    """What the guard knows of the server behind it.

    Attributes:
        http_port: Triton's own port for HTTP, on the loopback; 0 while there is no server to ask.
        grpc_port: the same for gRPC.
        ready: the last inference of every public model went through.
        reason: why it is not ready, for people.
        retry_after_s: when clients that were turned away may come again.
        models: public models from now on, as in the settings; None: as before.
        parts: the same of their parts.
    """

    http_port: int = 0
    grpc_port: int = 0
    ready: bool = False
    reason: str = "the server is starting"
    retry_after_s: int = 2
    models: Mapping[str, int] | None = None
    parts: tuple[str, ...] | None = None

    def to_json(self) -> str:
        """One line, as `from_json` reads it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(line: str | bytes) -> State:
        """Reads what `to_json` wrote; raises TypeError or ValueError for anything else."""
        values: dict[str, Any] = json.loads(line)
        return State(**values)
