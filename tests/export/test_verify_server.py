"""`verify --url`: a real server's own preprocessing and description, over both protocols, against torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from command_line import runner
from misbehaving_servers import http_server, send
from with_detector import add_detector, fit_on

from export.parity.checks import failed_lines
from export.parity.report import Report
from export.parity.samples import Samples
from export.parity.verdict_page import verdict_page
from export.verify_server import verify_server
from protoclip.cli.export.server import Credentials, server_addresses
from protoclip.client import ModelNotFound
from protoclip.contract.errors import ConfigError, ServerError
from protoclip.contract.manifest import Role
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.repository import write_repository


@contextmanager
def _served(exported: Any, folder: Path, spoil: Callable[[Path], object] = lambda place: None) -> Iterator[Any]:
    """A server on the artifact's repository, whose files `spoil` has changed."""
    write_repository(exported.folder, folder, encoder_threads=1)
    spoil(folder)
    with TritonServer(folder) as server:
        yield server


def _ask(exported: Any, samples: Samples, server: LaunchedServer) -> Report:
    urls = (server.grpc_url, server.http_url)
    return verify_server(exported.folder, exported.clip, samples, urls, Credentials().connect)


def _failed(report: Report) -> dict[str, set[str]]:
    return {engine.name: {line.split(":")[0] for line in failed_lines(engine.checks)} for engine in report.engines}


def _both(names: set[str]) -> dict[str, set[str]]:
    return {"served by grpc": names, "served by http": names}


def _replace(exported: Any, role: Role, file: str, old: str, new: str) -> Callable[[Path], object]:
    def change(repository: Path) -> None:
        path = repository / exported.manifest.model_name(role) / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


def test_a_right_server_passes_over_both_protocols(exported_vit: Any, samples: Samples, tmp_path: Path) -> None:
    folder = shutil.copytree(exported_vit.folder, tmp_path / "judged")
    manifest = add_detector(folder, fit_on(folder, samples.pictures, kind="mahalanobis", accept=0.5))
    judged = replace(exported_vit, folder=folder, manifest=manifest)
    with _served(judged, tmp_path / "repository") as server:
        report = _ask(judged, samples, server)
        assert report.failures == report.not_checked == ()
        assert [engine.name for engine in report.engines] == ["served by grpc", "served by http"]
        for engine in report.engines:
            assert engine.from_files.num_inputs == len(samples.pictures) + 6
            assert {check.name for check in engine.checks} == {
                *(
                    "served parameters",
                    "largest batch",
                    "answers",
                    "pictures",
                    "pictures, one by one",
                    "image, from files",
                ),
                *("texts", "texts, one by one", "pictures, adversarial", "texts, adversarial", "detector"),
            }
            assert engine.detector is not None
            assert engine.detector.num_pictures == len(samples.pictures)
            assert 0.0 < engine.detector.known[1] < 1.0
        plain = verify_server(
            exported_vit.folder, exported_vit.clip, samples, (server.http_url,), Credentials().connect
        )
        assert _failed(plain) == {"served by http": {"served parameters"}}
        assert "the server has a detector, and the artifact none" in plain.failures[0]
        other = exported_vit.manifest.model_copy(update={"name": "other"})
        copy = tmp_path / "copy"
        copy.mkdir()
        for path in exported_vit.folder.iterdir():
            (copy / path.name).symlink_to(path)
        (copy / "manifest.json").unlink()
        other.save(copy)
        with pytest.raises(ModelNotFound, match="has no model 'other_"):
            verify_server(copy, exported_vit.clip, samples, (server.http_url,), Credentials().connect)
    with pytest.raises(ServerError):
        verify_server(exported_vit.folder, exported_vit.clip, samples, (server.http_url,), Credentials().connect)


def test_mistakes_in_the_served_preprocessing_are_found_by_name(
    exported_vit: Any, samples: Samples, tmp_path: Path
) -> None:
    """Colours swapped in the served image model.py, texts turned round in the text's; the artifact is right."""

    def spoil(repository: Path) -> None:
        change = _replace(
            exported_vit,
            "image_preprocess",
            "1/model.py",
            "self._load_pixels(data, self._spec), ",
            "np.ascontiguousarray(self._load_pixels(data, self._spec)[..., ::-1]), ",
        )
        change(repository)
        change = _replace(
            exported_vit, "text_preprocess", "1/model.py", 'data.decode("utf-8")', 'data.decode("utf-8")[::-1]'
        )
        change(repository)

    with _served(exported_vit, tmp_path, spoil) as server:
        report = _ask(exported_vit, samples, server)
    assert _failed(report) == _both(
        {
            *("pictures", "pictures, adversarial", "pictures, one by one", "image, from files"),
            *("texts", "texts, adversarial", "texts, one by one"),
        }
    )


