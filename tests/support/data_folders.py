"""Folders of data in the layouts that people have, and what reading them gave."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tiny_training import draw_picture

from protoclip.config.schema import DataConfig
from protoclip.data.table import load_pairs
from protoclip.sources import Pairs

PICTURE = draw_picture("red", "disc", 0)


def put(folder: Path, contents: dict[str, str | bytes]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(folder: Path, **fields: object) -> Pairs:
    return load_pairs(DataConfig(path=(str(folder),), **fields))  # type: ignore[arg-type]


def texts(pairs: Pairs) -> list[str]:
    return [own[0] for own in pairs.texts]


def reasons(pairs: Pairs, folder: Path) -> dict[str, str]:
    return {name.name.removeprefix(f"{folder}/"): name.reason for name in pairs.left_out}


def write_tar(path: Path, members: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> Path:
    """A tar of files in their order, and of symbolic links to others."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
        for name, leads_to in (links or {}).items():
            about = tarfile.TarInfo(name)
            about.type, about.linkname = tarfile.SYMTYPE, leads_to
            tar.addfile(about)
    return path
