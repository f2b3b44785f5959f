"""The batch script, with `srun` and `scontrol` replaced: what it does itself, not what SLURM does."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from protoclip.training.checkpoint import last_checkpoint

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "train.sbatch"


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """A job's environment on one node. `scontrol requeue` leaves a file."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "srun").write_text('#!/bin/bash\nexec "$@"\n')
    (commands / "scontrol").write_text(
        f'#!/bin/bash\n[[ $1 == show ]] && echo 127.0.0.1 || echo "$@" > {tmp_path}/requeued\n'
    )
    for command in commands.iterdir():
        command.chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_NNODES": "1",
        "SLURM_JOB_NODELIST": "n1",
    }
    return {**environment, **slurm, "PATH": f"{commands}:{environment['PATH']}"}


def start(config: Path, run: Path, job: dict[str, str], *more: str) -> Popen[str]:
    command = ["bash", str(SCRIPT), str(config), str(run), *more]
    return Popen(command, env=job, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_before_the_limit_it_saves_and_queues_itself(
    config: Path,
    job: dict[str, str],
    wait_for_steps: Callable[[Path, list[Popen[str]]], None],
    tmp_path: Path,
) -> None:
    process = start(config, tmp_path / "run", job, "--set", "train.steps=5000")
    wait_for_steps(tmp_path / "run", [process])
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=300)[0]
    assert last_checkpoint(tmp_path / "run") is not None, said
    assert (tmp_path / "requeued").read_text() == f"requeue {job['SLURM_JOB_ID']}\n"


def test_a_run_that_fails_by_itself_is_not_queued_again(config: Path, job: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin" / "srun").write_text("#!/bin/bash\nexit 3\n")
    process = start(config, tmp_path / "run", job)
    process.communicate(timeout=120)
    assert process.returncode == 3
    assert not (tmp_path / "requeued").exists()
