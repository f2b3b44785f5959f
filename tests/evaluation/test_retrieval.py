"""Retrieval: closed forms, ties, invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protoclip.evaluation.retrieval import image_to_text_ranks, recall_at, text_to_image_ranks


def unit(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_identical_embeddings_find_everything_first() -> None:
    vectors = np.eye(12, dtype=np.float32)
    owners = np.arange(12)
    assert recall_at(image_to_text_ranks(vectors, vectors, owners)) == {1: 1.0, 5: 1.0, 10: 1.0}
    assert recall_at(text_to_image_ranks(vectors, vectors, owners)) == {1: 1.0, 5: 1.0, 10: 1.0}


def test_a_shift_by_two_places_on_a_circle_ranks_as_the_circle_says() -> None:
    angles = 2 * np.pi * np.arange(16) / 16
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    # The text lies two steps away: one text before it on its own side and at the picture, two on the other
    # side, of which the one at the same distance is a tie and counts against it.
    ranks = image_to_text_ranks(circle, circle, (np.arange(16) + 2) % 16)
    assert ranks.tolist() == [4] * 16
    assert recall_at(ranks, (4, 5)) == {4: 0.0, 5: 1.0}


def test_a_collapsed_model_is_never_right() -> None:
    images = np.tile(unit(np.random.default_rng(0), 1, 64), (37, 1))
    texts = np.tile(images[:1], (23, 1))
    owners = np.arange(37) % 23
    assert (image_to_text_ranks(images, texts, owners) == 22).all()
    ranks = text_to_image_ranks(images, texts, owners)
    assert ranks.tolist() == [37 - int((owners == text).sum()) for text in range(23)]


def test_any_picture_of_the_text_counts_and_the_others_do_not_stand_in_its_way() -> None:
    texts = np.eye(2, 3, dtype=np.float32)
    images = np.array([[1, 0, 0], [0.8, 0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], dtype=np.float32)
    owners = np.array([0, 0, 0, 1])
    assert image_to_text_ranks(images, texts, owners).tolist() == [0, 0, 1, 1]
    # Text 0 has its best picture first; text 1's only picture is tied with one, behind two others.
    assert text_to_image_ranks(images, texts, owners).tolist() == [0, 3]


def test_texts_without_pictures_are_distractors_and_not_asked() -> None:
    texts = np.eye(3, dtype=np.float32)
    images = texts[[2, 0]]
    owners = np.array([2, 0])
    assert text_to_image_ranks(images, texts, owners).tolist() == [0, 0]
    assert image_to_text_ranks(images, np.concatenate([texts, images]), owners).tolist() == [1, 1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_rotating_both_or_permuting_rows_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, texts = unit(rng, 30, 6), unit(rng, 11, 6)
    owners = np.concatenate([np.arange(11), rng.integers(11, size=19)])
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0].astype(np.float32)
    order, relabel = rng.permutation(30), rng.permutation(11)
    to_text, to_image = (rank(images, texts, owners) for rank in (image_to_text_ranks, text_to_image_ranks))
    assert (image_to_text_ranks(images @ rotation, texts @ rotation, owners) == to_text).all()
    assert (text_to_image_ranks(images @ rotation, texts @ rotation, owners) == to_image).all()
    moved = np.argsort(relabel)[owners[order]]
    assert (image_to_text_ranks(images[order], texts[relabel], moved) == to_text[order]).all()
    assert (text_to_image_ranks(images[order], texts[relabel], moved) == to_image[relabel]).all()


def test_random_embeddings_reach_chance() -> None:
    rng = np.random.default_rng(0)
    ranks = image_to_text_ranks(unit(rng, 4000, 32), unit(rng, 50, 32), rng.integers(50, size=4000))
    assert recall_at(ranks)[10] == pytest.approx(10 / 50, abs=0.025)


def test_bad_input_is_refused() -> None:
    vectors = np.eye(3, dtype=np.float32)
    broken = vectors.copy()
    broken[1, 1] = np.nan
    for ranks in (image_to_text_ranks, text_to_image_ranks):
        with pytest.raises(ValueError, match="not finite"):
            ranks(broken, vectors, np.arange(3))
        with pytest.raises(ValueError, match=r"\[0, 3\)"):
            ranks(vectors, vectors, np.array([0, 1, 3]))
        with pytest.raises(ValueError, match="one text for each"):
            ranks(vectors, vectors, np.arange(2))
        with pytest.raises(ValueError, match="do not fit"):
            ranks(vectors, vectors[:, :2], np.arange(3))
    with pytest.raises(ValueError, match="no queries"):
        recall_at(np.zeros(0, dtype=np.int64))
