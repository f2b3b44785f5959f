"""A relay before a server: its connections can go dead, grow slow, or end at another server."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Relay:
    """Passes bytes between clients and `port`; connections that are dead take them, and pass none."""

    def __init__(self, port: int, num_dead_at_first: int = 0) -> None:
        self.num_connections = 0
        self._num_dead = num_dead_at_first
        self._num_slow, self._pause_s = 0, 0.0
        self._target = port
        self._sockets: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def kill_connections(self) -> None:
        """Those that are open now go dead; later ones work."""
        self._num_dead = self.num_connections

    def be_slow(self, num_blocks: int, pause_s: float) -> None:
        """So many of the next blocks of bytes wait that long each."""
        self._num_slow, self._pause_s = num_blocks, pause_s

    def turn_to(self, port: int) -> None:
        """Those that are open end, as with their server; later ones are with another one."""
        self._target = port
        self._end(*self._sockets)

    def close(self) -> None:
        self._end(self.listener, *self._sockets)
        for one in (self.listener, *self._sockets):
            one.close()

    def _end(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                self.num_connections += 1
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    passing = (self.num_connections, source, sink)
                    threading.Thread(target=self._pass, args=passing, daemon=True).start()

    def _pass(self, number: int, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self._num_slow > 0:
                    self._num_slow -= 1
                    time.sleep(self._pause_s)
                if number > self._num_dead:
                    sink.sendall(data)


@contextmanager
def relay(port: int, num_dead_at_first: int = 0) -> Iterator[Relay]:
    made = Relay(port, num_dead_at_first)
    try:
        yield made
    finally:
        made.close()
