"""Artifacts as the source of a conversion."""

from __future__ import annotations

from pathlib import Path

from protoclip.contract.errors import ModelError
from protoclip.contract.manifest import MANIFEST_FILE, load_manifest


def is_artifact(source: str) -> bool:
    """Whether it is a folder that `protoclip export` wrote."""
    return (Path(source) / MANIFEST_FILE).is_file()


def refuse_artifact(source: str) -> None:
    """Raises ModelError for an artifact, where a format needs the weights by name."""
    if is_artifact(source):
        raise ModelError(
            f"{source}: an artifact holds graphs, in which weights have no names: convert the run or the model "
            f"that it was made from, {load_manifest(Path(source)).source}"
        )
