"""`protoclip doctor` on this machine, and its rows about the server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from protoclip.cli.doctor.server import check_ports, check_triton
from protoclip.contract.errors import ServerError
from protoclip.doctor import State
from serving.triton import binary

PROTOCLIP = [sys.executable, "-c", "from protoclip.cli import main; main()"]


def _doctor(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROTOCLIP, "doctor", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def test_it_tells_the_truth_about_this_machine(tmp_path: Path) -> None:
    done = _doctor(tmp_path, "--json")
    facts = json.loads(done.stdout)
    rows = {row["name"]: row for row in facts["checks"]}
    assert done.returncode == (0 if facts["sound"] else 1), done.stderr
    assert facts["sound"], [row for row in facts["checks"] if row["state"] == "problem"]
    for name in (
        "python",
        "protoclip",
        "base packages",
        "extra train",
        "torch",
        "torchvision",
        "faiss",
        "triton",
        "conflicts",
    ):
        assert rows[name]["state"] == "ok", rows[name]
    assert version("torch") in rows["torch"]["found"]
    assert version("onnxruntime") in rows["onnxruntime"]["found"]
    assert "tritonserver" in rows["triton"]["found"]
    assert list(tmp_path.iterdir()) == []


def test_a_broken_package_is_a_row_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libonnx is gone')")
    done = _doctor(tmp_path, PYTHONPATH=str(tmp_path), COLUMNS="200")
    assert done.returncode == 1
    assert "libonnx is gone" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "tritonserver" in done.stdout


def test_taken_ports_are_told() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        row = check_ports((port,))
    assert (row.state, row.found) == (State.PROBLEM, f"taken: {port}")
    assert "--http-port 0" in row.advice


def test_no_server_is_missing_and_an_unfit_one_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(binary, "CONTAINER_BINARY", Path("/nowhere/tritonserver"))
    monkeypatch.setattr(binary, "_embedded_home", lambda: None)
    assert check_triton().state is State.MISSING
    monkeypatch.undo()

    def refuse(scratch: Path) -> None:
        raise ServerError("the embedded Triton server gives wrong results with numpy 2.3: pip install 'numpy<2'")

    monkeypatch.setattr(binary, "find_server", refuse)
    row = check_triton()
    assert (row.state, row.advice) == (State.PROBLEM, "pip install 'numpy<2'")


def test_a_server_whose_libraries_do_not_load_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\necho 'libb64.so.0d: cannot open shared object file' >&2\nexit 127\n")
    program.chmod(0o755)
    found = replace(binary.find_server(tmp_path), path=program)
    monkeypatch.setattr(binary, "find_server", lambda scratch: found)
    row = check_triton()
    assert row.state is State.PROBLEM
    assert "does not start: libb64.so.0d" in row.found
