"""Artifacts as the source of a conversion."""

from __future__ import annotations

from pathlib import Path

from export.graphs.fingerprint import fingerprint
from export.graphs.source import load_source
from protoclip.contract.errors import ModelError, ProtoclipError
from protoclip.contract.manifest import MANIFEST_FILE, load_manifest
from protoclip.encoders.model import ClipModel

_RUNS = Path("runs")


def is_artifact(source: str) -> bool:
    """Whether it is a folder that `protoclip export` wrote."""
    return (Path(source) / MANIFEST_FILE).is_file()


def load_source_of(artifact: Path) -> ClipModel:
    """The model that an artifact was made from, for formats that need the weights by name; graphs have no names.

    The manifest names it, without the folder: it is looked for here and in `runs`, and as an open_clip model with
    its weights. Only one with the artifact's fingerprint is it.

    Raises:
        ModelError: `artifact` is none, or no such model is found.
    """
    manifest = load_manifest(artifact)
    folders = [place for place in (Path(manifest.source), _RUNS / manifest.source) if place.is_dir()]
    name, _, weights = manifest.source.partition(" ")
    reason = "what is there has other weights or settings"
    for place in (*((str(folder), None) for folder in folders), (name, weights or None)):
        try:
            clip = load_source(*place).clip
        except ProtoclipError as error:
            reason = str(error)
            continue
        if fingerprint(clip) == manifest.fingerprint:
            return clip
    raise ModelError(
        f"{artifact}: an artifact holds graphs, in which weights have no names, and the model that it was made "
        f"from, {manifest.source}, is not found here ({reason}): name that run or model in place of the artifact"
    )
