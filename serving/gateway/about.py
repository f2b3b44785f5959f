"""What a gateway says of itself: /healthz, /metrics, /openapi.json, and /docs for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from .errors import answering, json_response
from .health import HealthCheck
from .metrics import CONTENT_TYPE
from .openapi import Paths, operation
from .state import Gateway

OPEN_PATHS = ("/healthz",)
_STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font: 600 1rem ui-monospace, monospace; margin: 2rem 0 .25rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; } td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; }
code { overflow-wrap: anywhere; }
"""
_PAGE = Markup("""\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>ProtoCLIP gateway: interface</title><link rel="stylesheet" href="/docs/style.css"></head>
<body><main><h1>ProtoCLIP gateway</h1>
<p>Every address and what it takes. For programs: <a href="/openapi.json">openapi.json</a>.</p>
{operations}
</main></body></html>
""")


def routes(gateway: Gateway, description: Callable[[], dict[str, Any]]) -> list[BaseRoute]:
    """The routes of this module; `description` gives the whole interface."""
    check = HealthCheck(gateway.client, gateway.settings.health_s)

    async def healthz(request: Request) -> Response:
        health = await check.now()
        if health.refusal is not None:
            raise health.refusal
        facts = {"model": health.model, "fingerprint": health.fingerprint, "verdict": health.verdict}
        return json_response({"status": "ok", **facts})

    async def metrics(request: Request) -> Response:
        return Response(gateway.metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def openapi(request: Request) -> Response:
        return json_response(description())

    async def docs(request: Request) -> Response:
        return Response(_page(description()["paths"]), media_type="text/html")

    async def style(request: Request) -> Response:
        return Response(_STYLE, media_type="text/css")

    return [
        Route("/healthz", answering(healthz), methods=["GET"]),
        Route("/metrics", answering(metrics), methods=["GET"]),
        Route("/openapi.json", answering(openapi), methods=["GET"]),
        Route("/docs", answering(docs), methods=["GET"]),
        Route("/docs/style.css", answering(style), methods=["GET"]),
    ]


def describe(gateway: Gateway) -> Paths:
    """For /openapi.json."""
    text = "text/plain"
    return {
        "/healthz": {"get": operation("Whether a picture and a text get a vector now", "the model that answers")},
        "/metrics": {"get": operation("Counters for Prometheus", "its text format", answer_type=text)},
    }


def _page(paths: Paths) -> str:
    operations = Markup("\n").join(
        _operation(path, method, facts) for path, methods in paths.items() for method, facts in methods.items()
    )
    return _PAGE.format(operations=operations)


def _operation(path: str, method: str, facts: dict[str, Any]) -> Markup:
    heading = Markup("<section><h2>{} {}</h2><p>{}: {}.</p>").format(
        method.upper(), path, facts["summary"], facts["responses"]["200"]["description"]
    )
    contents = facts.get("requestBody", {}).get("content", {})
    schema = contents.get("application/json", {}).get("schema", {})
    rows = Markup("").join(
        Markup("<tr><th scope=row><code>{}</code></th><td>{}</td></tr>").format(name, field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    )
    types = Markup(" or ").join(Markup("<code>{}</code>").format(escape(one)) for one in contents)
    body = Markup("<p>Body: {}</p>").format(types) if contents else Markup("")
    table = Markup("<table>{}</table>").format(rows) if rows else Markup("")
    return heading + body + table + Markup("</section>")
