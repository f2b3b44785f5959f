"""What a gateway counts, as Prometheus reads it."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one gateway. Routes are known patterns, never a client's own path: their number is bounded.

    Attributes:
        num_in_flight: requests that are being answered.
    """

    def __init__(self) -> None:
        self.num_in_flight = 0
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "protoclip_gateway_requests_total",
            "Requests that were answered, by route and status.",
            ("route", "status"),
            registry=self.registry,
        )
        self._refusals = Counter(
            "protoclip_gateway_refusals_total",
            "Requests that were answered with an error, by its code: unauthorized counts keys that are none.",
            ("code",),
            registry=self.registry,
        )
        self._latency = Histogram(
            "protoclip_gateway_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ("route",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        in_flight = Gauge(
            "protoclip_gateway_requests_in_flight", "Requests that are being answered.", registry=self.registry
        )
        # Read when they are asked for: most requests are answered between two looks at them.
        in_flight.set_function(lambda: self.num_in_flight)
        self.held_bytes = Gauge(
            "protoclip_gateway_held_bytes", "Bytes of bodies in memory.", registry=self.registry
        )

        # Looking a child up by its labels takes longer than counting in it.
        self._answered = cache(lambda route, status: self._requests.labels(route, str(status)))
        self._durations = cache(self._latency.labels)

    def observe(self, route: str, status: int, duration_s: float, code: str = "") -> None:
        """Counts a request; `code` is of its refusal, one of those that stand in the sources."""
        if code:
            self._refusals.labels(code).inc()
        self._answered(route, status).inc()
        self._durations(route).observe(duration_s)

    def render(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self.registry)
