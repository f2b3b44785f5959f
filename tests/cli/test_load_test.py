"""`protoclip load-test` against a real Triton, over both protocols, and against an artifact."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from command_line import Outcome, Run, runner
from PIL import Image

from serving.triton.launcher import LaunchedServer

SHORT = ("--duration", "1", "--warmup", "0", "--timeout", "20")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def check_served(outcome: Outcome, roles: set[str]) -> None:
    """The server's own times are there, of public models and parts; how many requests are in them is chance."""
    served = {model["name"]: model for model in outcome.json["served"]}
    for role in roles:
        public = served[f"tiny_012345_{role}"]
        assert public["items"] >= public["requests"] > 0
        assert public["total_ms"] > 0
        encoder = served[f"tiny_012345_{role}_encoder"]
        assert encoder["infer_ms"] > 0
        assert encoder["queue_ms"] >= 0
        assert encoder["items_per_execution"] >= 1
        assert sum(encoder["executions_by_batch"].values()) == encoder["executions"]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_closed_loop_of_pictures_and_texts(run: Run, triton: LaunchedServer, protocol: str) -> None:
    url = triton.grpc_url if protocol == "grpc" else triton.http_url
    outcome = run("load-test", url, "--concurrency", "4", "--mix", "images=0.5", *SHORT, "--json")
    assert outcome.code == 0, outcome.err
    found = outcome.json
    assert (found["loop"], found["model"], found["late_p99_ms"]) == ("closed", "tiny_012345", None)
    assert set(found["kinds"]) == {"image", "text"}
    for kind in found["kinds"].values():
        assert kind["answered"] == kind["requests"] > 0
        assert kind["failures"] == {}
        assert kind["bytes_sent"] > 0
        latency = kind["latency_ms"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]
        assert 0 <= kind["requests_per_s"] * found["measured_s"] <= kind["answered"] + 1e-6
    for role, moments in found["timeline"].items():
        assert 12 <= len(moments) <= 120
        assert sum(moment["answered"] for moment in moments) == found["kinds"][role]["answered"]
    check_served(outcome, {"image", "text"})


def test_an_open_loop_with_broken_pictures(run: Run, triton: LaunchedServer) -> None:
    options = ("--rate", "30", "--bad-share", "0.3", "--batch-size", "2", "--bulk")
    outcome = run("load-test", triton.grpc_url, *options, *SHORT, "--duration", "5", "--json")
    assert outcome.code == 0, outcome.err
    image = outcome.json["kinds"]["image"]
    assert (outcome.json["loop"], outcome.json["settings"]["rate"]) == ("open", 30)
    assert image["refused_as_expected"] > 0
    # On a machine that stands still for seconds.
    assert set(image["failures"]) <= {"not sent"}
    assert image["items_per_s"] > 0
    assert outcome.json["late_p99_ms"] is not None
    check_served(outcome, {"image"})


def test_single_broken_pictures_are_refused(run: Run, triton: LaunchedServer) -> None:
    outcome = run("load-test", triton.http_url, "--concurrency", "1", "--bad-share", "1", *SHORT, "--json")
    assert outcome.code == 0, outcome.err
    image = outcome.json["kinds"]["image"]
    assert image["refused_as_expected"] == image["requests"] > 0
    assert (image["answered"], image["failures"], image["latency_ms"]["p50"]) == (0, {}, None)


def test_an_artifact_without_a_server(run: Run, tiny_artifact: Path, tmp_path: Path) -> None:
    photos, texts, page = tmp_path / "photos", tmp_path / "texts.txt", tmp_path / "load.html"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((20, 30, 3), ord(name[0]), dtype=np.uint8)).save(photos / name)
    (photos / "notes.txt").write_text("no picture")
    texts.write_text("red shoes\n\nblue shoes\n", encoding="utf-8")
    outcome = run(
        *("load-test", tiny_artifact, "--images", photos, "--texts", texts, "--mix", "texts=0.5"),
        *("--plot", page, *SHORT, "--concurrency", "4"),
    )
    assert outcome.code == 0, outcome.err
    assert "closed loop of 4 clients" in outcome.out
    assert f"pictures: 2 of {photos}; texts: 2 of {texts}" in outcome.out
    assert "no times of the server: there is no server that counts" in outcome.out
    assert "1 left out" in outcome.err
    assert f"wrote {page}" in outcome.err
    html = page.read_text(encoding="utf-8")
    assert "Load test of tiny_012345" in html
    assert html.count("<svg") == 2
    assert "pictures p99" in html
    assert "texts answered" in html


