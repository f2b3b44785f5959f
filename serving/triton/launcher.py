"""Starts a Triton server on a repository, and cleans up after it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from protoclip.contract.errors import ServerError
from protoclip.contract.install import install_command
from protoclip.contract.openvino_encoder import has_openvino

from .binary import ServerBinary, find_server
from .catalog import PublicModel, find_models, find_openvino, find_plans, link_models
from .ports import Ports, reserve, resolve
from .process import ServerProcess
from .readiness import wait_until_serving
from .server_log import explain, find_taken_port
from .temporary_folder import TemporaryFolder

DRAIN_S = 2
"""How long the server, when stopping, waits for running inferences and for idle connections to close."""
STOP_S = 4.0
"""A server that has not stopped after this time is killed."""
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
    ) -> None:
        """Nothing starts before the block is entered.

        Args:
            repository: folder that `write_repository` wrote into; several artifacts are served side by side.
            names: only these artifacts (`emoji`, or `emoji_ab12cd`); empty serves all of them.
            host: IPv4 address to listen on, or a name that has one; "0.0.0.0" for all.
            ports: 0 picks a free one, which is the default for all three.
            log_file: file for the server's output, overwritten and kept; by default a temporary file.
        """
        self._repository = Path(repository)
        self._names = tuple(names)
        self._host = host
        self._ports = ports or Ports()
        self._start_timeout_s = start_timeout_s
        self._log_file = log_file
        self._temporary: TemporaryFolder | None = None
        self._process: ServerProcess | None = None

    def __enter__(self) -> LaunchedServer:
        """Starts the server and waits until every public model has answered an inference request.

        Raises:
            ModelError: the repository is missing, empty, incomplete or unreadable.
            ConfigError: an unknown name, or a host or port that can't be used.
            ServerError: no server on this machine, a model that can't be loaded, or the deadline passed.
        """
        if self._process is not None:
            raise RuntimeError("this server is running already")
        deadline = time.monotonic() + self._start_timeout_s
        models = find_models(self._repository, self._names)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._launch(models, deadline)
            except ServerError as error:
                log = self._read_log()
                self._clean_up()
                if find_taken_port(log) is None or attempt == ATTEMPTS or not self._ports.any_picked:
                    raise self._with_reason(error, log) from error
            except BaseException:
                self._clean_up()
                raise
        raise AssertionError("the last attempt returns or raises")

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
        code = self._process.wait(timeout_s)
        if code is not None:
            raise self._with_reason(
                ServerError(f"the server ended by itself with exit code {code}"), self._read_log()
            )

    def _launch(self, models: tuple[PublicModel, ...], deadline: float) -> LaunchedServer:
        self._temporary = temporary = TemporaryFolder()
        # Triton passes paths unquoted to a shell when it starts a stub process: the links' paths need no quoting.
        repository = temporary.folder / "repository"
        link_models(self._repository, models, repository)
        binary = find_server(temporary.folder)
        if binary.embedded:
            _refuse_plans(self._repository, models)
            _require_openvino(self._repository, models)
        address = resolve(self._host)
        ports = reserve(address, self._ports)
        command = [str(binary.path), *self._arguments(repository, address, ports, binary)]
        self._process = ServerProcess(command, binary.environment, self._log_path(temporary))
        local = "127.0.0.1" if address == "0.0.0.0" else address
        wait_until_serving(self._process, local, ports, models, deadline)
        return LaunchedServer(
            grpc_url=f"grpc://{local}:{ports.grpc}",
            http_url=f"http://{local}:{ports.http}",
            metrics_url=f"http://{local}:{ports.metrics}/metrics",
            pid=self._process.pid,
            models=models,
            log_file=self._log_path(temporary),
        )

    def _arguments(self, repository: Path, address: str, ports: Ports, binary: ServerBinary) -> list[str]:
        assert self._temporary is not None
        # Closed to clients by a key that is not given out: registering shared memory, and setting log and trace
        # files. Requests to load models are refused by Triton itself in this mode, which loads all at startup.
        closed = f"shared-memory,trace,logging:protoclip={secrets.token_hex(16)}"
        return [
            f"--model-repository={repository}",
            *binary.arguments,
            *(f"--{kind}-address={address}" for kind in ("http", "grpc", "metrics")),
            f"--http-port={ports.http}",
            f"--grpc-port={ports.grpc}",
            f"--metrics-port={ports.metrics}",
            f"--exit-timeout-secs={DRAIN_S}",
            "--disable-auto-complete-config",
            "--model-control-mode=none",
            f"--http-restricted-api={closed}",
            f"--grpc-restricted-protocol={closed}",
            f"--backend-config=python,shm-region-prefix-name={self._temporary.region_prefix}",
        ]

    def _log_path(self, temporary: TemporaryFolder) -> Path:
        return self._log_file or temporary.folder / "server.log"

    def _read_log(self) -> str:
        if self._temporary is None or not (path := self._log_path(self._temporary)).is_file():
            return ""
        log = path.read_text(encoding="utf-8", errors="replace")
        return log.replace(str(self._temporary.folder / "repository"), str(self._repository))

    def _with_reason(self, error: ServerError, log: str) -> ServerError:
        reason = explain(log)
        hint = "" if self._log_file is None else f" (log: {self._log_file})"
        return ServerError(f"{error}: {reason}{hint}" if reason else f"{error}{hint}")

    def _clean_up(self) -> None:
        process, self._process = self._process, None
        temporary, self._temporary = self._temporary, None
        try:
            if process is not None:
                process.stop(STOP_S)
        finally:
            if temporary is not None:
                temporary.remove()


def _refuse_plans(repository: Path, models: Sequence[PublicModel]) -> None:
    plans = find_plans(repository, models)
    if plans:
        raise ServerError(
            f"{repository}: {plans[0]} is a TensorRT plan, which the embedded server can't load: serve it from "
            "the vendor's container with the TensorRT that built it, or write it anew with --engine onnx_fp32"
        )


def _require_openvino(repository: Path, models: Sequence[PublicModel]) -> None:
    found = [] if has_openvino() else find_openvino(repository, models)
    if found:
        raise ServerError(
            f"{repository}: {found[0]} runs in OpenVINO, which is not installed: {install_command('openvino')}, "
            "or write it anew with --engine onnx_fp32"
        )
