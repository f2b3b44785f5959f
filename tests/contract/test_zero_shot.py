"""Zero-shot classification against closed forms."""

from __future__ import annotations

import importlib.util
import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from protoclip.contract.errors import ConfigError
from protoclip.contract.zero_shot import TEMPLATES, class_probabilities, class_vectors, fill_templates

EYE = np.eye(3, dtype=np.float32)


def test_templates_are_filled_class_by_class() -> None:
    assert fill_templates(["cat", "dog"], ["{}", "a {}!"]) == [["cat", "a cat!"], ["dog", "a dog!"]]
    assert fill_templates(["cat"]) == [["cat"]]
    assert fill_templates(["cat"], "photo")[0][1] == "a photo of a cat."


def test_labels_may_hold_braces() -> None:
    assert fill_templates(["{}", "{0}", "a{b}"], ["<{}>"]) == [["<{}>"], ["<{0}>"], ["<a{b}>"]]


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_text_of_a_set_is_another_one_and_ours_begin_with_the_label_alone(name: str) -> None:
    filled = fill_templates(["cat"], name)[0]
    assert (filled[0] == "cat") == (name not in ("simple", "imagenet"))
    assert len(set(filled)) == len(filled)
    assert all("cat" in text for text in filled)


@pytest.mark.parametrize(
    ("labels", "templates", "reason"),
    [
        ([], "plain", "labels is empty"),
        ("cat", "plain", "labels='cat' is one text"),
        (["cat"], "poem", "templates='poem' is unknown: use one of "),
        (["cat"], "a {}", "or give a list"),
        (["cat"], [], "templates is empty"),
        (["cat"], ["a photo"], "template 'a photo' needs exactly one {}"),
        (["cat"], ["{} and {}"], "template '{} and {}' needs exactly one {}"),
    ],
)
def test_what_can_not_be_filled(labels: list[str], templates: list[str], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fill_templates(labels, templates)
    assert reason in str(caught.value)


def test_class_vector_is_the_normalised_mean() -> None:
    vectors = class_vectors(EYE, np.array([0, 0, 1]), 2)
    half = math.sqrt(0.5)
    np.testing.assert_allclose(vectors, [[half, half, 0], [0, 0, 1]], atol=1e-7)
    assert vectors.dtype == np.float32


def test_owners_in_any_order() -> None:
    generator = np.random.default_rng(0)
    texts = generator.standard_normal((12, 5)).astype(np.float32)
    owners = np.repeat(np.arange(4), 3)
    order = generator.permutation(12)
    np.testing.assert_allclose(
        class_vectors(texts[order], owners[order], 4), class_vectors(texts, owners, 4), rtol=1e-5
    )
    for owner, vector in enumerate(class_vectors(texts, owners, 4)):
        mean = texts[owners == owner].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), rtol=1e-5)


def test_classes_without_a_direction_are_zero() -> None:
    opposite = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    np.testing.assert_array_equal(class_vectors(opposite, np.array([0, 0]), 2), np.zeros((2, 2)))
    assert class_vectors(np.zeros((0, 4), dtype=np.float32), np.array([], dtype=np.int64), 3).shape == (3, 4)


def test_owner_that_is_no_class() -> None:
    with pytest.raises(IndexError):
        class_vectors(EYE, np.array([0, 1, 2]), 2)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 14.2857])
def test_probability_of_the_matching_class(temperature: float) -> None:
    # the picture lies on the first of three orthogonal classes: e^t / (e^t + 2)
    expected = math.exp(temperature) / (math.exp(temperature) + 2)
    probabilities = class_probabilities(EYE, EYE, temperature)
    np.testing.assert_allclose(np.diag(probabilities), expected, rtol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-6)
    assert probabilities.dtype == np.float32


def test_two_classes_are_a_logistic_function() -> None:
    angle = np.float32(0.3)
    image = np.array([[math.cos(angle), math.sin(angle)]], dtype=np.float32)
    first = class_probabilities(image, np.eye(2, dtype=np.float32), 10.0)[0, 0]
    assert first == pytest.approx(1 / (1 + math.exp(-10 * (math.cos(angle) - math.sin(angle)))), rel=1e-5)


def test_equal_classes_share() -> None:
    np.testing.assert_allclose(class_probabilities(EYE, EYE[[0, 0, 0, 0]], 100.0), np.full((3, 4), 0.25))


def test_large_temperatures_do_not_overflow() -> None:
    np.testing.assert_array_equal(class_probabilities(EYE, EYE, 1e30), EYE)


def test_a_common_shift_changes_nothing() -> None:
    generator = np.random.default_rng(1)
    images, classes = (generator.standard_normal((4, 6)).astype(np.float32) for _ in range(2))
    images[:, 0] = 1.0
    shifted = classes + np.array([5, 0, 0, 0, 0, 0], dtype=np.float32)
    np.testing.assert_allclose(
        class_probabilities(images, shifted, 2.0), class_probabilities(images, classes, 2.0), rtol=1e-4
    )


def test_empty_and_nan() -> None:
    assert class_probabilities(EYE[:0], EYE, 1.0).shape == (0, 3)
    broken = np.array([[math.nan, 0, 0], [1, 0, 0]], dtype=np.float32)
    probabilities = class_probabilities(broken, EYE, 1.0)
    assert np.isnan(probabilities[0]).all()
    assert np.isfinite(probabilities[1]).all()
    with pytest.raises(ValueError, match="classes is empty"):
        class_probabilities(EYE, EYE[:0], 1.0)


def test_inputs_stay_as_they_are() -> None:
    images, classes = EYE.copy(), EYE.copy()
    class_probabilities(images, classes, 3.0)
    class_vectors(images, np.array([0, 0, 0]), 1)
    np.testing.assert_array_equal(images, EYE)
    np.testing.assert_array_equal(classes, EYE)


def test_sigmoids_stand_each_for_itself() -> None:
    """SigLIP's published factor and bias, against the formula in float64."""
    generator = np.random.default_rng(2)
    images, classes = (generator.standard_normal((5, 8)) for _ in range(2))
    images, classes = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, classes))
    expected = 1 / (1 + np.exp(-(112.3 * images @ classes.T - 16.5)))
    found = class_probabilities(images.astype(np.float32), classes.astype(np.float32), 112.3, -16.5)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert found.dtype == np.float32
    one = class_probabilities(images.astype(np.float32), classes[:1].astype(np.float32), 112.3, -16.5)
    np.testing.assert_allclose(one, expected[:, :1], rtol=1e-3)


def test_sigmoids_of_large_logits_do_not_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(class_probabilities(EYE, 2 * EYE - 1, 1e30, 0.0), EYE)
    assert class_probabilities(EYE[:0], EYE, 1.0, 0.0).shape == (0, 3)
    assert np.isnan(class_probabilities(EYE * np.nan, EYE, 1.0, 0.0)).all()


def test_the_templates_of_imagenet_are_those_that_open_clip_evaluates_with() -> None:
    source = Path(importlib.util.find_spec("open_clip").origin).with_name("zero_shot_metadata.py")  # type: ignore
    published = runpy.run_path(str(source))
    for name, functions in (("imagenet", "OPENAI_IMAGENET_TEMPLATES"), ("simple", "SIMPLE_IMAGENET_TEMPLATES")):
        assert fill_templates(["cat"], name)[0] == [fill("cat") for fill in published[functions]]
    assert (len(TEMPLATES["imagenet"]), len(TEMPLATES["simple"])) == (80, 7)
    assert set(TEMPLATES["simple"]) < set(TEMPLATES["imagenet"])
