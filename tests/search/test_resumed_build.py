"""Builds that end before their time: what was embedded is kept, and the next one goes on, once per item."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from protoclip.client import Client, InMemoryTransport, MemoryModel
from protoclip.contract.errors import DataError, IndexBusyError, IndexFileError, ServerError
from protoclip.contract.picture_folders import Skipped
from protoclip.search import BuildProgress, Index, SkippedWarning
from protoclip.search.places import BUILDING_FILE

FINGERPRINT = "0123456789abcdef"
TEXTS = [f"text {number}" for number in range(10)]


class Encoder:
    """Counts what it embeds, and fails at one text."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.fails_at: str | None = None
        self.error: type[BaseException] = ServerError

    def client(self, fingerprint: str = FINGERPRINT) -> Client:
        model = MemoryModel(self.embed, self.embed, 4, name="tiny", fingerprint=fingerprint)
        return Client(transport=InMemoryTransport(model), batch_size=2, concurrency=1)

    def embed(self, item: Any) -> NDArray[np.float32]:
        text = str(item)
        if text == self.fails_at:
            raise self.error("the server is gone")
        if text.startswith("bad"):
            raise ValueError("no text")
        self.seen.append(text)
        return vector(text)


def vector(text: str) -> NDArray[np.float32]:
    return np.random.default_rng(list(text.encode())).standard_normal(4).astype(np.float32)


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


def contents(path: Path) -> dict[str, Any]:
    with Index.open(path) as index:
        entries = list(index.iterate())
        for entry in entries:
            text = entry.metadata["text"]
            expected = vector(text) / np.linalg.norm(vector(text))
            np.testing.assert_allclose(entry.vector, expected, atol=1e-6)
    assert len({entry.id for entry in entries}) == len(entries)
    return {entry.id: dict(entry.metadata) for entry in entries}


def interrupted(encoder: Encoder, path: Path, at: str = "text 7", **arguments: Any) -> None:
    encoder.fails_at = at
    with encoder.client() as client, pytest.raises(encoder.error):
        Index.build(path, client, texts=arguments.pop("texts", TEXTS), **arguments)
    encoder.fails_at = None


@pytest.mark.parametrize("error", [ServerError, KeyboardInterrupt])
def test_goes_on_where_it_stood(encoder: Encoder, tmp_path: Path, error: type[BaseException]) -> None:
    encoder.error = error
    interrupted(encoder, tmp_path / "index")
    with pytest.raises(IndexFileError, match="its build isn't finished: give the same `protoclip index build`"):
        Index.open(tmp_path / "index")
    progress: list[BuildProgress] = []
    with encoder.client() as client:
        index = Index.build(tmp_path / "index", client, texts=TEXTS, progress=progress.append)
    index.close()
    stored = progress[-1].resumed
    assert stored in (4, 6)
    assert progress[-1] == BuildProgress(10, 0, 10, stored)
    assert [text for text in TEXTS[:stored] if encoder.seen.count(text) != 1] == []
    assert contents(tmp_path / "index") == {str(row): {"text": text} for row, text in enumerate(TEXTS)}
    assert sorted(file.name for file in (tmp_path / "index").iterdir()) == ["index.sqlite", "writer.lock"]


def test_takes_what_is_given_now(encoder: Encoder, tmp_path: Path) -> None:
    interrupted(encoder, tmp_path / "index", metadata={"0": {"price": 1}, "1": {"price": 2}})
    encoder.seen.clear()
    texts = ["text 0", "text 1", "another", "bad now"]
    with encoder.client() as client, pytest.warns(SkippedWarning, match="no text"):
        Index.build(tmp_path / "index", client, texts=texts, metadata={"1": {"price": 3}}).close()
    expected = {"0": {"text": "text 0"}, "1": {"text": "text 1", "price": 3}, "2": {"text": "another"}}
    assert contents(tmp_path / "index") == expected
    assert encoder.seen == ["another"]


def test_texts_that_moved_are_embedded_again(encoder: Encoder, tmp_path: Path) -> None:
    interrupted(encoder, tmp_path / "index")
    with encoder.client() as client:
        Index.build(tmp_path / "index", client, texts=["new", *TEXTS]).close()
    assert contents(tmp_path / "index") == {str(row): {"text": text} for row, text in enumerate(["new", *TEXTS])}


