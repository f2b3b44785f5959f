"""`--out` of `embed` and `classify`: Parquet in parts, on an artifact in this process."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from command_line import Outcome, Run
from pyarrow import parquet

from protoclip.client import Client

GOOD = ("a.png", "b [red].png", "c.webp", "more/d.bmp", "more/é👠.png")
BAD = ("damaged.png", "notes.txt")


@pytest.fixture
def write(run: Run, photos: Path, tiny_artifact: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """`write("embed", "out", …)`: the pictures into `out`, three a part."""

    def call(command: str, out: str, *options: object) -> Outcome:
        labels = ("--labels", "red,green", "--label", "blue, too") if command == "classify" else ()
        place = ("--out", tmp_path / out, "--part-size", 3, "--url", tiny_artifact)
        return run(command, photos, *labels, *place, *options)

    return call


@pytest.mark.parametrize("out", ["out", "out.parquet"])
def test_embed(write: Callable[..., Outcome], out: str, photos: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    outcome = write("embed", out)
    assert (outcome.code, outcome.out) == (0, f"7 pictures in {tmp_path / out}\n")
    assert "warning: 2 of 7 failed" in outcome.err
    rows = {row["id"]: row for row in parquet.read_table(tmp_path / out).to_pylist()}
    assert rows.keys() == {str(photos / name) for name in (*GOOD, *BAD)}
    with Client(str(tiny_artifact)) as client:
        expected = client.embed_images([photos / name for name in GOOD])
    np.testing.assert_allclose([rows[str(photos / name)]["vector"] for name in GOOD], expected, atol=1e-5)
    assert all(rows[str(photos / name)]["error"] for name in BAD)


@pytest.mark.parametrize("out", ["out", "out.parquet"])
def test_classify(
    write: Callable[..., Outcome], out: str, run: Run, photos: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    outcome = write("classify", out, "--top-k", 2, "--json")
    assert (outcome.code, outcome.json["items"], outcome.json["written_before"]) == (0, 7, 0)
    assert sorted(Path(error["id"]).name for error in outcome.json["errors"]) == list(BAD)
    rows = parquet.read_table(tmp_path / out).to_pylist()
    assert sorted(row["picture"] for row in rows) == sorted(str(photos / name) for name in (*GOOD, *GOOD, *BAD))
    asked = ("--labels", "red,green", "--label", "blue, too", "--top-k", 2, "--url", tiny_artifact, "--json")
    for item in run("classify", photos, *asked).json["items"]:
        own = [row for row in rows if row["picture"] == item["id"]]
        assert [(row["rank"], row["label"]) for row in own] == list(enumerate(item["scores"], start=1))
        assert [row["probability"] for row in own] == pytest.approx(list(item["scores"].values()), rel=1e-3)
        assert [row["cosine"] for row in own] == pytest.approx(list(item["cosines"].values()), abs=1e-4)


@pytest.mark.parametrize("command", ["embed", "classify"])
def test_the_same_command_again_says_what_is_there(
    write: Callable[..., Outcome], command: str, photos: Path, tmp_path: Path
) -> None:
    write(command, "out.parquet")
    before = (tmp_path / "out.parquet").read_bytes()
    outcome = write(command, "out.parquet")
    assert outcome.out == f"7 pictures in {tmp_path / 'out.parquet'}, 7 of them from an earlier run\n"
    assert "warning: 2 of 7 failed" in outcome.err
    (photos / "new.png").write_bytes((photos / "a.png").read_bytes())
    outcome = write(command, "out.parquet")
    assert (outcome.code, "was begun with num_items=7, and now it is 8" in outcome.err) == (2, True)
    assert (tmp_path / "out.parquet").read_bytes() == before


def test_other_labels_are_other_answers(write: Callable[..., Outcome], tmp_path: Path) -> None:
    assert write("classify", "out").code == 0
    for option, message in {
        ("--label", "more"): "other labels",
        ("--templates", "photo"): "other templates",
        ("--top-k", 2): "other top k",
        ("--threshold", 0.1): "other threshold",
    }.items():
        outcome = write("classify", "out", *option)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert f"{tmp_path / 'out'}: was begun with {message}" in outcome.err
    assert write("classify", "out").code == 0


@pytest.fixture
def refused(run: Run, tiny_artifact: Path, tmp_path: Path) -> Callable[..., None]:
    """`refused(message, …)`: writing the second is not a continuation of the first, and says so in one line."""

    def call(message: str, *arguments: object) -> None:
        place = ("--out", tmp_path / "out.parquet", "--url", tiny_artifact)
        outcome = run("embed", *arguments, *place)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome
        assert f"out.parquet: was begun with {message}" in outcome.err
        assert "to begin anew, remove it or give another --out" in outcome.err

    return call


def _table(path: Path, photos: Path) -> None:
    columns = {"front": ["a.png", "c.webp"], "back": ["c.webp", "a.png"]}
    parquet.write_table(
        pa.table({name: [(photos / file).read_bytes() for file in files] for name, files in columns.items()}), path
    )


def test_another_column_or_a_table_written_anew_is_refused(
    run: Run, refused: Callable[..., None], photos: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    table, out = tmp_path / "table.parquet", tmp_path / "out.parquet"
    _table(table, photos)
    given = (table, "--image-column", "front")
    for _ in range(2):
        assert run("embed", *given, "--out", out, "--url", tiny_artifact).code == 0
    refused("other image column: front before, and now back", table, "--image-column", "back")
    refused("other split: None before, and now all", *given, "--split", "all")
    refused("other layout: None before, and now table", *given, "--layout", "table")
    refused("other delimiter: None before, and now ;", *given, "--delimiter", ";")
    refused("other encoding: utf-8 before, and now latin-1", *given, "--encoding", "latin-1")
    os.utime(table, ns=(0, 0))
    refused("other contents: a picture, a table or an archive has changed since", *given)


def test_a_changed_picture_or_another_folder_is_refused(
    run: Run,
    refused: Callable[..., None],
    photos: Path,
    tiny_artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out.parquet"
    monkeypatch.chdir(photos)
    given = ("a.png", "c.webp", "missing.png")
    assert run("embed", *given, "--out", out, "--url", tiny_artifact).code == 0
    monkeypatch.chdir(tmp_path)
    refused(f"other folder: {photos} before, and now {tmp_path}", *given)
    monkeypatch.chdir(photos)
    (photos / "missing.png").write_bytes((photos / "a.png").read_bytes())
    refused("other contents", *given)
    (photos / "missing.png").unlink()
    assert run("embed", *given, "--out", out, "--url", tiny_artifact).code == 0
    (photos / "a.png").write_bytes((photos / "c.webp").read_bytes())
    refused("other contents", *given)


def test_another_picture_on_standard_input_is_refused(
    run: Run,
    refused: Callable[..., None],
    photos: Path,
    tiny_artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def give(name: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((photos / name).read_bytes())))

    for _ in range(2):
        give("a.png")
        assert run("embed", "-", "--out", tmp_path / "out.parquet", "--url", tiny_artifact).code == 0
    give("c.webp")
    refused("other contents", "-")


def test_objects_of_a_store_that_changed_are_refused(
    refused: Callable[..., None], run: Run, photos: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.png", "c.webp"):
        memory.pipe_file(f"/parts/photos/{name}", (photos / name).read_bytes())
    for given in ("memory://parts/photos", "memory://parts/photos/a.png"):
        out = tmp_path / "out.parquet"
        for _ in range(2):
            assert run("embed", given, "--out", out, "--url", tiny_artifact).code == 0
        memory.pipe_file("/parts/photos/a.png", (photos / "a.png").read_bytes() + b"more")
        refused("other contents", given)
        out.unlink()
        memory.pipe_file("/parts/photos/a.png", (photos / "a.png").read_bytes())
    memory.rm("/parts", recursive=True)


def test_a_rank_that_is_alone_says_that_its_share_is_not_all(
    write: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = write("embed", "out")
    assert outcome.out == f"rank 0 of 2: 4 of 7 pictures in {tmp_path / 'out'}\n"
    assert "warning: 2 of 3 parts are there" in outcome.err
    assert "RANK=0 and WORLD_SIZE=2 of the environment" in outcome.err
    facts = write("embed", "out", "--json").json
    assert (facts["items"], facts["items_of_all_ranks"]) == (4, 7)
    assert (facts["rank"], facts["num_ranks"], facts["parts"], facts["parts_there"]) == (0, 2, 3, 2)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name)
    outcome = write("embed", "out")
    assert outcome.out == f"7 pictures in {tmp_path / 'out'}, 4 of them from an earlier run\n"
    assert "parts are there" not in outcome.err


def test_a_name_that_is_no_text(write: Callable[..., Outcome], tmp_path: Path) -> None:
    for _ in range(2):
        assert write("embed", "caf\udce9.parquet").code == 0
        assert write("classify", "2026-11-27T05:04.parquet").code == 0
    assert (tmp_path / "caf\udce9.parquet").is_file()


def test_texts(run: Run, tiny_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("red shoe\n\nblue, green\n", encoding="utf-8")
    out = tmp_path / "texts.parquet"
    outcome = run("embed", "--texts-file", tmp_path / "texts.txt", "--out", out, "--url", tiny_artifact)
    assert (outcome.code, outcome.out) == (0, f"3 texts in {out}\n")
    rows = parquet.read_table(out).to_pylist()
    assert [row["id"] for row in rows] == ["red shoe", "blue, green", f"{tmp_path / 'texts.txt'}: line 2"]
    assert [row["error"] is None for row in rows] == [True, True, False]


def test_nothing_but_bad_pictures_is_exit_code_2(
    run: Run, photos: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    outcome = run("embed", photos / "damaged.png", "missing.png", "--out", out, "--url", tiny_artifact)
    assert (outcome.code, "error: all 2 failed" in outcome.err) == (2, True)
    assert len(parquet.read_table(out)) == 2
    outcome = run("embed", "nothing*.png", "--out", tmp_path / "other", "--url", tiny_artifact)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
