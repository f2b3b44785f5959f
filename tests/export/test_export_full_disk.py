"""An export to a disk that is full: one line, and the artifact that stood there whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from export.artifact import export_artifact
from export.parity.samples import Samples
from protoclip.contract.errors import ProtoclipError
from protoclip.contract.files import sha256_file

FULL_AT = 3_000_000  # bytes: within the second encoder


def test_the_old_artifact_stays(
    exported_vit: Any,
    samples: Samples,
    tmp_path: Path,
    full_disk: Callable[[int], AbstractContextManager[None]],
) -> None:
    out = tmp_path / "artifact"
    shutil.copytree(exported_vit.folder, out)
    before = {path: sha256_file(path) for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ProtoclipError, match="can't be written: File too large") as caught, full_disk(FULL_AT):
        export_artifact(exported_vit.clip, out, "tiny", samples, random_weights=True)
    assert "\n" not in str(caught.value)
    assert {path: sha256_file(path) for path in out.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [out]
