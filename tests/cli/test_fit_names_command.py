"""`protoclip detect fit-names` and `calibrate`: from names to scores, and with pictures to a threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Run

from protoclip import Client, Detector
from protoclip.search import Index

NAMES = ("red shoes", "green hat, felt", "чашка")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("\n".join(["lamp", "", "river", "Red Shoes", "noise"] + [f"word {n}" for n in range(20)]))
    return path


@pytest.fixture(scope="module")
def pictures(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Entries near to the names, without any metadata."""
    path = tmp_path_factory.mktemp("known") / "known.index"
    with Client(str(tiny_artifact)) as client:
        model, texts = client.model, np.asarray(client.embed_texts(NAMES))
    vectors = np.repeat(texts, 10, axis=0)
    vectors = vectors + 0.02 * np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32)
    with Index.create(path, model.fingerprint, model.embedding_dim, model=model.prefix) as index:
        index.add(vectors, [f"{number}.png" for number in range(len(vectors))])
    return path


def options(artifact: Path, words: Path) -> tuple[object, ...]:
    labels = [one for name in NAMES for one in ("--label", name)]
    return (*labels, "--url", artifact, "--vocabulary", words)


def test_from_names_to_scores_to_a_threshold(
    run: Run, tiny_artifact: Path, words: Path, pictures: Path, tmp_path: Path
) -> None:
    path = tmp_path / "shop.detector"
    outcome = run("detect", "fit-names", path, *options(tiny_artifact, words), "--negatives", 10)
    assert outcome.code == 0, outcome.err
    told = " ".join(outcome.err.split())
    assert "concepts, from 3 names and 10 words that are far from them; no threshold, which needs known" in told
    assert f"next: protoclip detect calibrate {path} known.index" in told
    scored = run("detect", "score", path, pictures, "--out", tmp_path / "scores.csv")
    assert "30 entries have scores" in scored.err
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[1] == ""
    found = run("detect", "score", path, pictures, "--json").json
    assert (found["unknown"], found["threshold"], found["scores"][0]["known"]) == (None, None, None)
    assert "least known first" in run("detect", "score", path, pictures).out
    evaluate = ("detect", "evaluate", path, "--known", pictures, "--strangers", pictures, "--resamples", 100)
    measured = run(*evaluate, "--json").json
    assert (measured["known_accepted"], measured["strangers"][0]["accepted"]) == (None, None)
    assert measured["strangers"][0]["auroc"]["value"] == 0.5
    outcome = run("detect", "calibrate", path, pictures, "--accept", 0.9)
    assert outcome.code == 0, outcome.err
    assert "the threshold from 30 others accepts 90.0% of known pictures" in " ".join(outcome.err.split())
    threshold = Detector.open(path).threshold
    at_once = run(
        "detect",
        "fit-names",
        tmp_path / "b.detector",
        *options(tiny_artifact, words),
        *("--negatives", 10, "--pictures", pictures, "--accept", 0.9, "--json"),
    ).json
    assert at_once["threshold"]["value"] == pytest.approx(threshold.value, abs=1e-6)
    assert (at_once["num_classes"], at_once["num_negatives"], at_once["num_fit"]) == (3, 10, 0)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ([], "classes are needed: --labels cat,dog"),
        (["--labels", "cat,,dog"], "labels[1]='' is no label: give a text"),
        (["--labels", "cat,dog,cat"], "labels has 'cat' more than once"),
        (["--label", "cat", "--vocabulary", "none.txt"], "--vocabulary none.txt: can't be read"),
        (["--label", "cat", "--where", "a=b"], "--where takes some entries of --pictures"),
        (["--label", "cat", "--accept", "0.2"], "accept=0.2 is out of range"),
    ],
)
def test_what_can_not_be_made_is_said(
    run: Run, tiny_artifact: Path, tmp_path: Path, added: list[object], message: str
) -> None:
    outcome = run("detect", "fit-names", tmp_path / "x.detector", "--url", tiny_artifact, *added)
    assert outcome.code == 2, outcome.err
    assert message in " ".join(outcome.err.split())
    assert not (tmp_path / "x.detector").exists()


def test_pictures_of_another_model_are_refused(run: Run, tiny_artifact: Path, words: Path, tmp_path: Path) -> None:
    with Index.create(tmp_path / "other.index", "fedcba9876543210", 8, model="other_fedcba") as index:
        index.add(np.eye(8, dtype=np.float32), list("abcdefgh"))
    fit = ("detect", "fit-names", tmp_path / "x.detector", *options(tiny_artifact, words))
    outcome = run(*fit, "--pictures", tmp_path / "other.index")
    assert outcome.code == 2
    told = " ".join(outcome.err.split())
    assert "other.index: holds embeddings by other_fedcba (fedcba9876543210), and the names would be by" in told
    (tmp_path / "empty.txt").write_text("\n\n")
    refused = run(*fit, "--vocabulary", tmp_path / "empty.txt")
    assert "holds no word: give one a line" in " ".join(refused.err.split())
