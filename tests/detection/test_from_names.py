"""Detectors from names alone: the score against a loop, the bundled words, and what is wrong with names."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protoclip import Client, ConfigError, DataError, Detector, fit_names
from protoclip.client import InMemoryTransport, MemoryModel
from protoclip.detection.concepts import Concepts
from protoclip.detection.vocabulary import bundled_words, without_names

DIM = 32
NAMES = ["shoe", "hat, felt", "猫"]
WORDS = [f"word{number}" for number in range(60)]


def vector_of(text: str) -> NDArray[np.float32]:
    """One for each text; case does not count, and what begins with `?` is a word that the model does not know."""
    known = "?" if text.startswith("?") else text.casefold()
    return np.random.default_rng(zlib.crc32(known.encode())).normal(size=DIM).astype(np.float32)


@pytest.fixture
def client() -> Client:
    model = MemoryModel(lambda data: vector_of(data.decode()), vector_of, DIM, fingerprint="0123456789abcdef")
    return Client(transport=InMemoryTransport(model))


def unit(vector: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float64)


def negatives_of(detector: Detector) -> NDArray[np.float32]:
    assert isinstance(detector.scorer, Concepts)
    return detector.scorer.negatives


def test_the_score_is_that_of_the_papers_one_word_at_a_time(client: Client) -> None:
    """arXiv 2403.20078: the 95th percentile of cosines mines, and the share at temperature 0.01 is the score."""
    detector = fit_names(client, client.class_bank(NAMES), num_negatives=7, words=WORDS)
    names, words = [unit(vector_of(one)) for one in NAMES], [unit(vector_of(one)) for one in WORDS]
    nearness = [np.quantile([word @ name for name in names], 0.95) for word in words]
    mined = [words[place] for place in np.argsort(nearness)[:7]]
    np.testing.assert_allclose(negatives_of(detector), mined, atol=1e-6)
    picture = unit(vector_of("picture"))
    yes, no = (sum(math.exp(100 * picture @ one) for one in texts) for texts in (names, mined))
    assert detector.score(picture)[0] == pytest.approx(yes / (yes + no), rel=1e-4)
    plain = fit_names(client, client.class_bank(NAMES), num_negatives=0)
    weights = [math.exp(picture @ one) for one in names]
    assert plain.score(picture)[0] == pytest.approx(max(weights) / sum(weights), rel=1e-5)


def test_without_pictures_there_is_a_score_and_no_claim(client: Client, tmp_path: Path) -> None:
    fit_names(client, client.class_bank(NAMES), words=WORDS).save(tmp_path / "x.detector")
    detector = Detector.open(tmp_path / "x.detector")
    assert (detector.kind, detector.classes, detector.num_fit) == ("concepts", tuple(NAMES), 0)
    assert (detector.maybe_threshold, detector.fingerprint) == (None, "0123456789abcdef")
    (judged,) = detector.judge(vector_of("shoe"))
    assert judged.known is None
    assert judged.reason.endswith(
        "no threshold: known pictures set one, by Detector.calibrated or `protoclip detect calibrate`"
    )
    assert detector.accepts(detector.score(vector_of("shoe"))) is None
    with pytest.raises(
        ConfigError, match="made without known pictures, and has no threshold: set one by an index"
    ):
        _ = detector.threshold
    answer = client.classify(b"shoe", NAMES, detector=detector)
    assert (answer.label, answer.known) == ("shoe", None)
    assert answer.known_score == pytest.approx(judged.score)


def test_unlabelled_pictures_set_the_threshold(client: Client, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pictures = np.stack([unit(vector_of(NAMES[row % 3])) + 0.1 * random.normal(size=DIM) for row in range(60)])
    detector = fit_names(client, client.class_bank(NAMES), words=WORDS).calibrated(pictures[:40], accept=0.9)
    assert (detector.threshold.num, detector.threshold.accept) == (40, 0.9)
    assert sum(bool(one.known) for one in detector.judge(pictures[40:])) >= 14
    # A word of the vocabulary, which is among the negatives.
    detector.save(tmp_path / "x.detector")
    strange, known = client.classify(
        [b"word3", b"hat, felt"], NAMES, detector=Detector.open(tmp_path / "x.detector")
    )
    assert (strange.known, known.known) == (False, True)
    with pytest.raises(
        DataError, match=r"18 known pictures are given, too few to accept 95\.0% .* at least 19, or a"
    ):
        detector.calibrated(pictures[:18])
    with pytest.raises(ConfigError, match=r"accept=1.0 is out of range"):
        detector.calibrated(pictures, accept=1.0)


def test_a_name_is_no_stranger_and_an_unknown_word_counts_once(client: Client) -> None:
    words = ["Shoe", " SHOE ", "?a", "?b", "?c", "?a", "", "lamp"]
    assert without_names(words, NAMES) == ("?a", "?b", "?c", "lamp")
    # As other systems write an accent, and with other blanks, which `class_bank` takes for the same.
    assert without_names(["cafe\u0301", "T  shirt", "lamp", "t shirt"], ["caf\u00e9"]) == ("T  shirt", "lamp")
    negatives = negatives_of(fit_names(client, client.class_bank(NAMES), words=words))
    assert sorted(map(tuple, negatives.round(4))) == sorted(
        tuple(unit(vector_of(one)).astype(np.float32).round(4)) for one in ("?", "lamp")
    )


def test_all_templates_make_the_vectors_of_negatives(client: Client) -> None:
    templates = ["{}", "a photo of a {}"]
    detector = fit_names(client, client.class_bank(["shoe"], templates), words=["lamp"])
    both = client.class_bank(["lamp"], templates).vectors
    np.testing.assert_allclose(negatives_of(detector), both, atol=1e-6)


def test_the_bundled_words_are_used_without_others(client: Client) -> None:
    words = bundled_words()
    assert len(words) == len(set(words)) == 10_000
    assert list(words) == sorted(words)
    assert {"giraffe", "umbrella", "red", "democracy"} <= set(words)
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
    notice = Path(__file__).parents[2] / "protoclip" / "detection" / "words" / "NOTICE"
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in notice.read_text(encoding="utf-8")
    detector = fit_names(client, client.class_bank(["giraffe"]), num_negatives=20_000)
    assert len(negatives_of(detector)) == 9_999


def test_what_is_wrong_with_names_is_told(client: Client) -> None:
    with pytest.raises(
        ConfigError, match="the model gives 'Shoe' and 'shoe' the same vector, and can't tell them"
    ):
        fit_names(client, client.class_bank(["Shoe", "hat", "shoe"]))
    with pytest.raises(ConfigError, match="one name alone has always all of the probability"):
        fit_names(client, client.class_bank(["shoe"]), num_negatives=0)
    with pytest.raises(ConfigError, match="num_negatives=-1 is out of range: use 0 or more"):
        fit_names(client, client.class_bank(NAMES), num_negatives=-1)
    with pytest.raises(ConfigError, match="the vocabulary holds no word that is not a name"):
        fit_names(client, client.class_bank(["shoe"]), words=["Shoe", " "])
    other = Client(transport=InMemoryTransport(MemoryModel(vector_of, vector_of, DIM, fingerprint="99aabbccdd")))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"embedded by memory_012345 .* and the client's model is memory_99aabb"):
        fit_names(other, client.class_bank(NAMES), words=WORDS)