def _pictures(kind: str, folder: Path, first: str) -> Any:
    """Ten "pictures" named 0 to 9 that hold `first` and their number."""
    data = {f"{number}.png": f"{first}{number}".encode() for number in range(10)}
    folder.mkdir(exist_ok=True)
    if kind == "bytes":
        return list(data.values())
    if kind == "table":
        parquet.write_table(pa.table({"image": list(data.values()), "text": list(data)}), folder / "t.parquet")
        return folder / "t.parquet"
    for name, content in data.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (1, 1 + ord(first[0])))
    return folder if kind == "folder" else [str(folder / name) for name in data]


@pytest.mark.parametrize("kind", ["bytes", "table", "folder", "paths"])
@pytest.mark.parametrize("same_place", [True, False])
def test_other_pictures_of_the_same_names(encoder: Encoder, tmp_path: Path, kind: str, same_place: bool) -> None:
    def build(pictures: Any) -> None:
        with encoder.client() as client:
            Index.build(tmp_path / "index", client, pictures).close()

    encoder.fails_at = "b'x7'"
    with pytest.raises(ServerError):
        build(_pictures(kind, tmp_path / "x", "x"))
    encoder.seen.clear()
    with pytest.raises(ServerError):
        build(_pictures(kind, tmp_path / "x", "x"))
    assert "b'x0'" not in encoder.seen
    encoder.fails_at = None
    build(_pictures(kind, tmp_path / ("x" if same_place else "y"), "y"))
    with Index.open(tmp_path / "index") as index:
        for number, entry in enumerate(index.iterate()):
            expected = vector(f"b'y{number}'")
            np.testing.assert_allclose(entry.vector, expected / np.linalg.norm(expected), atol=1e-6)
        assert len(index) == 10


def test_a_client_that_follows_as_a_build_begins(encoder: Encoder, tmp_path: Path) -> None:
    with encoder.client() as client, encoder.client("abcdef") as other:
        mixed = SimpleNamespace(url=client.url, model=client.model, stream_texts=other.stream_texts)
        with pytest.raises(IndexFileError, match=f"went over from model {FINGERPRINT} to abcdef"):
            Index.build(tmp_path / "index", mixed, texts=TEXTS)  # type: ignore[arg-type]
    assert not (tmp_path / "index").exists()


def test_another_models_draft_is_not_continued(encoder: Encoder, tmp_path: Path) -> None:
    interrupted(encoder, tmp_path / "index")
    with encoder.client("abcdef") as client:
        index = Index.build(tmp_path / "index", client, texts=TEXTS)
    assert (index.fingerprint, len(index)) == ("abcdef", 10)
    assert encoder.seen.count("text 0") == 2


def test_anew_when_asked_and_when_the_draft_is_damaged(encoder: Encoder, tmp_path: Path) -> None:
    for _ in range(2):
        encoder.seen.clear()
        interrupted(encoder, tmp_path / "index", resume=False)
        assert "text 0" in encoder.seen
    (tmp_path / "index" / BUILDING_FILE).write_bytes(b"no database" * 1000)
    with encoder.client() as client:
        assert len(Index.build(tmp_path / "index", client, texts=TEXTS)) == 10
    assert encoder.seen.count("text 0") == 2


def test_until_it_is_finished_the_old_index_is_searched(encoder: Encoder, tmp_path: Path) -> None:
    with encoder.client() as client:
        old = Index.build(tmp_path / "index", client, texts=["text 0", "old"])
    assert len(old.search(vector("old"), 5)) == 2
    interrupted(encoder, tmp_path / "index")
    assert sorted(contents(tmp_path / "index")) == ["0", "1"]
    with encoder.client() as client:
        Index.build(tmp_path / "index", client, texts=TEXTS).close()
    # Open all the while.
    assert {hit.metadata["text"] for hit in old.search(vector("old"), 20)} == set(TEXTS)
    assert old.search(vector("text 3"), 1)[0].score == pytest.approx(1)
    old.close()
    assert sorted(file.name for file in (tmp_path / "index").iterdir()) == ["index.sqlite", "writer.lock"]
    # Finished and done with: the next build embeds everything, as pictures may have changed.
    encoder.seen.clear()
    with encoder.client() as client:
        Index.build(tmp_path / "index", client, texts=TEXTS).close()
    assert encoder.seen == TEXTS


