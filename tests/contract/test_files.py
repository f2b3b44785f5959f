"""Atomic writing: the old file stays whole, whatever happens."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from protoclip.contract.errors import ProtoclipError
from protoclip.contract.files import atomic_path, sha256_file, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_new_file_in_a_new_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "ü.txt", "grüß\n")
    assert (tmp_path / "a" / "b" / "ü.txt").read_bytes() == "grüß\n".encode()
    assert names(tmp_path / "a" / "b") == ["ü.txt"]


def test_file_gets_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_bytes(b"")
    write_bytes(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_the_old_file_is_there_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with open(path) as reader:
        with atomic_path(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def write_half_precision(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        if path.is_dir():
            temporary.mkdir()
            (temporary / "file").write_text("half")
        else:
            temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_failure_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(error)):
        write_half_precision(path, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["run", "old"])
def test_folder_replaces_a_folder_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "old").write_text("old")
    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
        assert names(path) == ["sub"]
    assert names(path) == ["new"]
    assert names(tmp_path) == [name]


def test_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "file").write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_half_precision(path, ZeroDivisionError())
    assert (path / "file").read_text() == "old"
    assert names(tmp_path) == ["run"]


def make_folder(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.mkdir()


def test_failing_rename_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "file").write_text("old")
    rename, targets = Path.rename, []

    def fail_at_the_second(source: Path, target: Path) -> Path:
        targets.append(target)
        if len(targets) == 2:
            raise OSError(5, "Input/output error", str(source))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_second)
    with pytest.raises(ProtoclipError, match=r"run: can't be written: Input/output error"):
        make_folder(path)
    assert len(targets) == 3
    assert (path / "file").read_text() == "old"
    assert names(tmp_path) == ["run"]


def test_nothing_made_leaves_what_stands_there(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "file").write_text("old")
    with pytest.raises(ProtoclipError, match="nothing was written"), atomic_path(path):
        pass
    assert (path / "file").read_text() == "old"


def test_a_file_never_replaces_a_folder_nor_the_reverse(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_text("kept")
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ProtoclipError, match="is a folder, a file can't replace it"):
        write_text(tmp_path / "folder", "new")
    with pytest.raises(ProtoclipError, match="is a file, a folder can't replace it"):
        make_folder(tmp_path / "file")
    assert (tmp_path / "folder" / "kept").read_text() == (tmp_path / "file").read_text() == "kept"
    assert names(tmp_path) == ["file", "folder"]


def test_place_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(ProtoclipError, match="can't be written: ") as caught:
        write_text(tmp_path / "file" / "below", "new")
    assert "\n" not in str(caught.value)


def test_errors_about_other_places_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"), atomic_path(tmp_path / "file"):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(ConnectionResetError), atomic_path(tmp_path / "file"):
        raise ConnectionResetError("the other side hung up")
    assert names(tmp_path) == []


FULL_DISK = """
import resource, sys
from pathlib import Path
from protoclip.contract.errors import ProtoclipError
from protoclip.contract.files import atomic_path, write_bytes

path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    if path.is_dir():
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / "small").write_bytes(bytes(10))
            (temporary / "large").write_bytes(bytes(2000))
    else:
        write_bytes(path, bytes(2000))
except ProtoclipError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_full_disk_leaves_the_old_ones_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    inner = path / "small" if kind == "folder" else path
    inner.parent.mkdir(exist_ok=True)
    inner.write_text("old")
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"{path}: can't be written: File too large\n"
    assert inner.read_text() == "old"
    assert names(tmp_path) == [kind]


def test_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    write_bytes(tmp_path / "file", data)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()
    # the digest of nothing, as FIPS 180-2 implementations publish it
    write_bytes(tmp_path / "empty", b"")
    assert sha256_file(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
