"""Starts the guard, which clients reach in the server's place."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from protoclip.contract.errors import ServerError
from protoclip.contract.install import install_command
from serving.guard.settings import Settings, State

from .process import ServerProcess

ROOT = Path(__file__).parents[2]
STOP_S = 2.0


class Guard:
    """The guard's process. It answers nobody before the first `tell`.

    Where it ended it is started again on the same socket, so that clients only reconnect.
    """

    def __init__(self, settings: Settings, listeners: Sequence[socket.socket], log_file: Path) -> None:
        """Starts the process.

        Args:
            settings: with the descriptors of `listeners`.
            listeners: closed by `stop`.
            log_file: what the process writes, which is nothing unless it fails.

        Raises:
            ServerError: a package is missing, or the process can't be started.
        """
        missing = [name for name in ("hpack", "httptools", "uvloop") if find_spec(name) is None]
        if missing:
            raise ServerError(f"{' and '.join(missing)} not installed: {install_command('serve')}")
        self._settings = settings
        self._listeners = tuple(listeners)
        self._log_file = log_file
        self._state = State()
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-P", "-m", "serving.guard", self._settings.to_json()]
        # The packages of this copy, wherever they were imported from.
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        read, self._pipe = os.pipe()
        try:
            self._process = ServerProcess(
                command,
                {**os.environ, "PYTHONPATH": path},
                self._log_file,
                standard_input=read,
                inherited=[listener.fileno() for listener in self._listeners],
            )
        finally:
            os.close(read)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def tell(self, state: State) -> None:
        """Lets the guard know of the server's state. Threads may do so at once."""
        with self._lock:
            self._write(state)

    def tell_models(self, models: Mapping[str, int], parts: tuple[str, ...]) -> None:
        """Lets the guard know of other models; all else stays as it is."""
        with self._lock:
            self._write(replace(self._state, models=models, parts=parts))

    def _write(self, state: State) -> None:
        self._state = state
        # It may have ended; `keep` starts it again. A long line needs several writes.
        line = state.to_json().encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._pipe, line) :]

    def keep(self) -> int | None:
        """Starts the process again where it has ended, and returns its exit code then; None while it runs."""
        code = self._process.exit_code()
        if code is not None:
            with self._lock:
                os.close(self._pipe)
                self._start()
                self._write(self._state)
        return code

    def stop(self) -> None:
        """Ends the process and closes the socket."""
        os.close(self._pipe)
        self._process.stop(STOP_S)
        for listener in self._listeners:
            listener.close()
