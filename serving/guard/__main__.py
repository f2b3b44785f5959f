"""The guard's process: `python -m serving.guard SETTINGS`, with the server's state on standard input, a line each.

It ends with its standard input, that is with the process that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import sys

import uvloop

from .door import Door
from .grpc_connection import GrpcConnection
from .http_connection import HttpConnection
from .settings import Settings, State

BACKLOG = 256
LONGEST_LINE = 16 * 1024 * 1024
"""A state names all models, of which there may be many."""


async def guard(settings: Settings) -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    door = Door(settings, loop)
    # Nobody is answered by what is not known yet; connections wait meanwhile.
    door.set_state(State.from_json(await lines.readline()))
    http, grpc = (socket.socket(fileno=number) for number in (settings.http_socket, settings.grpc_socket))
    servers = (
        await loop.create_server(lambda: HttpConnection(door), sock=http, backlog=BACKLOG),
        await loop.create_server(lambda: GrpcConnection(door, loop), sock=grpc, backlog=BACKLOG),
    )
    sweeper = loop.create_task(door.sweep())
    while line := await lines.readline():
        door.set_state(State.from_json(line))
    sweeper.cancel()
    for server in servers:
        server.close()


def _allow_many_files() -> None:
    # A connection of a client takes two: its own, and the one to Triton.
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments: list[str]) -> None:
    """Runs the guard; interrupts are for the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _allow_many_files()
    uvloop.run(guard(Settings.from_json(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
