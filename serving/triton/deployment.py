"""Deploys artifacts to a running server: loads beside, proves, moves an alias; or leaves everything as it was.

A model is written to the repository and loaded as unproven: until its golden vectors came back through the guard
no alias stands for it, and a server that starts does not load it. Whatever fails takes it away again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError, ProtoclipError, ServerError, VerdictError
from protoclip.contract.manifest import Engine, Manifest, load_manifest
from protoclip.contract.served_parameters import CANARY, CANARY_SHARE, CURRENT

from .aliases import Alias, describe, marked_unproven, moved, read_deployments, write_deployments
from .catalog import PublicModel
from .deployed_files import (
    Wanted,
    check_no_settings,
    check_same_files,
    delete_models,
    write_models,
    written_models,
)
from .embedded import check_runs_embedded
from .grpc_request import embed_by_grpc
from .launcher import TritonServer
from .loading import REQUEST_S, wait_for_parameters, wait_until_gone, wait_until_loaded
from .readiness import embed

Report = Callable[[str], None]
UNLOAD_S = 20.0
ALIAS_S = 60.0
"""How long the server may take to see that an alias has moved, on a machine that is busy."""


class Deployer:
    """Changes what a running server serves; one change at a time."""

    def __init__(self, server: TritonServer, report: Report) -> None:
        """`report` takes one line for every change, for the server's own log."""
        self._server = server
        self._report = report
        self._lock = threading.Lock()
        self._before: set[str] = set()
        """Prefixes of models that were loaded here, or tried."""

    def deploy(self, wanted: Wanted, progress: Report) -> dict[str, Alias]:
        """Loads, proves and moves; returns the aliases as they are then. `progress` takes a line for each step.

        Raises:
            ModelError: the artifact can't be read, is damaged, or can't be served here.
            ConfigError: another deployment is under way, the artifact's model is served from other files, or is to
                be a canary and there is no other one.
            VerdictError: its answers are not those of the golden vectors.
            ServerError: the server can't load it, or was started again meanwhile.
        Whatever `progress` raises ends the deployment too, and what has been changed is changed back.
        """
        with self._alone():
            manifest = load_manifest(wanted.artifact)
            engine = manifest.engine if wanted.engine is None else manifest.engine_named(wanted.engine)
            prefix = manifest.model_name("image", engine.name).removesuffix("_image")
            starts = self._server.live.starts
            before = self._named_before(manifest.name, prefix)
            after = moved(before, prefix, wanted.canary_share)
            if before is not None and manifest.name not in self._server.live.aliases:
                # Or clients that ask for the name would find two models while the new one is tried.
                with self._pointing(manifest.name, before, starts, None, progress):
                    pass
            with self._loaded(wanted, manifest, engine, prefix, starts, progress):
                self._prove(prefix, wanted, "", progress)
                with self._pointing(manifest.name, after, starts, prefix, progress):
                    if after.current == prefix:
                        self._prove(prefix, wanted, manifest.name, progress)
            self._report(f"deployed {prefix}: {describe(manifest.name, after)}")
            return dict(self._server.live.aliases)

    def change(
        self, name: str | None, change: Callable[[str, Alias], Alias], progress: Report
    ) -> dict[str, Alias]:
        """Makes an alias stand for another model that is served already; None: the only alias.

        Raises:
            ConfigError: no such alias, several, or whatever `change` raises.
            ServerError: the server does not take it.
        """
        with self._alone():
            found = self._the_alias(name)
            after = change(found, self._server.live.aliases[found])
            served = {model.prefix for model in self._server.live.models}
            if missing := [prefix for prefix in after.targets if prefix not in served]:
                raise ConfigError(f"{missing[0]} is not served any more: deploy its artifact again")
            with self._pointing(found, after, self._server.live.starts, None, progress):
                pass
            self._report(f"changed: {describe(found, after)}")
            return dict(self._server.live.aliases)

    def remove(self, prefix: str, progress: Report) -> dict[str, Alias]:
        """Unloads a model, and deletes it from the repository.

        Raises:
            ConfigError: it is not served, an alias stands for it, or it is the only one.
        """
        with self._alone():
            live, repository = self._server.live, self._server.repository
            gone = [model for model in live.models if model.prefix == prefix]
            self._check_removable(prefix, gone)
            kept = read_deployments(repository)
            for name, alias in kept.aliases.items():
                if alias.previous == prefix:
                    kept = kept.with_alias(name, alias.model_copy(update={"previous": None}))
            with self._server.files_in_use:
                write_deployments(repository, kept)
                for name, alias in kept.aliases.items():
                    live.point(name, alias)
                live.keep_aliases(live.starts)
                progress(f"unloading {prefix}")
                self._unload(prefix, live.starts)
                delete_models(repository, prefix, live.public)
            self._report(f"removed {prefix}")
            return dict(live.aliases)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise ConfigError("another deployment is under way: wait for its end")
        try:
            with self._server.shared.changed():
                yield
        finally:
            self._lock.release()

    def _named_before(self, name: str, prefix: str) -> Alias | None:
        """What `name` stands for; the only model of that name, where no alias was made yet."""
        live = self._server.live
        if name in live.aliases:
            return live.aliases[name]
        served = {model.prefix for model in live.models if model.artifact == name} - {prefix}
        return Alias(current=served.pop()) if len(served) == 1 else None

    @contextlib.contextmanager
    def _loaded(
        self, wanted: Wanted, manifest: Manifest, engine: Engine, prefix: str, starts: int, progress: Report
    ) -> Iterator[None]:
        """Has the model loaded within the block; it stays where the block ends well."""
        live, repository = self._server.live, self._server.repository
        if any(model.prefix == prefix for model in live.models):
            check_same_files(repository, wanted.artifact, manifest, engine, prefix)
            yield
            return
        written = written_models(repository, prefix)
        try:
            if written:
                check_same_files(repository, wanted.artifact, manifest, engine, prefix)
                check_no_settings(wanted, prefix)
                new = written
            else:
                write_deployments(repository, marked_unproven(read_deployments(repository), prefix, True))
                progress(f"writing {prefix}")
                new = write_models(repository, wanted, engine, prefix)
            if self._server.embedded:
                check_runs_embedded(repository, new)
            progress(f"loading {prefix}")
            live.add(new, starts)
            self._server.tell_models()
            port, check = self._server.own_http_port, partial(live.check_start, starts)
            attempts = 2 if prefix in self._before else 1
            self._before.add(prefix)
            wait_until_loaded(port, new, self._server.start_timeout_s, check, attempts=attempts)
            yield
        except BaseException:
            with self._server.files_in_use:
                self._unload(prefix, starts)
                if not written:
                    delete_models(repository, prefix, live.public)
                    with contextlib.suppress(ProtoclipError):
                        write_deployments(repository, marked_unproven(read_deployments(repository), prefix, False))
            raise

    @contextlib.contextmanager
    def _pointing(
        self, name: str, alias: Alias, starts: int, proven: str | None, progress: Report
    ) -> Iterator[None]:
        """Has the alias moved within the block; it stays where the block ends well."""
        live, repository = self._server.live, self._server.repository
        before, kept = live.aliases.get(name), read_deployments(repository)
        progress(describe(name, alias))
        live.point(name, alias)
        try:
            self._server.tell_models()
            self._wait_for_alias(name, alias, starts)
            yield
            after = kept.with_alias(name, alias)
            if proven is not None:
                after = marked_unproven(after, proven, False)
                live.prove(proven, starts)
            live.keep_aliases(starts)
            write_deployments(repository, after)
        except BaseException:
            # The file is written last: it still says what was before.
            live.point(name, before)
            live.keep_aliases(live.starts)
            self._server.tell_models()
            raise

    def _wait_for_alias(self, name: str, alias: Alias, starts: int) -> None:
        expected = {
            CURRENT: alias.current,
            CANARY: alias.canary,
            CANARY_SHARE: repr(alias.canary_share) if alias.canary else None,
        }
        names = [f"{name}_{role}" for role in ("image", "text")]
        port, check = self._server.own_http_port, partial(self._server.live.check_start, starts)
        if not wait_for_parameters(port, names, expected, ALIAS_S, check):
            raise ServerError(f"the server did not take it that {describe(name, alias)}: see its log (--log-file)")

    def _prove(self, prefix: str, wanted: Wanted, alias: str, progress: Report) -> None:
        """Compares answers of both protocols, through the guard, with the golden vectors; `alias`: by name."""
        live = self._server.live
        public = [model for model in live.public if model.prefix == (alias or prefix)]
        progress(f"comparing {alias or prefix} with the golden vectors")
        http, grpc = (urlsplit(url) for url in self._server.urls)
        for model in sorted(public, key=lambda model: model.name):
            items = wanted.golden.items(model.role)
            rows = [embed(http.hostname or "", http.port or 0, model, item, REQUEST_S) for item in items]
            _check(model, "", np.asarray(rows, dtype=np.float32), wanted)
            _check(model, " over gRPC", np.stack(embed_by_grpc(grpc.netloc, model, items, REQUEST_S)), wanted)

    def _the_alias(self, name: str | None) -> str:
        names = sorted(self._server.live.aliases)
        if name is None and len(names) == 1:
            return names[0]
        if name in names:
            return str(name)
        there = ", ".join(names) or "none: `protoclip deploy ARTIFACT` makes one"
        raise ConfigError(
            f"no alias {name!r}: there are {there}" if name else f"say which alias: there are {there}"
        )

    def _check_removable(self, prefix: str, gone: list[PublicModel]) -> None:
        live = self._server.live
        there = sorted({model.prefix for model in live.models})
        if not gone:
            raise ConfigError(f"no model {prefix!r}: there are {', '.join(there)}")
        for name, alias in live.aliases.items():
            if prefix in alias.targets:
                raise ConfigError(
                    f"{name} stands for {prefix}: deploy another one, or roll back, before removing it"
                )
        if len(there) == 1:
            raise ConfigError(f"{prefix} is the only model that is served: deploy another one before removing it")

    def _unload(self, prefix: str, starts: int) -> None:
        """Takes models away, and waits until the server has unloaded them."""
        live = self._server.live
        gone = [model for model in live.public if model.prefix == prefix]
        live.remove(prefix)
        self._server.tell_models()
        with contextlib.suppress(ServerError):
            wait_until_gone(self._server.own_http_port, gone, UNLOAD_S, partial(self._check_running, starts))

    def _check_running(self, starts: int) -> None:
        """Raises ServerError where the server has ended: it has unloaded everything."""
        self._server.live.check_start(starts)
        if not self._server.is_running:
            raise ServerError("the server has ended: deploy again")


def _check(model: PublicModel, where: str, served: NDArray[np.float32], wanted: Wanted) -> None:
    """Raises VerdictError where answers `[n, D]` are not those of the golden vectors."""
    missed = wanted.golden.vectors(model.role).misses(served, wanted.bound)
    if missed:
        raise VerdictError(
            f"{model.name} does not answer{where} as {wanted.artifact} says ({'; '.join(missed)}): nothing was "
            "changed; export it again, or choose another --engine"
        )
