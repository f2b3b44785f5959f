"""Artifacts with one mistake and consistent hashes: what only a comparison with the model can find."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import MANIFEST_FILE, Manifest, load_manifest


def altered(artifact: Path, copy: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the artifact whose manifest, as plain values, is changed by `change`."""
    shutil.copytree(artifact, copy)
    values = json.loads((copy / MANIFEST_FILE).read_text(encoding="utf-8"))
    change(values)
    Manifest.model_validate(values).save(copy)
    return copy


def without_end_token(artifact: Path, copy: Path) -> Path:
    """A copy whose tokenizer.json does not end a text with the end token."""
    shutil.copytree(artifact, copy)
    manifest = load_manifest(copy)
    path = copy / manifest.tokenizer_file
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["post_processor"]["single"].pop()
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    manifest.model_copy(update={"tokenizer_sha256": sha256_file(path)}).save(copy)
    return copy
