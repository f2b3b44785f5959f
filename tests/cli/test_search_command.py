"""`protoclip search` by several parts, with conditions, groups and pages, and builds that were interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from old_index import write_old_index
from PIL import Image

from protoclip.cli.client.conditions import weights_of, where_of
from protoclip.client import Client
from protoclip.contract.errors import ConfigError
from protoclip.search import Index

TEXTS = ["red shoes", "a hat", "blue shoes", "一只鞋子"]


@pytest.fixture
def index(tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with Client(str(tiny_artifact)) as client:
        Index.build(
            "x.index",
            client,
            texts=TEXTS,
            metadata={str(row): {"price": 10 * row, "stock": row % 2 == 0, "kind": "shoes"} for row in range(3)},
        ).close()
    return Path("x.index")


def ids(outcome: Any) -> list[str]:
    assert outcome.code == 0, outcome.err
    return [hit["id"] for hit in outcome.json["hits"]]


def test_conditions_groups_and_pages(run: Run, index: Path) -> None:
    search = ("search", index, "--text", "red shoes", "--json")
    everything = ids(run(*search))
    assert len(everything) == 4
    assert ids(run(*search, "--where", "price<20", "--where", "stock=true")) == ["0"]
    assert sorted(ids(run(*search, "--where", '{"price": {"in": [10, 20]}}'))) == ["1", "2"]
    assert ids(run(*search, "-k", 2, "--offset", 1)) == everything[1:3]
    best = next(name for name in everything if name != "3")
    assert sorted(ids(run(*search, "--group-by", "kind"))) == [best, "3"]
    assert ids(run(*search, "--distinct", "1e-9")) == everything[:1]
    assert "distinct=2.0 must be a cosine above 0, and at most 1" in run(*search, "--distinct", 2).err
    shown = run("search", index, "--text", "red shoes", "-k", 1, "--offset", 1).out
    assert [line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│")] == ["2"]


def test_sums_and_more_like_an_entry(run: Run, index: Path, tiny_artifact: Path) -> None:
    Image.new("RGB", (8, 8), "red").save("red.png")
    options = ("--text", "red shoes", "--image", "red.png", "--like", "1", "--minus", "a hat")
    outcome = run("search", index, *options, "--weight", "minus=0.5", "--weight", "text=2", "--json")
    with Client(str(tiny_artifact)) as client, Index.open(index) as opened:
        wanted = client.search(opened, text={"red shoes": 2}, image="red.png", like="1", minus={"a hat": 0.5})
    assert ids(outcome) == [hit.id for hit in wanted]
    assert [hit["score"] for hit in outcome.json["hits"]] == pytest.approx([hit.score for hit in wanted], abs=1e-5)


def test_an_id_alone_asks_no_server(run: Run, index: Path) -> None:
    outcome = run("search", index, "--like", "0", "--url", "http://127.0.0.1:9", "--json")
    assert sorted(ids(outcome)) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--like", "9"], "no entry has the id '9'"),
        (
            ["--text", "x", "--where", "price"],
            "--where price: write 'price<50', 'stock=true' or a condition in JSON",
        ),
        (["--text", "x", "--where", "{price}"], "--where {price}: no JSON"),
        (["--text", "x", "--where", "price<<20"], "--where price<<20: the value is '<20': put a text like this"),
        (
            ["--text", "x", "--where", "price="],
            "--where price=: the value is '': put a text like this between double",
        ),
        (["--text", "x", "--where", '{"price": {"near": 1}}'], "'near' of 'price' is unknown"),
        (
            ["--text", "x", "--weight", "image=2"],
            "--weight image=2: takes text=0.5, like=0.5, minus=0.5, each once",
        ),
        (["--text", "x", "--weight", "text=much"], "--weight text=much: 'much' is no number"),
        (["--text", "x", "--weight", "text=0"], "the weight of 'x' is 0.0: it must be a number above 0"),
        (["--text", "x", "--weight", "minus=1"], "--weight minus=1: there is no --minus"),
        (["--text", " "], "--text: "),
        (["--like", "0", "--minus", " "], "--minus: "),
    ],
)
def test_one_line_and_exit_code_2(run: Run, index: Path, options: Sequence[str], message: str) -> None:
    outcome = run("search", index, *options)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert message in outcome.err


@pytest.mark.parametrize(
    "options",
    [["--where", "pricce<20"], ["--where", '{"or": [{"pricce": 1}, {"price": -1}]}'], ["--group-by", "pricce"]],
)
def test_a_field_that_no_entry_has_is_named(run: Run, index: Path, options: Sequence[str]) -> None:
    outcome = run("search", index, "--text", "x", "-k", "1", *options, "--json")
    assert outcome.code == 0
    assert outcome.err == f"warning: no entry of {index} has a field 'pricce'\n"


def test_no_hit_of_known_fields_is_no_warning(run: Run, index: Path) -> None:
    assert run("search", index, "--text", "x", "--where", "price<-1", "--group-by", "price", "--json").err == ""


def test_conditions_of_the_shell() -> None:
    assert where_of([]) is None
    given = ["price<=5", "a b >= 1.5", 'sku="007"', "name=007x", "x!=null", "y=[1]", 'q={"a": 1}', " z > b=c "]
    assert where_of(given) == {
        "and": [
            {"price": {"le": 5}},
            {"a b": {"ge": 1.5}},
            {"sku": {"eq": "007"}},
            {"name": {"eq": "007x"}},
            {"x": {"ne": None}},
            {"y": {"eq": "[1]"}},
            {"q": {"eq": '{"a": 1}'}},
            {"z": {"gt": "b=c"}},
        ]
    }
    with pytest.raises(ConfigError, match="each once"):
        weights_of(["text=1", "text=2"])


def test_convert_and_compact(run: Run, tmp_path: Path) -> None:
    write_old_index(tmp_path / "old.index", np.eye(3, dtype=np.float32), ["a", "b", "c"], [{"n": 1}, {}, {}])
    assert run("index", "info", tmp_path / "old.index", "--json").json["entries"] == 3
    assert (tmp_path / "old.index" / "vectors.faiss").exists()
    assert run("index", "convert", tmp_path / "old.index", "--json").json["entries"] == 3
    names = sorted(file.name for file in (tmp_path / "old.index").iterdir())
    assert names == ["index.sqlite", "writer.lock"]
    assert "has today's format already" in run("index", "convert", tmp_path / "old.index").err
    with Index.open(tmp_path / "old.index") as index:
        index.remove(["b"])
    assert run("index", "compact", tmp_path / "old.index", "--json").json["entries"] == 2


def test_an_interrupted_build_says_so_and_goes_on(
    run: Run, tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(5):
        Image.new("RGB", (8, 8), (number * 50, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    build = ("index", "build", tmp_path / "photos", tmp_path / "x.index", "--url", tiny_artifact)
    with monkeypatch.context() as patched:
        stream = Client.stream_images

        def broken(self: Client, items: Any) -> Any:
            yield next(iter(stream(self, [next(iter(items)) for _ in range(3)])))
            raise KeyboardInterrupt

        patched.setattr(Client, "stream_images", broken)
        outcome = run(*build)
    assert outcome.code != 0
    assert "3 items are kept: the same command goes on with them" in outcome.err
    outcome = run("search", tmp_path / "x.index", "--text", "x")
    assert outcome.code == 2
    assert "its build isn't finished: give the same `protoclip index build` again" in outcome.err
    outcome = run(*build, "--json")
    assert (outcome.code, outcome.json["entries"]) == (0, 5)
    assert "went on with 3 items" in outcome.err
    assert run(*build, "--anew", "--json").json["entries"] == 5
