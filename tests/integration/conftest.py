"""The tiny model's server over both protocols."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protoclip import Client
from serving.triton.launcher import LaunchedServer


@pytest.fixture(scope="module", params=["grpc", "http"])
def url(request: pytest.FixtureRequest, triton: LaunchedServer) -> str:
    return triton.grpc_url if request.param == "grpc" else triton.http_url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client
