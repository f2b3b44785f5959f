"""Bodies and connections that mean no good: each is refused by a status, and the next request is answered."""

from __future__ import annotations

import contextlib
import html
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_shop import COLORS, Shop, picture
from running_gateway import RunningGateway, form, running_gateway

LIMIT = 256 * 1024
JSON = {"Content-Type": "application/json"}
GET = b"GET /indexes HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def running(tiny_artifact: Path, shop: Shop) -> Iterator[RunningGateway]:
    """With small bounds, so that they are reached soon."""
    with running_gateway(
        url=str(tiny_artifact),
        indexes={"shop": shop.index},
        body_bytes=LIMIT,
        held_bytes=2 * LIMIT,
        body_s=0.4,
        body_bytes_per_s=4 * LIMIT,
        head_s=0.4,
        head_bytes=4096,
        write_s=0.4,
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _lives(running: RunningGateway) -> Iterator[None]:
    yield
    assert running.post("/search", {"text": "still here"}).status == 200
    assert re.search(r"protoclip_gateway_held_bytes 0\.0", running.get("/metrics").body.decode())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b'{"text": NaN}', "no JSON"),
        (b'{"text": "a"} {}', "no JSON"),
        (b'{"text": "\\ud800"}', "no JSON"),
        (b'{"text": "\xff"}', "no JSON"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (b"null", "JSON object"),
        (b'"text"', "JSON object"),
        (b"[" * 100_000 + b"]" * 100_000, "no JSON"),
        (b'{"text":' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper than 64"),
        (b'{"where":' + b'{"and":[' * 40 + b"]}" * 40 + b', "text": "a"}', "nested deeper than 64"),
        (b'{"text": "a", "where":' + b'{"and":[' * 25 + b"]}" * 25 + b"}", "inside each other"),
        (b'{"k": 1e999, "text": "a"}', "no JSON"),
        (b'{"text": "a", "text": "b"}', "has 'text' twice"),
        (b'{"text": "a:b", "where": {"price": {"lt": 1, "lt": 2}}}', "has 'lt' twice"),
        (b'{"text": "a", "te\\u0078t": "b:"}', "has 'text' twice"),
        (b'{"text": {"a": 1, "a": 2}}', "has 'a' twice"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_bad_json_is_refused(running: RunningGateway, body: bytes, message: str) -> None:
    answer = running.ask("POST", "/search", body, JSON)
    assert answer.status == 400, answer.body[:300]
    assert message in answer.json["error"]
    assert len(answer.body) < 2000


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": "a: b", "k": 1}',
        b'{"text": {"a:": 1, "\\u003a": 2}}',
        b'{"text": "\\u00e9", "where": {"a": {}}}',
    ],
)
def test_colons_in_texts_are_no_names(running: RunningGateway, body: bytes) -> None:
    answer = running.ask("POST", "/search", body, JSON)
    assert "twice" not in answer.body.decode()


def test_json_of_a_million_values_is_refused_before_it_is_read(tiny_artifact: Path) -> None:
    with running_gateway(url=str(tiny_artifact)) as wide:
        answer = wide.ask("POST", "/search", b'{"text":[' + b"[]," * 700_000 + b"[]]}", JSON)
    assert (answer.status, "more than 1000000 values" in answer.json["error"]) == (400, True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-16"}, 200),
        ({"Content-Type": "APPLICATION/JSON"}, 200),
        ({**JSON, "Content-Encoding": "gzip"}, 415),
        ({**JSON, "Content-Encoding": "identity"}, 200),
        ({"Content-Type": "multipart/form-data"}, 400),
        ({"Content-Type": "multipart/form-data; boundary=" + "x" * 100}, 400),
        ({"Content-Type": "multipart/mixed; boundary=x"}, 415),
    ],
    ids=str,
)
def test_the_type_is_what_it_says(running: RunningGateway, headers: dict[str, str], status: int) -> None:
    assert running.ask("POST", "/search", b'{"text": "a"}', headers).status == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        b"--b\r\n",
        b"--b\r\n\r\nno name\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\ncut sh',
        b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\na\r\n' * 2 + b"--b--\r\n",
        b"".join(b'--b\r\nContent-Disposition: form-data; name="n%d"\r\n\r\na\r\n' % i for i in range(70))
        + b"--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\na\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="picture"\r\n\r\n/etc/passwd\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="where"\r\n\r\n{\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="\xff\x00"\r\n\r\n{\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="text"\r\n' + b"X: y\r\n" * 5000 + b"\r\na\r\n--b--\r\n",
    ],
    ids=lambda value: repr(value[:60]),
)
def test_broken_forms_are_refused(running: RunningGateway, body: bytes) -> None:
    answer = running.ask("POST", "/search", body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status == 400, answer.body
    assert answer.json["code"] == "invalid_input"


@pytest.mark.parametrize(
    ("path", "part", "message"),
    [
        ("/search", b'name="text"\r\n\r\ncaf\xe9', "the field 'text' is no UTF-8 (byte 4 of 4): send it in UTF-8"),
        ("/classify", b'name="labels"\r\n\r\n\xfcber', "the field 'labels' is no UTF-8 (byte 1 of 4)"),
        ("/predict", b'name="text"\r\n\r\ncaf\xe9', "the field 'text' is no UTF-8"),
        ("/", b'name="picture"; filename="caf\xe9.png"\r\n\r\nx', "file name of 'picture' is no UTF-8"),
        ("/search", b'name="caf\xe9"\r\n\r\nx', "the name of a field of the form is no UTF-8"),
    ],
)
def test_a_form_that_is_no_utf_8_is_refused(running: RunningGateway, path: str, part: bytes, message: str) -> None:
    body = b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n--b--\r\n"
    answer = running.ask("POST", path, body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status == 400, answer.body
    assert message in html.unescape(answer.body.decode())


def test_a_forms_character_set_is_not_the_clients_to_choose(running: RunningGateway) -> None:
    """Punycode of this length would be decoded for minutes."""
    boundary = "b; charset=punycode"
    body = form({"text": "-" + "a0" * 90_000}, {}, "b")
    answer = running.ask("POST", "/search", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert answer.status == 200


def test_too_large_is_said_as_soon_as_it_is_known(running: RunningGateway) -> None:
    head = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    declared = running.raw(f"{head}Content-Length: {LIMIT + 1}\r\nExpect: 100-continue\r\n\r\n".encode())
    assert declared.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in declared
    assert b"connection: close" in declared.lower()
    chunk = b"%x\r\n" % (LIMIT // 2) + b"x" * (LIMIT // 2) + b"\r\n"
    chunked = running.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 4, timeout_s=1.0)
    assert chunked.startswith(b"HTTP/1.1 413")
    for path in ("/search", "/classify"):
        whole = running.ask("POST", path, b"x" * (LIMIT + 1), JSON)
        assert (whole.status, whole.json["code"]) == (413, "too_large")
    for number in (b"-1", b"1e3", b"99999999999999999999999"):
        odd = running.raw(head.encode() + b"Content-Length: " + number + b"\r\n\r\n", timeout_s=1.0)
        assert odd[9:12] in (b"400", b"413"), odd


def test_a_slow_body_is_not_waited_for(running: RunningGateway) -> None:
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100"
    assert running.raw(head + b"\r\n\r\n{", timeout_s=1.5).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "head", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"GET / HTTP/1.1\r\nHost: localhost\r\n"]
)
def test_a_slow_head_is_not_waited_for(running: RunningGateway, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(head)
        # Closed, where a client that goes on waiting would get a TimeoutError.
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 8000,
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % number for number in range(1000)),
    ],
    ids=["path", "endless header", "many headers"],
)
def test_large_heads_are_refused(running: RunningGateway, data: bytes) -> None:
    answer = running.raw(data, timeout_s=2.0)
    assert answer[9:12] in (b"431", b"404"), answer
    if answer[9:12] == b"431":
        body = answer.partition(b"\r\n\r\n")[2]
        assert json.loads(body)["code"] == "too_large"
        assert f"content-length: {len(body)}".encode() in answer


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /search HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /search HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /search HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX\x00: y\r\n\r\n",
        b"A" * 200,
    ],
    ids=lambda value: repr(value[:40]),
)
def test_what_is_no_http_of_ours_is_refused_or_closed(running: RunningGateway, data: bytes) -> None:
    answer = running.raw(data, timeout_s=1.5)
    assert answer == b"" or 400 <= int(answer[9:12]) < 500, answer


