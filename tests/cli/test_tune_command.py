"""`protoclip index tune`, and what `info` says afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Run

from protoclip.client import Client
from protoclip.search import Index
from protoclip.search.approximate import choosing

FINGERPRINT = "0123456789abcdef"
VECTORS = np.random.default_rng(0).standard_normal((600, 8)).astype(np.float32) + 2


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(choosing, "LEAST_SPEEDUP", 0.0)
    with Index.create(tmp_path / "x.index", FINGERPRINT, 8) as index:
        index.add(VECTORS, [str(row) for row in range(600)])
    return tmp_path / "x.index"


def embedded(path: Path, fingerprint: str) -> Path:
    """As `protoclip embed --out` writes it."""
    texts = -VECTORS[:200]
    ids = np.arange(200).astype(np.str_)
    np.savez(path, ids=ids, vectors=texts, model=np.array("tiny"), fingerprint=np.array(fingerprint))
    return path


def test_without_and_with_queries(run: Run, index: Path, tmp_path: Path) -> None:
    assert run("index", "info", index, "--json").json["engine"] == "exact"
    outcome = run("index", "tune", index, "--recall", 0.8)
    assert outcome.code == 0, outcome.err
    assert "exact: no queries were given to measure on" in " ".join(outcome.out.split())
    assert f"protoclip index tune {index} --queries queries.txt" in outcome.err
    outcome = run(
        "index", "tune", index, "--recall", 0.8, "--queries", embedded(tmp_path / "q.npz", FINGERPRINT), "--json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["by_other"]["recall"] >= 0.8
    assert (outcome.json["engine"], outcome.json["by_other"]["queries"]) == ("IVF1,PQ4x4fs", 100)
    info = run("index", "info", index, "--json").json
    assert (info["engine"], info["tuning"]["asked"], info["tuning_is_due"]) == ("IVF1,PQ4x4fs", 0.8, False)
    shown = " ".join(run("index", "info", index).out.split())
    assert "IVF1,PQ4x4fs" in shown
    assert "on 600 entries" in shown


def test_texts_are_embedded_by_the_index_s_own_model(
    run: Run, tmp_path: Path, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "LEAST_SPEEDUP", 0.0)
    with Client(str(tiny_artifact)) as client:
        model = client.model
    with Index.create(tmp_path / "x.index", model.fingerprint, model.embedding_dim) as index:
        rows = np.random.default_rng(0).standard_normal((400, model.embedding_dim)) + 2
        index.add(rows, [str(row) for row in range(400)])
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"shoes of size {row}\n" for row in range(120)), encoding="utf-8")
    options = ("--recall", 0.5, "--queries", texts, "--url", tiny_artifact, "--json")
    outcome = run("index", "tune", tmp_path / "x.index", *options)
    assert outcome.code == 0, outcome.err
    assert outcome.json["by_other"]["queries"] == 60
    assert outcome.json["by_other"]["efforts"]
    found = [
        run(
            "search", tmp_path / "x.index", "--text", "shoes of size 7", "--url", tiny_artifact, "--json", *more
        ).json
        for more in ((), ("--exact",))
    ]
    assert len({hit["id"] for hit in found[0]["hits"]} & {hit["id"] for hit in found[1]["hits"]}) >= 3
    with Client(str(tiny_artifact)) as client, Index.open(tmp_path / "x.index") as index:
        true = index.search(client.embed_texts("shoes of size 7"), exact=True)
    assert [hit["id"] for hit in found[1]["hits"]] == [hit.id for hit in true]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recall", "1"], "recall=1.0 (--recall) must be a number between 0 and 1"),
        (["--queries", "missing.npz"], "--queries missing.npz: not what `protoclip embed --texts-file"),
        (["--queries", "TORN"], "torn.npz: not what `protoclip embed --texts-file"),
        (["--queries", "missing.txt"], "--queries missing.txt: can't be read: No such file"),
    ],
)
def test_wrong_use_is_one_line(run: Run, index: Path, options: list[str], message: str) -> None:
    torn = index.parent / "torn.npz"
    torn.write_bytes(b"PK\x03\x04, and no more")
    outcome = run("index", "tune", index, *(torn if option == "TORN" else option for option in options))
    assert outcome.code == 2
    assert message in outcome.err


def test_queries_of_another_model(run: Run, index: Path, tmp_path: Path) -> None:
    outcome = run("index", "tune", index, "--queries", embedded(tmp_path / "q.npz", "fedcba9876543210"))
    assert outcome.code == 2
    assert f"made with the model {FINGERPRINT}, but these vectors with fedcba9876543210" in outcome.err


def test_a_search_without_the_accelerator_says_how_to_have_it_again(run: Run, index: Path, tmp_path: Path) -> None:
    queries = embedded(tmp_path / "q.npz", FINGERPRINT)
    assert run("index", "tune", index, "--recall", 0.8, "--queries", queries).code == 0
    for file in index.glob("accelerator-*"):
        file.unlink()
    outcome = run("search", index, "--like", "3", "-k", 1, "--json")
    assert (outcome.code, len(outcome.json["hits"])) == (0, 1)
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"warning: {index}: accelerator-")
    assert line.endswith("searches compare with every vector until `protoclip index tune` makes it anew")
    outcome = run("index", "compact", index, "--json")
    assert (outcome.json["engine"], outcome.json["tuning_is_due"]) == ("IVF1,PQ4x4fs", False)
