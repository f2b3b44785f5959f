"""The folder that a running server loads from, and looks at once a second: its models, and its aliases.

It is private to this process, so that nobody else can have a model loaded, and a folder appears in it whole.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from protoclip.contract.errors import ModelError, ServerError

from .aliases import Alias, alias_config, alias_models, alias_version
from .catalog import PublicModel
from .pbtxt import from_pbtxt, to_pbtxt

CONFIG = "config.pbtxt"
PYTHON_MODEL, BYTECODE = "model.py", "__pycache__"


class LiveModels:
    """What the server has, or will have as soon as it looks. Several threads may use it.

    Attributes:
        folder: the server's repository.
        starts: how often the server was started. A change that began before a start is lost by it.
    """

    def __init__(self, repository: Path, folder: Path) -> None:
        self.folder = folder
        self.starts = 0
        self._repository = repository
        self._lock = threading.RLock()
        self._models: tuple[PublicModel, ...] = ()
        self._proven: tuple[PublicModel, ...] = ()
        self._aliases: dict[str, Alias] = {}
        self._kept_aliases: dict[str, Alias] = {}

    @property
    def models(self) -> tuple[PublicModel, ...]:
        """The public models that are proven, without aliases."""
        return self._proven

    @property
    def aliases(self) -> Mapping[str, Alias]:
        """What each alias stands for."""
        return dict(self._aliases)

    @property
    def public(self) -> tuple[PublicModel, ...]:
        """All that clients may ask: models, those that are still to be proven too, and aliases."""
        with self._lock:
            return (*self._models, *alias_models(self._aliases, self._models))

    def begin(self, models: Sequence[PublicModel], aliases: Mapping[str, Alias]) -> None:
        """Sets what is served; `lay_out` writes it.

        Raises:
            ConfigError: an alias stands for what is not served.
        """
        with self._lock:
            alias_models(aliases, models)
            self._models = self._proven = tuple(models)
            self._aliases = self._kept_aliases = dict(aliases)

    def lay_out(self) -> None:
        """Writes the folder anew, before the server starts, without what was not proven, nor was kept.

        Raises:
            ModelError: a part of a model is not in the repository.
        """
        with self._lock:
            self.starts += 1
            self._models, self._aliases = self._proven, self._kept_aliases
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            for model in self._models:
                self._place(model)
            for name in self._aliases:
                self._write_alias(name)

    def add(self, models: Sequence[PublicModel], starts: int) -> None:
        """Lets the server load models, which are not proven yet.

        Raises:
            ModelError: as `lay_out`.
            ServerError: the server was started again since `starts`.
        """
        with self._lock:
            self.check_start(starts)
            self._models += tuple(models)
            for model in models:
                self._place(model)

    def prove(self, prefix: str, starts: int) -> None:
        """The models of that prefix stay from now on.

        Raises:
            ServerError: the server was started again since `starts`, without them.
        """
        with self._lock:
            self.check_start(starts)
            known = {model.name for model in self._proven}
            self._proven += tuple(m for m in self._models if m.prefix == prefix and m.name not in known)

    def keep_aliases(self, starts: int) -> None:
        """The aliases stay as they are now, where the server is started again.

        Raises:
            ServerError: the server was started again since `starts`, with the earlier ones.
        """
        with self._lock:
            self.check_start(starts)
            self._kept_aliases = self._aliases

    def check_start(self, starts: int) -> None:
        """Raises ServerError where the server was started again since `starts`."""
        if self.starts != starts:
            raise ServerError("the server was started again meanwhile: deploy again")

    def remove(self, prefix: str) -> None:
        """Lets the server unload the models of that prefix; nothing happens where there are none."""
        with self._lock:
            gone = [model for model in self._models if model.prefix == prefix]
            self._models = tuple(model for model in self._models if model.prefix != prefix)
            self._proven = tuple(model for model in self._proven if model.prefix != prefix)
            needed = {name for model in self._models for name in (model.name, *model.parts)}
            # Public ones first: their parts may not go before them.
            for name in dict.fromkeys([m.name for m in gone] + [part for m in gone for part in m.parts]):
                if name not in needed:
                    _take_away(self.folder / name)

    def point(self, name: str, alias: Alias | None) -> None:
        """Makes an alias stand for another model, or takes it away.

        Raises:
            ConfigError: the model is not served, or the alias' name is a model's.
        """
        with self._lock:
            others = {key: value for key, value in self._aliases.items() if key != name}
            wanted = others if alias is None else others | {name: alias}
            alias_models(wanted, self._models)
            self._aliases = wanted
            if alias is not None:
                self._write_alias(name)
            else:
                for role in ("image", "text"):
                    _take_away(self.folder / f"{name}_{role}")

    def _place(self, model: PublicModel) -> None:
        for name in (*model.parts, model.name):
            source, target = (self._repository / name).resolve(), self.folder / name
            if not (source / CONFIG).is_file():
                raise ModelError(
                    f"{self._repository}: {model.name} needs the model {name}: write the repository again"
                )
            if target.exists():
                continue
            # Beside the folder, under a name that the server does not see, and moved there whole.
            new = self.folder.with_name(f"{name}.new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            for entry in source.iterdir():
                if entry.name == CONFIG:
                    shutil.copyfile(entry, new / CONFIG)
                elif (entry / PYTHON_MODEL).is_file():
                    _link_python_model(entry, new / entry.name)
                else:
                    (new / entry.name).symlink_to(entry)
            new.rename(target)

    def _write_alias(self, name: str) -> None:
        alias = self._aliases[name]
        for model in self._models:
            if model.prefix != alias.current:
                continue
            source = self._repository / model.name / CONFIG
            config = alias_config(from_pbtxt(source.read_bytes(), str(source)), name, model.role, alias)
            _write_folder(self.folder / config.name, to_pbtxt(config), str(alias_version(model.fingerprint)))


def _link_python_model(version: Path, target: Path) -> None:
    """A version of a Python model, into which Python writes no compiled files.

    The server's Python ignores PYTHONDONTWRITEBYTECODE. Its `__pycache__` would be a change at which the server
    loads the model again a second after its start; a file of that name is in its way, which Python puts up with.
    """
    target.mkdir()
    for entry in version.iterdir():
        if entry.name != BYTECODE:
            (target / entry.name).symlink_to(entry)
    (target / BYTECODE).touch()


def _write_folder(folder: Path, config: bytes, version: str) -> None:
    """A model of a configuration and an empty version; where there is one, it is changed in place.

    The server keeps the old one until the new one is loaded, and requests that it has are answered by the old one.
    """
    if not folder.exists():
        new = folder.parent.with_name(f"{folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        (new / version).mkdir(parents=True)
        (new / CONFIG).write_bytes(config)
        new.rename(folder)
        return
    (folder / version).mkdir(exist_ok=True)
    new_file = folder.parent.with_name(f"{folder.name}.config")
    new_file.write_bytes(config)
    os.replace(new_file, folder / CONFIG)
    for other in folder.iterdir():
        if other.is_dir() and other.name != version:
            other.rmdir()


def _take_away(folder: Path) -> None:
    """Moves it out of the server's sight at once, then removes it; links are not followed."""
    gone = folder.parent.with_name(f"{folder.name}.gone")
    if folder.exists():
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
