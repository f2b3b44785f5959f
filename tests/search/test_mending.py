"""A lost accelerator: readers answer at once, exactly, and who writes makes it anew, whenever it is killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tuned_index import DIM, FEWER, NEW_PICTURES, NEW_TEXTS, PICTURES, TEXTS, make_tuned_index

from protoclip.contract.errors import IndexFileError, ProtoclipError
from protoclip.search import AcceleratorWarning, Index, copy_index
from protoclip.search.approximate import choosing, making, tuned, tuning

BESIDE = r"accelerator-.*\.faiss is missing or damaged, and is made anew beside this call"


@pytest.fixture(scope="module")
def tuned_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_index(tmp_path_factory.mktemp("mending") / "x.index", FEWER, TEXTS[:200])


@pytest.fixture
def index(tuned_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    monkeypatch.setattr(choosing, "LEAST_SPEEDUP", 0.0)
    shutil.copytree(tuned_index, tmp_path / "x.index")
    return Index.open(tmp_path / "x.index")


def lose(index: Index, damage: str) -> None:
    (file,) = index.path.glob("accelerator-*.faiss")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.unlink()
    if damage != "missing":
        file.write_bytes(data)


def assert_mended(index: Index) -> None:
    stats = index.stats()
    assert (stats.engine, stats.tuning_is_due) == ("IVF2,PQ8x4fs", False)
    assert stats.tuning is not None
    # By the queries that the database kept, to the recall that was asked for.
    assert (stats.tuning.asked, stats.tuning.by_other.is_approximate) == (0.95, True)
    assert sorted(path.name[:12] for path in index.path.glob("accelerator*")) == ["accelerator-"]
    assert index.search(NEW_PICTURES) != index.search(NEW_PICTURES, exact=True)


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_a_call_that_writes_has_it_made_anew_beside_it(index: Index, damage: str) -> None:
    with Index.open(index.path) as reader:
        lose(index, damage)
        with pytest.warns(AcceleratorWarning, match="until `protoclip index tune` makes it anew"):
            assert reader.search(NEW_TEXTS) == reader.search(NEW_TEXTS, exact=True)
        with pytest.warns(AcceleratorWarning, match=BESIDE):
            index.add(NEW_PICTURES[:1], ["new"])
        assert index.search(NEW_PICTURES[0], 1, exact=True)[0].id == "new"
        index.settle()
        for one in (index, reader):
            assert_mended(one)
            assert one.search(NEW_PICTURES[0], 1)[0].id == "new"
        assert index.remove("new") == 1


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_compact_makes_it_anew_before_it_returns(index: Index, damage: str) -> None:
    lose(index, damage)
    told = []
    index.compact(lambda what, done, total: told.append((what, done, total)))
    assert told[-1] == ("code", FEWER, FEWER)
    assert_mended(index)


def test_a_search_that_finds_the_damage_tells_the_next_write(index: Index) -> None:
    """Though its name and size are right, and this Index compared it before."""
    assert index.remove([]) == 0
    lose(index, "flipped")
    index._snapshots.forget()
    with pytest.warns(AcceleratorWarning, match="missing or damaged: searches compare"):
        index.search(NEW_TEXTS[0])
    with pytest.warns(AcceleratorWarning, match=BESIDE):
        index.remove([])
    index.settle()
    assert_mended(index)


def test_what_compact_has_dropped_is_no_sign_of_damage(index: Index) -> None:
    """Though as many that were never coded, since they were removed before, are still in memory."""
    index.search(NEW_PICTURES)
    assert index.remove([f"picture {row}" for row in range(993, 998)]) == 5
    index.tune(0.95)
    near = [hit.id for hit in index.search(PICTURES[3], 5, exact=True)]
    assert index.remove(near) == 5
    index.compact()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = index.search([PICTURES[3], *NEW_PICTURES])
    with Index.open(index.path) as again:
        assert found == again.search([PICTURES[3], *NEW_PICTURES])


# Stops for good when the accelerator is written, and isn't yet in place.
_STOPPED = """
import os, sys, time
from protoclip.search import Index
from protoclip.search.approximate import choosing, tuning
import numpy as np

