"""Pages elsewhere that ask by their visitor's browser: under a name made to point here, or by a form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_shop import Shop
from running_gateway import RunningGateway, running_gateway

from protoclip.contract.errors import ConfigError
from serving.gateway.hosts import allowed_hosts, is_allowed
from serving.gateway.settings import make_settings


@pytest.fixture(scope="module")
def named(tiny_artifact: Path, shop: Shop) -> Iterator[RunningGateway]:
    with running_gateway(
        url=str(tiny_artifact),
        indexes={"shop": shop.index},
        allowed_hosts=("Shop.example",),
        cors_origins=("https://other.example",),
    ) as running:
        yield running


def test_a_name_that_was_made_to_point_here_gets_nothing(gateway: RunningGateway) -> None:
    for host in (
        "evil.example",
        f"evil.example:{gateway.port}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
    ):
        for path in (
            "/",
            "/indexes",
            "/thumbnails/shop/red0.png",
            "/v1/models",
            "/healthz",
            "/metrics",
            "/static/page.js",
        ):
            answer = gateway.get(path, Host=host)
            assert answer.status == 421, (host, path)
            assert b"--allowed-host" in answer.body
            assert b"red0.png" not in answer.body
    dialect = gateway.ask("POST", "/v1/embeddings", b"{}", {"Host": "evil.example"})
    assert (dialect.status, dialect.json["error"]["code"]) == (421, "unknown_host")
    both = gateway.raw(
        b"GET /indexes HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    )
    assert both.startswith(b"HTTP/1.1 400")
    absolute = b"GET http://localhost/indexes HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert gateway.raw(absolute).startswith(b"HTTP/1.1 421")


def test_the_gateways_own_names_and_addresses_are_let_in(gateway: RunningGateway, named: RunningGateway) -> None:
    for host in ("localhost", f"LOCALHOST:{gateway.port}", "127.0.0.1", "[::1]:80", "10.0.0.7:8080", "localhost."):
        assert gateway.get("/indexes", Host=host).status == 200, host
    for host, status in (
        ("shop.example", 200),
        ("SHOP.example:443", 200),
        ("localhost", 200),
        ("a.shop.example", 421),
    ):
        assert named.get("/indexes", Host=host).status == status, host
    # A program of the last century sends none; a browser always does.
    assert gateway.raw(b"GET /indexes HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("values", "host", "allowed"),
    [
        ({"host": "127.0.0.1"}, "shop.example", False),
        ({"host": "127.0.0.9"}, "shop.example", False),
        ({"host": "::1"}, "shop.example", False),
        ({"host": "localhost"}, "shop.example", False),
        ({"host": "0.0.0.0"}, "shop.example", True),
        ({"host": "0.0.0.0", "allowed_hosts": ("shop.example",)}, "evil.example", False),
        ({"host": "0.0.0.0", "allowed_hosts": ("shop.example",)}, "10.0.0.7:8080", True),
        ({"host": "pc.example", "allowed_hosts": ("shop.example",)}, "pc.example:8080", True),
        ({"host": "127.0.0.1", "allowed_hosts": ("*",)}, "shop.example", True),
    ],
    ids=str,
)
def test_which_names_count_depends_on_who_can_reach_it(
    values: dict[str, object], host: str, allowed: bool
) -> None:
    names = allowed_hosts(make_settings(**values))
    assert (names is None or is_allowed(host, names)) is allowed


@pytest.mark.parametrize(
    "host", ["https://shop.example", "shop.example:80", "", "a b", "*.example", "shop.example/"]
)
def test_a_host_that_is_none_is_named_in_the_settings(host: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("allowed_hosts.0: ") + ".*give the name alone"):
        make_settings(allowed_hosts=(host,))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost", "Host": "localhost"}, 200),
        ({"Origin": "http://localhost:3000", "Host": "localhost:8080"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "https://other.example"}, 200),
        ({"Origin": "https://other.example", "Sec-Fetch-Site": "cross-site"}, 200),
        ({"Origin": "https://shop.example", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
    ids=str,
)
def test_a_page_elsewhere_sends_no_form(named: RunningGateway, headers: dict[str, str], status: int) -> None:
    """A form needs no leave of CORS; what browsers say of who sent it does not come from the page."""
    body = b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nred\r\n--b--\r\n'
    wanted = {"Content-Type": "multipart/form-data; boundary=b", **headers}
    answer = named.ask("POST", "/search", body, wanted)
    assert answer.status == status, answer.body
    if status == 403:
        assert answer.json["code"] == "cross_origin"
    # A link to the page is followed from anywhere.
    assert named.ask("GET", "/", headers={**headers}).status == 200
