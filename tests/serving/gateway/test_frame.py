"""What every request goes through: ids, headers, log, counters, keys, origins; what the gateway says of itself."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_shop import Shop
from running_gateway import RunningGateway, running_gateway

from protoclip.contract.errors import ConfigError
from serving.gateway.keys import read_keys
from serving.gateway.settings import make_settings

KEY = "correct-horse-battery-staple"
OTHER = "another-key-of-good-length"
PATHS = (
    "/",
    "/search",
    "/classify",
    "/classes",
    "/indexes",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/thumbnails/shop/red0.png",
    "/nowhere",
)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"# who may ask\n\nshop {KEY}\nother  {OTHER}\n")
    return file


@pytest.fixture
def locked(tiny_artifact: Path, shop: Shop, keys_file: Path) -> Iterator[RunningGateway]:
    with running_gateway(
        url=str(tiny_artifact),
        indexes={"shop": shop.index},
        keys_file=keys_file,
        cors_origins=("https://shop.example",),
    ) as running:
        yield running


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{key}".encode()).decode()


def test_every_answer_has_an_id_and_headers_for_browsers(gateway: RunningGateway) -> None:
    for path in PATHS:
        answer = gateway.get(path)
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"]), path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe-inline" not in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert gateway.ask("GET", "/indexes", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert gateway.ask("GET", "/indexes", headers={"X-Request-ID": 'a b"'}).headers["x-request-id"] != 'a b"'


def test_unknown_paths_and_methods_are_json(gateway: RunningGateway) -> None:
    for path in ("/nowhere", "/search/", "/SEARCH", "/%2e%2e/indexes", "/v2/models"):
        answer = gateway.get(path)
        assert (answer.status, answer.json["code"]) == (404, "not_found"), path
    wrong = gateway.get("/search")
    assert (wrong.status, wrong.headers["allow"], wrong.json["code"]) == (405, "POST", "method_not_allowed")
    assert gateway.ask("OPTIONS", "/search").status == 405
    assert gateway.ask("DELETE", "/indexes").status == 405
    assert gateway.ask("HEAD", "/indexes").body == b""


def test_a_line_of_the_log_says_who_asked_what(locked: RunningGateway) -> None:
    locked.ask("GET", "/nowhere/a%0Ab%22?key=secret", headers={"Authorization": f"Bearer {KEY}"})
    locked.post("/search", {"text": "words of a user"}, {"X-API-Key": OTHER, "X-Request-ID": "mine-2"})
    locked.get("/indexes")
    # The line is written after the answer.
    _wait_for(lambda: len(locked.log) >= 3)
    lines = [json.loads(line) for line in locked.log]
    assert all(line["program"] == "protoclip gateway" for line in lines)
    first, second, third = lines
    assert (first["status"], first["path"], first["client"]) == (404, '/nowhere/a\nb"', "shop")
    assert "\n" not in locked.log[0]
    assert (second["status"], second["client"], second["request_id"]) == (200, "other", "mine-2")
    assert (third["status"], third["code"]) == (401, "unauthorized")
    assert second["bytes_received"] == len(json.dumps({"text": "words of a user"}))
    for secret in (KEY, OTHER, "words of a user", "secret"):
        assert secret not in "".join(locked.log)


def test_without_a_known_key_nothing_is_answered_but_health(locked: RunningGateway) -> None:
    assert locked.get("/healthz").status == 200
    for path in PATHS:
        for headers in (
            {},
            {"Authorization": f"Bearer {KEY}x"},
            {"Authorization": f"Bearer {KEY[:-1]}"},
            {"Authorization": KEY},
            {"Authorization": "Bearer "},
            {"Authorization": "Basic !!!"},
            {"Authorization": basic("wrong")},
            {"X-API-Key": ""},
            {"X-API-Key": "wrong", "Authorization": f"Bearer {KEY}"},
        ):
            answer = locked.ask("GET", path, headers=headers)
            assert (answer.status, answer.json["code"]) == (401, "unauthorized"), (path, headers)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    for headers in (
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer {OTHER}"},
        {"X-API-Key": KEY},
        {"Authorization": basic(KEY)},
    ):
        assert locked.ask("GET", "/indexes", headers=headers).status == 200
    assert locked.ask("GET", "/", headers={"Accept": "text/html"}).headers["www-authenticate"].startswith("Basic")
    # A body that nobody has read does not stand in the way of the next request.
    refused = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    following = (
        f"GET /indexes HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nConnection: close\r\n\r\n".encode()
    )
    answers = locked.raw(refused + following)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"401", b"200"]


def test_keys_are_read_again_when_their_file_is_replaced(
    locked: RunningGateway, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.gateway.keys.LOOK_S", 0.0)
    fresh = keys_file.with_name("fresh")
    fresh.write_text(f"new {'n' * 20}\n")
    fresh.replace(keys_file)
    assert locked.ask("GET", "/indexes", headers={"X-API-Key": "n" * 20}).status == 200
    assert locked.ask("GET", "/indexes", headers={"X-API-Key": KEY}).status == 401
    keys_file.write_text("broken\n")
    assert locked.ask("GET", "/indexes", headers={"X-API-Key": "n" * 20}).status == 200
    assert any("the keys stay as they were" in line for line in locked.log)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no key"),
        ("shop short", "line 1 is no `name key`"),
        ("only-a-name-and-nothing-else", "line 1 is no `name key`"),
        (f"a {KEY}\nb {KEY}", "line 2 has a name or a key"),
        (f"a {KEY}\na {OTHER}", "line 2 has a name or a key"),
        (f"a {KEY}ä", "line 1 is no `name key`"),
    ],
)
def test_a_file_of_keys_that_can_not_be_used_is_named_and_shows_no_key(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        read_keys(file)
    assert str(file) in str(raised.value)
    assert KEY not in str(raised.value)
    assert "short" not in str(raised.value)
    with pytest.raises(ConfigError, match="can't be read"):
        read_keys(tmp_path / "none")


def test_other_origins_may_ask_where_they_are_named(locked: RunningGateway, gateway: RunningGateway) -> None:
    preflight = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = locked.ask("OPTIONS", "/search", headers=preflight)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://shop.example")
    stranger = locked.ask("OPTIONS", "/search", headers={**preflight, "Origin": "https://evil.example"})
    assert stranger.status == 400
    assert "access-control-allow-origin" not in stranger.headers
    assert "access-control-allow-origin" not in gateway.ask("OPTIONS", "/search", headers=preflight).headers
    with pytest.raises(ConfigError, match="every page on the web"):
        make_settings(cors_origins=("*",))


def test_counters_are_by_route_and_status(gateway: RunningGateway) -> None:
    gateway.get("/thumbnails/shop/red0.png")
    gateway.get("/thumbnails/shop/none.png")
    gateway.get(f"/{time.monotonic()}")
    answer = gateway.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    for status in (200, 404):
        labels = f'route="/thumbnails/{{index}}/{{entry:path}}",status="{status}"'
        assert f"protoclip_gateway_requests_total{{{labels}}} " in text
    assert 'route="other",status="404"' in text
    assert 'protoclip_gateway_request_duration_seconds_bucket{le="0.005",route="/thumbnails/{index}' in text
    assert "protoclip_gateway_requests_in_flight 1.0" in text


def test_health_is_an_inference(gateway: RunningGateway) -> None:
    facts = gateway.get("/healthz").json
    assert facts == {
        "status": "ok",
        "model": "tiny_012345",
        "fingerprint": "0123456789abcdef",
        "verdict": "passed",
    }


def test_the_interface_is_described_without_requests_to_others(gateway: RunningGateway) -> None:
    description = gateway.get("/openapi.json").json
    assert description["openapi"] == "3.1.0"
    assert {"/search", "/classify", "/indexes", "/healthz", "/thumbnails/{index}/{id}"} <= set(
        description["paths"]
    )
    schema = description["paths"]["/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "where" in schema["properties"]
    page = gateway.get("/docs")
    text = page.body.decode()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "POST /search" in text
    for address in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert address.startswith("/")
        assert gateway.get(address).status == 200
    assert "<script" not in text
    assert "style=" not in text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"port": 70_000}, "port: "),
        ({"indexes": {"a/b": "x"}}, "indexes.a/b"),
        ({"pictures": {"shop": ("x",)}}, "pictures names 'shop'"),
        ({"forward": {"immich": "file:///etc/passwd"}}, "forward.immich: is no address"),
        ({"forward": {"immich": "http://user:pw@host"}}, "forward.immich: is no address"),
        ({"kserve_url": "grpc://host:8001"}, "kserve_url: is no address"),
        ({"tls_key": "key.pem"}, "without tls_cert"),
        ({"nonsense": 1}, "nonsense: "),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_settings(**values)


def _wait_for(condition: object) -> None:
    end = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)
