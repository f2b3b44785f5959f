"""`protoclip index migrate`, with artifacts in this process; and the shell's search among several models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from other_artifacts import other_artifact
from PIL import Image

from protoclip.client import ArtifactTransport, Client
from protoclip.search import Index

NEW = "fedcba9876543210"


@pytest.fixture
def new(tiny_artifact: Path, tmp_path: Path) -> Path:
    return other_artifact(tiny_artifact, tmp_path / "new", NEW)


@pytest.fixture
def index(tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five pictures with metadata."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(5):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / f"photos/{number}.png")
    with Client(str(tiny_artifact)) as client:
        metadata = {f"{number}.png": {"price": number} for number in range(5)}
        Index.build("x.index", client, "photos", metadata).close()
    return Path("x.index")


def found(run: Run, *words: object) -> tuple[str, list[str]]:
    outcome = run("search", "x.index", "--image", "photos/2.png", "-k", 1, *words, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json["model"], [hit["id"] for hit in outcome.json["hits"]]


def test_to_an_artifact_and_back(run: Run, index: Path, new: Path, tiny_artifact: Path) -> None:
    outcome = run("index", "migrate", index, "--to", new, "--json")
    assert outcome.code == 0, outcome.err
    facts = outcome.json
    assert (facts["entries"], facts["embedded"], facts["fingerprint"]) == (5, 5, NEW)
    # The artifact that the index has now is found by itself.
    assert found(run) == ("tiny_fedcba", ["2.png"])
    assert run("search", index, "--like", "1.png", "--where", "price<1", "--json").json["hits"][0]["id"] == "0.png"
    outcome = run("index", "migrate", index, "--to", new)
    assert outcome.code == 0
    assert f"x.index: has the model tiny {NEW} already" in outcome.err
    assert run("index", "migrate", index, "--url", tiny_artifact).code == 0
    assert found(run) == ("tiny_012345", ["2.png"])


def test_interrupted_it_says_so_and_goes_on(
    run: Run, index: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Client.stream_images

    def broken(self: Client, items: Any) -> Any:
        yield next(iter(stream(self, [next(iter(items)) for _ in range(3)])))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Client, "stream_images", broken)
        outcome = run("index", "migrate", index, "--to", new)
    assert outcome.code == 130
    assert "x.index: 3 entries are embedded and kept: the same command goes on with them" in outcome.err
    facts = run("index", "info", index, "--json").json
    state = facts["migrating"]
    assert (state["fingerprint"], state["done"], state["total"]) == (NEW, 3, 5)
    assert "3 of 5" in run("index", "info", index).out
    assert found(run) == ("tiny_012345", ["2.png"])
    outcome = run("search", index, "--text", "x", "--url", new)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert f"its migration to tiny {NEW} isn't finished, 3 of 5 entries are done" in outcome.err
    outcome = run("index", "migrate", index, "--to", new, "--json")
    assert outcome.json["embedded"] == 2
    assert "went on with 3 entries that an interrupted migration had embedded" in outcome.err
    assert "migrating" not in run("index", "info", index, "--json").json
    assert found(run) == ("tiny_fedcba", ["2.png"])


def test_gone_pictures_are_named(run: Run, index: Path, new: Path) -> None:
    Path("photos/3.png").unlink()
    Path("photos/4.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    outcome = run("index", "migrate", index, "--to", new)
    assert (outcome.code, outcome.out) == (2, "")
    lines = outcome.err.splitlines()
    assert lines[0] == "3.png: its picture is not there any more"
    assert lines[1].startswith("4.png: ")
    assert "2 of 5 entries can't be embedded again" in lines[2]
    assert "--images" in lines[2]
    assert "--leave-out" in lines[2]
    assert found(run) == ("tiny_012345", ["2.png"])
    Path("more").mkdir()
    for name in ("3.png", "4.png"):
        Image.new("RGB", (9, 9), "red").save(f"more/{name}")
    assert run("index", "migrate", index, "--to", new, "--images", "more", "--json").json["entries"] == 5


def test_left_out_and_cancelled(run: Run, index: Path, new: Path) -> None:
    Path("photos/3.png").unlink()
    assert run("index", "migrate", index, "--to", new).code == 2
    assert "x.index: given up" in run("index", "migrate", index, "--cancel").err
    assert "x.index: no migration was under way" in run("index", "migrate", index, "--cancel").err
    assert sorted(file.name for file in index.iterdir()) == ["index.sqlite", "writer.lock"]
    outcome = run("index", "migrate", index, "--to", new, "--leave-out", "--json")
    assert (outcome.json["entries"], outcome.json["left_out"][0]["id"]) == (4, "3.png")
    assert "1 of 5 left out" in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "new", "--export", "ViT-B-32"], "--to new and --export ViT-B-32: both name the new model"),
        (["--to", "shop", "--model", "toys"], "--to shop and --model toys: both name the new model"),
        (["--to", "shop", "--url", "http://127.0.0.1:9"], "127.0.0.1:9"),
        (["--to", "new", "--images", "nowhere"], "nowhere"),
    ],
)
def test_one_line_and_exit_code_2(run: Run, index: Path, new: Path, options: list[str], message: str) -> None:
    outcome = run("index", "migrate", index, *options)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert message in outcome.err


class Both:
    """A server with two artifacts."""

    url = "grpc://both:1"

    def __init__(self, *folders: Path) -> None:
        self._parts = [ArtifactTransport(folder) for folder in folders]

    def _part(self, model: str) -> ArtifactTransport:
        return next(part for part in self._parts if model in part.ready_models(None))

    def infer(self, model: str, *rest: Any) -> Any:
        return self._part(model).infer(model, *rest)

    def model_config(self, model: str, timeout_s: float | None) -> Any:
        return self._part(model).model_config(model, timeout_s)

    def ready_models(self, timeout_s: float | None) -> list[str]:
        return [name for part in self._parts for name in part.ready_models(timeout_s)]

    def close(self) -> None:
        for part in self._parts:
            part.close()


def test_of_two_served_models_each_index_gets_its_own(
    run: Run, index: Path, tiny_artifact: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = [tiny_artifact, new]
    monkeypatch.setattr("protoclip.client.client.one_transport", lambda *_: Both(*served))
    assert found(run, "--url", Both.url) == ("tiny_012345", ["2.png"])
    assert "say which with" in run("embed", "photos", "--url", Both.url).err
    outcome = run("index", "migrate", index, "--url", Both.url)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "say which with" in outcome.err
    assert run("index", "migrate", index, "--to", "tiny_fedcba", "--url", Both.url).code == 0
    assert found(run, "--url", Both.url) == ("tiny_fedcba", ["2.png"])
    served.pop()
    outcome = run("search", index, "--text", "x", "--url", Both.url)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "made with tiny fedcba9876543210, but the client uses tiny 0123456789abcdef" in outcome.err
    assert "protoclip index migrate" in outcome.err


def test_an_adapter_is_measured_and_told(run: Run, tiny_artifact: Path, new: Path, tmp_path: Path) -> None:
    """The two artifacts look at different directions of a picture: one's vectors don't give the other's."""
    rng = np.random.default_rng(0)
    (tmp_path / "many").mkdir()
    for number in range(110):
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(tmp_path / f"many/{number}.png")
    index = tmp_path / "many.index"
    with Client(str(tiny_artifact)) as client:
        metadata = {f"{number}.png": {"caption": f"number {number}"} for number in range(110)}
        Index.build(index, client, tmp_path / "many", metadata).close()
    command = ("index", "migrate", index, "--to", new, "--adapter", "all", "--fit-on", 105)
    outcome = run(*command)
    assert (outcome.code, outcome.out) == (1, "")
    assert "less than min_recall=0.95 (--min-recall), so it stays with its model" in outcome.err
    assert run("index", "info", index, "--json").json["fingerprint"] == "0123456789abcdef"
    facts = run(*command, "--min-recall", 0, "--json").json
    assert (facts["fingerprint"], facts["embedded"], facts["mapped"]) == (NEW, 0, 5)
    assert facts["adapter"]["by_text"]["queries"] == facts["adapter"]["by_entry"]["among"] == 105
    told = run("index", "info", index).out
    assert "recall@10 by entry" in told
    assert "105 queries among 105" in told
    outcome = run("index", "migrate", index, "--to", tiny_artifact, "--adapter", "missing", "--leave-out")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "leave_out (--leave-out) and adapter (--adapter) are both given" in outcome.err
