"""What earlier versions wrote still opens, and says what it said: see tests/golden/README.md."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file

from export.graphs.fingerprint import fingerprint
from export.parity.samples import Samples
from export.verify_artifact import verify_artifact
from protoclip import Client, Index, train
from protoclip.contract.manifest import check_files, load_manifest, manifest_files
from protoclip.contract.pixels import load_pixels
from protoclip.contract.text import Tokenizer
from protoclip.encoders.loading import load_clip
from protoclip.encoders.model import encode_images, encode_texts
from protoclip.evaluation.run import evaluate_run
from protoclip.evaluation.scores import load_evaluation
from protoclip.runs.files import load_run_config, prototype_labels
from protoclip.runs.metrics import read_metrics
from protoclip.runs.model import load_model

ARCHIVE = Path(__file__).parent / "golden" / "version_0_1.tar.xz"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive's folder; nobody may write into it."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def expected(written: Path) -> dict[str, Any]:
    return json.loads((written / "expected.json").read_text())


@pytest.fixture(scope="module")
def rows(written: Path) -> list[dict[str, Any]]:
    return parquet.read_table(written / "pairs.parquet").to_pylist()


def test_a_run_folder_gives_its_embeddings(
    written: Path, expected: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    clip = load_clip(written / "run")
    pixels = np.stack([load_pixels(row["image"], clip.pixels) for row in rows[:4]])
    tokens = Tokenizer(clip.tokenizer_json, clip.text).encode([row["texts"][0] for row in rows[:8]])
    with torch.inference_mode():
        images, texts = encode_images(clip, torch.from_numpy(pixels)), encode_texts(clip, torch.from_numpy(tokens))
    np.testing.assert_allclose(images, expected["run_images"], atol=1e-5)
    np.testing.assert_allclose(texts, expected["run_texts"], atol=1e-5)


def test_a_run_folder_says_how_it_was_made(written: Path, expected: dict[str, Any]) -> None:
    config = load_run_config(written / "run")
    assert (config.model.name, config.prototypes.source, config.train.steps) == ("golden-tiny", "stream", 12)
    assert [line["step"] for line in read_metrics(written / "run") if line["kind"] == "step"] == list(range(1, 13))
    assert prototype_labels(written / "run", "image")[0].tolist() == expected["labels"]
    assert set(load_evaluation(written / "run" / "evaluation.json").subsets) == {"train", "validation"}


def test_a_run_is_taken_up_from_its_checkpoint_and_evaluated(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processors round otherwise, so that the weights are only all but those of then."""
    import open_clip

    open_clip.add_model_config(written / "golden-tiny.json")
    for name in ("run", "pairs.parquet"):
        copy = shutil.copytree if (written / name).is_dir() else shutil.copy
        copy(written / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    (run / "model.safetensors").unlink()
    train(load_run_config(run), run, resume=True, quiet=True)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (run, written / "run"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-3)
    before = load_evaluation(written / "run" / "evaluation.json").subsets["train"]
    assert evaluate_run(run).subsets["train"].geometry.gap == pytest.approx(before.geometry.gap, abs=0.01)


def test_an_artifact_is_still_what_its_run_is(written: Path, rows: list[dict[str, Any]]) -> None:
    """Its manifest says nothing of probabilities."""
    samples = Samples(
        tuple(row["image"] for row in rows), tuple(f"{row['texts'][0]} {n}" for n, row in enumerate(rows)), "rows"
    )
    report = verify_artifact(written / "artifact", load_model(written / "run"), samples)
    assert report.failures == ()
    assert {check.outcome for check in report.checks} == {"passed"}
    assert load_manifest(written / "artifact").probabilities == "softmax"


def test_an_artifact_answers(written: Path, expected: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    manifest = load_manifest(written / "artifact")
    check_files(written / "artifact", manifest_files(manifest))
    assert manifest.fingerprint == expected["fingerprint"] == fingerprint(load_clip(written / "run"))
    assert manifest.pixels.color_management == load_clip(written / "run").pixels.color_management == "stored"
    with Client(str(written / "artifact")) as client:
        images = client.embed_images([row["image"] for row in rows[:4]])
        texts = client.embed_texts([row["texts"][0] for row in rows[:4]])
        assert client.classify(rows[0]["image"], ["red square", "blue disc"]).label == expected["label"]
    np.testing.assert_allclose(images, expected["artifact_images"], atol=1e-5)
    np.testing.assert_allclose(texts, expected["artifact_texts"], atol=1e-5)


def test_an_index_is_searched(written: Path, expected: dict[str, Any]) -> None:
    with Client(str(written / "artifact")) as client:
        index = Index.open(written / "shapes.index", client)
        hits = index.search(np.array(expected["artifact_texts"][0], dtype=np.float32), k=3)
    assert [hit.id for hit in hits] == [name for name, _ in expected["hits"]]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected["hits"]], abs=1e-5)
