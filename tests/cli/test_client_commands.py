"""embed, classify, index and search from the shell, on a real Triton; run in this process through `main`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from command_line import Run

from protoclip.cli.client.classified import Classified, print_classified
from protoclip.client import Classification, Client
from protoclip.client.classification import Choice
from protoclip.search import Index

if TYPE_CHECKING:
    from serving.triton.launcher import LaunchedServer


def _good(folder: Path) -> list[str]:
    return [str(folder / name) for name in ("a.png", "b [red].png", "c.webp", "more/d.bmp", "more/é👠.png")]


class TestEmbed:
    def test_json_holds_vectors_and_errors(self, run: Run, served: LaunchedServer, photos: Path) -> None:
        outcome = run("embed", photos, "--json")
        assert outcome.code == 0
        assert [item["id"] for item in outcome.json["items"]] == _good(photos)
        with Client(served.http_url) as client:
            expected = client.embed_images(_good(photos))
        np.testing.assert_allclose([item["vector"] for item in outcome.json["items"]], expected, atol=1e-5)
        assert (outcome.json["model"], outcome.json["fingerprint"]) == ("tiny_012345", "0123456789abcdef")
        errors = {error["id"]: error["reason"] for error in outcome.json["errors"]}
        assert sorted(errors) == [str(photos / "damaged.png"), str(photos / "notes.txt")]
        assert "warning: 2 of 7 failed" in outcome.err

    def test_file_holds_ids_and_vectors(
        self, run: Run, served: LaunchedServer, photos: Path, tmp_path: Path
    ) -> None:
        outcome = run("embed", photos, "--out", tmp_path / "v.npz")
        assert outcome.code == 0
        assert outcome.out == f"5 vectors of 16 in {tmp_path / 'v.npz'}\n"
        assert f"{photos / 'damaged.png'}: " in outcome.err
        with np.load(tmp_path / "v.npz") as saved:
            assert saved["ids"].tolist() == _good(photos)
            assert saved["vectors"].shape == (5, 16)
            assert (str(saved["model"]), str(saved["fingerprint"])) == ("tiny_012345", "0123456789abcdef")

    def test_table_and_texts(self, run: Run, served: LaunchedServer, photos: Path) -> None:
        outcome = run("embed", photos / "b [red].png")
        assert (outcome.code, outcome.err) == (0, "")
        assert "b [red].png" in outcome.out
        outcome = run("embed", "--text", "red [b]shoes", "--text", " ", "--json")
        assert [item["id"] for item in outcome.json["items"]] == ["red [b]shoes"]
        assert outcome.json["errors"] == [{"id": " ", "reason": "the text is blank: give at least one word"}]

    def test_bad_items_keep_their_names_over_many_batches(self, run: Run, served: LaunchedServer) -> None:
        texts = [f"text {row}" for row in range(80)]
        texts[3] = texts[70] = " "
        outcome = run("embed", *(part for text in texts for part in ("--text", text)), "--json")
        assert [item["id"] for item in outcome.json["items"]] == [text for text in texts if text != " "]
        with Client(served.grpc_url) as client:
            expected = client.embed_texts("text 75")
        vectors = {item["id"]: item["vector"] for item in outcome.json["items"]}
        np.testing.assert_allclose(vectors["text 75"], expected, atol=1e-5)

    def test_all_bad_is_exit_code_2(self, run: Run, served: LaunchedServer, photos: Path, tmp_path: Path) -> None:
        outcome = run("embed", photos / "damaged.png", "missing.png", "--out", tmp_path / "v.npz")
        assert outcome.code == 2
        assert "error: all 2 failed" in outcome.err
        assert not (tmp_path / "v.npz").exists()
        outcome = run("embed", "missing.png")
        assert (outcome.code, outcome.err) == (2, "error: missing.png: No such file or directory\n")


class TestClassify:
    def test_json_holds_all_scores(self, run: Run, served: LaunchedServer, photos: Path) -> None:
        outcome = run(
            "classify", photos, "--labels", "red, green", "--labels", "blue", "--templates", "icon", "--json"
        )
        assert outcome.code == 0
        with Client(served.grpc_url) as client:
            expected = client.classify(_good(photos), ["red", "green", "blue"], "icon")
        for item, path, answer in zip(outcome.json["items"], _good(photos), expected, strict=True):
            assert (item["id"], item["label"]) == (path, answer.label)
            assert item["scores"] == pytest.approx(dict(answer.scores), abs=1e-3)
        assert len(outcome.json["errors"]) == 2

    def test_table(self, run: Run, served: LaunchedServer, photos: Path) -> None:
        outcome = run("classify", photos / "a.png", "--labels", "[b]red,green", "--templates", "a {}")
        assert (outcome.code, outcome.err) == (0, "")
        assert "[b]red" in outcome.out
        assert "green" in outcome.out

    def test_wrong_labels(self, run: Run, served: LaunchedServer, photos: Path) -> None:
        outcome = run("classify", photos / "a.png", "--labels", "red,,green")
        assert (outcome.code, outcome.err) == (2, "error: labels[1]='' is no label: give a text\n")

    def test_a_sigmoid_model_takes_one_label_and_says_what_the_numbers_are(
        self, run: Run, photos: Path, tmp_path: Path, write_artifact: Callable[..., Path]
    ) -> None:
        artifact = write_artifact(tmp_path / "artifact", temperature=10.0, logit_bias=-3.0)
        outcome = run("classify", photos / "a.png", "--labels", "red", "--url", artifact)
        assert (outcome.code, outcome.err) == (0, "")
        assert "each label has a probability of its own" in " ".join(outcome.out.split())
        found = run("classify", photos / "a.png", "--labels", "red,blue", "--url", artifact, "--json").json
        assert found["probabilities"] == "sigmoid"
        assert sum(found["items"][0]["scores"].values()) != pytest.approx(1, abs=1e-3)

    def test_probabilities_that_are_all_one_lose_no_label(self, capsys: pytest.CaptureFixture[str]) -> None:
        cosines = {"a": 0.2, "b": 0.9, "c": 0.1}
        answer = Classification("b", 1.0, dict.fromkeys("abc", 1.0), 0.9, cosines, ("b",))
        print_classified(Classified("m_012345", "sigmoid", [("a.png", answer)], [], Choice()), as_json=False)
        row = next(line for line in capsys.readouterr().out.splitlines() if "a.png" in line)
        assert [cell.strip() for cell in row.split("│")[2:-1]] == ["b", "100.0%", "0.900", "a 100.0%, c 100.0%"]

    def test_the_best_k_and_cosines(self, run: Run, photos: Path, tiny_artifact: Path) -> None:
        asked = ("classify", photos / "a.png", "--labels", "red,green,blue", "--url", tiny_artifact)
        every = run(*asked, "--json").json["items"][0]
        assert (list(every["scores"]), list(every["cosines"])) == (["red", "green", "blue"],) * 2
        best = run(*asked, "--top-k", 2, "--json").json["items"][0]
        expected = sorted(every["cosines"], key=lambda label: -every["cosines"][label])[:2]
        assert (list(best["scores"]), list(best["cosines"])) == (expected, expected)
        assert best["scores"][expected[1]] == pytest.approx(every["scores"][expected[1]], rel=1e-4)
        assert "%" not in run(*asked, "--top-k", 1).out.split("│")[-2]

    def test_several_labels_by_their_cosines(self, run: Run, photos: Path, tiny_artifact: Path) -> None:
        asked = ("classify", photos / "a.png", "--label", "red, blue", "--url", tiny_artifact)
        found = run(*asked, "--threshold", -1, "--json").json["items"][0]
        assert (found["labels"], found["score"], found["scores"]) == (["red, blue"], None, {})
        assert run(*asked, "--threshold", 1, "--json").json["items"][0]["labels"] == []
        assert "none" in run(*asked, "--threshold", 1).out
        assert "red, blue" in run(*asked, "--threshold", -1).out
        assert "threshold=2.0 is no cosine" in run(*asked, "--threshold", 2).err

    def test_classes_from_a_file(
        self, run: Run, photos: Path, tiny_artifact: Path, tmp_path: Path, write_artifact: Callable[..., Path]
    ) -> None:
        bank, labels = tmp_path / "a.classes", tmp_path / "labels.txt"
        labels.write_text("red, blue\ngreen\n", encoding="utf-8")
        given = ("--labels-file", labels, "--templates", "photo")
        outcome = run("classes", "build", bank, *given, "--url", tiny_artifact)
        assert (outcome.code, f"next: protoclip classify photos/ --classes {bank}" in outcome.err) == (0, True)
        facts = run("classes", "info", bank, "--json").json
        assert (facts["labels"], facts["templates"], facts["model"]) == (2, 5, "tiny_012345")
        found = run("classify", photos, "--classes", bank, "--url", tiny_artifact, "--json").json
        assert found == run("classify", photos, *given, "--url", tiny_artifact, "--json").json
        outcome = run("classify", photos, "--classes", bank, "--labels", "a,b", "--url", tiny_artifact)
        assert (outcome.code, "has labels and templates of its own" in outcome.err) == (2, True)
        other = write_artifact(tmp_path / "other", fingerprint="fedcba9876543210")
        outcome = run("classify", photos, "--classes", bank, "--url", other)
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
        assert outcome.err.startswith(
            f"error: {bank}: the classes were embedded by tiny_012345 (0123456789abcdef)"
        )

    def test_one_label_of_a_softmax_is_refused(self, run: Run, photos: Path, tiny_artifact: Path) -> None:
        outcome = run("classify", photos / "a.png", "--labels", "red", "--url", tiny_artifact)
        assert (outcome.code, outcome.out) == (2, "")
        assert "labels has 'red' alone, and its probability is 1 for every picture" in outcome.err


class TestIndex:
    def test_the_options_of_a_metadata_table(
        self, run: Run, served: LaunchedServer, photos: Path, tmp_path: Path
    ) -> None:
        table, index = tmp_path / "t.csv", tmp_path / "x.index"
        table.write_text("sku,name\na.png,A\n,B\n,C\n", encoding="utf-8")
        outcome = run("index", "build", photos, index, "--metadata", table)
        assert (outcome.code, "say which, like --metadata-column sku" in outcome.err) == (2, True)
        outcome = run("index", "build", photos, index, "--metadata", table, "--metadata-column", "sku")
        assert (outcome.code, "raise --max-left-out" in outcome.err) == (2, True)
        options = ("--metadata-column", "sku", "--max-left-out", 2)
        assert run("index", "build", photos, index, "--metadata", table, *options).code == 0
        assert {"name": "A"} in [dict(entry.metadata) for entry in Index.open(index).search(np.ones(16), 5)]

    def test_build_search_and_info(self, run: Run, served: LaunchedServer, photos: Path, tmp_path: Path) -> None:
        table = tmp_path / "t.csv"
        table.write_text("image,title\nmore/é👠.png,Schühe\na.png,A\n", encoding="utf-8")
        index = tmp_path / "shop.index"
        outcome = run("index", "build", photos, index, "--metadata", table, "--json")
        assert outcome.code == 0
        assert (outcome.json["entries"], outcome.json["fingerprint"]) == (5, "0123456789abcdef")
        assert {item["id"] for item in outcome.json["left_out"]} == {"damaged.png", str(photos / "notes.txt")}
        assert "warning: 2 of 7 left out" in outcome.err

        found = run("search", index, "--image", photos / "more/é👠.png", "-k", 2, "--json").json["hits"]
        assert len(found) == 2
        assert (found[0]["id"], found[0]["metadata"]) == ("more/é👠.png", {"title": "Schühe"})
        assert found[0]["score"] == pytest.approx(1, abs=1e-5)

        outcome = run("search", index, "--text", "red shoes")
        assert outcome.code == 0
        assert "the index holds 5 entries: showing all of them instead of 10" in outcome.err
        with Client(served.grpc_url) as client:
            expected = client.search(Index.open(index), text="red shoes", k=5)
        places = [outcome.out.index(hit.id) for hit in expected]
        assert places == sorted(places)

        outcome = run("index", "info", index, "--json")
        assert (outcome.json["entries"], outcome.json["dimensions"], outcome.json["model"]) == (5, 16, "tiny")
        assert "0123456789abcdef" in run("index", "info", index).out

    def test_another_models_index_is_refused(self, run: Run, served: LaunchedServer, tmp_path: Path) -> None:
        index = Index.create(tmp_path / "index", "ffffff", 16, model="old")
        index.add(np.eye(16)[:1], ["a"])
        index.save()
        outcome = run("search", index.path, "--text", "x")
        assert outcome.code == 2
        assert "made with old ffffff, but the client uses tiny 0123456789abcdef" in outcome.err
        assert outcome.err.count("\n") == 1

    def test_a_damaged_index_is_refused(self, run: Run, tmp_path: Path) -> None:
        outcome = run("index", "info", tmp_path)
        assert outcome.code == 2
        assert outcome.err.startswith("error: ")
        assert outcome.err.count("\n") == 1


def test_an_artifact_takes_the_servers_place(
    run: Run, served: LaunchedServer, tiny_artifact: Path, photos: Path, tmp_path: Path
) -> None:
    here = ("--url", tiny_artifact)
    for command in (["embed", photos], ["classify", photos, "--labels", "red,green"]):
        ours, theirs = run(*command, *here, "--json"), run(*command, "--json")
        assert ours.code == 0
        assert ours.json["errors"] == theirs.json["errors"]
        for one, other in zip(ours.json["items"], theirs.json["items"], strict=True):
            assert one["id"] == other["id"]
            values = [list(item.get("vector") or item["scores"].values()) for item in (one, other)]
            np.testing.assert_allclose(*values, atol=1e-5)
    assert run("index", "build", photos, tmp_path / "i", *here).code == 0
    hits = [run("search", tmp_path / "i", "--text", "red", *where, "--json").json["hits"] for where in (here, ())]
    assert [hit["id"] for hit in hits[0]] == [hit["id"] for hit in hits[1]]


def test_an_index_knows_the_artifact_that_it_was_built_with(
    run: Run, tiny_artifact: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, place = tmp_path / "i", tmp_path / "artifact"
    monkeypatch.chdir(tmp_path)
    place.symlink_to(tiny_artifact)
    assert run("index", "build", photos, index, "--url", "artifact", "--json").json["artifact"] == str(
        tiny_artifact
    )
    monkeypatch.chdir(photos)
    hits = run("search", index, "--image", "a.png", "--json").json["hits"]
    assert (hits[0]["id"], hits[0]["score"]) == ("a.png", pytest.approx(1, abs=1e-5))
    outcome = run("search", index, "--image", "a.png", "--url", "http://127.0.0.1:9")
    assert (outcome.code, "start it with: protoclip serve" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed"], "embed takes either pictures or --text"),
        (["embed", "a.png", "--text", "b"], "embed takes either pictures or --text"),
        (["embed", "a.png", "--out", "v.csv"], "v.csv: give FILE.parquet or FILE.npz, or the name of a folder"),
        (["search", "x.index"], "search takes one or several of --text, --image and --like"),
        (["search", "x.index", "--text", "a", "--url", "localhost:1"], "use grpc://host:port or http://host:port"),
        (
            ["search", "x.index", "--text", "a", "--url", "http://127.0.0.1:9", "--timeout", "0"],
            "timeout_s=0.0 must be a number of seconds above 0",
        ),
        (
            ["classify", "a.png", "--labels", "a,b", "--url", "http://127.0.0.1:9"],
            "start it with: protoclip serve",
        ),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    run: Run, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Index.create("x.index", "0123456789ab", 4).close()
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert message in outcome.err


def test_client_stores_and_help_load_nothing_heavy() -> None:
    program = """
import sys
import protoclip, protoclip.client, protoclip.search
from protoclip import Client, Index
from protoclip.cli import app
heavy = {"torch", "open_clip", "onnx", "onnxruntime", "faiss", "tritonclient", "grpc", "sklearn"}
print(sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
