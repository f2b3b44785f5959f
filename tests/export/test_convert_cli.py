"""`protoclip convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, runner

from export.graphs.fingerprint import fingerprint
from export.graphs.source import load_source


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def test_a_model_by_name(run: Run, architectures: tuple[str, ...], tmp_path: Path) -> None:
    outcome = run("convert", "tiny-vit", tmp_path / "hf", "--to", "hf", "--json")
    assert (outcome.code, outcome.json) == (0, {"folder": str(tmp_path / "hf"), "kind": "CLIPModel", "notes": []})
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["architectures"] == ["CLIPModel"]
    outcome = run("convert", "tiny-vit", tmp_path / "hf", "--to", "hf")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.splitlines()[-1] == f"wrote {tmp_path / 'hf'}, a CLIPModel"


def test_an_artifact_for_immich(run: Run, exported_vit: Any, tmp_path: Path) -> None:
    outcome = run("convert", exported_vit.folder, tmp_path / "immich", "--to", "immich")
    assert (outcome.code, outcome.out) == (0, "")
    note, wrote = outcome.err.splitlines()
    assert note.startswith("note: embeddings have 24 dimensions")
    assert wrote == f"wrote {tmp_path / 'immich'}, a model for Immich"
    assert (tmp_path / "immich" / "visual" / "model.onnx").is_file()


def test_an_artifact_for_transformers_is_the_model_that_it_was_made_from(
    run: Run, exported_vit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("convert", exported_vit.folder, "hf", "--to", "hf").code == 0
    assert run("convert", "tiny-vit", "same", "--to", "hf").code == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("hf", "same")]
    assert weights[0] == weights[1]
    assert run("convert", "hf", "runs/shop", "--from", "hf").code == 0
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    of_run = {"source": "shop", "fingerprint": fingerprint(load_source("runs/shop").clip)}
    exported_vit.manifest.model_copy(update=of_run).save(artifact)
    assert run("convert", artifact, "of_run", "--to", "hf").code == 0
    for changed, reason in (
        ({"fingerprint": "0" * 64}, "what is there has other weights or settings"),
        ({"source": "elsewhere"}, "no folder of that name"),
    ):
        exported_vit.manifest.model_copy(update={"source": "tiny-vit"} | changed).save(artifact)
        outcome = run("convert", artifact, "refused", "--to", "hf")
        assert (outcome.code, outcome.err.count("\n"), (tmp_path / "refused").exists()) == (2, 1, False)
        assert reason in outcome.err
        assert outcome.err.endswith("name that run or model in place of the artifact\n")


def test_what_is_refused(run: Run, architectures: tuple[str, ...], tmp_path: Path) -> None:
    outcome = run("convert", "tiny-resnet", tmp_path / "hf", "--to", "hf")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1] == (
        "error: tiny-resnet: can't be written for transformers as a CLIPModel: its image encoder is "
        "open_clip's ModifiedResNet, not open_clip's plain ViT"
    )
    (tmp_path / "photo.jpg").touch()
    outcome = run("convert", "tiny-vit", tmp_path, "--to", "hf")
    assert outcome.err == f"error: {tmp_path}: holds something else than a converted model: name a new folder\n"


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("config.json", ["--to", "hf"]),
        ("config.json", ["--to", "immich"]),
        ("open_clip_config.json", ["--from", "hf"]),
    ],
)
def test_a_run_or_a_strangers_model_is_not_overwritten(
    run: Run, architectures: tuple[str, ...], tmp_path: Path, file: str, options: list[str]
) -> None:
    """They have files of the same names."""
    config = tmp_path / "runs" / file
    config.parent.mkdir()
    for content in ('{"model": {"name": "tiny-vit"}}', '{"model_type": "clip"}', "[]", "{"):
        config.write_text(content)
        outcome = run("convert", "tiny-vit", config.parent, *options)
        assert (outcome.code, "holds something else than a converted model" in outcome.err) == (2, True)
        assert config.read_text() == content


def test_there_and_back(run: Run, architectures: tuple[str, ...], tmp_path: Path) -> None:
    assert run("convert", "tiny-vit", tmp_path / "hf", "--to", "hf", "--mean", "0.5").code == 0
    outcome = run("convert", tmp_path / "hf", tmp_path / "back", "--from", "hf")
    assert (outcome.code, outcome.out) == (0, "")
    note, wrote = outcome.err.splitlines()
    assert (
        note == f'note: training begins with it by model.name="tiny-vit" and model.weights="{tmp_path / "back"}"'
    )
    assert wrote == f"wrote {tmp_path / 'back'}, a folder of open_clip's"
    assert load_source(tmp_path / "back").clip.mean == (0.5, 0.5, 0.5)
    assert run("convert", tmp_path / "hf", tmp_path / "back", "--from", "hf").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name one format: --to hf, --to immich or --from hf"),
        (["--to", "hf", "--from", "hf"], "name one format: --to hf, --to immich or --from hf"),
        (["--from", "hf", "--weights", "x"], "--from hf takes all from the folder: leave --weights"),
        (["--from", "hf", "--mean", "0.5"], "--from hf takes all from the folder: leave --weights"),
        (["--from", "hf"], "no config.json here: name a folder that transformers' `save_pretrained` wrote"),
    ],
)
def test_options_that_are_wrong(run: Run, tmp_path: Path, options: list[str], message: str) -> None:
    outcome = run("convert", tmp_path, tmp_path / "out", *options)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith("error: ")
    assert message in outcome.err


def test_options_that_an_artifact_has_no_use_for(run: Run, exported_vit: Any, tmp_path: Path) -> None:
    for target in ("immich", "hf"):
        outcome = run("convert", exported_vit.folder, tmp_path / "out", "--to", target, "--weights", "openai")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert "an artifact has weights, tokenizer and preprocessing of its own" in outcome.err
