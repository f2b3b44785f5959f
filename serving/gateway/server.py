"""Runs a gateway: uvicorn on a socket that is bound before, so that its port is known."""

from __future__ import annotations

import gc
import logging
import os
import socket

import uvicorn
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from protoclip.contract.errors import ConfigError

from .app import create_app
from .connection import bounded_connection
from .logs import Log
from .settings import GatewaySettings
from .state import Gateway, make_gateway

STOP_S = 5
"""How long running requests may take when the gateway is stopped."""
BACKLOG = 256
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def listen(settings: GatewaySettings) -> socket.socket:
    """A socket that listens where `settings` say.

    Raises:
        ConfigError: no such address, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"host={settings.host}: is no address ({error.strerror}): use 127.0.0.1") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"port={settings.port} on {settings.host} can't be used ({reason}): 0 picks one"
        ) from error
    return listener


def address_of(settings: GatewaySettings, listener: socket.socket) -> str:
    """The gateway's address for clients on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if settings.tls_cert is None else 'https'}://{shown}:{port}"


def make_server(
    settings: GatewaySettings, gateway: Gateway | None = None, log: Log | None = None
) -> uvicorn.Server:
    """A server that is not running yet; `run_server` runs it. `gateway`: by default, what `settings` name.

    Raises:
        ConfigError: keys, address or certificate can't be used.
        ModelError: as `make_gateway`.
    """
    app = create_app(gateway or make_gateway(settings), log or Log(settings.log_json))
    config = uvicorn.Config(
        app,
        http=bounded_connection(settings, app.state.short_way),
        ws="none",
        loop="uvloop",
        interface="asgi3",
        lifespan="on",
        # Requests are logged by the frame; of the server itself only what is wrong.
        log_config=None,
        access_log=False,
        log_level="critical",
        # Who asks is what the connection says: a header could say anything.
        proxy_headers=False,
        server_header=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=int(settings.idle_s),
        timeout_graceful_shutdown=STOP_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    try:
        config.load()
    except OSError as error:
        raise ConfigError(f"tls_cert={settings.tls_cert}: can't be used: {error}") from error
    return uvicorn.Server(config)


def run_server(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serves until SIGINT or SIGTERM, which are raised again at the end."""
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    use_one_core_a_search()
    look_for_garbage_in_what_is_new()
    server.run(sockets=[listener])


def look_for_garbage_in_what_is_new() -> None:
    """Has Python's collector pass over what was imported and made until now, in this process.

    That stays to the end, and to go through all of it took a tenth of the processor time of small requests.
    """
    gc.collect()
    gc.freeze()


def use_one_core_a_search() -> None:
    """Has NumPy multiply in the calling thread, in this process, unless the environment says otherwise.

    OpenBLAS's other threads wait for the next product without sleeping: a search of milliseconds then takes the
    processor from those of other clients, and from the server, for several times as long.
    """
    if not any(os.environ.get(name) for name in _THREADS):
        threadpool_limits(limits=1, user_api="blas")
