"""A gateway's process beside a server: `python -m serving.gateway SETTINGS SOCKET`, with settings in JSON.

SOCKET is the descriptor of the listening socket, which the process that starts this one keeps.
"""

from __future__ import annotations

import signal
import socket
import sys

from protoclip.contract.errors import ProtoclipError

from .server import make_server, run_server
from .settings import GatewaySettings


def main(arguments: list[str]) -> None:
    """Runs the gateway; interrupts are for the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = GatewaySettings.model_validate_json(arguments[0])
    try:
        server = make_server(settings)
    except ProtoclipError as error:
        sys.exit(f"error: the gateway: {error}")
    run_server(server, socket.socket(fileno=int(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
