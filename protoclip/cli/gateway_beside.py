"""The gateway as a process beside a server: started with it, supervised as its guard is, and stopped before it."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from protoclip.contract.errors import ServerError

from .app import console

if TYPE_CHECKING:
    from serving.gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
STOP_S = 7.0
"""Longer than the gateway itself gives running requests."""
POLL_S = 0.1
_ASK_S = 10.0


class GatewayBeside:
    """The process, on a socket of this one: where it ended it is started again, and clients only reconnect."""

    name = "gateway"

    def __init__(self, settings: GatewaySettings) -> None:
        """Starts it; what it logs goes to this process's standard error.

        Raises:
            ConfigError: the address or port can't be used.
            ServerError: the process can't be started.
        """
        from serving.gateway.server import address_of, listen

        self._settings = settings
        self._listener: socket.socket = listen(settings)
        self.url = address_of(settings, self._listener)
        try:
            self._start()
        except BaseException:
            self._listener.close()
            raise

    def _start(self) -> None:
        from serving.triton.process import ServerProcess

        number = self._listener.fileno()
        command = [sys.executable, "-P", "-m", "serving.gateway", self._settings.model_dump_json(), str(number)]
        # The packages of this copy, wherever they were imported from.
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = ServerProcess(command, {**os.environ, "PYTHONPATH": path}, None, inherited=[number])

    @property
    def pid(self) -> int:
        """Process id; another one after it was started again."""
        return self._process.pid

    def wait_until_ready(self, timeout_s: float) -> str:
        """Returns when a picture and a text went through the gateway; with a warning where they never will.

        Raises:
            ServerError: it ended, or `timeout_s` is over; with the reason that it gave last.
        """
        end = time.monotonic() + timeout_s
        reason = "no answer"
        while time.monotonic() < end:
            if (code := self._process.exit_code()) is not None:
                raise ServerError(f"the gateway ended by itself with exit code {code}: its reason stands above")
            status, reason = self._ask()
            if status == http.client.OK:
                return ""
            if status == http.client.BAD_REQUEST:
                # Of several models none is named: waiting does not help, and /v2 answers all the same.
                return f"only /v2 is served: {reason}"
            time.sleep(POLL_S)
        raise ServerError(f"the gateway is not ready after {timeout_s:g} s: {reason}")

    def keep(self) -> int | None:
        """Starts the process again where it has ended, and returns its exit code then; None while it runs."""
        code = self._process.exit_code()
        if code is not None:
            self._start()
        return code

    def stop(self) -> None:
        """Ends the process and closes the socket."""
        self._process.stop(STOP_S)
        self._listener.close()

    def _ask(self) -> tuple[int, str]:
        host, port = self._listener.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        connection: http.client.HTTPConnection
        if self._settings.tls_cert is None:
            connection = http.client.HTTPConnection(host, port, timeout=_ASK_S)
        else:
            # Its certificate is for the name that clients use.
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(host, port, timeout=_ASK_S, context=context)
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            return answer.status, answer.read(1000).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()


@contextmanager
def gateway_beside(settings: GatewaySettings | None, timeout_s: float) -> Iterator[list[GatewayBeside]]:
    """The gateway within the block, ready; none where there are no settings."""
    if settings is None:
        yield []
        return
    gateway = GatewayBeside(settings)
    try:
        if warning := gateway.wait_until_ready(timeout_s):
            console.print(f"[bold yellow]warning:[/] the gateway: {warning}")
        yield [gateway]
    finally:
        gateway.stop()
