"""Output in parts: what is in it, what a second run does, ranks, and what is refused."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pytest
from corpus_program import LABELS, MadeUp, expected_vector, is_bad, make_client, make_work, write, write_work
from pyarrow import parquet

from protoclip.client.classification import Choice
from protoclip.contract.errors import ConfigError, DataError, ProtoclipError, ServerError
from protoclip.corpus import parts
from protoclip.corpus.embedding import EmbeddedPart
from protoclip.corpus.failures import read_failures
from protoclip.corpus.parts import PartsFolder, alone_in, find_plan
from protoclip.corpus.run import Work, parts_of, rank_of_environment
from protoclip.corpus.tables import answers_table, embeddings_table


def _names(out: Path) -> list[str]:
    return parquet.read_table(out, columns=["id"])["id"].to_pylist()


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_vectors_are_unit_norm_and_errors_stand_in_their_rows(name: str, tmp_path: Path) -> None:
    written = write("embeddings", tmp_path / name, 23)
    assert (written.num_now, written.num_before, len(written.files)) == (23, 0, 5 if name == "out" else 1)
    table = parquet.read_table(tmp_path / name)
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 4)
    for number, row in enumerate(table.to_pylist()):
        assert row["id"] == f"picture {number}"
        if is_bad(number, 23):
            assert row["error"] == ("is no picture" if number >= 21 else "is damaged")
            assert np.isnan(row["vector"]).all()
        else:
            np.testing.assert_allclose(row["vector"], expected_vector(number), rtol=1e-6)
    failed = read_failures(written.files, "id")
    assert [item.name for item in failed] == [f"picture {number}" for number in range(23) if is_bad(number, 23)]


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_a_second_run_asks_the_server_nothing(name: str, tmp_path: Path) -> None:
    write("embeddings", tmp_path / name, 23)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with make_client() as client:
        work = make_work("embeddings", MadeUp(23), client)
        written = write_work(work, tmp_path / name, _Asked(client))  # type: ignore[arg-type]
    assert (written.num_now, written.num_before) == (0, 23)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


class _Asked:
    """A client whose stream fails once something is asked of it."""

    def __init__(self, client: object) -> None:
        self.model = client.model  # type: ignore[attr-defined]

    def stream_images(self, items: object) -> object:
        for _ in items:  # type: ignore[attr-defined]
            raise AssertionError("an item was asked for again")
        return iter(())


def test_a_server_that_goes_away_loses_no_part(tmp_path: Path) -> None:
    with make_client() as client:
        work = make_work("embeddings", MadeUp(40), client)
        done: list[int] = []

        def stop(what: str, count: int, total: int) -> None:
            done.append(count)
            if count >= 15:
                raise ServerError("gone")

        with pytest.raises(ServerError, match="gone"):
            write_work(work, tmp_path / "out", client, stop)
        assert (done, len(_names(tmp_path / "out"))) == ([0, 5, 10, 15], 15)
        written = write_work(work, tmp_path / "out", client)
    assert (written.num_now, written.num_before) == (25, 15)
    assert _names(tmp_path / "out") == [f"picture {number}" for number in range(40)]


def test_a_lost_part_is_written_again_and_no_other(tmp_path: Path) -> None:
    write("embeddings", tmp_path / "out", 23)
    (tmp_path / "out" / "part-000002.parquet").unlink()
    assert write("embeddings", tmp_path / "out", 23).num_now == 5
    assert _names(tmp_path / "out") == [f"picture {number}" for number in range(23)]


def test_ranks_write_parts_of_their_own_and_their_number_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "1")
    written = write("embeddings", tmp_path / "out", 38)
    assert [file.name for file in written.files] == [
        "part-000001.parquet",
        "part-000004.parquet",
        "part-000007.parquet",
    ]
    assert len(_names(tmp_path / "out")) == 13
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        write("embeddings", tmp_path / "out", 38)
    assert _names(tmp_path / "out") == [f"picture {number}" for number in range(38)]
    with pytest.raises(ConfigError, match=r"2 ranks write a folder of files: .* unset RANK and WORLD_SIZE"):
        write("embeddings", tmp_path / "out.parquet", 38)


def test_ranks_may_begin_at_once(tmp_path: Path) -> None:
    with make_client() as client:
        plan = make_work("embeddings", MadeUp(23), client).plan
    failed: list[Exception] = []

    def begin(rank: int) -> None:
        try:
            with alone_in(PartsFolder(tmp_path / "out", plan), shared=True):
                PartsFolder(tmp_path / "out", plan).remove_temporary(rank, 4)
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=begin, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"_lock", "_plan.json"}


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("-1", "2"), ("x", "2"), ("0", "0")])
def test_a_wrong_environment_is_told(rank: str, world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(ConfigError, match=f"RANK={rank} and WORLD_SIZE={world}"):
        rank_of_environment()


def test_what_a_killed_run_left_of_these_parts_is_removed(tmp_path: Path) -> None:
    write("embeddings", tmp_path / "out", 23)
    for name in (".part-000001.parquet.abcdefgh", ".part-000002.parquet.abcdefgh", "._plan.json.abcdefgh"):
        (tmp_path / "out" / name).mkdir()
        (tmp_path / "out" / name / "half").touch()
    (tmp_path / "out" / "notes.txt").touch()
    with make_client() as client:
        folder = PartsFolder(tmp_path / "out", make_work("embeddings", MadeUp(23), client).plan)
    folder.remove_temporary(1, 2)
    assert sorted(path.name for path in folder.path.glob(".*")) == [
        "._plan.json.abcdefgh",
        ".part-000002.parquet.abcdefgh",
    ]
    folder.remove_temporary()
    assert {path.name for path in folder.path.iterdir() if not path.name.startswith("part-")} == {
        "_lock",
        "_plan.json",
        "notes.txt",
    }


@pytest.mark.parametrize("name", ["out", "out.parquet"])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"kind": "classifications"}, "contents=embeddings, and now it is classifications"),
        ({"items": MadeUp(24)}, "num_items=23, and now it is 24"),
        ({"items": MadeUp(23, first=1)}, "items of other names"),
        ({"fingerprint": "ba9876543210"}, "model=made_up_012345, and now it is made_up_ba9876"),
        ({"part_size": 6}, "part_size=5, and now it is 6"),
        ({"top_k": 3}, "other top k: None before, and now 3"),
    ],
)
def test_a_run_of_something_else_is_refused(
    name: str, other: dict[str, object], message: str, tmp_path: Path
) -> None:
    out = tmp_path / name
    with make_client() as client:
        work = make_work("embeddings", MadeUp(23), client)
        # As a run that was killed leaves it.
        folder = PartsFolder(out if name == "out" else parts_of(out), work.plan)
        folder.write(0, pa.table({"id": ["a"]}))
    options = {"kind": "embeddings", "items": MadeUp(23), **other}
    with make_client(fingerprint=str(options.pop("fingerprint", "0123456789ab"))) as client:
        work = make_work(client=client, **options)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=f"{folder.path}: was begun with {message}"):
            write_work(work, out, client)
    assert folder.part_path(0).exists()


def test_a_finished_file_of_something_else_is_refused(tmp_path: Path) -> None:
    write("embeddings", tmp_path / "out.parquet", 23)
    before = (tmp_path / "out.parquet").read_bytes()
    for kind, count, message in (
        ("embeddings", 24, "num_items=23, and now it is 24"),
        ("classifications", 23, "contents=embeddings, and now it is classifications"),
    ):
        with pytest.raises(ConfigError, match=rf"out.parquet: was begun with {message}: .* another --out"):
            write(kind, tmp_path / "out.parquet", count)
    assert (tmp_path / "out.parquet").read_bytes() == before
    parquet.write_table(pa.table({"id": ["a"]}), tmp_path / "own.parquet")
    with pytest.raises(ConfigError, match=r"own.parquet: was not written by this command: remove it, or give"):
        write("embeddings", tmp_path / "own.parquet", 23)


def test_what_else_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "text.parquet").write_text("no Parquet")
    for name, message in {
        "photos": "the folder holds 'a.png', and no parts",
        "folder.parquet": "is a folder",
        "file": "is a file",
        "file/out": "can't be written",
    }.items():
        with pytest.raises(ProtoclipError, match=message):
            write("embeddings", tmp_path / name, 23)
    with pytest.raises(DataError, match=r"text.parquet: is damaged .*: remove it"):
        write("embeddings", tmp_path / "text.parquet", 23)


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    write("embeddings", tmp_path / "out", 23)
    part = tmp_path / "out" / "part-000003.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"part-000003.parquet: is damaged .*: remove it, and it is written again"):
        write("embeddings", tmp_path / "out", 23)
    (tmp_path / "out" / "_plan.json").write_text("{}")
    with pytest.raises(DataError, match=r"_plan.json: field 'contents'"):
        write("embeddings", tmp_path / "out", 23)


@pytest.mark.parametrize("name", ["caf\udce9", "vectors-2026-11-27T05:04", "s3:vectors"])
@pytest.mark.parametrize("suffix", ["", ".parquet"])
def test_a_name_may_be_any_bytes(name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative, it looks like an address to Arrow."""
    monkeypatch.chdir(tmp_path)
    out = Path(f"{name}{suffix}")
    for num_before in (0, 23):
        written = write("embeddings", out, 23)
        assert written.num_before == num_before
        assert len(read_failures(written.files, "id")) == 5
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_rank_that_finds_what_another_one_has_just_begun_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(path: Path) -> object:
        found = find_plan(path)
        if not seen:
            seen.append(found)
            write("embeddings", path, 23)
        return found

    monkeypatch.setattr(parts, "find_plan", look)
    with make_client() as client:
        folder = PartsFolder(tmp_path / "out", make_work("embeddings", MadeUp(23), client).plan)
    assert seen == [None]
    assert folder.missing() == []


