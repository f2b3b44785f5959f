"""The requests of `protoclip deploy`, as the server carries them out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protoclip.contract.errors import ConfigError
from protoclip.contract.golden import Golden, GoldenBound

from .aliases import Alias, alias_version, promoted, rolled_back
from .control import Progress
from .deployed_files import Wanted
from .deployment import Deployer
from .launcher import TritonServer
from .scheduling import Scheduling


class Request(BaseModel):
    """What `protoclip deploy` asks; fields beyond `action` are those of that action."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: str = Field(pattern="^(list|deploy|rollback|promote|remove)$")
    name: str | None = None
    artifact: str | None = None
    engine: str | None = None
    golden: Golden | None = None
    bound: GoldenBound | None = None
    canary_share: float | None = None
    max_batch_size: int | None = None
    encoder_threads: int = 0
    scheduling: dict[str, float] | None = None


def handle(
    server: TritonServer, deployer: Deployer, values: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """Carries out a request; returns what is served then.

    Raises:
        ConfigError: it is no request of this version.
        ProtoclipError: as `Deployer`.
    """
    try:
        request = Request.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"the server is of another version: {' '.join(str(error).split())[:300]}") from error
    if request.action == "deploy":
        deployer.deploy(_wanted(request), progress)
    elif request.action == "rollback":
        deployer.change(request.name, rolled_back, progress)
    elif request.action == "promote":
        deployer.change(request.name, promoted, progress)
    elif request.action == "remove":
        deployer.remove(request.name or "", progress)
    return served(server)


def served(server: TritonServer) -> dict[str, Any]:
    """The models and aliases of a server, for JSON."""
    aliases = server.live.aliases
    models = {model.prefix: model for model in server.live.models}
    return {
        "url": server.urls[0],
        "repository": str(server.repository),
        "aliases": {name: alias.model_dump() for name, alias in aliases.items()},
        "models": [
            {
                "name": prefix,
                "fingerprint": model.fingerprint,
                "precision": model.precision,
                "alias_version": alias_version(model.fingerprint),
                "role": _role_of(prefix, aliases),
            }
            for prefix, model in sorted(models.items())
        ],
    }


def _role_of(prefix: str, aliases: Mapping[str, Alias]) -> str:
    for name, alias in aliases.items():
        if alias.current == prefix:
            return f"{name}"
        if alias.canary == prefix:
            return f"{name}, canary for {alias.canary_share:.0%}"
        if alias.previous == prefix:
            return f"{name} before"
    return ""


def _wanted(request: Request) -> Wanted:
    if request.artifact is None or request.golden is None or request.bound is None:
        raise ConfigError("a deployment needs an artifact and golden vectors")
    scheduling = None if request.scheduling is None else Scheduling(**request.scheduling)  # type: ignore[arg-type]
    return Wanted(
        artifact=Path(request.artifact),
        engine=request.engine,
        golden=request.golden,
        bound=request.bound,
        canary_share=request.canary_share,
        max_batch_size=request.max_batch_size,
        encoder_threads=request.encoder_threads,
        scheduling=scheduling,
    )
