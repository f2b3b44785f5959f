"""A repository that several servers serve is changed by none of them."""

from __future__ import annotations

import errno
import fcntl
import threading
from pathlib import Path

import pytest
from command_line import Run, runner
from other_artifacts import other_artifact

from protoclip.contract.errors import ConfigError, ModelError
from serving.triton import shared_repository
from serving.triton.launcher import TritonServer
from serving.triton.shared_repository import SharedRepository


def test_one_server_may_change_what_it_serves_alone(tmp_path: Path) -> None:
    first = SharedRepository(tmp_path)
    with first.changed():
        pass
    second = SharedRepository(tmp_path)
    for server in (first, second):
        with pytest.raises(ConfigError, match="another server serves this repository too"), server.changed():
            pass
    second.close()
    with first.changed():
        pass
    first.close()
    first.close()


def test_no_server_starts_on_what_another_one_is_changing(tmp_path: Path) -> None:
    first = SharedRepository(tmp_path)
    with first.changed():
        for start in (lambda: SharedRepository(tmp_path), TritonServer(tmp_path).__enter__):
            # Before it looks at the models, of which there are none here.
            with pytest.raises(ConfigError, match=r"is being changed by .* another server: start again later"):
                start()
    second = SharedRepository(tmp_path)
    with pytest.raises(ConfigError, match="another server serves this repository too"), first.changed():
        pass
    second.close()
    first.close()


def test_where_there_are_no_locks_other_servers_are_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(handle: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(shared_repository.fcntl, "flock", unknown)
    first, second = SharedRepository(tmp_path), SharedRepository(tmp_path)
    with first.changed(), second.changed():
        pass
    first.close()
    second.close()


def test_a_lock_that_another_one_took_meanwhile_is_waited_for(tmp_path: Path) -> None:
    first, second = SharedRepository(tmp_path), SharedRepository(tmp_path)
    # As it is where both try at once, and one of them gets it.
    assert first._handle is not None
    fcntl.flock(first._handle, fcntl.LOCK_UN)
    changing, reasons = second.changed(), []

    def change() -> None:
        try:
            with first.changed():
                pass
        except ConfigError as error:
            reasons.append(str(error))

    with changing:
        thread = threading.Thread(target=change)
        thread.start()
        thread.join(0.3)
        assert (thread.is_alive(), reasons) == (True, [])
    thread.join()
    assert "another server serves this repository too" in reasons[0]
    with pytest.raises(ConfigError, match="another server"), second.changed():
        pass
    first.close()
    second.close()


def test_a_lock_that_is_lost_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, real = SharedRepository(tmp_path), fcntl.flock

    def lost(handle: int, kind: int) -> None:
        if kind == fcntl.LOCK_SH:
            raise OSError(errno.ENOLCK, "No locks available")
        real(handle, kind)

    monkeypatch.setattr(shared_repository.fcntl, "flock", lost)
    with pytest.raises(ConfigError, match=r"is lost \(No locks available\): start this server"), first.changed():
        pass
    first.close()


def test_what_a_server_has_is_not_replaced_behind_its_back(
    tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Run = runner(monkeypatch, capsys)
    repository = tmp_path / "repository"
    assert run("repository", tiny_artifact, "--out", repository).code == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in repository.rglob("*"))
    server = SharedRepository(repository)
    refused = run("repository", tiny_artifact, "--out", repository, "--max-batch-size", "8")
    assert (refused.code, "deploy a new export with `protoclip deploy`, stop" in refused.err) == (2, True), (
        refused.err
    )
    assert sorted((path, path.stat().st_mtime_ns) for path in repository.rglob("*")) == before
    other = other_artifact(tiny_artifact, tmp_path / "other", "fedcba9876543210")
    assert run("repository", other, "--out", repository).code == 0
    # Nothing was kept locked.
    with server.changed():
        pass
    server.close()
    assert run("repository", tiny_artifact, "--out", repository, "--max-batch-size", "8").code == 0


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder: write one with"):
        SharedRepository(tmp_path / "nowhere")
