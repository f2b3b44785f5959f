"""A gateway before a transport of the test's own, with a key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from running_gateway import RunningGateway, running_gateway

from protoclip.client import ArtifactTransport, AsyncClient
from serving.gateway.class_banks import ClassBanks
from serving.gateway.indexes import Indexes
from serving.gateway.settings import make_settings
from serving.gateway.state import Gateway

KEY = "0123456789abcdef"
BUDGET_S = 2.0
"""What a request may take at the server."""


@contextmanager
def serve_gateway(transport: ArtifactTransport, folder: Path, **settings: Any) -> Iterator[RunningGateway]:
    """A gateway which wants KEY and takes bodies of 1 MiB; `folder` gets the file of keys."""
    _load_encoders(transport)
    keys = folder / "keys"
    keys.write_text(f"tests {KEY}\n", encoding="utf-8")
    keys.chmod(0o600)
    made = make_settings(port=0, keys_file=keys, body_bytes=1024 * 1024, health_s=0, **settings)
    client = AsyncClient(transport=transport, timeout_s=BUDGET_S)
    with running_gateway(Gateway(client, made, Indexes({}), ClassBanks({}))) as running:
        yield running


def _load_encoders(transport: ArtifactTransport) -> None:
    """Before any budget runs."""
    for role in ("image", "text"):
        transport._load(role)  # type: ignore[arg-type]
