"""A relay before a server whose connections can go dead: they stay open, and nothing passes any more."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Relay:
    """Passes bytes between clients and `port`; connections that are dead take them, and pass none."""

    def __init__(self, port: int, num_dead_at_first: int = 0) -> None:
        self.num_connections = 0
        self._num_dead = num_dead_at_first
        self._target = port
        self._sockets: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def kill_connections(self) -> None:
        """Those that are open now go dead; later ones work."""
        self._num_dead = self.num_connections

    def close(self) -> None:
        for one in (self.listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

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
                if number > self._num_dead:
                    sink.sendall(data)


@contextmanager
def relay(port: int, num_dead_at_first: int = 0) -> Iterator[Relay]:
    made = Relay(port, num_dead_at_first)
    try:
        yield made
    finally:
        made.close()