def test_the_lock_is_of_a_file_of_its_own_that_is_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS wants it for an exclusive lock, and SMB for a file that others read."""
    locked = []

    def lock(stream: IO[bytes], kind: int) -> None:
        assert stream.writable()
        locked.append((Path(stream.name).name, kind))

    monkeypatch.setattr(fcntl, "flock", lock)
    write("embeddings", tmp_path / "out.parquet", 23)
    assert locked == [("_lock", fcntl.LOCK_EX | fcntl.LOCK_NB)]
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_without_locks_there_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lock(stream: IO[bytes], kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", lock)
    with pytest.warns(UserWarning, match=r"out: can't be locked \(No locks available\): see that no second run"):
        write("embeddings", tmp_path / "out", 23)
    assert _names(tmp_path / "out") == [f"picture {number}" for number in range(23)]


def test_a_run_that_ends_meanwhile_is_told(tmp_path: Path) -> None:
    with make_client() as client:
        folder = PartsFolder(tmp_path / "out", make_work("embeddings", MadeUp(23), client).plan)
    folder.remove()
    assert not folder.path.exists()
    with pytest.raises(ProtoclipError, match="another run has just ended there"), alone_in(folder):
        pass
    assert not folder.path.exists()


def test_a_client_that_follows_another_model_is_refused(tmp_path: Path) -> None:
    with make_client() as client:
        plan = make_work("embeddings", MadeUp(23), client).plan
    with make_client(fingerprint="ba9876543210") as client:
        work = Work(MadeUp(23), plan, embeddings_table)
        with pytest.raises(ServerError, match=r"fingerprint ba9876543210; .* made_up_012345 \(0123456789ab\)"):
            write_work(work, tmp_path / "out", client)
    assert PartsFolder(tmp_path / "out", plan).missing() == [0, 1, 2, 3, 4]


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    write("embeddings", tmp_path / "out", 23)
    with make_client() as client:
        folder = PartsFolder(tmp_path / "out", make_work("embeddings", MadeUp(23), client).plan)
    with alone_in(folder), pytest.raises(ProtoclipError, match="another run writes there"):
        write("embeddings", tmp_path / "out", 23)
    write("embeddings", tmp_path / "out", 23)


@pytest.mark.parametrize("name", ["out", "out.parquet"])
@pytest.mark.parametrize("num_bytes", [0, 500, 2_000, 3_000, 5_000])
def test_a_full_disk_is_told_and_the_same_run_goes_on(
    name: str, num_bytes: int, full_disk: Callable[[int], AbstractContextManager[None]], tmp_path: Path
) -> None:
    """A part has about 1,700 bytes, and the file of all parts 4,500."""
    with full_disk(num_bytes):
        try:
            write("embeddings", tmp_path / name, 23)
        except ProtoclipError as error:
            message = str(error)
            assert "can't be written: " in message
            assert "File too large" in message
        else:
            assert num_bytes >= (2_000 if name == "out" else 5_000)
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
    write("embeddings", tmp_path / name, 23)
    assert _names(tmp_path / name) == [f"picture {number}" for number in range(23)]


def test_answers_of_several_labels_or_none() -> None:
    vectors = np.array([[1, 0, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 0, 1], [np.nan] * 4], dtype=np.float32)
    part = EmbeddedPart(0, ["a", "b", "c\udcff", "d"], vectors, [None, None, None, "bad"])
    with make_client() as client:
        work = make_work("classifications", MadeUp(3), client)
        classes = work.table.keywords["classes"]  # type: ignore[attr-defined]
        several = answers_table(part, classes, client.model, Choice(None, True, 0.5)).to_pylist()
        best = answers_table(part, classes, client.model, Choice()).to_pylist()
    assert [(row["picture"], row["rank"], row["label"]) for row in several] == [
        ("a", 1, LABELS[0]),
        ("b", 1, LABELS[1]),
        ("b", 2, LABELS[0]),
        ("c\\udcff", 0, None),
        ("d", None, None),
    ]
    assert [row["probability"] for row in several] == [None] * 5
    assert [row["cosine"] for row in several][:3] == pytest.approx([1, 0.8, 0.6])
    assert [row["error"] for row in several] == [None] * 4 + ["bad"]
    assert [row["rank"] for row in best] == [1, 1, 1, None]
    assert best[0]["probability"] == pytest.approx(1, abs=1e-6)


def test_an_empty_part_has_the_same_columns() -> None:
    empty = EmbeddedPart(0, [], np.zeros((0, 4), dtype=np.float32), [])
    assert embeddings_table(empty).schema.names == ["id", "vector", "error"]
