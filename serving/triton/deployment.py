"""Deploys artifacts to a running server: loads beside, proves, moves an alias; or leaves everything as it was.

A model is written to the repository and loaded as unproven: until its golden vectors came back through the guard
no alias stands for it, and a server that starts does not load it. Whatever fails takes it away again.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from protoclip.contract.errors import ConfigError, ProtoclipError, ServerError, VerdictError
from protoclip.contract.files import sha256_file
from protoclip.contract.golden import Golden, GoldenBound
from protoclip.contract.manifest import Engine, Manifest, load_manifest
from protoclip.contract.served_parameters import CANARY, CANARY_SHARE, CURRENT

from .aliases import Alias, Deployments, read_deployments, write_deployments
from .catalog import PublicModel, find_models
from .embedded import check_runs_embedded
from .launcher import TritonServer
from .loading import REQUEST_S, wait_for_parameters, wait_until_gone, wait_until_loaded
from .pbtxt import model_file
from .readiness import embed
from .repository import VERSION, write_repository
from .scheduling import Scheduling

Report = Callable[[str], None]
UNLOAD_S = 20.0
ALIAS_S = 60.0
"""How long the server may take to see that an alias has moved, on a machine that is busy."""


@dataclass(frozen=True)
class Wanted:
    """What is to be deployed.

    Attributes:
        artifact: its folder.
        engine: by name; None: the default one.
        golden: what it has to answer.
        bound: how far the answers may be off.
        canary_share: of the clients that get it for a trial; None: it becomes current.
        max_batch_size, encoder_threads, scheduling: as of `write_repository`.
    """

    artifact: Path
    engine: str | None
    golden: Golden
    bound: GoldenBound
    canary_share: float | None = None
    max_batch_size: int | None = None
    encoder_threads: int = 0
    scheduling: Scheduling | None = None


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
            ConfigError: another deployment is under way, or the artifact's model is served from other files.
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
            if before is not None and manifest.name not in self._server.live.aliases:
                # Or clients that ask for the name would find two models while the new one is tried.
                with self._pointing(manifest.name, before, starts, None, progress):
                    pass
            with self._loaded(wanted, manifest, engine, prefix, starts, progress):
                self._prove(prefix, wanted, "", progress)
                after = _moved(before, prefix, wanted.canary_share)
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
            write_deployments(repository, kept)
            for name, alias in kept.aliases.items():
                live.point(name, alias)
            progress(f"unloading {prefix}")
            self._unload(prefix, gone, live.starts)
            self._report(f"removed {prefix}")
            return dict(live.aliases)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise ConfigError("another deployment is under way: wait for its end")
        try:
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
            _check_same_files(repository, wanted.artifact, manifest, engine, prefix)
            yield
            return
        kept = read_deployments(repository)
        write_deployments(repository, _unproven(kept, prefix, True))
        new: list[PublicModel] = []
        try:
            progress(f"writing {prefix}")
            write_repository(
                wanted.artifact,
                repository,
                engine=engine.name,
                max_batch_size=wanted.max_batch_size,
                encoder_threads=wanted.encoder_threads,
                scheduling=wanted.scheduling,
            )
            new = [model for model in find_models(repository) if model.prefix == prefix]
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
            self._unload(prefix, new, starts)
            with contextlib.suppress(ProtoclipError):
                write_deployments(repository, _unproven(read_deployments(repository), prefix, False))
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
                after = _unproven(after, proven, False)
                live.prove(proven, starts)
            write_deployments(repository, after)
        except BaseException:
            # The file is written last: it still says what was before.
            live.point(name, before)
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
        """Compares answers through the guard with the golden vectors; `alias`: asks by its name."""
        live = self._server.live
        public = [model for model in live.public if model.prefix == (alias or prefix)]
        progress(f"comparing {alias or prefix} with the golden vectors")
        address = urlsplit(self._server.urls[0])
        for model in sorted(public, key=lambda model: model.name):
            rows = [
                embed(address.hostname or "", address.port or 0, model, item, REQUEST_S)
                for item in wanted.golden.items(model.role)
            ]
            missed = wanted.golden.vectors(model.role).misses(np.asarray(rows, dtype=np.float32), wanted.bound)
            if missed:
                raise VerdictError(
                    f"{model.name} does not answer as {wanted.artifact} says ({'; '.join(missed)}): nothing was "
                    "changed; export it again, or choose another --engine"
                )

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

    def _unload(self, prefix: str, models: list[PublicModel], starts: int) -> None:
        """Takes models away, and deletes them and the parts that no other model needs from the repository."""
        live = self._server.live
        live.remove(prefix)
        self._server.tell_models()
        with contextlib.suppress(ServerError):
            wait_until_gone(self._server.own_http_port, models, UNLOAD_S, partial(live.check_start, starts))
        repository = self._server.repository
        names = {name for model in models for name in (model.name, *model.parts)}
        others = {part for model in self._server.live.public for part in model.parts}
        for name in sorted(names - others):
            shutil.rmtree(repository / name, ignore_errors=True)


def describe(name: str, alias: Alias) -> str:
    """In words: what it stands for."""
    canary = f", and {alias.canary_share:.0%} of the clients get {alias.canary}" if alias.canary else ""
    return f"{name} stands for {alias.current}{canary}"


def rolled_back(name: str, alias: Alias) -> Alias:
    """Without the canary, else with what it stood for before; raises ConfigError where there is neither."""
    if alias.canary is not None:
        return Alias(current=alias.current, previous=alias.previous)
    if alias.previous is None:
        raise ConfigError(
            f"{name} has stood for nothing but {alias.current}, or that was removed: deploy another one"
        )
    return Alias(current=alias.previous, previous=alias.current)


def promoted(name: str, alias: Alias) -> Alias:
    """With the canary as its model; raises ConfigError where there is none."""
    if alias.canary is None:
        raise ConfigError(f"{name} has no canary: deploy one with --canary 10%")
    return Alias(current=alias.canary, previous=alias.current)


def _moved(before: Alias | None, prefix: str, canary_share: float | None) -> Alias:
    if before is None or before.current == prefix:
        previous = None if before is None else before.previous
        return Alias(current=prefix, previous=previous)
    if canary_share is not None:
        return Alias(current=before.current, previous=before.previous, canary=prefix, canary_share=canary_share)
    return Alias(current=prefix, previous=before.current)


def _unproven(deployments: Deployments, prefix: str, is_unproven: bool) -> Deployments:
    others = tuple(name for name in deployments.unproven if name != prefix)
    return deployments.model_copy(update={"unproven": (*others, prefix) if is_unproven else others})


def _check_same_files(repository: Path, artifact: Path, manifest: Manifest, engine: Engine, prefix: str) -> None:
    """Raises ConfigError where the model of that name is served from other files than the artifact's."""
    for role, encoder in (("image_encoder", engine.image_encoder), ("text_encoder", engine.text_encoder)):
        file = repository / f"{prefix}_{role}" / VERSION / model_file(engine)
        if not file.is_file() or sha256_file(file) != encoder.sha256:
            raise ConfigError(
                f"{prefix} is served already, from other files than {artifact}'s engine {engine.name}: deploy "
                "another engine of it with --engine, or remove the one that is served first"
            )
