"""A process that has imported what takes long, torch above all, and forks itself into Python programs.

    python fork_server.py SOCKET …

`forked_python` starts it with the number of a socket, and sends a message for every program. A forked process
runs its program at the top level of this file, so that an error that nobody catches ends the interpreter.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import socket
import sys
from types import SimpleNamespace

from forked_python import ForkedPython
from python_program import Program, become, fork, require_one_thread, run_to_its_end
from unsynced import skip_syncs

MAX_BYTES = 2**18  # more than the kernel sends at once
# What starts a thread when it is imported (pyarrow, onnxruntime) has no place here, nor has what reads a setting
# of the environment then (protoclip.cli).
PRELOADED = (
    "torch.nn.parallel",
    "scipy.optimize",
    "protoclip.training.train",
    "protoclip.training.preview",
    "protoclip.evaluation.run",
    "onnxscript",
    "export.artifact",
)


def serve(connection: socket.socket) -> Program | None:
    """Forks a process for every message, in which it returns what is to be run; None: nobody asks any more."""
    while True:
        message, streams, _, _ = socket.recv_fds(connection, MAX_BYTES, 3)
        if not message:
            return None
        is_forked = _fork_twice()
        if is_forked:
            program = Program(**json.loads(message))
            try:
                become(program, streams)
            finally:
                connection.send(str(os.getpid()).encode())
                connection.close()
        for stream in streams:
            os.close(stream)
        if is_forked:
            return program


def _fork_twice() -> bool:
    """Whether this is the second process that was forked, of which the first was the parent and has ended.

    An orphan's parent is the nearest ancestor that takes orphans: at that moment the process that asks.
    """
    reading, writing = os.pipe()
    first = os.fork()
    if first == 0:
        if os.fork():
            os._exit(0)
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)
        return True
    os.waitpid(first, 0)
    os.close(writing)
    os.close(reading)
    return False


def fork_ranks_from_their_launcher() -> None:
    """`protoclip train --ranks 2` starts its ranks by forking, too: they see in it their parent."""
    from protoclip.distributed import launch

    class Rank(ForkedPython):
        start = staticmethod(fork)

    launch.subprocess = SimpleNamespace(Popen=Rank)


def _convert_a_tokenizer() -> None:
    """Takes half a second, of which a process keeps the most for all others."""
    from protoclip.encoders.tokenizer_lookup import tokenizer_for

    tokenizer_for("protoclip-mini-48")


def prepare() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    _convert_a_tokenizer()
    fork_ranks_from_their_launcher()
    skip_syncs()
    sys.path.append(sys.path.pop(0))  # this file's folder: a program's own stands in front
    gc.freeze()
    require_one_thread()


if __name__ == "__main__":
    program = None
    with contextlib.suppress(KeyboardInterrupt):
        prepare()
        program = serve(socket.socket(fileno=int(sys.argv[1])))
    if program is not None:
        run_to_its_end(program)
