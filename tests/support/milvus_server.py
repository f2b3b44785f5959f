"""A real standalone Milvus of the package `milvus`, in a process of its own, on the loopback; one at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

STOP_S = 60
# The package wants an older pymilvus than the client: it is in an environment of its own.
_PROGRAM = """
import sys
from milvus import MilvusServer, MilvusServerConfig

server = MilvusServer(MilvusServerConfig(data_dir=sys.argv[1]))
server.start()
print(server.listen_port, server.server_proc.pid, flush=True)
server.server_proc.wait()
"""


class MilvusServer:
    """A server for a block, whose data go with it.

    Args:
        python: of an environment with the package `milvus`.
    """

    def __init__(self, python: Path) -> None:
        self._python = python
        self._folder = tempfile.TemporaryDirectory(prefix="protoclip-milvus-")
        self._data = Path(self._folder.name) / "data"
        self._log = Path(self._folder.name) / "log"
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self._pid = 0

    @property
    def address(self) -> str:
        """Without an index's name: append `/NAME`."""
        return f"milvus://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Starts it, and waits until it answers; again with the same data, at another address."""
        command = [str(self._python), "-c", _PROGRAM, str(self._data)]
        with open(self._log, "a", encoding="utf-8") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        said = self._process.stdout.readline().split()
        if len(said) != 2:
            self._process.wait()
            self._process = None
            raise AssertionError(self._log.read_text(encoding="utf-8")[-2000:])
        self._port, self._pid = int(said[0]), int(said[1])

    def stop(self, *, killed: bool = False) -> None:
        """Ends it, or kills it in the middle of whatever it does."""
        process, self._process = self._process, None
        if process is None:
            return
        os.kill(self._pid, signal.SIGKILL if killed else signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.kill(self._pid, signal.SIGKILL)
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
