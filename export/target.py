"""An artifact's folder and name, checked before any model is loaded."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from export.graphs.to_onnx import check_opset
from export.parity.report import VERDICT_FILE
from protoclip.contract.errors import ConfigError
from protoclip.contract.manifest import MANIFEST_FILE
from protoclip.runs.places import find_weights

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def default_name(source: str | Path) -> str:
    """A name that `check_name` accepts, from that of a run or open_clip model: `ViT-B-32` → `vit_b_32`.

    Raises:
        ModelError: as `find_weights`.
    """
    found = find_weights(source)
    place = Path(source) if found is None else found.run
    return _plain(place.resolve().name)


def _plain(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return (plain if plain[:1].isalpha() else f"model_{plain}".strip("_"))[:41].rstrip("_")


def check_target(out: Path, name: str, opset: int) -> None:
    """Raises ConfigError where `export_artifact` would, before any model is loaded."""
    check_name(name)
    check_opset(opset)
    out = Path(out).resolve()
    _check_replaceable(out, MANIFEST_FILE, {"fingerprint", "engines", "tokenizer_sha256"})
    _check_replaceable(failed_path(out), VERDICT_FILE, {"passed", "proves", "engines"})
    check_writable(out)


def check_writable(folder: Path) -> None:
    """Raises ConfigError where `folder`, which need not exist, can't be written: before the work."""
    place = Path(folder).resolve()
    while not place.is_dir():
        if place.exists():
            raise ConfigError(f"{folder}: {place} is a file: name another folder with --out")
        place = place.parent
    try:
        Path(tempfile.mkdtemp(prefix=".protoclip.", dir=place)).rmdir()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"{folder}: {place} can't be written ({reason}): name another folder with --out"
        ) from error


def check_name(name: str) -> None:
    """Raises ConfigError where `name` is not valid in a manifest."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name {name!r} can't be used: lower-case letters, digits and _, a letter first, 41 at most, "
            f"for example {_plain(name)!r}"
        )


def _check_replaceable(folder: Path, mark: str, fields: set[str]) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not _has_fields(folder / mark, fields):
        raise ConfigError(f"{folder}: holds something else than an artifact: name a new folder with --out")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file: name a folder with --out")


def _has_fields(path: Path, fields: set[str]) -> bool:
    """Whether it is ours, of whatever version: a web app has a manifest.json too."""
    try:
        return fields <= set(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return False


def failed_path(out: Path) -> Path:
    """Folder of an export that failed the gate."""
    return out.with_name(f"{out.name}.failed")
