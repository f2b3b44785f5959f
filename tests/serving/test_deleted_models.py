"""Models that are deleted from a repository, and the marks of unproven ones, without a server."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from command_line import Run, runner
from other_artifacts import other_artifact

from serving.triton.aliases import Deployments, marked_unproven, read_deployments, write_deployments
from serving.triton.catalog import find_models
from serving.triton.deployed_files import delete_models, finish_deletions
from serving.triton.launcher import TritonServer
from serving.triton.repository import write_repository

OLD, NEW = "tiny_012345", "tiny_fedcba"


class Killed(BaseException):
    """As SIGKILL: nothing that stands behind it is done."""


@pytest.fixture
def repository(tiny_artifact: Path, tmp_path: Path) -> Path:
    write_repository(tiny_artifact, tmp_path / "repository")
    write_repository(other_artifact(tiny_artifact, tmp_path / "new", "fedcba9876543210"), tmp_path / "repository")
    return tmp_path / "repository"


def _names(repository: Path) -> list[str]:
    return sorted(path.name for path in repository.iterdir())


def _kill(repository: Path, renames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion of the new model that dies before its n-th folder, or all being gone, as they are removed."""
    rename, left = Path.rename, [renames]

    def die(path: Path, target: Path) -> Path:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return rename(path, target)

    def die_removing(path: Path, **options: object) -> None:
        if path.name.endswith(".deleted"):
            raise Killed

    kept = [model for model in find_models(repository) if model.prefix == OLD]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", die)
        patched.setattr("serving.triton.deployed_files.shutil.rmtree", die_removing)
        with pytest.raises(Killed):
            delete_models(repository, NEW, kept)


@pytest.mark.parametrize("renames", range(7))
def test_a_deletion_that_was_killed_is_finished_by_the_next_start(
    renames: int, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_deployments(repository, marked_unproven(Deployments(), NEW, True))
    _kill(repository, renames, monkeypatch)
    assert sum(name.startswith(NEW) for name in _names(repository)) == 6 - renames
    # Of what is left, no public model stands without its parts.
    public = {model.name for model in find_models(repository) if model.prefix == NEW}
    assert len(public) == max(0, 2 - renames)
    finish_deletions(repository)
    assert [name for name in _names(repository) if not name.startswith(OLD)] == ["deployments.json"]
    assert len(_names(repository)) == 7
    assert read_deployments(repository).unproven == ()


def test_what_can_not_be_renamed_is_deleted_where_it_stands(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a folder of an image's layer: overlayfs says EXDEV."""

    def refuse(path: Path, target: Path) -> Path:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    kept = [model for model in find_models(repository) if model.prefix == OLD]
    monkeypatch.setattr(Path, "rename", refuse)
    delete_models(repository, NEW, kept)
    assert len(_names(repository)) == 6
    assert {model.prefix for model in find_models(repository)} == {OLD}


def test_a_server_begins_with_it(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _kill(repository, 4, monkeypatch)

    def refuse(folder: Path) -> None:
        raise Killed

    # Before anything is read of the models, one of which is not whole.
    monkeypatch.setattr("serving.triton.launcher.read_deployments", refuse)
    with pytest.raises(Killed):
        TritonServer(repository).__enter__()
    assert len(_names(repository)) == 6


def test_what_is_written_again_meanwhile_stays(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kill(repository, 3, monkeypatch)
    write_repository(tmp_path / "new", repository)
    finish_deletions(repository)
    assert len(_names(repository)) == 12
    assert {model.prefix for model in find_models(repository)} == {OLD, NEW}


def test_a_model_that_is_written_by_hand_is_served_whatever_a_deployment_left(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Run = runner(monkeypatch, capsys)
    marked = marked_unproven(marked_unproven(Deployments(), NEW, True), OLD, True)
    write_deployments(repository, marked)
    assert run("repository", tmp_path / "new", "--out", repository).code == 0
    assert read_deployments(repository).unproven == (OLD,)
