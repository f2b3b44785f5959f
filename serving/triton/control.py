"""How `protoclip deploy` reaches the `protoclip serve` of this machine: a socket in the server's private folder.

Nobody but the user that runs the server may enter that folder, which is all the protection there is, and all that
is needed: such a user could change the server's files as well. A request is a line of JSON; so are all answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from protoclip.contract import errors
from protoclip.contract.errors import ConfigError, ProtoclipError, ServerError
from protoclip.contract.files import write_text

from .temporary_folder import PREFIX

SOCKET, FACTS = "control.sock", "control.json"
MAX_REQUEST_BYTES = 16 * 1024 * 1024
Progress = Callable[[str], None]
Handler = Callable[[dict[str, Any], Progress], dict[str, Any]]
"""Takes a request and a function for lines of progress, and returns the answer; raises ProtoclipError."""


@dataclass(frozen=True)
class Running:
    """A server of this machine that can be told to deploy; `temporary`: its repository goes with it."""

    folder: str
    repository: str
    http_url: str
    grpc_url: str
    pid: int
    temporary: bool = False


class _NobodyWaits(Exception):
    """Who asked has gone."""


class ControlSocket:
    """Answers requests in a thread, each with `handler`, for the length of a `with` block."""

    def __init__(self, running: Running, handler: Handler, report: Progress) -> None:
        """`report` gets a line where there can be no such socket; nothing else depends on it."""
        self._running, self._handler, self._report = running, handler, report
        self._folder = Path(running.folder)

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(self._folder / SOCKET))
        except OSError as error:
            self._report(f"`protoclip deploy` can't reach this server: {error}: set TMPDIR to a short path")
            return self
        (self._folder / SOCKET).chmod(0o600)
        self._listener.listen(8)
        write_text(self._folder / FACTS, json.dumps(asdict(self._running)))
        threading.Thread(target=self._accept, name="control", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), name="control", daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        def send(answer: dict[str, Any]) -> None:
            try:
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError as error:
                raise _NobodyWaits from error

        with connection, contextlib.suppress(_NobodyWaits):
            answer: dict[str, Any]
            try:
                request = json.loads(_read_line(connection))
                answer = {"done": self._handler(request, lambda line: send({"progress": line}))}
            except ProtoclipError as error:
                answer = {"error": str(error), "kind": type(error).__name__}
            except _NobodyWaits:
                # Whatever was under way was given up with it.
                raise
            except Exception as error:  # noqa: BLE001 - the thread would end, and who asked wait
                answer = {"error": f"the server failed: {error!r}", "kind": "ServerError"}
            send(answer)


def find_running(url: str | None = None) -> Running:
    """The server of this machine and user, or of those the one with that address.

    Raises:
        ConfigError: there is none, or several, or the address is another machine's.
    """
    found = list(_all_running())
    if url is not None and not _is_here(url):
        raise ConfigError(
            f"--url {url}: no address of this machine: run this command where that server runs (in its container, "
            "where it has one)"
        )
    fitting = [one for one in found if url is None or _port(url) in (_port(one.http_url), _port(one.grpc_url))]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(sorted(one.http_url for one in found))
    if fitting:
        raise ConfigError(f"several servers run here: say which with --url: {there}")
    if found:
        raise ConfigError(f"--url {url}: no server of this machine: there are {there}")
    raise ConfigError(
        "no `protoclip serve` of this user runs on this machine: run this command where the server runs "
        "(in its container, where it has one), as the user that started it"
    )


def ask(running: Running, request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Sends a request and returns the answer; `progress` takes a line for each step.

    Raises:
        ProtoclipError: of the kind that the server raised.
        ServerError: it ended meanwhile.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(Path(running.folder) / SOCKET))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    if "progress" not in answer:
                        return _taken(answer)
                    progress(answer["progress"])
        except OSError as error:
            raise ServerError(f"{running.http_url}: the server can't be told: {error}") from error
    raise ServerError(f"{running.http_url}: the server ended meanwhile: see what it serves with --list")


def _taken(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        kind = getattr(errors, answer["kind"], ServerError)
        raise (kind if kind in (errors.ConfigError, errors.ModelError, errors.VerdictError) else ServerError)(
            answer["error"]
        )
    done: dict[str, Any] = answer["done"]
    return done


def _all_running() -> Iterator[Running]:
    for file in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{FACTS}")):
        with (
            contextlib.suppress(OSError, ValueError, TypeError),
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        ):
            if not _is_own(file):
                continue
            running = Running(**json.loads(file.read_bytes()))
            if Path(running.folder) != file.parent:
                continue
            connection.connect(str(file.with_name(SOCKET)))
            yield running


def _is_own(file: Path) -> bool:
    """Whether no other user made the file or its folder: it would be a trap, as what is sent names files here."""
    folder, facts, user = file.parent.lstat(), file.lstat(), os.getuid()
    return stat.S_ISDIR(folder.st_mode) and stat.S_ISREG(facts.st_mode) and folder.st_uid == facts.st_uid == user


def _is_here(url: str) -> bool:
    """Whether the host of an address is this machine: only of its own addresses a socket can be bound to one."""
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except (OSError, ValueError):
        return False
    for family, kind, protocol, _, address in found:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as tried:
            tried.bind(address)
            return True
    return False


def _port(url: str) -> str:
    return url.rstrip("/").rpartition(":")[2]


def _read_line(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        block = connection.recv(1 << 16)
        received += block
        if not block or len(received) > MAX_REQUEST_BYTES:
            raise ConfigError("the request is not whole")
    return received
