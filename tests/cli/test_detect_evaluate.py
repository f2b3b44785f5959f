"""`protoclip detect evaluate` and `score` on pictures that are in no index, and the page with the mistakes."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from command_line import Run
from PIL import Image
from pyarrow import parquet

from protoclip import Client, Detector, fit_detector
from protoclip.cli.detect.compared import named_sources
from protoclip.contract.errors import ConfigError
from protoclip.search import Index


def picture(base: tuple[int, int, int], seed: int) -> bytes:
    """One colour, a little changed from pixel to pixel."""
    noise = np.random.default_rng(seed).integers(-12, 13, (24, 24, 3))
    stream = io.BytesIO()
    Image.fromarray((np.array(base) + noise).clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def given(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders, a table, an index and a folder of noise; a detector that learned two colours."""
    folder = tmp_path_factory.mktemp("evaluated")
    for name, base, start in (("red", (220, 20, 20), 100), ("blue", (20, 20, 220), 200)):
        (folder / "known" / name).mkdir(parents=True)
        for seed in range(12):
            (folder / "known" / name / f"{seed}.png").write_bytes(picture(base, start + seed))
    # One of the known is not like its kind.
    (folder / "known" / "red" / "odd.png").write_bytes(picture((20, 220, 20), 1))
    rows = [{"image": picture((240, 240, 20), seed), "kind": "yellow"} for seed in range(9)]
    parquet.write_table(
        pa.Table.from_pylist([*rows, {"image": b"\x89PNG", "kind": "x"}]), folder / "other.parquet"
    )
    (folder / "red").mkdir()
    for seed in range(8):
        (folder / "red" / f"{seed}.png").write_bytes(picture((220, 20, 20), 300 + seed))
    with Client(str(tiny_artifact)) as client:
        with Index.build(folder / "red.index", client, images=folder / "red"):
            pass
        learned = [picture(base, seed) for base in ((220, 20, 20), (20, 20, 220)) for seed in range(60)]
        detector = fit_detector(
            client.embed_images(learned),
            ["red"] * 60 + ["blue"] * 60,
            kind="mixture",
            fingerprint=client.model.fingerprint,
            model=client.model.prefix,
        )
    detector.save(folder / "colours.detector")
    return folder


def test_folders_tables_and_indexes_on_one_page(
    run: Run, given: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    outcome = run(
        *("detect", "evaluate", given / "colours.detector", "--known", given / "known", "--label", "class"),
        *("--strangers", f"yellow={given / 'other.parquet'}", "--strangers", f"too red={given / 'red.index'}"),
        *("--report", page, "--resamples", 100, "--url", tiny_artifact, "--json"),
    )
    assert outcome.code == 0, outcome.err
    assert "1 of 10 left out of" in outcome.err
    yellow, red = outcome.json["strangers"]
    assert (yellow["strangers"], yellow["num_strangers"], yellow["left_out"]) == ("yellow", 9, 1)
    assert yellow["auroc"]["value"] > 0.9
    assert (yellow["accepted"], red["accepted"]) == (0.0, 1.0)
    facts = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))
    assert facts["threshold"]["value"] == Detector.open(given / "colours.detector").threshold.value
    assert facts["mistakes"][0]["id"] == "red/odd.png"
    assert facts["mistakes"][0]["label"] == "red"
    taken = facts["strangers"][1]["mistakes"]
    assert [one["score"] for one in taken] == sorted((one["score"] for one in taken), reverse=True)
    assert {one["nearest_class"] for one in taken} == {"red"}
    assert all(re.fullmatch(r"red/\d+\.png", one["like"]) for one in taken)
    written = page.read_text(encoding="utf-8")
    assert written.count('src="data:image/webp') == 2 * len(taken) + len(facts["mistakes"])
    assert "None of the 9 reaches the threshold." in written
    assert "its picture is not to be had" not in written
    assert written.count("threshold</text>") == 2


