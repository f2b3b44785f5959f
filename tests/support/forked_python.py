"""Python programs in processes of their own that need not import torch anew: they are forked from a server.

Importing torch and open_clip takes five seconds of a core, most of what a small command takes. `ForkedPython` is
`subprocess.Popen` for `[sys.executable, "-m", MODULE, …]`, `[sys.executable, FILE, …]` and the environment's
scripts. What it starts is a child of this process with its own streams, folder, environment, session and exit
code. Two things differ from a process that is started anew: modules are imported already, and the seed of `hash`
is the server's. Tests of the installed command itself, and of what it imports, use `subprocess`.
"""

from __future__ import annotations

import atexit
import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from python_program import ROOM, Program

SERVER = Path(__file__).with_name("fork_server.py")
_TAKE_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER
_NAMES = list(inspect.signature(subprocess.Popen._execute_child).parameters)[1:]


def run(command: Sequence[str], timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` with captured text."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with ForkedPython(command, **streams | options) as process:
        try:
            said = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, *said)


class ForkedPython(subprocess.Popen):
    """`subprocess.Popen` for a Python program. On systems other than Linux the process is started anew.

    Raises:
        ValueError: the command is no Python program, or it needs a process that is started anew.
    """

    @staticmethod
    def start(program: Program, streams: Sequence[int]) -> int:
        """Returns the id of a new child of this process."""
        return _server().fork(program, streams)

    def _execute_child(self, *values: Any) -> None:
        if sys.platform != "linux":
            return super()._execute_child(*values)
        given = dict(zip(_NAMES, values, strict=True))
        if given["preexec_fn"] or given["pass_fds"] or given["shell"] or given["process_group"] != -1:
            raise ValueError("preexec_fn, pass_fds, shell and process_group: use subprocess.Popen")
        environment = dict(os.environ if given["env"] is None else given["env"])
        words = _words([os.fspath(word) for word in given["args"]])
        program = Program(words, os.fspath(given["cwd"] or Path.cwd()), environment, given["start_new_session"])
        streams = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        self.pid = self.start(
            program, [number if stream == -1 else stream for number, stream in enumerate(streams)]
        )
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in pipes))
        return None


def _words(command: Sequence[str]) -> Sequence[str]:
    """What follows the interpreter's name; scripts beside it, such as `protoclip`, name it in their first line."""
    program, *rest = command
    if Path(program).parent == Path(sys.executable).parent:
        if program != sys.executable:
            return [program, *rest]
        if rest and (rest[0] == "-m" or not rest[0].startswith("-")):
            return rest
    raise ValueError(f"{command}: only python -m MODULE, python FILE and the environment's scripts can be forked")


class _Server:
    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, str(SERVER), str(theirs.fileno()), "-" * ROOM["arguments"]]
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(
                command,
                env={**self._environment, "ROOM": "-" * ROOM["environment"]},
                stdin=subprocess.DEVNULL,
                cwd=SERVER.parent,  # it outlives the test that asks first, whose folder may be this process's
                pass_fds=[theirs.fileno()],
            )

    def fork(self, program: Program, streams: Sequence[int]) -> int:
        self._require_known_variables(program.environment)
        program.in_memory()  # what is too long is told here
        message = json.dumps(asdict(program)).encode()
        with _taking_orphans():
            socket.send_fds(self._connection, [message], streams)
            answer = self._connection.recv(64)
        if not answer:
            raise RuntimeError(f"the server of forked processes ended with {self._process.wait()}; it says why")
        return int(answer)

    def close(self) -> None:
        self._connection.close()
        self._process.wait()

    def _require_known_variables(self, environment: Mapping[str, str]) -> None:
        names = {name for name in environment.keys() | self._environment.keys() if name.startswith("PYTHON")}
        changed = sorted(name for name in names if environment.get(name) != self._environment.get(name))
        if changed:
            raise ValueError(f"{', '.join(changed)}: read when an interpreter starts: use subprocess.Popen")


@cache
def _server() -> _Server:
    """This process's own, started when it is first asked."""
    server = _Server()
    atexit.register(server.close)
    return server


@contextmanager
def _taking_orphans() -> Iterator[None]:
    prctl = ctypes.CDLL(None).prctl
    prctl(_TAKE_ORPHANS, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_TAKE_ORPHANS, 0, 0, 0, 0)
