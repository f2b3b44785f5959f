"""Commands on indexes of engines: what they print, and what is wrong in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, runner
from postgres_server import PostgresServer

from protoclip.search import Index, create_index

FINGERPRINT = "0123456789abcdef"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="module")
def address(postgres: PostgresServer) -> str:
    address = f"{postgres.address}&index=commands"
    with create_index(address, FINGERPRINT, 4, model="tiny") as store:
        store.add(np.eye(4), list("abcd"), [{"price": 10 * row} for row in range(4)])
    return address


def test_info_says_what_is_there_and_what_it_promises(run: Run, address: str) -> None:
    facts = run("index", "info", address, "--json").json
    assert (facts["index"], facts["entries"], facts["dimensions"], facts["model"]) == (address, 4, 4, "tiny")
    assert facts["bytes"] > 8000
    assert (facts["transactions"], facts["search"]) == (True, "approximate")
    shown = run("index", "info", address).out
    assert "approximate" in shown
    assert FINGERPRINT in shown


def test_a_search_that_asks_no_server(run: Run, address: str) -> None:
    outcome = run("search", address, "--like", "a", "--where", "price>=20", "--json")
    assert sorted(hit["id"] for hit in outcome.json["hits"]) == ["c", "d"]
    outcome = run("search", address, "--like", "a", "--where", "colour=red")
    assert outcome.code == 0
    assert "has a field 'colour'" in outcome.err


def test_copies_from_the_shell(run: Run, address: str, tmp_path: Path) -> None:
    target = tmp_path / "copy.index"
    assert run("index", "copy", address, target, "--json").json == {
        "source": address,
        "target": str(target),
        "entries": 4,
        "written": 4,
        "kept": 0,
        "compared": 4,
        "left_behind": [],
    }
    outcome = run("index", "copy", address, target)
    assert "4 entries, 0 written, 4 were there already; 4 read again, and as in the source" in outcome.err
    assert f"protoclip search {target}" in outcome.err
    with Index.open(target) as copied:
        assert sorted(entry.id for entry in copied.iterate()) == list("abcd")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("index", "info", "{server}&index=nothing"), "no index is here: make one, or copy one here"),
        (("search", "{server}&index=nothing", "--like", "a"), "no index is here"),
        (("index", "info", "{server}"), "names no index"),
        (("index", "info", "postgresql://me:hush@db/shop?index=a"), "holds a password"),
        (("index", "info", "postgresql://127.0.0.1:9/shop?index=a"), "PostgreSQL can't be reached"),
        (("index", "copy", "nowhere.index", "{server}&index=new"), "nowhere.index: no index is here"),
        (("index", "copy", "{server}&index=nothing", "new.index"), "no index is here"),
    ],
)
def test_one_line_for_what_is_wrong(
    run: Run,
    postgres: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(*(word.format(server=postgres.address) for word in words))
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err
    assert "hush" not in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "address", "package", "extra"),
    [
        ("protoclip.search.stores.postgres_store", "postgresql://db/shop?index=a", "psycopg", "pgvector"),
        ("protoclip.search.stores.milvus_store", "milvus://db/shop", "pymilvus", "milvus"),
    ],
)
def test_an_extra_that_is_missing_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, module: str, address: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr(sys.modules["protoclip.search.stores"], module.rpartition(".")[2], raising=False)
    outcome = run("index", "info", address)
    assert outcome.code == 2
    said = " ".join(outcome.err.split())
    assert f"needs {package}" in said
    assert f"[{extra}]" in said
