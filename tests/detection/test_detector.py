"""Detectors made, judged by, saved and opened; and what is wrong with what they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError, DataError, ModelError
from protoclip.detection.detector import Detector
from protoclip.detection.detector_file import DetectorRecord
from protoclip.detection.fitting import FewPicturesWarning, fit_detector, fit_from_names
from protoclip.detection.held_out import hold_out, part
from protoclip.detection.kinds import FITS
from protoclip.detection.measures import auroc
from protoclip.detection.threshold import find_threshold, least_pictures

DIM = 24
Vectors = NDArray[np.float32]


def made_up(seed: int, count: int = 200, noise: float = 0.4) -> tuple[Vectors, list[str], Vectors, Vectors]:
    """Known pictures with labels, unseen ones of the same four classes, and strangers of four others."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(8, DIM)) + 2.0

    def draw(classes: NDArray[np.int64]) -> Vectors:
        return (centres[classes] + noise * random.normal(size=(len(classes), DIM))).astype(np.float32)

    numbers = np.arange(count) % 4
    labels = [f"kind {number}" for number in numbers]
    return draw(numbers), labels, draw(numbers), draw(4 + numbers)


@pytest.mark.parametrize("kind", FITS)
def test_every_kind_tells_the_known_from_strangers_and_outlives_its_file(kind: str, tmp_path: Path) -> None:
    known, labels, unseen, strangers = made_up(seed=0)
    detector = fit_detector(known, labels, kind=kind, fingerprint="012345", model="shop_012345")
    # The largest softmax is that of a classifier: it is sure of many strangers.
    assert auroc(detector.score(unseen), detector.score(strangers)) > (0.7 if kind == "max_softmax" else 0.99)
    detector.save(tmp_path / "shop.detector")
    opened = Detector.open(tmp_path / "shop.detector")
    np.testing.assert_array_equal(opened.score(strangers), detector.score(strangers))
    assert (opened.threshold, opened.classes) == (detector.threshold, ("kind 0", "kind 1", "kind 2", "kind 3"))
    assert (opened.kind, opened.num_fit, opened.fingerprint) == (kind, 160, "012345")
    opened.check_model("012345")
    with pytest.raises(ConfigError, match=r"for embeddings by shop_012345 \(012345\), and these are by x \(99\)"):
        opened.check_model("99", "x")


def test_judgements_name_score_and_threshold() -> None:
    known, labels, unseen, strangers = made_up(seed=1)
    detector = fit_detector(known, labels)
    yes, no = detector.judge(np.stack([unseen[0], strangers[0]]))
    assert (yes.known, no.known) == (True, False)
    assert no.reason == (
        f"neighbours score {no.score:.4g}, below the threshold {detector.threshold.value:.4g}, which 95% of known "
        "pictures reach"
    )
    assert detector.judge(np.zeros((0, DIM))) == []


def test_the_wanted_share_of_unseen_pictures_is_accepted() -> None:
    """On average over many detectors, and within the interval nearly always."""
    shares = []
    for seed in range(40):
        known, labels, unseen, _ = made_up(seed, count=400)
        detector = fit_detector(known, labels, kind="mahalanobis", accept=0.9, seed=seed)
        shares.append(float((detector.score(unseen) >= detector.threshold.value).mean()))
    threshold = detector.threshold
    assert threshold.low < 0.9 < threshold.high
    assert np.mean(shares) == pytest.approx(0.9, abs=0.02)
    assert np.mean([threshold.low - 0.04 < share < threshold.high + 0.04 for share in shares]) > 0.9


