"""A client of the tiny artifact, and pictures in files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from picture_bytes import saved, smooth

from protoclip.client import Client


@pytest.fixture(scope="session")
def client(tiny_artifact: Path) -> Iterator[Client]:
    with Client(str(tiny_artifact)) as found:
        yield found


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three picture files, and one that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths[:3]):
        path.write_bytes(saved(smooth(20 + 20 * number, 40 - 10 * number)))
    paths[3].write_bytes(b"this is no picture")
    return paths