def test_wrong_answers_are_exit_code_1(
    run: Run, tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from protoclip.client.artifact_transport import ArtifactTransport
    from protoclip.client.transport import Answer

    right = ArtifactTransport.infer
    calls = iter(range(1_000_000))

    def sometimes_wrong(self: ArtifactTransport, *arguments: object) -> Answer:
        answer = right(self, *arguments)  # type: ignore[arg-type]
        sign = -1 if next(calls) % 2 == 1 else 1
        return Answer(sign * answer.embeddings, answer.errors)

    monkeypatch.setattr(ArtifactTransport, "infer", sometimes_wrong)
    picture = tmp_path / "one.png"
    Image.new("RGB", (20, 20)).save(picture)
    outcome = run("load-test", tiny_artifact, "--images", picture, "--concurrency", "4", *SHORT)
    assert outcome.code == 1
    assert "answers were wrong: two answers for the same image differ by" in outcome.err
    assert "× wrong answer (pictures)" in outcome.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate", "5", "--concurrency", "2"], "--rate is an open loop and --concurrency a closed one"),
        (["--mix", "videos=1"], "--mix videos=1 is no share of pictures"),
        (["--mix", "images=2"], "--mix images=2 is no share of pictures"),
        (["--mix", "images=nan"], "--mix images=nan is no share"),
        (["--concurrency", "0"], "--concurrency 0 must be from 1 to 1024"),
        (["--rate", "5", "--max-in-flight", "1025"], "--max-in-flight 1025 must be from 1 to 1024"),
        (["--max-in-flight", "64"], "--max-in-flight is of an open loop: give --rate as well"),
        (["--url", "http://localhost:1"], "--url http://localhost:1 are two servers: leave one out"),
        (["--rate", "0"], "rate=0 must be from 0.001"),
        (["--duration", "inf"], "duration_s=inf must be from 0.1"),
        (["--bad-share", "0.1", "--mix", "images=0"], "share of the pictures"),
        (["--batch-size", "65"], "--batch-size 65: the server takes 64 at most"),
        (["--plot", "load.png"], "--plot load.png: the file must end in .html"),
        (["--texts", "missing.txt"], "missing.txt: can't be read"),
        (["--images", "missing"], "nothing that can be sent: missing: No such file"),
    ],
)
def test_bad_options_are_one_line(run: Run, tiny_artifact: Path, options: list[str], message: str) -> None:
    outcome = run("load-test", tiny_artifact, *options)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert message in outcome.err


@pytest.mark.parametrize(
    ("url", "message"),
    [("ftp://localhost:1", "no server's address"), ("http://127.0.0.1:1", "connection refused")],
)
def test_an_address_without_a_server(run: Run, url: str, message: str) -> None:
    outcome = run("load-test", url, *SHORT)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


def test_no_address_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, tiny_artifact: Path) -> None:
    monkeypatch.delenv("PROTOCLIP_URL", raising=False)
    outcome = run("load-test")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "no server is named" in outcome.err
    monkeypatch.setenv("PROTOCLIP_URL", str(tiny_artifact))
    assert run("load-test", *SHORT, "--json").json["model"] == "tiny_012345"
    monkeypatch.setenv("PROTOCLIP_URL", "http://127.0.0.1:1")
    assert run("load-test", tiny_artifact, *SHORT, "--json").json["url"] == str(tiny_artifact)


def test_ctrl_c_prints_what_was_measured(run: Run, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from protoclip.client.artifact_transport import ArtifactTransport
    from protoclip.client.transport import Answer

    right = ArtifactTransport.infer
    calls = iter(range(1_000_000))

    def interrupted(self: ArtifactTransport, *arguments: object) -> Answer:
        if next(calls) == 40:
            os.kill(os.getpid(), signal.SIGINT)
        return right(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ArtifactTransport, "infer", interrupted)
    outcome = run("load-test", tiny_artifact, "--duration", "600", "--warmup", "0", "--json")
    assert outcome.code == 130, outcome.err
    found = outcome.json
    assert found["interrupted"]
    assert found["kinds"]["image"]["answered"] >= 20  # of 39 that were sent, by 8 clients
    assert found["kinds"]["image"]["failures"] == {}
    assert 0 < found["measured_s"] < 100
    assert "interrupted: the numbers are of what was measured until then" in outcome.err
