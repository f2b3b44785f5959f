"""The tiny model's server over both protocols, and what interrupts a demo."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

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


@pytest.fixture(scope="session")
def interruptions() -> ModuleType:
    """benchmarks/interruptions.py, of which the tests here are the short form."""
    path = Path(__file__).parents[2] / "benchmarks" / "interruptions.py"
    spec = importlib.util.spec_from_file_location("interruptions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["interruptions"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
