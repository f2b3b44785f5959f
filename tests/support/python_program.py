"""A Python program in a forked process that looks, to itself and to others, like one that was started anew."""

from __future__ import annotations

import atexit
import ctypes
import os
import runpy
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOM = {"arguments": 2**14, "environment": 2**16}
"""Bytes that the first process is started with, so that the texts of a forked one fit in their place in memory."""


@dataclass(frozen=True)
class Program:
    """`python WORDS`, that is `-m MODULE …` or `FILE …`."""

    words: Sequence[str]
    cwd: str
    environment: Mapping[str, str]
    new_session: bool = False

    def in_memory(self) -> dict[str, bytes]:
        """Arguments and environment as they lie in a process's memory.

        Raises:
            ValueError: they do not fit into ROOM.
        """
        texts = {
            "arguments": [sys.executable, *self.words],
            "environment": [f"{name}={value}" for name, value in self.environment.items()],
        }
        found = {kind: b"".join(os.fsencode(text) + b"\0" for text in words) for kind, words in texts.items()}
        for kind, data in found.items():
            if len(data) > ROOM[kind]:
                raise ValueError(f"{len(data)} bytes of {kind}: there is room for {ROOM[kind]}")
        return found

    def run(self) -> None:
        """Runs it as `__main__`, and raises what it raises."""
        if self.words[0] == "-m":
            sys.argv = list(self.words[1:])
            sys.path.insert(0, self.cwd)
            runpy.run_module(self.words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(self.words)
            sys.path.insert(0, str(Path(self.words[0]).parent))
            runpy.run_path(self.words[0], run_name="__main__")


def become(program: Program, streams: Sequence[int]) -> None:
    """Gives this forked process the standard streams, session, folder, environment and arguments of `program`."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    encoding = sys.stdout.encoding
    sys.stdin = os.fdopen(0, encoding=encoding, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if program.new_session:
        os.setsid()
    os.chdir(program.cwd)
    os.environ.clear()
    os.environ.update(program.environment)
    tempfile.tempdir = None
    _show_in_proc(program)
    _use_threads_of_the_environment()


def fork(program: Program, streams: Sequence[int]) -> int:
    """Forks this process, which must have one thread, into a child that runs `program`; returns the child's id.

    The child ends here and not where this process would: what stands above in the stack is not its own.
    """
    require_one_thread()
    if child := os.fork():
        return child
    try:
        become(program, streams)
        run_to_its_end(program)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    return _end(1)


def run_to_its_end(program: Program) -> NoReturn:
    """Runs it and ends this process; an error that it does not catch is raised.

    The process ends as others do, but for the memory that the interpreter would free: a third of a second.
    """
    code = 0
    try:
        program.run()
    except SystemExit as end:
        code = _exit_code(end)
    _end(code)


def _end(code: int) -> NoReturn:
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def require_one_thread() -> None:
    """Raises RuntimeError where a fork would leave a thread, and whatever it has locked, behind."""
    count = len(list(Path("/proc/self/task").iterdir()))
    if count > 1:
        raise RuntimeError(f"{count} threads run: one of the modules imported so far starts them")


def _exit_code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def _show_in_proc(program: Program) -> None:
    """Writes arguments and environment over those that this process was started with: /proc shows that place."""
    numbers = [int(number) for number in Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:49]]
    for first, end, data in zip(numbers[::2], numbers[1::2], program.in_memory().values(), strict=True):
        ctypes.memset(first, 0, end - first)
        ctypes.memmove(first, data, len(data))


def _use_threads_of_the_environment() -> None:
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
