"""The tiny model's server over both protocols, and what interrupts a demo."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
from forked_python import ForkedPython

from protoclip import Client
from scripts import load_script
from serving.triton.launcher import LaunchedServer


@pytest.fixture(scope="module", params=["grpc", "http"])
def url(request: pytest.FixtureRequest, triton: LaunchedServer) -> str:
    return triton.grpc_url if request.param == "grpc" else triton.http_url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture(scope="session")
def interruptions() -> ModuleType:
    """benchmarks/interruptions.py, of which the tests here are the short form; its demos are forked."""
    script = load_script("benchmarks/interruptions.py")
    script.Popen = ForkedPython
    return script
