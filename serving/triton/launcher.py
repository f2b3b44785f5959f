"""Starts a Triton server on a repository, and cleans up after it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from protoclip.contract.errors import ServerError
from serving.guard.given_up import make_table
from serving.guard.settings import Settings, State

from .aliases import read_deployments
from .binary import find_server
from .catalog import PublicModel, asked_directly, find_models
from .deployed_files import finish_deletions
from .embedded import check_runs_embedded
from .flags import CALLS, EVERYWHERE, SUMMARIES, address_flags, closed_flags
from .guarding import Guard
from .live_models import LiveModels
from .ports import Ports, listen, pick, port_of, resolve
from .process import ServerProcess
from .readiness import wait_until_serving
from .server_log import ServerLog, end_of, explain, find_taken_port
from .shared_repository import SharedRepository
from .temporary_folder import TemporaryFolder

GIVEN_UP_FILE, GIVEN_UP_VARIABLE = "given_up", "PROTOCLIP_GIVEN_UP"
"""The guard's table, in the temporary folder, and what names it to the models."""
DRAIN_S = 2
"""How long the server, when stopping, waits for running inferences and for idle connections to close."""
STOP_S = 4.0
"""A server that has not stopped after this time is killed."""
RETRY_AFTER_S = 5
"""When clients may come again that find the server being started again."""
POLL_S = 1
"""How often the server looks for models that came or went."""
ATTEMPTS = 3
"""How often to start, each time with new free ports, where another program takes one before the server listens."""


@dataclass(frozen=True)
class LaunchedServer:
    """A server that has answered a request for each of `models`; `grpc_url` and `http_url` are for clients."""

    grpc_url: str
    http_url: str
    metrics_url: str
    pid: int
    models: tuple[PublicModel, ...]
    log_file: Path


