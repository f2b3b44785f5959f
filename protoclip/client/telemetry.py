"""Spans by OpenTelemetry, one for each call, where `opentelemetry-api` is installed; else nothing.

Which spans are kept, and where they go, is for the program that installs an SDK to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer


class CallSpan:
    """The span of one call, from its making to `end`; one without a `span` records nothing."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    def headers(self) -> Mapping[str, str]:
        """What tells the server of this span: `traceparent`, and what else the program's propagators send."""
        if self._span is None:
            return {}
        from opentelemetry import propagate, trace

        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(self._span))
        return carrier

    def failed(self, error: BaseException) -> None:
        """Records why the call has no answer."""
        if self._span is None:
            return
        from opentelemetry.trace import Status, StatusCode

        self._span.record_exception(error)
        self._span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))

    def end(self, **attributes: str | int | None) -> None:
        """Ends it, with `attributes` that become `protoclip.NAME`; those that are None are left out."""
        if self._span is None:
            return
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(f"protoclip.{name}", value)
        self._span.end()


NO_SPAN = CallSpan()


def start_span(name: str) -> CallSpan:
    """A span `protoclip.NAME`, a child of the caller's current one; it is not made the current one."""
    tracer = _tracer()
    if tracer is None:
        return NO_SPAN
    from opentelemetry.trace import (
        ProxyTracer,
        ProxyTracerProvider,
        SpanKind,
        get_current_span,
        get_tracer_provider,
    )

    if (
        isinstance(tracer, ProxyTracer)
        and isinstance(get_tracer_provider(), ProxyTracerProvider)
        and not get_current_span().get_span_context().is_valid
    ):
        # Without an SDK nothing is recorded, and there is no span of the caller's to tell the server of.
        return NO_SPAN
    return CallSpan(tracer.start_span(f"protoclip.{name}", kind=SpanKind.CLIENT))


@cache
def _tracer() -> Tracer | None:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("protoclip")
