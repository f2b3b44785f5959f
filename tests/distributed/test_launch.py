"""`protoclip train --ranks 2`: two processes on this machine, from the shell."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
from forked_python import ForkedPython

from protoclip.runs.metrics import read_metrics
from protoclip.training.checkpoint import last_checkpoint


def start(config: Path, run: Path, *more: str, kind: type[Popen[str]] = ForkedPython) -> Popen[str]:
    command = [sys.executable, "-m", "protoclip", "train", str(config), "--out", str(run), "--ranks", "2", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return kind(command, stdout=PIPE, stderr=PIPE, text=True, env=environment)


@pytest.fixture
def config(shapes_config: dict[str, Any], tmp_path: Path) -> Path:
    shapes_config["model"]["name"] = "protoclip-mini-48"
    (tmp_path / "config.json").write_text(json.dumps(shapes_config))
    return tmp_path / "config.json"


def test_two_ranks_train_and_tell_once(config: Path, tmp_path: Path) -> None:
    """Launcher and ranks are the installed command; in the other tests they are forked."""
    process = start(config, tmp_path / "run", "--json", "--quiet", "--set", "train.steps=8", kind=Popen)
    out, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert json.loads(out)["run"] == str(tmp_path / "run")
    steps = [line["step"] for line in read_metrics(tmp_path / "run") if line["kind"] == "step"]
    assert steps == list(range(1, 9))


def test_a_misfit_is_told_and_ends_both(config: Path, tmp_path: Path) -> None:
    process = start(config, tmp_path / "run", "--set", "train.batch_size=9")
    _, said = process.communicate(timeout=240)
    assert process.returncode == 2
    assert "train.batch_size=9 can't be divided by 2 ranks times train.accumulation=1" in said
    assert "Traceback" not in said


def start_until_it_trains(config: Path, run: Path) -> Popen[str]:
    process = start(config, run, "--set", "train.steps=5000")
    until = time.monotonic() + 240
    while not (run / "metrics.jsonl").exists() or not read_metrics(run):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.2)
    return process


def test_sigterm_saves_and_leaves_with_143(config: Path, tmp_path: Path) -> None:
    process = start_until_it_trains(config, tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert "go on with --resume" in said
    assert last_checkpoint(tmp_path / "run") is not None


def test_ranks_do_not_outlive_a_killed_launcher(config: Path, tmp_path: Path) -> None:
    process = start_until_it_trains(config, tmp_path / "run")
    process.kill()
    # Its end of the pipes is held by the ranks: they are read to the end when the last rank is gone.
    process.communicate(timeout=300)
    assert last_checkpoint(tmp_path / "run") is not None