class TritonServer:
    """A Triton server for the length of a `with` block.

        with TritonServer(Path("model_repository")) as server:
            client = Client(server.grpc_url)

    It ends with the block, and on Linux with this process, even when that is killed. Stopping takes at most
    five seconds. Temporary files and regions in /dev/shm are removed.
    """

    def __init__(
        self,
        repository: Path,
        *,
        names: Sequence[str] = (),
        host: str = "127.0.0.1",
        ports: Ports | None = None,
        start_timeout_s: float = 120.0,
        log_file: Path | None = None,
        latency_summaries: bool = False,
    ) -> None:
        """Nothing starts before the block is entered.

        Args:
            repository: folder that `write_repository` wrote into; several artifacts are served side by side.
            names: only these artifacts (`emoji`, or `emoji_ab12cd`); empty serves all of them.
            host: IPv4 address to listen on, or a name that has one; "0.0.0.0" for all.
            ports: 0 picks a free one, which is the default for all three.
            start_timeout_s: how long a start may take, the first one and every restart.
            log_file: file for the server's output, overwritten and kept; by default a temporary file.
            latency_summaries: quantiles of each model's queue and compute time, over a minute, in the metrics.
        """
        self._repository = Path(repository)
        self._names = tuple(names)
        self._host = host
        self._ports = ports or Ports()
        self._start_timeout_s = start_timeout_s
        self._log_file = log_file
        self._metrics_flags = SUMMARIES if latency_summaries else ()
        self._temporary: TemporaryFolder | None = None
        self._process: ServerProcess | None = None
        self._guard: Guard | None = None
        self._live: LiveModels | None = None
        self._shared: SharedRepository | None = None
        self.files_in_use = threading.Lock()
        """Held while a server starts again: it reads models' files, which must not go meanwhile."""

    def __enter__(self) -> LaunchedServer:
        """Starts the server and waits until every public model has answered an inference request.

        Raises:
            ModelError: the repository is missing, empty, incomplete or unreadable.
            ConfigError: an unknown name, a host or port that can't be used, or a repository that another server is
                changing.
            ServerError: no server on this machine, a model that can't be loaded, or the deadline passed.
        """
        if self._temporary is not None:
            raise RuntimeError("this server is running already")
        try:
            self._prepare()
            return self._start_anew(self._ports.metrics)
        except BaseException:
            self._clean_up()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the server."""
        self._clean_up()

    def wait(self, timeout_s: float) -> None:
        """Returns after `timeout_s`.

        Raises:
            ServerError: the server ended by itself meanwhile.
        """
        assert self._process is not None, "the server was not started"
        self._process.wait(timeout_s)
        if (error := self.ended()) is not None:
            raise error

    @property
    def models(self) -> tuple[PublicModel, ...]:
        """The public models, without aliases."""
        return self.live.models

    @property
    def live(self) -> LiveModels:
        """What the server loads; after a change `tell_models` has to follow."""
        assert self._live is not None, "the server was not started"
        return self._live

    @property
    def repository(self) -> Path:
        """The folder that the models are from."""
        return self._repository

    @property
    def shared(self) -> SharedRepository:
        """The same folder, and whether other servers serve it."""
        assert self._shared is not None, "the server was not started"
        return self._shared

    @property
    def start_timeout_s(self) -> float:
        """How long models may take to load."""
        return self._start_timeout_s

    @property
    def urls(self) -> tuple[str, str]:
        """Where clients reach it, for HTTP and for gRPC."""
        host = "127.0.0.1" if self._address == "0.0.0.0" else self._address
        return f"http://{host}:{self._public.http}", f"grpc://{host}:{self._public.grpc}"

    @property
    def embedded(self) -> bool:
        """Whether it is the embedded server, which does not load everything."""
        return self._binary.embedded

    @property
    def control_folder(self) -> Path:
        """A folder that the owner of this process alone may enter, as long as the server runs."""
        assert self._temporary is not None, "the server was not started"
        return self._temporary.folder

    @property
    def pid(self) -> int:
        """The server's process id, which is also that of its session; another one after a restart."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def own_http_port(self) -> int:
        """Where the server itself listens for HTTP, behind the guard; another one after a restart."""
        return self._picked.http

    def ended(self) -> ServerError | None:
        """Why the server ended by itself; None while it runs."""
        assert self._process is not None, "the server was not started"
        code = self._process.exit_code()
        if code is None:
            return None
        log = self._log.read()
        return self._with_reason(ServerError(f"the server ended by itself with exit code {code}"), explain(log))

    @property
    def is_running(self) -> bool:
        """Whether the server's process is there: not after it died, nor while it is started again."""
        process = self._process
        return process is not None and process.exit_code() is None

    def tell_clients(self, *, ready: bool, reason: str = "") -> None:
        """What the guard answers when it is asked for readiness."""
        assert self._guard is not None
        self._guard.tell(State(self._picked.http, self._picked.grpc, ready, reason, **self._known_models()))

    def tell_models(self) -> None:
        """Lets clients ask all models that are live, and no others."""
        assert self._guard is not None
        self._guard.tell_models(**self._known_models())

    def keep_guard(self) -> int | None:
        """Starts the guard again where it has ended, and returns its exit code then; None while it runs."""
        assert self._guard is not None
        return self._guard.keep()

    def stop_server(self, reason: str) -> None:
        """Ends the server, whatever it does; over HTTP clients get `reason` and may come again."""
        assert self._guard is not None
        assert self._temporary is not None
        self._guard.tell(State(reason=reason, retry_after_s=RETRY_AFTER_S))
        self._stop_server()
        self._temporary.remove_regions()

    def start_again(self) -> None:
        """Starts the server on the same ports, after `stop_server`.

        Raises:
            ConfigError: another program has taken one of them.
            ServerError: as `__enter__`.
        """
        with self.files_in_use:
            self.live.lay_out()
            self._start_anew(self._picked.metrics)

    def _prepare(self) -> None:
        """What all starts share: a temporary folder with links to the models, the program, and the guard."""
        # First of all: what is read while another server changes it would be half of a change.
        self._shared = SharedRepository(self._repository)
        finish_deletions(self._repository)
        models, deployments = find_models(self._repository, self._names), read_deployments(self._repository)
        models = tuple(model for model in models if model.prefix not in deployments.unproven)
        self._temporary = temporary = TemporaryFolder()
        # Triton passes paths unquoted to a shell when it starts a stub process: the links' paths need no quoting.
        self._live = LiveModels(self._repository, temporary.folder / "repository")
        self._live.begin(models, deployments.aliases)
        self._live.lay_out()
        self._binary = find_server(temporary.folder)
        if self._binary.embedded:
            check_runs_embedded(self._repository, models)
        self._log = ServerLog(
            self._log_file or temporary.folder / "server.log", temporary.folder / "repository", self._repository
        )
        self._address = resolve(self._host)
        make_table(temporary.folder / GIVEN_UP_FILE)
        self._guard = self._start_guard(temporary)

    def _start_guard(self, temporary: TemporaryFolder) -> Guard:
        with ExitStack() as stack:
            http = stack.enter_context(listen(self._address, self._ports.http, "--http-port"))
            grpc = stack.enter_context(listen(self._address, self._ports.grpc, "--grpc-port"))
            self._public = Ports(port_of(http), port_of(grpc))
            settings = Settings(
                http_socket=http.fileno(),
                grpc_socket=grpc.fileno(),
                given_up_file=str(temporary.folder / GIVEN_UP_FILE),
                **self._known_models(),
            )
            guard = Guard(settings, (http, grpc), temporary.folder / "guard.log")
            stack.pop_all()
        guard.tell(State())
        return guard

    def _known_models(self) -> dict[str, Any]:
        public = self.live.public
        parts = dict.fromkeys(part for model in public for part in model.parts)
        models = {name: model.max_batch_size for model in public for name in asked_directly(model)}
        return {"models": models, "parts": tuple(parts)}

    def _start_anew(self, metrics_port: int) -> LaunchedServer:
        """Starts the server, and again on other ports where another program took one that was picked."""
        deadline = time.monotonic() + self._start_timeout_s
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._launch(metrics_port, deadline)
            except ServerError as error:
                log = self._log.read()
                self._stop_server()
                taken = find_taken_port(log)
                if taken is None or attempt == ATTEMPTS or taken == metrics_port:
                    raise self._with_reason(error, explain(log) or end_of(log)) from error
        raise AssertionError("the last attempt returns or raises")

    def _launch(self, metrics_port: int, deadline: float) -> LaunchedServer:
        assert self._temporary is not None
        assert self._guard is not None
        self._picked = picked = pick(self._address, metrics_port)
        command = [str(self._binary.path), *self._arguments(self._temporary, picked)]
        self._log.begin()
        environment = {**self._binary.environment, GIVEN_UP_VARIABLE: str(self._temporary.folder / GIVEN_UP_FILE)}
        self._process = ServerProcess(command, environment, self._log.file)
        local = "127.0.0.1" if self._address == "0.0.0.0" else self._address
        http_url, grpc_url = self.urls
        wait_until_serving(self._process, picked, self.live.public, deadline, metrics_host=local)
        self.tell_clients(ready=True)
        return LaunchedServer(
            grpc_url=grpc_url,
            http_url=http_url,
            metrics_url=f"http://{local}:{picked.metrics}/metrics",
            pid=self._process.pid,
            models=self.models,
            log_file=self._log.file,
        )

    def _arguments(self, temporary: TemporaryFolder, ports: Ports) -> list[str]:
        return [
            f"--model-repository={temporary.folder / 'repository'}",
            *self._binary.arguments,
            *address_flags(self._address, ports),
            f"--exit-timeout-secs={DRAIN_S}",
            *EVERYWHERE,
            *CALLS,
            *self._metrics_flags,
            # Triton itself refuses requests to load models in this mode: it looks at its folder, which is ours.
            "--model-control-mode=poll",
            f"--repository-poll-secs={POLL_S}",
            *closed_flags(secrets.token_hex(16)),
            f"--backend-config=python,shm-region-prefix-name={temporary.region_prefix}",
        ]

    def _with_reason(self, error: ServerError, reason: str) -> ServerError:
        hint = "" if self._log_file is None else f" (log: {self._log_file})"
        return ServerError(f"{error}: {reason}{hint}" if reason else f"{error}{hint}")

    def _stop_server(self) -> None:
        if self._process is not None:
            # Triton takes a second for every worker that it unloads, which only delays the end.
            self._process.stop(STOP_S, self._log.drained())
            # Not before: one that could not be ended is ended by the next try.
            self._process = None

    def _clean_up(self) -> None:
        guard, self._guard = self._guard, None
        temporary, self._temporary = self._temporary, None
        shared, self._shared = self._shared, None
        with ExitStack() as stack:
            if shared is not None:
                stack.callback(shared.close)
            if temporary is not None:
                stack.callback(temporary.remove)
            if guard is not None:
                stack.callback(guard.stop)
            self._stop_server()
