"""A disk that is full at any moment: the old state or the new one, one line, and nothing that stays behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import full_disk_program
import pytest

SOURCE = Path(full_disk_program.__file__).with_name("full_disk.c")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip(
            "no C compiler: cc makes what stands in for the disk; test_full_disk in integration does without"
        )
    made = tmp_path_factory.mktemp("full_disk") / "full_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, SOURCE, "-ldl"], check=True)
    return made


@pytest.mark.skipif(sys.platform != "linux", reason="other systems preload differently")
@pytest.mark.parametrize("case", sorted(full_disk_program.CASES))
def test_at_every_change(case: str, library: Path, tmp_path: Path) -> None:
    # There SQLite writes what it compacts, too.
    places = {"LD_PRELOAD": str(library), "SQLITE_TMPDIR": str(tmp_path)}
    command = [sys.executable, full_disk_program.__file__, str(tmp_path), case]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **places})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10
