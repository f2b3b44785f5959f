"""Ports for a server: checked where they are given, a free one chosen where they are 0."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from protoclip.contract.errors import ConfigError

LOOPBACK = "127.0.0.1"
MAX_PORT = 65_535
BACKLOG = 256
"""Connections that wait to be accepted."""


@dataclass(frozen=True)
class Ports:
    """Where the server listens; 0 stands for any free port."""

    http: int = 0
    grpc: int = 0
    metrics: int = 0


def resolve(host: str) -> str:
    """The numeric IPv4 address of `host`, which is all that the server's HTTP endpoint accepts.

    Raises:
        ConfigError: `host` has none.
    """
    try:
        return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise ConfigError(
            f"--host={host} has no IPv4 address ({error.strerror}): use 127.0.0.1 or 0.0.0.0"
        ) from error


def pick(metrics_address: str, metrics_port: int = 0) -> Ports:
    """Three different free ports: the server's own two on the loopback, and that of its metrics.

    Only the last may be given. They are not reserved until the server listens.

    Raises:
        ConfigError: the given port is taken or out of range, or the address is not one of this machine's.
    """
    with ExitStack() as stack:
        # Held until all are picked: the server refuses to start where two are the same.
        metrics = _bind(stack, metrics_address, metrics_port, "--metrics-port")
        http = _bind(stack, LOOPBACK, 0, "--http-port")
        return Ports(http=http, grpc=_bind(stack, LOOPBACK, 0, "--grpc-port"), metrics=metrics)


def listen(address: str, port: int, option: str) -> socket.socket:
    """A socket that listens on `port`, or on a free one for 0; `option` is named in errors.

    Raises:
        ConfigError: as `reserve`.
    """
    if not 0 <= port <= MAX_PORT:
        raise ConfigError(f"{option}={port} is no port: use 1 to {MAX_PORT}, or 0 to have one picked")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # As the server does: a port with connections in TIME_WAIT counts as free.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"--host={address} is not an address of this machine: use 127.0.0.1") from error
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"port {port} on {address} can't be used ({reason}): give another one with {option}, 0 picks one"
        ) from error
    return listener


def port_of(listener: socket.socket) -> int:
    """The port that it listens on."""
    return int(listener.getsockname()[1])


def _bind(stack: ExitStack, address: str, port: int, option: str) -> int:
    return port_of(stack.enter_context(listen(address, port, option)))