def test_killed_between_the_switch_and_the_removal_of_the_draft(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with encoder.client() as client:
        Index.build(tmp_path / "index", client, texts=TEXTS[:1]).close()
        for leave in (lambda: Index.build(tmp_path / "index", client, texts=TEXTS).close(), None):
            with monkeypatch.context() as patched:
                patched.setattr("protoclip.search.opening.tidy", die)
                with pytest.raises(KeyboardInterrupt):
                    Index.build(tmp_path / "index", client, texts=TEXTS)
            assert (tmp_path / "index" / BUILDING_FILE).exists()
            assert len(contents(tmp_path / "index")) == 10
            encoder.seen.clear()
            if leave is not None:
                # It was finished: another build starts from the beginning.
                leave()
                assert encoder.seen == TEXTS
    with Index.open(tmp_path / "index") as index:
        index.remove("9")
    assert not (tmp_path / "index" / BUILDING_FILE).exists()
    assert len(contents(tmp_path / "index")) == 9


def test_bad_items_are_listed_and_stay_in_the_index(encoder: Encoder, tmp_path: Path) -> None:
    metadata = {"2": {"price": 1.0}, "9": {"price": float("nan")}}
    texts = [*TEXTS[:4], "bad one", *TEXTS[5:9], TEXTS[9]]
    with encoder.client() as client, pytest.warns(SkippedWarning, match="2 items were left out"):
        Index.build(tmp_path / "index", client, texts=texts, metadata=metadata).close()
    with Index.open(tmp_path / "index") as index:
        assert len(index) == 8
        reasons = {one.name: one.reason for one in index.skipped}
    assert reasons.keys() == {"4", "9"}
    assert "no text" in reasons["4"]
    assert "metadata of '9' can't be written as JSON" in reasons["9"]


def test_an_id_that_came_before_is_listed(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    names = [str(tmp_path / "a.png")] * 2
    with encoder.client() as client, pytest.warns(SkippedWarning, match="only the first item of an id is kept"):
        index = Index.build(tmp_path / "index", client, names)
    assert index.skipped == (Skipped(names[0], "its id came before: only the first item of an id is kept"),)
    assert len(index) == 1


def test_wrong_metadata_cost_no_vectors(encoder: Encoder, tmp_path: Path) -> None:
    with encoder.client() as client:
        with pytest.raises(DataError, match="none fits a picture: they are for ids like 'x'"):
            Index.build(tmp_path / "index", client, texts=TEXTS, metadata={"x": {}})
        Index.build(tmp_path / "index", client, texts=TEXTS, metadata={"0": {"a": 1}}).close()
    assert encoder.seen == TEXTS
    assert contents(tmp_path / "index")["0"] == {"text": "text 0", "a": 1}


def test_two_builds_of_one_index(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protoclip.search.writer_lock.WAIT_S", 0.0)

    def texts() -> Iterator[str]:
        yield TEXTS[0]
        with (
            encoder.client() as second,
            pytest.raises(IndexBusyError, match="another Index of this process writes"),
        ):
            Index.build(tmp_path / "index", second, texts=TEXTS)
        yield TEXTS[1]

    with encoder.client() as client:
        assert len(Index.build(tmp_path / "index", client, texts=texts())) == 2


KILLED = """
import os, signal, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_resumed_build import TEXTS, Encoder
from protoclip.search import Index
encoder = Encoder()
embed = encoder.embed
def embed_or_die(item):
    if item == "text 7":
        os.kill(os.getpid(), signal.SIGKILL)
    return embed(item)
encoder.embed = embed_or_die
with encoder.client() as client:
    Index.build(sys.argv[1], client, texts=TEXTS)
"""


def test_killed(encoder: Encoder, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "index"), str(Path(__file__).parent)]
    assert subprocess.run(command, check=False).returncode == -9
    with encoder.client() as client:
        Index.build(tmp_path / "index", client, texts=TEXTS).close()
    assert "text 0" not in encoder.seen
    assert contents(tmp_path / "index") == {str(row): {"text": text} for row, text in enumerate(TEXTS)}
    assert sorted(file.name for file in (tmp_path / "index").iterdir()) == ["index.sqlite", "writer.lock"]
    assert [file.name for file in tmp_path.iterdir()] == ["index"]
