"""Parts written by workers of a Ray cluster. Needs the package `ray` with its extra `data`.

A part is a row of a Ray data set, and a worker an actor that has opened the job. Where a worker or its machine is
lost, Ray gives its part to another one: a part that is written twice is the same twice.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from protoclip.client import Client
from protoclip.contract.errors import ConfigError, ProtoclipError
from protoclip.contract.install import install_command

from .parts import PartsFolder, find_plan
from .run import Work, rank_of_environment

_CONNECT_S = 10.0


class Job(Protocol):
    """What a worker does; it is pickled."""

    @property
    def parts_at(self) -> Path:
        """The folder of the parts, at the same path on all machines."""

    def opened(self) -> AbstractContextManager[tuple[Work, Client]]:
        """Lists the items on this machine, and connects to the server."""


class PartsWriter:
    """A worker: writes the parts that it is given, and answers for each with its items or an error's text."""

    def __init__(self, job: Job) -> None:
        self._open = ExitStack()
        self._error = ""
        try:
            self._work, self._client = self._open.enter_context(job.opened())
            if find_plan(job.parts_at) is None:
                raise ConfigError(
                    f"{job.parts_at}: is not there on this machine: --out has to be where all machines see it"
                )
            self._folder = PartsFolder(job.parts_at, self._work.plan)
        except ProtoclipError as error:
            self._error = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """`part` [n] → `items` [n] and `error` [n], "" where there is none; for Dataset.map_batches."""
        answers = [self._write(int(part)) for part in batch["part"]]
        return {"items": [items for items, _ in answers], "error": [error for _, error in answers]}

    def _write(self, part: int) -> tuple[int, str]:
        if self._error:
            return 0, self._error
        try:
            return sum(self._work.write(self._folder, [part], self._client)), ""
        except ProtoclipError as error:
            return 0, str(error)


def write_on_ray(
    folder: PartsFolder, parts: Sequence[int], *, job: Job, address: str, num_workers: int | None
) -> Iterator[int]:
    """Writes the parts on a cluster, and yields the number of items of each when it is there.

    Args:
        address: of a running cluster, "auto" for the one of this machine, or "local" for one that is started here
            and ends with the work.
        num_workers: None: one for each machine of the cluster.

    Raises:
        ConfigError: no cluster is there, Ray is not installed, or this process is a rank of several.
        ProtoclipError: what the first worker that failed said.
    """
    if rank_of_environment()[1] > 1:
        raise ConfigError("--ray: this process is one of several ranks already: start it alone")
    _check_listening(address)
    with _cluster(address) as ray:
        from ray.data import ActorPoolStrategy

        count = num_workers or sum(bool(node["Alive"]) for node in ray.nodes())
        rows = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
        written = rows.map_batches(
            PartsWriter,
            fn_constructor_kwargs={"job": job},
            batch_size=1,
            compute=ActorPoolStrategy(size=min(count, len(parts))),
        )
        for row in written.iter_rows():
            if row["error"]:
                raise ProtoclipError(f"a worker of Ray: {row['error']}")
            yield int(row["items"])


def _check_listening(address: str) -> None:
    """Ray itself tries a wrong address for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"--ray {address}: no cluster of Ray answers there: {error}") from error


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    # Read when the package is imported: nothing is told to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(f"--ray needs the package ray ({error}): {install_command('ray')}") from error
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    had_one = ray.is_initialized()
    if not had_one:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, include_dashboard=None)
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(f"--ray {address}: no cluster of Ray answers there: {first}") from error
    try:
        yield ray
    finally:
        if not had_one:
            ray.shutdown()
