"""`-` in place of a file's name: standard input, which one argument of a command may read."""

from __future__ import annotations

import sys
from typing import BinaryIO

from protoclip.cli.app import console
from protoclip.contract.errors import ConfigError

STANDARD_INPUT = "-"


class StandardInput:
    """Standard input of this command; `open` gives it out once."""

    def __init__(self) -> None:
        self._taken_by: str | None = None

    def open(self, argument: str, waits_for: str) -> BinaryIO:
        """The stream of bytes. At a terminal `waits_for` is printed, so that nobody waits for the command.

        Args:
            argument: who reads it, as people typed it: "--labels-file -".
            waits_for: what should come, in words.

        Raises:
            ConfigError: another argument reads it already, or it is closed.
        """
        if self._taken_by is not None:
            raise ConfigError(
                f"{self._taken_by} and {argument} both read standard input: give one of them a file, `./-` is one "
                "called -"
            )
        self._taken_by = argument
        if sys.stdin is None or sys.stdin.closed:
            raise ConfigError(f"{argument}: standard input is closed: pipe {waits_for} into the command")
        if sys.stdin.isatty():
            console.print(f"waiting for {waits_for} on standard input; Ctrl-D ends it", highlight=False)
        return sys.stdin.buffer