@pytest.mark.parametrize(
    "data",
    [
        b"GET http://127.0.0.1:22/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=["an address in the request line", "another protocol"],
)
def test_what_asks_for_more_gets_our_own_page_and_nothing_else(running: RunningGateway, data: bytes) -> None:
    answer = running.raw(data, timeout_s=1.5)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"content-type: text/html" in answer
    assert b"ProtoCLIP" in answer


def test_requests_in_a_row_on_one_connection_are_all_answered(running: RunningGateway) -> None:
    answer = running.raw(GET * 20 + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert answer.count(b"HTTP/1.1 200") == 21


def test_trailers_are_no_headers_and_have_an_end(running: RunningGateway) -> None:
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    head += b'Transfer-Encoding: chunked\r\n\r\n7\r\n{"text"\r\n5\r\n:"a"}\r\n0\r\n'
    answer = running.raw(head + b"X-Request-ID: of-a-trailer\r\nHost: elsewhere\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"of-a-trailer" not in answer
    for trailer in (b"X: y\r\n", b"X: " + b"y" * 5000):
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(head)
            assert _is_closed(connection, trailer * 1000)


def _is_closed(connection: socket.socket, data: bytes) -> bool:
    """Whether the other side ends it before it has taken 64 MiB, which is more than lies between the two."""
    try:
        for _ in range(64 * 1024 * 1024 // len(data)):
            connection.sendall(data)
    except ConnectionError:
        return True
    return False


def test_a_body_in_crumbs_is_not_gathered(running: RunningGateway) -> None:
    head = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    body = b'{"text": "' + b"a" * 500 + b'"}'
    for size, status in ((64, b"200"), (1, b"400")):
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        data = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        answer = running.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + data)
        assert answer[9:12] == status, answer
    shown = answer.partition(b"\r\n\r\n")[2]
    assert json.loads(shown)["code"] == "invalid_input"
    assert f"content-length: {len(shown)}".encode() in answer


def test_too_many_requests_in_a_row_are_not_kept(running: RunningGateway) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        assert _is_closed(connection, GET * 1000)


def test_bodies_of_all_requests_together_are_bounded(running: RunningGateway) -> None:
    head = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    part = LIMIT - 1000
    connections = [socket.create_connection(("127.0.0.1", running.port), timeout=10) for _ in range(3)]
    answers = []
    try:
        for connection in connections:
            connection.sendall(f"{head}{LIMIT - 1}\r\n\r\n".encode() + b"x" * part)
        for connection in connections:
            answers.append(connection.recv(1 << 16)[9:12])
    finally:
        for connection in connections:
            connection.close()
    # Two of them are held until they are too slow.
    assert sorted(answers) == [b"408", b"408", b"429"]


def test_a_picture_among_the_fields_is_as_large_as_a_body_may_be(running: RunningGateway) -> None:
    large = picture(COLORS["red"], 1, size=250)
    assert 100_000 < len(large) < LIMIT
    assert running.post_form("/search", {"k": "1"}, {"picture": large}).status == 200


def test_a_client_that_does_not_read_is_cut_off(running: RunningGateway) -> None:
    number = 1000
    request = GET.replace(b"/indexes", b"/openapi.json")
    last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(request * number + last)
        # Nothing is read until the answers have filled what lies between the two.
        time.sleep(2.0)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 20):
                received += part.count(b"HTTP/1.1 200")
    assert received <= number


def test_a_body_that_goes_on_after_its_answer_is_not_read_for_ever(
    running: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.gateway.connection.LINGER_S", 0.3)
    head = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(f"{head}999999999\r\n\r\n".encode() + b"x" * 1000)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 413")