def test_thresholds_are_the_scores_at_their_rank() -> None:
    assert find_threshold(np.arange(1.0, 100.0), 0.9).value == 10.0
    assert find_threshold(np.arange(19.0), 0.95).value == 0.0
    assert [least_pictures(accept) for accept in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    assert find_threshold(np.arange(4.0), 0.8).value == 0.0
    with pytest.raises(
        DataError, match=r"18 known pictures are held out, too few to accept 95\.0% .* at least 19"
    ):
        find_threshold(np.arange(18.0), 0.95)
    for accept in (0.3, 1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"accept=.* is out of range"):
            find_threshold(np.arange(99.0), accept)


def test_a_fifth_of_every_class_is_held_out_and_no_class_is_lost() -> None:
    labels = np.repeat(np.arange(30), [10] * 10 + [1] * 10 + [3] * 10)
    mask = hold_out(labels)
    assert np.bincount(labels[mask], minlength=30)[:20].tolist() == [2] * 10 + [0] * 10
    assert (np.bincount(labels[~mask], minlength=30) >= 1).all()
    np.testing.assert_array_equal(mask, hold_out(labels))
    assert hold_out(labels, 0).tolist() != hold_out(labels, 1).tolist()


def test_whole_groups_are_held_out_and_each_counts_once() -> None:
    labels = np.repeat(np.arange(3), 40)
    groups = [f"product {row // 4}" for row in range(120)]
    learned, held_out = part(labels, groups=groups)
    assert not {groups[row] for row in np.flatnonzero(learned)} & {groups[row] for row in np.flatnonzero(held_out)}
    assert len({groups[row] for row in np.flatnonzero(held_out)}) == held_out.sum() == 6
    assert learned.sum() == 24 * 4
    # Pictures without a group are groups of their own, as all of them are without groups.
    alone = part(labels, groups=[""] * 120)
    np.testing.assert_array_equal(alone, part(labels))
    with pytest.raises(DataError, match="1 groups for 120 embeddings"):
        part(labels, groups=["product"])


def test_no_class_is_lost_with_a_group_of_several() -> None:
    labels = np.array([0, 1] * 40)
    groups = [str(row // 2) for row in range(80)]
    labels[1::2] = np.arange(40) + 1
    for seed in range(5):
        learned, held_out = part(labels, seed, groups)
        assert set(labels[learned]) == set(labels)
        assert not learned[held_out].any()


def test_new_things_are_accepted_as_often_as_promised() -> None:
    """Near copies of held-out pictures among those that were learned make a threshold too high for new things."""
    random = np.random.default_rng(0)
    things = random.standard_normal((400, 16))

    def photographed(chosen: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.repeat(chosen, 5, axis=0) + 0.02 * random.standard_normal((5 * len(chosen), 16))

    known, new = photographed(things[:200]), photographed(things[200:])
    groups = [str(row // 5) for row in range(len(known))]
    by_thing = fit_detector(known, groups=groups, k=1, accept=0.9)
    by_picture = fit_detector(known, k=1, accept=0.9)
    assert np.mean([one.known for one in by_thing.judge(new)]) > 0.8
    assert np.mean([one.known for one in by_picture.judge(new)]) < 0.2


def test_a_class_with_one_picture_is_known() -> None:
    known, labels, _, _ = made_up(seed=2)
    lone = -known[:1]
    pictures, names = np.concatenate([known, lone]), [*labels, "rare"]
    detector = fit_detector(pictures, names, kind="mixture")
    assert "rare" in detector.classes
    assert detector.judge(lone)[0].known
    assert fit_detector(pictures, names, k=1).judge(lone)[0].known


def test_classes_with_too_few_pictures_for_neighbours_are_told() -> None:
    known, labels, _, _ = made_up(seed=2)
    pictures, names = np.concatenate([known, -known[:1]]), [*labels, "rare"]
    with pytest.warns(FewPicturesWarning, match="1 of 5 classes, such as 'rare', have fewer than k=5 pictures"):
        detector = fit_detector(pictures, names)
    assert not detector.judge(pictures[-1:])[0].known


def test_labels_that_differ_by_an_invisible_character_are_two_classes(tmp_path: Path) -> None:
    known, _, _, _ = made_up(seed=6)
    detector = fit_detector(known, ["a", "a\0"] * 100)
    detector.save(tmp_path / "x.detector")
    assert Detector.open(tmp_path / "x.detector").classes == ("a", "a\0")


def test_names_and_negative_words_tell_strangers() -> None:
    known, _, unseen, strangers = made_up(seed=3, noise=0.2)
    names = np.stack([known[number::4].mean(axis=0) for number in range(4)])
    words = np.stack([strangers[number::4].mean(axis=0) for number in range(4)])
    labels = [f"kind {number}" for number in range(4)]
    for extra in (None, np.concatenate([words, -names])):
        detector = fit_from_names(names, known, labels=labels, words=extra, num_negatives=6)
        assert detector.kind == "concepts"
        assert auroc(detector.score(unseen), detector.score(strangers)) > 0.9
    with pytest.raises(ConfigError, match="one name alone"):
        fit_from_names(names[:1], known, labels=labels[:1])
    with pytest.raises(ConfigError, match="num_negatives=0"):
        fit_from_names(names, known, labels=labels, words=words, num_negatives=0)


GOOD = np.eye(30, DIM, dtype=np.float32) + 0.1


def with_row(row: int, value: float) -> Vectors:
    vectors = GOOD.copy()
    vectors[row] = value
    return vectors


@pytest.mark.parametrize(
    ("vectors", "settings", "error", "line"),
    [
        (with_row(7, np.nan), {}, DataError, "the embedding at position 7 is not finite: leave it out"),
        (with_row(3, 0.0), {}, DataError, "the embedding at position 3 is all zeros"),
        (GOOD[:0], {}, DataError, "no embeddings of known pictures: give at least one"),
        (np.zeros((2, 3, 4)), {}, DataError, r"embeddings of shape \(2, 3, 4\): give \[N, D\]"),
        (GOOD, {"labels": ["a"] * 29}, DataError, "29 labels for 30 embeddings: give one each"),
        (GOOD, {"labels": ["a", "", *["b"] * 28]}, DataError, "the label at position 1 is empty"),
        (GOOD, {"labels": ["a", "b\udcff", *["b"] * 28]}, DataError, r"position 1, 'b\\udcff', is no UTF-8"),
        (GOOD, {"labels": [1] * 30}, DataError, "the label at position 0 is 1: give text"),
        (GOOD, {"kind": "energy"}, ConfigError, "energy needs two classes or more, and 0 is given"),
        (GOOD, {"kind": "max_softmax", "labels": ["a"] * 30}, ConfigError, "needs two classes or more, and 1 is"),
        (GOOD, {"kind": "palm"}, ConfigError, "kind='palm' is unknown: use one of mixture, "),
        (GOOD, {"per_class": 0}, ConfigError, "per_class=0 is out of range: use 1 to 1000"),
        (GOOD, {"k": 1001}, ConfigError, "k=1001 is out of range"),
        (GOOD, {}, DataError, "6 known pictures are held out, too few to accept 95.0% of them"),
    ],
)
def test_what_is_wrong_is_named(vectors: Any, settings: dict[str, Any], error: type[Exception], line: str) -> None:
    with pytest.raises(error, match=line):
        fit_detector(vectors, **settings)


def test_embeddings_of_another_size_are_refused() -> None:
    known, labels, _, _ = made_up(seed=4)
    with pytest.raises(DataError, match=r"embeddings of 5 dimensions for a detector of 24: use the model"):
        fit_detector(known, labels).score(np.ones((1, 5)))


def test_other_and_damaged_files_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    known, labels, _, _ = made_up(seed=5)
    path = tmp_path / "x.detector"
    with pytest.raises(ModelError, match=r"no such file.*protoclip detect fit"):
        Detector.open(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="can't be read as a detector"):
        Detector.open(path)
    save_file({"x": known}, path)
    with pytest.raises(ModelError, match="holds no detector"):
        Detector.open(path)
    fit_detector(known, labels, kind="mixture").save(path)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(ModelError, match="can't be read as a detector"):
        Detector.open(path)
    # One bit of a prototype, which would be a number like any other.
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ModelError, match="damaged: fit the detector again"):
        Detector.open(path)
    path.write_bytes(good.replace(b'mixture\\"', b'mixtura\\"'))
    with pytest.raises(ModelError, match="damaged: fit the detector again"):
        Detector.open(path)
    path.write_bytes(good.replace(b'accept\\":0.95', b'accept\\":1.95'))
    with pytest.raises(ModelError, match=r"field 'threshold\.accept'.*fit the detector again"):
        Detector.open(path)


def test_the_hash_in_the_record_of_an_earlier_version_is_compared(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save

    from protoclip.contract.record_file import sha256_of

    known, labels, _, _ = made_up(seed=5)
    path = tmp_path / "x.detector"
    fit_detector(known, labels, kind="mixture").save(path)
    with safe_open(path, framework="np") as file:
        record = DetectorRecord.model_validate_json(file.metadata()["detector"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    earlier = record.model_copy(update={"sha256": sha256_of(arrays)})
    path.write_bytes(save(arrays, {"detector": earlier.model_dump_json()}))
    assert Detector.open(path).kind == "mixture"
    arrays["prototypes"][0, 0] *= -1
    path.write_bytes(save(arrays, {"detector": earlier.model_dump_json()}))
    with pytest.raises(ModelError, match="damaged: fit the detector again"):
        Detector.open(path)
