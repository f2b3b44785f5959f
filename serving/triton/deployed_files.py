"""The models of a deployment in the repository: what is wanted, what is there already, writing and deleting."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protoclip.contract.errors import ConfigError, ProtoclipError
from protoclip.contract.files import sha256_file
from protoclip.contract.golden import Golden, GoldenBound
from protoclip.contract.manifest import Engine, Manifest

from .aliases import marked_unproven, read_deployments, write_deployments
from .catalog import PublicModel, find_models
from .pbtxt import ALL_ROLES, model_file
from .repository import DETECTOR_FILE, VERSION, being_deleted, prefixes_being_deleted, write_repository
from .scheduling import Scheduling


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


def written_models(repository: Path, prefix: str) -> list[PublicModel]:
    """The models of that prefix where `protoclip repository` wrote them; none where only a deployment did."""
    if prefix in read_deployments(repository).unproven:
        return []
    return [model for model in find_models(repository) if model.prefix == prefix]


def write_models(repository: Path, wanted: Wanted, engine: Engine, prefix: str) -> list[PublicModel]:
    """Writes what is wanted, and returns its public models; raises as `write_repository`."""
    write_repository(
        wanted.artifact,
        repository,
        engine=engine.name,
        max_batch_size=wanted.max_batch_size,
        encoder_threads=wanted.encoder_threads,
        scheduling=wanted.scheduling,
    )
    return [model for model in find_models(repository) if model.prefix == prefix]


def check_same_files(repository: Path, artifact: Path, manifest: Manifest, engine: Engine, prefix: str) -> None:
    """Raises ConfigError where the model of that name is served from other files than the artifact's.

    With another detector than the artifact's, or where one of the two has none, it is another one too.
    """
    served = model_file(engine)
    expected = [
        ("image_encoder", served, engine.image_encoder.sha256),
        ("text_encoder", served, engine.text_encoder.sha256),
        ("image_detector", DETECTOR_FILE, None if manifest.detector is None else manifest.detector.graph_sha256),
    ]
    for role, name, sha256 in expected:
        file = repository / f"{prefix}_{role}" / VERSION / name
        if (sha256_file(file) if file.is_file() else None) != sha256:
            raise ConfigError(
                f"{prefix} is there already, from other files than {artifact}'s engine {engine.name}: deploy "
                "another engine of it with --engine, or remove the one that is there first"
            )


def check_no_settings(wanted: Wanted, prefix: str) -> None:
    """Raises ConfigError for settings of a model that is written already."""
    if wanted.max_batch_size is not None or wanted.encoder_threads or wanted.scheduling is not None:
        raise ConfigError(
            f"{prefix} is in the repository already, with settings of its own: leave --max-batch-size, "
            "--encoder-threads and the options of queues out, or write it anew with `protoclip repository`"
        )


def delete_models(repository: Path, prefix: str, kept: Sequence[PublicModel]) -> None:
    """Deletes the models of that prefix and those of their parts that no model of `kept` needs.

    They leave the repository together, into a folder whose name says what was to go: where this is killed, the
    next `finish_deletions` goes on.
    """
    needed = {name for model in kept for name in (model.name, *model.parts)}
    gone = being_deleted(repository, prefix)
    with contextlib.suppress(OSError):
        gone.mkdir(exist_ok=True)
    # Public ones first: nobody must find one without its parts.
    for role in ALL_ROLES:
        name = f"{prefix}_{role}"
        if name not in needed and (repository / name).exists():
            _delete(repository / name, gone / name)
    shutil.rmtree(gone, ignore_errors=True)


def _delete(folder: Path, gone: Path) -> None:
    shutil.rmtree(gone, ignore_errors=True)
    try:
        folder.rename(gone)
    except OSError:
        # A container can't rename a folder of its image, and can delete it where it stands.
        shutil.rmtree(folder, ignore_errors=True)


def finish_deletions(repository: Path) -> None:
    """Deletes what a `delete_models` left that was killed; nothing where the repository can't be written."""
    for prefix in prefixes_being_deleted(repository):
        public = find_models(repository) if any(repository.glob("*/config.pbtxt")) else ()
        delete_models(repository, prefix, [model for model in public if model.prefix != prefix])
        with contextlib.suppress(ProtoclipError):
            forget_unproven(repository, prefix)


def forget_unproven(repository: Path, prefix: str) -> None:
    """Takes the mark of a model that is unproven away: it is gone, or was written anew by hand.

    Raises:
        ModelError: what deployments left can't be read.
        ProtoclipError: it can't be written.
    """
    kept = read_deployments(repository)
    if prefix in kept.unproven:
        write_deployments(repository, marked_unproven(kept, prefix, False))
