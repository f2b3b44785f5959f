"""`--out` of `embed` and `classify`: Parquet in parts, on an artifact in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
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
    assert (outcome.code, "holds something else than what is asked for" in outcome.err) == (2, True)
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
