"""A real PostgreSQL with pgvector in a process of its own, of a package's binaries; reached by a socket alone."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

PACKAGE = "pgserver"
USER = "protoclip"
START_S, STOP_S = 60, 30
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = off
shared_buffers = 32MB
max_connections = 40
"""


class PostgresServer:
    """A server for a block, with a database `postgres` for the user `protoclip`, who needs no password."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="protoclip-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, Any] = {}

    @property
    def address(self) -> str:
        """Without an index's name: append `&index=…`."""
        return f"postgresql:///postgres?host={self._folder}&user={USER}"

    def __enter__(self) -> Self:
        try:
            self._make()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [_programs() / "postgres", "-D", self._folder / "data"],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **self._as_user,
            )
        end = time.monotonic() + START_S
        while not self._answers():
            said = (self._folder / "log").read_text(errors="replace")
            assert self._process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends it and all connections, whatever they are doing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _make(self) -> None:
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-U", USER]
        made = subprocess.run(
            [_programs() / "initdb", "-D", self._folder / "data", *options],
            capture_output=True,
            text=True,
            cwd=self._folder,
            **self._as_user,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        with open(self._folder / "data" / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write(SETTINGS.format(folder=self._folder))

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.address, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def _programs() -> Path:
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"
