"""Executes the program in its arguments so that it ends with the process that started it.

    python exit_with_parent.py PARENT_PID PROGRAM [ARGUMENT ...]

Linux sends SIGTERM to the program when the thread that started it ends (PR_SET_PDEATHSIG). That is set in
this new interpreter before exec, because code that runs after a fork of a threaded process may deadlock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Ties this process to its parent and executes the program; never returns.

    Raises:
        OSError: the kernel refuses.
        SystemExit: the parent is gone already, or the program can't be executed.
    """
    parent, program = int(arguments[0]), arguments[1]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit("the starting process ended before the program could be tied to it")
    try:
        os.execv(program, arguments[1:])
    except OSError as error:
        sys.exit(f"error: creating server: {program}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
