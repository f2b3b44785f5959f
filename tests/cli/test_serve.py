"""`protoclip repository` and `protoclip serve` as a person or a script runs them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from protoclip.contract.manifest import load_manifest

PROTOCLIP = [sys.executable, "-c", "from protoclip.cli import main; main()"]
STOP_LIMIT_S = 20.0


def _run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [*PROTOCLIP, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=cwd)


def _start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROTOCLIP, "serve", *map(str, arguments), "--http-port=0", "--grpc-port=0", "--metrics-port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_repository_prints_the_models_and_writes_where_it_says(tiny_artifact: Path, tmp_path: Path) -> None:
    done = _run("repository", tiny_artifact, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert names[:2] == ["tiny_012345_image", "tiny_012345_text"]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "model_repository").iterdir())
    assert "protoclip serve model_repository" in done.stderr
    again = _run("repository", tiny_artifact, "--out", tmp_path / "other", "--json", cwd=tmp_path)
    assert json.loads(again.stdout) == {"repository": str(tmp_path / "other"), "models": names}


def test_batches_larger_than_were_compared_are_warned_of(
    write_artifact: Callable[..., Path], tiny_artifact: Path, tmp_path: Path
) -> None:
    verdict = load_manifest(tiny_artifact).engine.verdict.model_copy(update={"largest_batch": 64})
    artifact = write_artifact(tmp_path / "artifact", verdict=verdict)
    within = _run("repository", artifact, "--max-batch-size", 64, cwd=tmp_path)
    beyond = _run("repository", artifact, "--max-batch-size", 65, cwd=tmp_path)
    assert (within.returncode, beyond.returncode) == (0, 0), beyond.stderr
    assert "never compared" not in within.stderr
    assert "batches beyond 64 were never compared: export again with --max-batch-size 65" in beyond.stderr


def test_repository_without_an_artifact_says_so_in_one_line(tmp_path: Path) -> None:
    done = _run("repository", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no manifest.json here" in done.stderr


def test_serve_takes_an_artifact_warns_of_its_failed_verdict_and_stops_cleanly(
    write_artifact: Callable[..., Path], tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    failed = load_manifest(tiny_artifact).engine.verdict.model_copy(update={"passed": False})
    artifact = write_artifact(tmp_path / "artifact", name="doubtful", verdict=failed)
    with _start(artifact, "--json") as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        idle = http.client.HTTPConnection(facts["http_url"].removeprefix("http://"), timeout=10)
        idle.request("GET", f"/v2/models/{facts['models'][1]['name']}/ready")
        assert idle.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=STOP_LIMIT_S)
        idle.close()
    assert process.returncode == 0
    assert [model["name"] for model in facts["models"]] == ["doubtful_012345_image", "doubtful_012345_text"]
    assert "FAILED" in messages
    scratch = Path(facts["log_file"]).parent
    assert not scratch.exists()
    assert list(tmp_path.glob("protoclip-*")) == []
    assert list(Path("/dev/shm").glob(f"{scratch.name}*")) == []


EVENTS = ("exit code -9: starting the server again", "the server answers again")


def _line_with(stream: IO[str], event: str) -> str:
    """Others may come before it, for instance that the server is not ready."""
    seen = []
    for line in stream:
        seen.append(line)
        if event in line:
            return line
    raise AssertionError(f"{event!r} is not in {seen}")


@pytest.mark.parametrize("log", [(), ("--log-json",)])
def test_serve_starts_a_killed_server_again_and_says_so(tiny_repository: Path, log: tuple[str, ...]) -> None:
    with _start(tiny_repository, "--name", "tiny_012345_text", "--json", *log) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        facts = json.loads(process.stdout.readline())
        os.kill(facts["pid"], signal.SIGKILL)
        lines = [_line_with(process.stderr, event) for event in EVENTS]
        ready = http.client.HTTPConnection(facts["http_url"].removeprefix("http://"), timeout=30)
        ready.request("GET", "/v2/health/ready")
        assert ready.getresponse().status == 200
        ready.close()
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=STOP_LIMIT_S)
    assert process.returncode == 0, messages
    for line in lines:
        assert (json.loads(line)["time"] if log else line)[:2] == "20"
    assert messages.splitlines()[-1].endswith('"message": "stopping"}' if log else " stopping")


def test_serve_prints_what_to_do_next(tiny_repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with _start(tiny_repository, "--name", "tiny", "--log-file", log) as process:
        assert process.stdout is not None
        lines = []
        while not lines or "protoclip search" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr and process.stderr.read()
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=STOP_LIMIT_S)
    text = "".join(lines)
    for part in (
        "tiny_012345_image",
        "tiny_012345_text",
        "grpc://127.0.0.1:",
        "http://127.0.0.1:",
        "/metrics",
        "curl ",
    ):
        assert part in text
    assert "FAILED" not in text + messages
    assert process.returncode == 0
    assert "Started GRPCInferenceService" in log.read_text()


def test_serve_on_a_busy_port_says_which_option_to_change(tiny_repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        done = _run("serve", tiny_repository, "--http-port", str(port))
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert f"port {port}" in done.stderr
    assert "--http-port" in done.stderr


def test_settings_for_a_repository_that_is_written_are_refused(tiny_repository: Path) -> None:
    done = _run("serve", tiny_repository, "--max-queued", "3")
    assert done.returncode == 2
    assert "holds its own settings of queues and preprocessing: give them to `protoclip repository`" in done.stderr
