"""Aliases: names without a fingerprint, each for one of the models that are served, and kept in the repository.

`shop_image` and `shop_text` are ensembles of the very steps of the model that `shop` stands for. Their parameters
say which that is, so that a client can ask it by its full name from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tritonclient.grpc.model_config_pb2 import ModelConfig

from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.files import write_text
from protoclip.contract.served_parameters import ALIAS, CANARY, CANARY_SHARE, CURRENT

from .catalog import PublicModel

STATE_FILE = "deployments.json"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Prefix = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*_[0-9a-f]{6}(_[a-z][a-z0-9_]*)?$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Alias(_Frozen):
    """Which model a name stands for."""

    current: Prefix = Field(description="prefix of the models' names")
    previous: Prefix | None = Field(default=None, description="what it stood for before")
    canary: Prefix | None = Field(default=None, description="what a share of the clients gets instead")
    canary_share: float = Field(default=0.0, ge=0.0, le=1.0)

    @property
    def targets(self) -> tuple[str, ...]:
        """The prefixes that clients may be sent to."""
        return (self.current,) if self.canary is None else (self.current, self.canary)


class Deployments(_Frozen):
    """What `protoclip deploy` has done in a repository."""

    schema_version: int = Field(default=1, ge=1, le=1)
    aliases: dict[Name, Alias] = {}
    unproven: tuple[Prefix, ...] = Field(
        default=(), description="models that are written and not proven; they are not served"
    )

    def with_alias(self, name: str, alias: Alias | None) -> Deployments:
        """The same with another alias of that name, None for none."""
        others = {key: value for key, value in self.aliases.items() if key != name}
        return self.model_copy(update={"aliases": others if alias is None else others | {name: alias}})


def read_deployments(repository: Path) -> Deployments:
    """What is kept in `repository`; nothing where nothing was ever deployed.

    Raises:
        ModelError: the file can't be read.
    """
    file = repository / STATE_FILE
    if not file.is_file():
        return Deployments()
    try:
        return Deployments.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{file}: can't be read ({reason}): remove it, and deploy again") from error


def write_deployments(repository: Path, deployments: Deployments) -> None:
    """Keeps them in `repository`; raises ProtoclipError where it can't be written."""
    write_text(repository / STATE_FILE, deployments.model_dump_json(indent=2) + "\n")


def alias_models(aliases: Mapping[str, Alias], models: Sequence[PublicModel]) -> tuple[PublicModel, ...]:
    """The public models of all aliases.

    Raises:
        ConfigError: an alias stands for a model that is not among `models`, or has the name of another one.
    """
    made = []
    for name, alias in aliases.items():
        for prefix in alias.targets:
            if not any(model.prefix == prefix for model in models):
                raise ConfigError(
                    f"{STATE_FILE}: {name} stands for {prefix}, which is not served: serve it too (--name), or "
                    "remove that file and deploy again"
                )
        made += [replace(m, name=f"{name}_{m.role}") for m in models if m.prefix == alias.current]
    taken = {model.name for model in models} & {alias.name for alias in made}
    if taken:
        raise ConfigError(
            f"{min(taken)} is a model's own name, so that no alias can have it: export with another name"
        )
    return tuple(made)


def alias_config(target: ModelConfig, name: str, role: str, alias: Alias) -> ModelConfig:
    """The configuration of an alias' ensemble, from that of the model that it stands for."""
    config = ModelConfig()
    config.CopyFrom(target)
    config.name = f"{name}_{role}"
    # The server may look while folders of two versions are there: none is served with the other one's steps.
    version = alias_version(target.parameters["fingerprint"].string_value)
    config.version_policy.specific.versions[:] = [version]
    values = {ALIAS: name, CURRENT: alias.current}
    if alias.canary is not None:
        values |= {CANARY: alias.canary, CANARY_SHARE: repr(alias.canary_share)}
    for key, value in values.items():
        config.parameters[key].string_value = value
    return config


def alias_version(fingerprint: str) -> int:
    """The version in an alias' answers while it stands for that model: by it any client knows whose they are."""
    return int(fingerprint[:6], 16) + 1


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


def moved(before: Alias | None, prefix: str, canary_share: float | None) -> Alias:
    """What a name stands for once `prefix` is deployed, for all clients or, as a canary, for a share.

    Raises:
        ConfigError: a canary where all clients would get it: the name stands for nothing else.
    """
    if canary_share is not None and (before is None or before.current == prefix):
        why = "there is no one model that the other clients have" if before is None else "all clients have it"
        raise ConfigError(f"{prefix} can't be a canary, as {why}: deploy it without --canary")
    if before is None or before.current == prefix:
        previous = None if before is None else before.previous
        return Alias(current=prefix, previous=previous)
    if canary_share is not None:
        return Alias(current=before.current, previous=before.previous, canary=prefix, canary_share=canary_share)
    return Alias(current=prefix, previous=before.current)


def marked_unproven(deployments: Deployments, prefix: str, is_unproven: bool) -> Deployments:
    """The same with that model among the unproven ones, or without it."""
    others = tuple(name for name in deployments.unproven if name != prefix)
    return deployments.model_copy(update={"unproven": (*others, prefix) if is_unproven else others})
