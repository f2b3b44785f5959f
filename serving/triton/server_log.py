"""A server's log, and from it, in one line, why the server ended."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

from protoclip.contract.errors import ServerError

MAX_CHARACTERS = 1000
_DRAINED = b"All models are stopped"
"""Written once no inference is under way; what follows is the unloading of models."""

# The forms of Triton 2.51 and later. A traceback follows the reason of a Python model after an escaped newline.
_TAKEN_PORT = re.compile(
    r"failed to start (?P<service>\w+) service: .*Socket '[^']*:(?P<port>\d+)' already in use"
)
_FAILED_MODEL = re.compile(
    r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*?)(?:\\n\\nAt:|\\n\"|\"?$)"
)
_FINAL_ERROR = re.compile(r"\berror: creating server: (?P<reason>.+)$")
_MISSING_LIBRARY = re.compile(r"(?P<reason>\S+: error while loading shared libraries: .+)$")
_ERROR_LINE = re.compile(r"\bE\d{4} \S+ +\d+ \S+\] (?P<reason>.+)$")
_MESSAGE = re.compile(r"^[IWE]\d{4} \S+ +\d+ ")
# Logged on every machine without a GPU.
_HARMLESS = ("CudaDriverHelper", "CUDA driver version is insufficient")


def find_taken_port(log: str) -> int | None:
    """The port used by another program, where that ended the server."""
    match = _TAKEN_PORT.search(log)
    return int(match["port"]) if match else None


def explain(log: str) -> str:
    """A taken port or missing library; else the models that can't be loaded, with reasons; else last errors."""
    lines = log.splitlines()
    if (port := find_taken_port(log)) is not None:
        return f"port {port} was taken by another program"
    reasons = [match["reason"] for line in lines if (match := _MISSING_LIBRARY.search(line))]
    if not reasons:
        reasons = [f"model {m['model']!r}: {m['reason']}" for line in lines if (m := _FAILED_MODEL.search(line))]
    if not reasons:
        reasons = [match["reason"] for line in lines if (match := _FINAL_ERROR.search(line))]
    if not reasons:
        errors = [match["reason"].strip('"') for line in lines if (match := _ERROR_LINE.search(line))]
        reasons = [reason for reason in errors if not any(word in reason for word in _HARMLESS)][-3:]
    return "; ".join(dict.fromkeys(" ".join(reason.split()) for reason in reasons))[:MAX_CHARACTERS]


def end_of(log: str) -> str:
    """For a log without any reason: its last line that is no message of the server's own, else the last message.

    Such a line is a traceback's, or an error that Triton prints before it has a log.
    """
    written = [line for line in log.splitlines() if re.search(r"\w", line)]
    if not written:
        return "it wrote nothing to its log"
    foreign = [line for line in written if not _MESSAGE.match(line) and not line.startswith("|")]
    return f"its log ends with: {(foreign or written)[-1].strip()}"[:MAX_CHARACTERS]


class ServerLog:
    """The file that a server and those that are started in its place write to, one after the other."""

    def __init__(self, file: Path, linked: Path, repository: Path) -> None:
        """Empties `file`; `linked` is the folder that the server knows, and `repository` what is shown for it.

        Raises:
            ServerError: the file can't be written.
        """
        try:
            open(file, "wb").close()
        except OSError as error:
            raise ServerError(f"{file}: can't be written ({error.strerror}): give another --log-file") from error
        self.file = file
        self._linked, self._repository = str(linked), str(repository)
        self._start = 0

    def begin(self) -> None:
        """Another server is started: `read` gives what it writes."""
        # It may have been moved away meanwhile: the server's own one begins anew then.
        self._start = self.file.stat().st_size if self.file.is_file() else 0

    def drained(self) -> Callable[[], bool]:
        """A function that tells whether the server has written, since this call, that it drained."""
        start = self.file.stat().st_size if self.file.is_file() else 0

        def is_drained() -> bool:
            with contextlib.suppress(OSError), open(self.file, "rb") as log:
                log.seek(start)
                return _DRAINED in log.read()
            return False

        return is_drained

    def read(self) -> str:
        """What the last server wrote; bytes that are no UTF-8 are replaced."""
        if not self.file.is_file():
            return ""
        with open(self.file, "rb") as log:
            log.seek(self._start)
            return log.read().decode("utf-8", "replace").replace(self._linked, self._repository)
