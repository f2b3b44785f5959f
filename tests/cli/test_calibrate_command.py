"""`protoclip index calibrate`, and searches of the shell and of HTTP that find nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Run

from protoclip.client import Client
from protoclip.search import Index

COLORS = ["red", "blue", "green", "black", "white", "grey", "pink", "brown", "gold", "violet", "beige"]
THINGS = ["shoes", "hat", "coat", "scarf", "glove", "boot", "shirt", "belt", "sock", "tie"]
NAMES = [f"{color} {thing}" for color in COLORS for thing in THINGS]


@pytest.fixture
def index(tiny_artifact: Path, tmp_path: Path) -> Path:
    """Each name once, near to its text."""
    with Client(str(tiny_artifact)) as client:
        model, texts = client.model, np.asarray(client.embed_texts(NAMES))
    noise = np.random.default_rng(0).standard_normal(texts.shape).astype(np.float32)
    path = tmp_path / "shop.index"
    with Index.create(path, model.fingerprint, model.embedding_dim, artifact=str(tiny_artifact)) as index:
        index.add(texts + 0.02 * noise, NAMES, [{"name": name} for name in NAMES])
    return path


def test_from_calibration_to_a_search_that_finds_nothing(run: Run, index: Path) -> None:
    refused = run("search", index, "--text", "red shoes", "--min-relevance", 0.5)
    assert refused.code == 2
    assert "needs an index that is calibrated: `protoclip index calibrate`" in " ".join(refused.err.split())
    page = index.parent / "relevance.html"
    outcome = run("index", "calibrate", index, "--text-column", "name", "--report", page, "--json")
    assert outcome.code == 0, outcome.err
    found = outcome.json["text"]
    assert found["queries"] == len(NAMES)
    written = page.read_text(encoding="utf-8")
    assert f"a relevance of {found['advised']['value']:.2f} or more, as advised" in written
    assert written.count('class="line c1"') == 1
    assert "Not calibrated: too few entries" in written
    shown = " ".join(run("index", "info", index).out.split())
    assert f"--min-relevance {found['advised']['value']:.2f} keeps" in shown
    assert run("index", "info", index, "--json").json["relevance"]["field"] == "name"
    search = ("search", index, "--text", "red shoes", "-k", 2)
    some = run(*search, "--min-relevance", 0, "--json").json
    assert (len(some["hits"]), some["nothing_matches"]) == (2, False)
    assert all(0 < hit["relevance"] < 1 for hit in some["hits"])
    assert "relevance" in run(*search, "--min-relevance", 0).out
    none = run(*search, "--min-relevance", 1, "--json").json
    assert (none["hits"], none["nothing_matches"]) == ([], True)
    outcome = run(*search, "--min-relevance", 1)
    assert outcome.code == 0
    assert outcome.out == (
        "nothing matches: none of the nearest entries is what was asked for with a probability of 1 or more\n"
    )
    assert "relevance" not in run(*search, "--json").json["hits"][0]


def test_a_field_that_is_not_there(run: Run, index: Path) -> None:
    outcome = run("index", "calibrate", index, "--text-column", "title")
    assert outcome.code == 2
    assert "(--text-column): no entry has a text in this field of its metadata" in " ".join(outcome.err.split())


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("text,picture\nred shoes,1\n", "has no column 'id': it needs text and id"),
        ("text,id\nred shoes,a\n,b\n", "line 3 has no text or no id"),
        ("text,id\nred shoes,a\n", "no entry has the id 'a', the answer to 'red shoes'"),
    ],
)
def test_queries_that_can_not_be_taken(run: Run, index: Path, tmp_path: Path, written: str, told: str) -> None:
    (tmp_path / "asked.csv").write_text(written, encoding="utf-8")
    outcome = run("index", "calibrate", index, "--queries", tmp_path / "asked.csv")
    assert outcome.code in (1, 2)
    assert told in " ".join(outcome.err.split())
