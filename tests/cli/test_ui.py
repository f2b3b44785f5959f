"""`protoclip ui`: one command from an index to a page with pictures."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from command_line import Run
from forked_python import ForkedPython
from gateway_shop import Shop, make_shop

from protoclip.cli.client.ui import _warm_up, name_of

STOP_LIMIT_S = 20.0


@pytest.fixture(scope="module")
def shop(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("ui"), tiny_artifact)


def test_an_index_is_searched_and_shown(shop: Shop) -> None:
    command = [sys.executable, "-m", "protoclip", "ui", str(shop.index), "--port=0", "--json"]
    with ForkedPython(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        assert facts["index"] == "shop"
        connection = HTTPConnection(facts["url"].removeprefix("http://").rstrip("/"), timeout=30)
        connection.request("GET", "/?q=red+shoes")
        answer = connection.getresponse()
        text = answer.read().decode()
        assert (answer.status, text.count('class="card hit"')) == (200, 12)
        picture = re.search(r'<img src="(thumbnails/[^"]+red0[^"]+)"', text)
        assert picture is not None
        connection.request("GET", f"/{picture[1]}")
        shown = connection.getresponse()
        assert (shown.status, shown.getheader("content-type")) == (200, "image/jpeg")
        assert len(shown.read()) > 100
        connection.close()
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=STOP_LIMIT_S)
    assert process.returncode == 0, messages
    assert "Traceback" not in messages


def test_what_is_wrong_is_said_before_it_starts(run: Run, shop: Shop, tmp_path: Path) -> None:
    assert "no index is here" in run("ui", tmp_path / "nowhere").err
    assert "can't be used" in run("ui", shop.index, "--host", "192.0.2.1", "--port", "0").err
    assert "--pictures nowhere: no folder is here" in run("ui", shop.index, "--pictures", "nowhere").err
    assert "is no server's address" in run("ui", shop.index, "--url", "nowhere").err


@pytest.mark.parametrize(
    ("folder", "name"),
    [("runs/demo/emoji.index", "emoji"), ("my shop.index", "my_shop"), ("größe", "gr_e"), ("_x.index", "index")],
)
def test_an_index_is_called_after_its_folder(tmp_path: Path, folder: str, name: str) -> None:
    assert name_of(tmp_path / folder) == name


def test_its_own_address_is_asked_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.timeout = 5
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        _warm_up(f"http://127.0.0.1:{server.server_port}")
        thread.join()
    assert asked == ["/healthz"]


def test_one_command_goes_from_pictures_to_the_page(shop: Shop, tiny_artifact: Path, tmp_path: Path) -> None:
    built = tmp_path / "own.index"
    command = [sys.executable, "-m", "protoclip", "index", "build", str(shop.pictures), str(built)]
    command += ["--url", str(tiny_artifact), "--ui", "--ui-port=0", "--json"]
    with ForkedPython(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        facts = next(json.loads(line) for line in process.stdout if '"url"' in line and '"index"' in line)
        assert facts["index"] == "own"
        connection = HTTPConnection(facts["url"].removeprefix("http://").rstrip("/"), timeout=30)
        connection.request("GET", "/?q=red+shoes")
        assert connection.getresponse().read().decode().count('class="card hit"') == 12
        connection.close()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=STOP_LIMIT_S)
    assert process.returncode == 0


def test_what_would_refuse_the_page_is_said_before_anything_is_embedded(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    refused = run("index", "build", shop.pictures, tmp_path / "own.index", "--ui", "--header", "a: b")
    assert "--ui shows" in refused.err
    assert not (tmp_path / "own.index").exists()