def test_a_description_of_another_model_and_refused_pictures_are_found_by_name(
    exported_vit: Any, samples: Samples, tmp_path: Path
) -> None:
    """Another factor in the public model's configuration, and a limit of bytes that large pictures exceed."""

    def spoil(repository: Path) -> None:
        factor = repr(exported_vit.manifest.temperature)
        for role in ("image", "text"):
            _replace(exported_vit, role, "config.pbtxt", factor, "100.0")(repository)
        limit = f'\\"max_bytes\\": {exported_vit.clip.pixels.max_bytes}'
        change = _replace(exported_vit, "image_preprocess", "config.pbtxt", limit, '\\"max_bytes\\": 9000')
        change(repository)

    with _served(exported_vit, tmp_path, spoil) as server:
        report = _ask(exported_vit, samples, server)
    assert _failed(report) == _both({"served parameters", "answers"})
    assert "temperature is 100.0, and the manifest's 14.28" in report.failures[0]
    assert "pictures and texts are refused that the model takes" in verdict_page(report)


def test_the_command_asks_the_server_and_ends_with_the_verdict(
    exported_vit: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = runner(monkeypatch, capsys)
    name = exported_vit.manifest.model_name("text_preprocess")
    (tmp_path / "out").mkdir()
    with _served(exported_vit, tmp_path / "repository") as server:
        command = ["verify", exported_vit.folder, "tiny-vit", "--out", tmp_path / "out", "--json"]
        outcome = run(*command, "--url", server.grpc_url, "--url", server.http_url)
        assert (outcome.code, outcome.json["passed"]) == (0, True)
        assert [engine["name"] for engine in outcome.json["engines"]] == ["served by grpc", "served by http"]
        assert "served by http" in (tmp_path / "out/verify.html").read_text(encoding="utf-8")
        outcome = run(*command, "--against", exported_vit.folder, "--url", server.http_url)
        assert (outcome.code, "leave it or --url out" in outcome.err) == (2, True)
    config = tmp_path / "repository" / name / "config.pbtxt"
    config.write_text(config.read_text().replace('\\"lower\\"', '\\"whitespace\\"'))
    with TritonServer(tmp_path / "repository") as server:
        outcome = run(*command, "--url", server.http_url, "--protocol", "http")
        assert outcome.code == 1
        assert "served by http: texts: off by " in outcome.err
        assert "write its repository anew with `protoclip repository`, and start it again" in outcome.err


@pytest.mark.parametrize(
    ("urls", "protocol", "found"),
    [
        ((), None, ()),
        (["grpc://here:8001"], None, ("grpc://here:8001", "http://here:8000")),
        (["http://here"], None, ("grpc://here:8001", "http://here:8000")),
        (["http://here:99", "grpc://there:7"], None, ("grpc://there:7", "http://here:99")),
        (["http://here:99"], "http", ("http://here:99",)),
        (["http://[::1]:99"], "grpc", ("grpc://[::1]:100",)),
        (["https://here/clip"], "http", ("https://here:443/clip",)),
        (["https://here/clip", "grpcs://there"], None, ("grpcs://there:443", "https://here:443/clip")),
    ],
)
def test_addresses(urls: list[str], protocol: str | None, found: tuple[str, ...]) -> None:
    assert server_addresses(urls, protocol) == found


@pytest.mark.parametrize(
    ("urls", "protocol", "reason"),
    [
        (["here:8001"], None, "is no server's address"),
        (["grpc://a", "grpc://b"], None, "a second address for grpc"),
        (["http://a", "https://a"], None, "a second address for http"),
        (
            ["https://a"],
            None,
            "where the server speaks grpc is not known: give --url for it as well, or --protocol http",
        ),
        (["http://a/clip"], "grpc", "where the server speaks grpc is not known"),
        (["grpc://a"], "udp", "--protocol udp: use grpc or http"),
        ([], "grpc", "is about a server: name it with --url"),
    ],
)
def test_wrong_addresses(urls: list[str], protocol: str | None, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        server_addresses(urls, protocol)


def test_shows_the_server_headers_and_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("x-team"))
        send(handler, 404, {}, b"{}")

    credentials = Credentials({"X-Team": "shop"})
    with (
        http_server(answer) as url,
        credentials.connect(url, "shop_012345", 1) as client,
        pytest.raises(ServerError),
    ):
        _ = client.model
    assert set(seen) == {"shop"}
    assert "shop" not in repr(credentials)
    with pytest.raises(ConfigError, match="certificates are for TLS: use https://"):
        Credentials(ca_file=Path(__file__)).connect(url, "shop_012345", 1)
    for given, option in ((credentials, "--header"), (Credentials(client_key=tmp_path), "--client-key")):
        given.check_used([url])
        with pytest.raises(ConfigError, match=f"{option} is about a server: name it with --url"):
            given.check_used([])
    outcome = runner(monkeypatch, capsys)("verify", tmp_path, "tiny-vit", "--header", "X-Team: shop")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--header is about a server" in outcome.err
