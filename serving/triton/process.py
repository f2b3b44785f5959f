"""One child process: it can't outlive this process, and is stopped within a deadline."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from protoclip.contract.errors import ServerError

KILL_WAIT_S = 2.0
"""How long the kernel may take to end a process after SIGKILL."""
GROUP_WAIT_S = 0.5
"""The same for its child processes; where their new parent does not reap them they seem to be alive."""
ANSWERS_S = 0.5
"""How long a server that computes nothing any more may take to send its last answers."""
LOOK_S = 0.05


class ServerProcess:
    """A running server in a process group of its own, so that Ctrl-C in the terminal reaches only this process.

    A separate thread starts it and waits for its end: on Linux the child gets a signal when the *thread* that
    started it ends, and the caller's thread may be short-lived.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path | None,
        *,
        standard_input: int = subprocess.DEVNULL,
        inherited: Sequence[int] = (),
    ) -> None:
        """Starts `command`.

        Args:
            log_file: output and errors are appended to it; None: they go to this process's standard error.
            standard_input: a file descriptor to read from.
            inherited: file descriptors that the program finds under the same numbers.

        Raises:
            ServerError: the program can't be executed.
        """
        self._command = [*_exits_with_parent(), *command]
        self._environment = dict(environment)
        self._log_file = log_file
        self._standard_input = standard_input
        self._inherited = tuple(inherited)
        self._started = threading.Event()
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None
        threading.Thread(target=self._keep, name="server-keeper", daemon=True).start()
        self._started.wait()
        if self._process is None:
            raise ServerError(f"{command[0]}: can't be started: {self._error}") from self._error

    def _keep(self) -> None:
        try:
            with ExitStack() as stack:
                log = 2 if self._log_file is None else stack.enter_context(open(self._log_file, "ab"))
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    stdin=self._standard_input,
                    pass_fds=self._inherited,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            self._error = error
            return
        finally:
            self._started.set()
        self._process.wait()
        self._ended.set()

    @property
    def _child(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """Process id, which is also the id of the process group."""
        return self._child.pid

    def exit_code(self) -> int | None:
        """None while it runs; the negative number of the signal where one ended it."""
        return self._child.returncode if self._ended.is_set() else None

    def wait(self, timeout_s: float) -> int | None:
        """Waits at most `timeout_s` for the end; returns as `exit_code`."""
        self._ended.wait(timeout_s)
        return self.exit_code()

    def stop(self, timeout_s: float, is_drained: Callable[[], bool] = lambda: False) -> None:
        """Requests a clean shutdown, and kills the process group if that takes longer than `timeout_s`.

        Args:
            is_drained: whether the server computes nothing any more: it is killed after `ANSWERS_S` then.
        """
        deadline = time.monotonic() + timeout_s
        try:
            if self.exit_code() is None:
                self._child.send_signal(signal.SIGTERM)
                self._wait_for_end(deadline, is_drained)
        finally:
            # Also after a clean end: child processes of a server that crashed may be left in the group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait(KILL_WAIT_S)
            self._wait_for_group()

    def _wait_for_end(self, deadline: float, is_drained: Callable[[], bool]) -> None:
        while time.monotonic() < deadline and self.wait(LOOK_S) is None:
            if is_drained():
                self.wait(min(ANSWERS_S, max(0.0, deadline - time.monotonic())))
                return

    def _wait_for_group(self) -> None:
        """Killed child processes take a moment to end, and this process, not being their parent, can only poll."""
        deadline = time.monotonic() + GROUP_WAIT_S
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < deadline:
                os.killpg(self.pid, 0)
                time.sleep(0.01)


def _exits_with_parent() -> list[str]:
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("exit_with_parent.py")), str(os.getpid())]
