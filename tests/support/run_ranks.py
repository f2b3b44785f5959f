"""Runs a script of tests/ranks on several ranks.

The ranks are processes of their own, forked from a server process that has imported what all of them need:
importing torch and open_clip takes five seconds of a core, most of what a small run takes.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "ranks"
_LIMIT_S = 300
_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["protoclip.training.train", "torch.nn.parallel", "pyarrow.parquet"])


def run_on_ranks(script: str, num_ranks: int, *arguments: str, exit_code: int = 0) -> None:
    """Runs a script as torchrun would, and fails with what a rank said unless all end with `exit_code`."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"rank{rank}.log" for rank in range(num_ranks)]
        processes = []
        for rank, log in enumerate(logs):
            world = {"WORLD_SIZE": num_ranks, "RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port}
            environment = {**{name: str(value) for name, value in world.items()}, "MASTER_ADDR": "127.0.0.1"}
            process = _FORKSERVER.Process(target=_run, args=(SCRIPTS / script, arguments, environment, log))
            process.start()
            processes.append(process)
        try:
            for process in processes:
                process.join(_LIMIT_S)
        finally:
            codes = [process.exitcode for process in processes]
            for process in processes:
                process.kill()
                process.join()
        assert codes == [exit_code] * num_ranks, "\n".join(log.read_text() for log in logs if log.exists())


def _run(script: Path, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
    import torch

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.update(environment)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    torch.set_num_threads(1)
    runpy.run_path(str(script), run_name="__main__")
