"""The probe of containers, against a real server: well, with a dead worker, and gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from serving.triton.launcher import TritonServer

if TYPE_CHECKING:
    from serving.triton.launcher import LaunchedServer

PROBE = Path(__file__).parents[2] / "deploy" / "serve" / "probe.py"


def probe(url: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Isolated: in the vendor's image there is nothing of ours to import."""
    command = [sys.executable, "-I", "-S", str(PROBE), "--url", url, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def workers_of(model: str) -> list[int]:
    """The processes that Triton started for a Python model."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"triton_python_backend_stub" in words[0] and any(model.encode() in word for word in words[1:]):
            found.append(int(file.parent.name))
    assert found, f"no worker for {model}"
    return found


def test_a_server_is_well(triton: LaunchedServer) -> None:
    found = probe(triton.http_url)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_a_dead_worker_is_noticed(tiny_repository: Path) -> None:
    with TritonServer(tiny_repository, names=["tiny_012345_text"]) as server:
        for worker in workers_of(f"{server.log_file.parent.name}/repository/tiny_012345_text_preprocess"):
            os.kill(worker, signal.SIGKILL)
        found = probe(server.http_url)
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert "tiny_012345_text" in found.stderr


def test_no_server_is_noticed_at_once() -> None:
    found = probe("http://127.0.0.1:9")
    assert found.returncode == 1
    assert "refused" in found.stderr
