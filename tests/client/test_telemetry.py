"""Spans by OpenTelemetry's own SDK, what the server gets of them, and a client without it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway import gateway
from misbehaving_servers import http_server, send
from opentelemetry import context, propagate
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from protoclip.client import AsyncClient, Client, InMemoryTransport, MemoryModel, telemetry
from protoclip.client.errors import Refused
from protoclip.contract.errors import ItemError
from serving.triton.launcher import LaunchedServer

Spans = Callable[[], dict[str, ReadableSpan]]


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider()


@pytest.fixture
def spans(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> Spans:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer: Tracer = provider.get_tracer("protoclip")
    monkeypatch.setattr(telemetry, "_tracer", lambda: tracer)
    return lambda: {span.name: span for span in exporter.get_finished_spans()}


def _facts(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix("protoclip."): value for name, value in (span.attributes or {}).items()}


def test_every_call_has_one(memory_model: MemoryModel, spans: Spans) -> None:
    with Client(transport=InMemoryTransport(memory_model)) as client:
        client.embed_texts(["a", " "] * 40, errors="return")
        list(client.stream_texts(["a"] * 33))
        client.classify(b"no picture", ["a", "b"], errors="return")
    found = spans()
    assert set(found) == {"protoclip.embed_texts", "protoclip.stream_texts", "protoclip.classify"}
    common = {"url": "memory://", "model": "tiny_012345", "retries": 0}
    assert [_facts(span) for span in found.values()] == [{**common, "items": count} for count in (80, 33, 3)]


def test_a_failed_call_says_why(memory_model: MemoryModel, spans: Spans) -> None:
    with Client(transport=InMemoryTransport(memory_model)) as client, pytest.raises(ItemError):
        client.embed_texts(" ")
    span = spans()["protoclip.embed_texts"]
    assert not span.status.is_ok
    assert "the text is blank" in (span.status.description or "")
    assert span.events[0].name == "exception"


def test_retries_are_counted(spans: Spans) -> None:
    statuses = iter([503, 400])
    with (
        http_server(lambda handler: send(handler, next(statuses), {}, b'{"error": "not now"}')) as url,
        Client(url, timeout_s=60) as client,
        pytest.raises(Refused),
    ):
        client.embed_texts("a")
    facts = _facts(spans()["protoclip.embed_texts"])
    assert facts["retries"] == 1
    assert "model" not in facts


@pytest.mark.parametrize("scheme", ["grpc", "http"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_server_is_told(
    scheme: str, asynchronous: bool, triton: LaunchedServer, spans: Spans, provider: TracerProvider
) -> None:
    async def ask(url: str) -> None:
        async with AsyncClient(url) as client:
            await client.embed_texts(["a"] * 100)

    with (
        gateway(triton.grpc_url if scheme == "grpc" else triton.http_url) as before,
        provider.get_tracer("user").start_as_current_span("request") as own,
    ):
        if asynchronous:
            asyncio.run(ask(before.url))
        else:
            with Client(before.url) as client:
                client.embed_texts(["a"] * 100)
    span = spans()["protoclip.embed_texts"]
    assert span.parent is not None
    assert span.parent.span_id == own.get_span_context().span_id
    context = span.get_span_context()
    assert context is not None
    expected = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    assert len(before.seen) >= 7
    assert {headers["traceparent"] for headers in before.seen} == {expected}


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_upper_case_of_a_propagator_arrives(
    scheme: str, triton: LaunchedServer, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propagate, "inject", lambda carrier, context: carrier.update({"X-Trace-Id": "1"}))
    with gateway(triton.grpc_url if scheme == "grpc" else triton.http_url) as before, Client(before.url) as client:
        client.embed_texts("a")
    assert {headers["x-trace-id"] for headers in before.seen} == {"1"}


def test_without_an_sdk_a_callers_span_alone_is_told() -> None:
    assert telemetry.start_span("search") is telemetry.NO_SPAN
    told = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    token = context.attach(propagate.extract(told))
    try:
        assert telemetry.start_span("search").headers() == told
    finally:
        context.detach(token)


def test_nothing_is_needed_of_it(tiny_artifact: Path) -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
from protoclip.client import Client
with Client(sys.argv[1]) as client:
    print(client.embed_texts("a").shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_artifact)], capture_output=True, text=True, timeout=200
    )
    assert (done.stdout, done.returncode) == ("(16,)\n", 0), done.stderr
