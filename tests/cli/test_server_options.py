"""The options of commands that ask a server: TLS, headers and a token, through gateways before a real Triton."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from certificates import Certificate
from command_line import Run, runner
from gateway import Gateway, gateway
from PIL import Image

from serving.triton.launcher import LaunchedServer

TOKEN = "s3cret-t0ken"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        picture = np.full((9, 9, 3), 40 * number, np.uint8)
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_every_command_takes_them(
    scheme: str, run: Run, triton: LaunchedServer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Certificate(tmp_path, "authority")
    own = authority.issue("client")
    monkeypatch.setenv("PROTOCLIP_TOKEN", TOKEN)
    index = tmp_path / "shop.index"
    target = triton.grpc_url if scheme == "grpc" else triton.http_url
    with gateway(
        target,
        certificate=authority.issue("server"),
        client_authority=authority,
        token=TOKEN,
        prefix="" if scheme == "grpc" else "/clip",
    ) as before:
        options = ["--url", before.url, "--ca-file", authority.pem, "--client-cert", own.pem]
        options += ["--client-key", own.key, "--header", "X-Team: search: 1", "--header", "X-Empty:"]
        for command in (
            ["embed", photos],
            ["classify", photos, "--labels", "red,green"],
            ["index", "build", photos, index],
            ["search", index, "--text", "red", "-k", "1"],
        ):
            _check_one(run, before, [*command, "--json", *options])


def _check_one(run: Run, before: Gateway, command: list[object]) -> None:
    before.seen.clear()
    outcome = run(*command)
    assert outcome.code == 0, outcome.err
    assert before.seen
    assert {headers["x-team"] for headers in before.seen} == {"search: 1"}
    assert {headers["x-empty"] for headers in before.seen} == {""}
    assert TOKEN not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--header", "hidden"], "--header takes 'Name: value'"),
        (["--header", "a: hidden", "--header", "a: c"], "--header a is given twice: leave one out"),
        (["--header", "Host: hidden"], "headers: host belongs to the protocol itself: leave it out"),
        (["--ca-file", "none.pem"], "ca_file='none.pem' is no file: give one in PEM"),
    ],
)
def test_wrong_ones_are_one_line(run: Run, options: list[str], message: str) -> None:
    outcome = run("embed", "--text", "a", *options)
    assert (outcome.code, outcome.err) == (2, f"error: {message}\n")


def test_a_wrong_token_is_one_line(run: Run, triton: LaunchedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTOCLIP_TOKEN", "wr0ng")
    with gateway(triton.http_url, token=TOKEN) as before:
        outcome = run("embed", "--text", "a", "--url", before.url)
    assert outcome.code == 2
    assert outcome.err.startswith(
        f"error: {before.url}: status 401: who are you?: give token=, or set PROTOCLIP_TOKEN"
    )
    assert outcome.err.count("\n") == 1
    assert "wr0ng" not in outcome.err


def test_pictures_decoded_here_have_the_same_vectors(run: Run, triton: LaunchedServer, photos: Path) -> None:
    command = ("embed", photos, "--json", "--url", triton.http_url)
    server, client = run(*command), run(*command, "--preprocess", "client")
    assert (server.code, client.code) == (0, 0), client.err
    assert client.out == server.out
    assert client.err == server.err


def test_an_index_of_pictures_decoded_here_is_the_same(
    run: Run, triton: LaunchedServer, photos: Path, tmp_path: Path
) -> None:
    found = []
    for preprocess in ("server", "client"):
        index = tmp_path / f"{preprocess}.index"
        built = run("index", "build", photos, index, "--url", triton.grpc_url, "--preprocess", preprocess)
        assert built.code == 0, built.err
        found.append(run("search", index, "--text", "red", "--url", triton.grpc_url, "--json").out)
    assert found[0] == found[1]


def test_a_load_test_sends_files_alone(run: Run, triton: LaunchedServer) -> None:
    outcome = run("load-test", triton.http_url, "--preprocess", "client", "--duration", "1")
    assert outcome.code == 2
    assert outcome.err == "error: --preprocess client: this command sends files alone: leave it out\n"