def stop(*_):
    os.write(1, b"made\\n")
    time.sleep(60)

choosing.LEAST_SPEEDUP = 0.0
tuning.put_accelerator_in_place = stop
with Index.open(sys.argv[1]) as index:
    index.upsert(np.ones((1, 16)), ["killed"], [{"row": -7}])
    os.write(1, b"written\\n")
"""


def test_killed_while_it_makes_it(index: Index) -> None:
    lose(index, "missing")
    command = [sys.executable, "-W", "ignore", "-c", _STOPPED, str(index.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        # The write doesn't wait for the making, nor the making for the program's last line.
        assert sorted(process.stdout.readline() for _ in range(2)) == ["made\n", "written\n"]
        process.send_signal(signal.SIGKILL)
    assert (index.path / "accelerator.new").exists()
    entry = index.get("killed")
    assert entry is not None
    assert entry.metadata == {"row": -7}
    with pytest.warns(AcceleratorWarning, match="until `protoclip index tune`"):
        assert index.search(NEW_TEXTS) == index.search(NEW_TEXTS, exact=True)
    with pytest.warns(AcceleratorWarning, match=BESIDE):
        assert index.remove("killed") == 1
    index.settle()
    assert_mended(index)


def test_the_program_ends_when_it_is_made(index: Index) -> None:
    lose(index, "missing")
    script = """
import sys
from protoclip.search import Index
from protoclip.search.approximate import choosing

choosing.LEAST_SPEEDUP = 0.0
Index.open(sys.argv[1]).remove([])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(index.path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert "is missing or damaged, and is made anew beside this call" in done.stderr
    assert "Traceback" not in done.stderr
    assert_mended(index)


def test_it_says_once_why_it_could_not(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> making.Made:
        raise ProtoclipError("no room")

    lose(index, "missing")
    with monkeypatch.context() as patched:
        patched.setattr(tuning, "make", fail)
        with pytest.warns(AcceleratorWarning, match=BESIDE):
            index.remove([])
        index._mending.wait()
    with pytest.warns(AcceleratorWarning, match=r"be made anew \(no room\): run `protoclip index tune`"):
        index.remove([])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.remove([])
    index.settle()
    assert_mended(index)


def test_an_index_that_became_too_small_is_as_never_tuned(index: Index) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.remove([f"picture {row}" for row in range(100, FEWER)])
        lose(index, "missing")
        index.compact()
        assert (index.tuning, index.stats().engine) == (None, "exact")
        assert [hit.id for hit in index.search(PICTURES[7], 1)] == ["picture 7"]


def test_damaged_queries_are_said_and_not_taken(index: Index) -> None:
    with index._database.writing() as connection:
        connection.execute("UPDATE tuning_queries SET vectors = zeroblob(length(vectors))")
    with pytest.raises(IndexFileError, match=r"the queries of its tuning are damaged .* give them again"):
        index.tune(0.95)
    assert index.tune(0.95, TEXTS[:200]).by_other.is_approximate


def test_a_copy_is_tuned_with_the_same_queries(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuned, "TUNE_FROM", FEWER)
    with pytest.warns(AcceleratorWarning, match="holds 1000 entries"):
        copy_index(index, tmp_path / "copy.index")
    with Index.open(tmp_path / "copy.index") as copied:
        assert copied.tuning is not None
        assert copied.tuning.by_other.queries == 100
        kept = [np.unique(_kept(one), axis=0) for one in (index, copied)]
        assert kept[0].shape == (200, DIM)
        assert np.array_equal(*kept)


def _kept(index: Index) -> NDArray[np.float32]:
    with index._reading() as (connection, facts):
        return index._snapshots.kept_queries(connection, facts, index._database)
