"""A worker of Ray, called as Ray calls it, and what is told without a cluster; `make ray-corpus` has one."""

from __future__ import annotations

import pickle
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from corpus_program import MadeUp, make_client, make_work
from pyarrow import parquet

from protoclip.client import Client
from protoclip.contract.errors import ConfigError, ServerError
from protoclip.corpus.parts import PartsFolder
from protoclip.corpus.ray_data import PartsWriter, write_on_ray
from protoclip.corpus.run import Work


@dataclass(frozen=True)
class _Job:
    """`first`: which pictures this machine sees."""

    parts_at: Path
    first: int = 0
    error: str = ""

    @contextmanager
    def opened(self) -> Iterator[tuple[Work, Client]]:
        if self.error:
            raise ServerError(self.error)
        with make_client() as client:
            yield make_work("embeddings", MadeUp(23, self.first), client), client


@pytest.fixture
def folder(tmp_path: Path) -> PartsFolder:
    with make_client() as client:
        return PartsFolder(tmp_path / "out", make_work("embeddings", MadeUp(23), client).plan)


def test_a_worker_writes_its_parts_and_counts_their_items(folder: PartsFolder) -> None:
    worker = PartsWriter(pickle.loads(pickle.dumps(_Job(folder.path))))  # noqa: S301 - as Ray does
    assert worker({"part": np.array([4, 1])}) == {"items": [3, 5], "error": ["", ""]}
    assert worker({"part": np.array([1])}) == {"items": [5], "error": [""]}
    assert folder.missing() == [0, 2, 3]
    names = parquet.read_table(folder.part_path(1))["id"].to_pylist()
    assert names == [f"picture {number}" for number in range(5, 10)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"first": 1}, "was begun with items of other names"),
        ({"error": "no server"}, "no server"),
        ({"parts_at": Path("/nowhere")}, "/nowhere: is not there on this machine"),
    ],
)
def test_a_worker_answers_with_what_it_fails_by(
    fields: dict[str, object], message: str, folder: PartsFolder
) -> None:
    [error] = PartsWriter(_Job(**{"parts_at": folder.path, **fields}))({"part": np.array([0])})["error"]  # type: ignore[arg-type]
    assert message in error
    assert folder.missing() == [0, 1, 2, 3, 4]


def test_what_is_told_without_a_cluster(folder: PartsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    written = write_on_ray(folder, [0], job=_Job(folder.path), address="auto", num_workers=None)
    with pytest.raises(ConfigError, match=r"--ray needs the package ray .*: pip install .*\[ray\]"):
        next(written)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        for address in (f"127.0.0.1:{bound.getsockname()[1]}", "ray://127.0.0.1:x", "127.0.0.1:99999"):
            written = write_on_ray(folder, [0], job=_Job(folder.path), address=address, num_workers=None)
            with pytest.raises(ConfigError, match=f"--ray {address}: no cluster of Ray answers there: "):
                next(written)
    monkeypatch.setenv("WORLD_SIZE", "2")
    written = write_on_ray(folder, [0], job=_Job(folder.path), address="auto", num_workers=None)
    with pytest.raises(ConfigError, match="one of several ranks already"):
        next(written)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a.png", "--ray", "auto"], "--ray writes vectors of pictures to --out FILE.parquet or into a folder"),
        (["a.png", "--ray", "auto", "--out", "v.npz"], "--ray writes vectors of pictures to --out FILE.parquet"),
        (["--text", "a", "--ray", "auto", "--out", "v"], "--ray writes vectors of pictures"),
        (["a.png", "--ray-workers", "2", "--out", "v"], "--ray-workers is of --ray"),
        (["-", "--ray", "auto", "--out", "v"], "--ray and a picture from standard input"),
    ],
)
def test_wrong_use_is_one_line(
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    from command_line import runner

    monkeypatch.chdir(tmp_path)
    run: Run = runner(monkeypatch, capsys)
    outcome = run("embed", *options)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert message in outcome.err
    assert list(tmp_path.iterdir()) == []
