"""Tables as people have them through every command that reads data: the same pairs, or one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, Run, runner
from table_cases import KNOWN, NO_TEXT, SIMILAR, Case, draw_pictures
from tiny_training import TrainOnce, shapes_values, with_changes

from protoclip.cli.pairs import PairsOptions
from protoclip.cli.reading import ReadingOptions
from protoclip.contract.errors import ProtoclipError
from protoclip.search import Index
from protoclip.sources import Pairs, cache, read

pytestmark = pytest.mark.timeout(60)
CASES = {**KNOWN, **SIMILAR}
TAKE_TEXTS = ("train", "evaluate", "samples")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "img"
    draw_pictures(folder)
    return folder


@pytest.fixture(scope="module")
def trained(trained_once: TrainOnce, tiny_model: str, shapes_file: Path) -> Path:
    values = shapes_values(tiny_model, shapes_file)
    values["data"].pop("group_column")
    return trained_once(with_changes(values, train={"steps": 14}))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Pairs]:
    """What the reader gave, one after the other."""
    found: list[Pairs] = []
    once = read._read

    def reading(*arguments: Any) -> Pairs:
        found.append(once(*arguments))
        return found[-1]

    monkeypatch.setattr(read, "_read", reading)
    monkeypatch.setattr(cache, "_recent", {})
    return found


@pytest.fixture
def run(
    pictures: Path,
    tiny_artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Commands in a folder with the pictures; the artifact runs in this process."""
    monkeypatch.setenv("PROTOCLIP_URL", str(tiny_artifact))
    monkeypatch.chdir(tmp_path)
    Path("img").symlink_to(pictures)
    return runner(monkeypatch, capsys)


def call(command: str, run: Run, case: Case, path: str, model: str, trained: Path) -> Outcome:
    options = [word for name, value in case.options.items() for word in (f"--{name}", value)]
    if command == "train":
        settings = [word for name, value in case.options.items() for word in ("--set", f"data.{name}={value}")]
        return run("train", "--data", path, "--dry-run", "--json", "--set", f"model.name={model}", *settings)
    if command == "evaluate":
        return run("evaluate", trained, "--data", path, "--json", *options)
    if command == "index":
        return run("index", "build", path, "x.index", "--json", *options)
    if command == "samples":
        return _samples(PairsOptions(path, ReadingOptions(**case.options)))  # type: ignore[arg-type]
    return run(command, path, "--json", *(["--labels", "red,green"] if command == "classify" else []), *options)


def _samples(options: PairsOptions) -> Outcome:
    """What `export`, `verify` and `benchmark` compare on."""
    try:
        found = options.samples()
    except ProtoclipError as error:
        return Outcome(2, "", f"error: {error}\n")
    return Outcome(0, json.dumps({"texts": list(found.texts)}), "")


def check_refused(command: str, case: Case, outcome: Outcome) -> None:
    wanted = case.refused or ""
    if command in ("embed", "classify") and "unknown kind" in wanted:
        # To them it is a picture that none is.
        wanted = "no picture"
    else:
        assert outcome.out == ""
    message = outcome.err.strip()
    assert outcome.code == 2
    assert message.startswith("error: ")
    assert "\n" not in message
    if command == "train":
        wanted = re.sub("say --text-column.*", r"say .*data\\.text_columns", wanted).replace("--", r"data\.")
    assert re.search(wanted, outcome.err), outcome.err


def check_read(command: str, case: Case, pairs: Pairs, outcome: Outcome) -> None:
    """The pairs have the case's captions; the others are left out for its reasons."""
    left_out = {item.name.partition(": ")[2]: item.reason for item in pairs.left_out}
    wanted, captions = dict(case.left_out), dict(case.pairs)
    if command not in TAKE_TEXTS:
        wanted = {name: reason for name, reason in wanted.items() if reason != NO_TEXT}
    assert left_out == wanted
    names = [pairs.images.name(row) for row in range(len(pairs))]  # type: ignore[attr-defined]
    assert sorted(map(str, names)) == sorted(captions)
    if command in TAKE_TEXTS or not case.for_texts:
        assert dict(zip(names, pairs.texts, strict=True)) == captions
    if command in ("embed", "classify"):
        items = outcome.json["items"]
        assert [item["id"].replace("\\", "/") for item in items] == [
            str(Path(n.replace("\\", "/"))) for n in captions
        ]
        assert [error["id"].partition(": ")[2] for error in outcome.json["errors"]] == list(wanted)
    elif command == "index":
        assert outcome.json["entries"] == len(captions)
        assert [item["id"].partition(": ")[2] for item in outcome.json["left_out"]] == list(wanted)
        if not case.for_texts:
            check_metadata(captions)


def check_metadata(captions: dict[str, tuple[str, ...]]) -> None:
    index = Index.open("x.index")
    found = {hit.id: hit.metadata for hit in index.search([1.0] * index.dim, len(index))}
    assert found.keys() == captions.keys()
    for name, texts in captions.items():
        values = found[name].values()
        assert (texts[0] if len(texts) == 1 else list(texts)) in values, name


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("command", ["train", "index", "embed"])
def test_every_table(
    command: str, name: str, run: Run, seen: list[Pairs], tiny_model: str, trained: Path, tmp_path: Path
) -> None:
    case = CASES[name]
    path = case.write(tmp_path).name
    outcome = call(command, run, case, path, tiny_model, trained)
    if case.refused is not None and (command in TAKE_TEXTS or not case.for_texts):
        check_refused(command, case, outcome)
    else:
        assert seen, outcome.err
        check_read(command, case, seen[0 if command == "samples" else -1], outcome)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("command", ["evaluate", "samples", "classify"])
def test_known_tables_in_the_other_commands(
    command: str, name: str, run: Run, seen: list[Pairs], tiny_model: str, trained: Path, tmp_path: Path
) -> None:
    test_every_table(command, name, run, seen, tiny_model, trained, tmp_path)


@pytest.mark.timeout(600)
def test_a_real_export_verdict_and_benchmark(run: Run, trained: Path, tmp_path: Path) -> None:
    """With a table that training takes: semicolons, a title, a missing and a repeated picture, 60 pairs only."""
    rows = [f"img/{number}.png;thing {number}" for number in range(60)]
    Path("t.csv").write_text("\n".join(["file_name;title", *rows, rows[0], "img/gone.png;gone", ""]))
    outcome = run("export", trained, "--out", "artifact", "--name", "shop", "--data", "t.csv", "--json")
    assert outcome.code == 0, outcome.err
    assert "1 left out: 1 ×" in outcome.err
    assert "gone.png" in outcome.err
    assert "60 different pairs) and the bundled corpus (196)" in outcome.out
    assert run("verify", "artifact", trained, "--data", "t.csv", "--max-left-out", "1").code == 0
    outcome = run(
        "benchmark", "artifact", "--data", "t.csv", "--seconds", "0.1", "--rounds", "1", "--batch", "1", "--json"
    )
    assert outcome.code == 0, outcome.err
    # Rows that the reader itself leaves out; a missing picture is one of the samples.
    Path("t.csv").write_text("\n".join(["file_name;title", *rows, "https://a.example/b.png;x", ""]))
    for command in (
        ["export", trained, "--out", "other"],
        ["verify", "artifact", trained],
        ["benchmark", "artifact"],
    ):
        outcome = run(*command, "--data", "t.csv", "--max-left-out", "0")
        assert outcome.code == 2
        assert "raise --max-left-out" in outcome.err