def test_a_detector_without_a_threshold_is_measured_and_then_gets_one(
    run: Run, given: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.detector"
    replace(Detector.open(given / "colours.detector"), maybe_threshold=None).save(bare)
    page = tmp_path / "page.html"
    outcome = run(
        *("detect", "evaluate", bare, "--known", given / "known", "--strangers", given / "other.parquet"),
        *("--report", page, "--resamples", 100, "--url", tiny_artifact),
    )
    assert outcome.code == 0, outcome.err
    assert "mixture, without a threshold; 25 known pictures" in " ".join(outcome.err.split())
    assert "It has no threshold: what counts as known on this page" in page.read_text(encoding="utf-8")
    facts = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))
    assert (facts["threshold"], facts["known_accepted"], facts["strangers"][0]["accepted"]) == (None, None, None)
    assert len(facts["mistakes"]) == 1
    made = run("detect", "calibrate", bare, given / "known", "--url", tiny_artifact, "--json").json
    assert made["threshold"]["num"] == 25
    # Of 25 the lowest: the odd one's.
    assert made["threshold"]["value"] == pytest.approx(facts["mistakes"][0]["score"], abs=1e-6)


def test_the_artifact_of_an_index_embeds_the_others(run: Run, given: Path) -> None:
    outcome = run(
        *("detect", "evaluate", given / "colours.detector", "--known", given / "red.index"),
        *("--strangers", given / "other.parquet", "--resamples", 100),
    )
    assert outcome.code == 0, outcome.err
    assert "100.0%" in outcome.out


def test_pictures_are_scored_without_an_index(run: Run, given: Path, tiny_artifact: Path) -> None:
    found = run(
        "detect", "score", given / "colours.detector", given / "other.parquet", "--url", tiny_artifact, "--json"
    ).json
    assert (found["entries"], found["unknown"], len(found["errors"])) == (9, 9, 1)
    assert {one["id"] for one in found["scores"]} == {str(row) for row in range(9)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strangers", "red=x", "--strangers", "red=y"], "--strangers red: is there twice"),
        (["--strangers", "red="], "names no path: give NAME=PATH"),
        (["--strangers", "nowhere/"], "nowhere/: no such file or folder"),
        (["--strangers", "red", "--report", "page.pdf"], "--report page.pdf: a page is written"),
        (["--strangers", "red", "--label", "colour"], "column 'colour' is not in the data"),
        (["--strangers", "red", "--strangers-where", "a=1"], "a condition is on metadata of an index"),
        (["--strangers", "red", "--weights", "x"], "--weights is of the model to export"),
    ],
)
def test_what_can_not_be_evaluated_is_said(
    run: Run,
    given: Path,
    tiny_artifact: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(given)
    outcome = run("detect", "evaluate", "colours.detector", "--known", "known", "--url", tiny_artifact, *options)
    assert outcome.code == 2, outcome.err
    assert message in " ".join(outcome.err.split())


def test_another_model_embeds_nothing(run: Run, given: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 16))
    fit_detector(vectors, fingerprint="fedcba9876543210", model="other_fedcba").save(tmp_path / "other.detector")
    outcome = run("detect", "score", tmp_path / "other.detector", given / "red", "--url", tiny_artifact)
    assert outcome.code == 2
    assert "the detector is for embeddings by other_fedcba" in " ".join(outcome.err.split())


def test_names_of_strangers_are_told_from_addresses_and_files(tmp_path: Path) -> None:
    odd = tmp_path / "a=b"
    odd.mkdir()
    address = "postgresql://me@host/db?index=shop"
    assert named_sources(["far=/data/far", "plain.index", address, str(odd)]) == {
        "far": "/data/far",
        "plain.index": "plain.index",
        address: address,
        str(odd): str(odd),
    }
    with pytest.raises(ConfigError, match="give NAME=PATH"):
        named_sources(["far="])
