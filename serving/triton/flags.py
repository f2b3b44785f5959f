"""Triton's flags, in one place: for the server that `TritonServer` starts and for the image of the Dockerfile."""

from __future__ import annotations

from serving.guard.given_up import CALL_HEADER

from .ports import Ports

CLOSED_APIS = "shared-memory,trace,logging"
"""Nothing for clients: they register memory and write files on the server."""
EVERYWHERE = ("--disable-auto-complete-config",)
CALLS = tuple(f"--{protocol}-header-forward-pattern={CALL_HEADER.decode()}" for protocol in ("http", "grpc"))
"""Python models learn the number that the guard has given a call."""
SUMMARIES = ("--metrics-config=summary_latencies=true",)
"""Not by default: 0.1 ms of a request's 3 on a busy core. Triton has no histograms of these times."""


def closed_flags(key: str) -> tuple[str, ...]:
    """Closes `CLOSED_APIS` on both protocols, except for who knows `key`, which is not given out."""
    restriction = f"{CLOSED_APIS}:protoclip={key}"
    return (f"--http-restricted-api={restriction}", f"--grpc-restricted-protocol={restriction}")


def address_flags(address: str, ports: Ports) -> tuple[str, ...]:
    """Where the server listens: on the loopback, where the guard asks; for metrics on `address`."""
    return (
        "--http-address=127.0.0.1",
        f"--http-port={ports.http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={ports.grpc}",
        f"--metrics-address={address}",
        f"--metrics-port={ports.metrics}",
    )
