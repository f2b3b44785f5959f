"""Retrieval with several captions a picture, against a loop over pictures and captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from protoclip.encoders.model import ClipModel
from protoclip.evaluation.features import TorchModel
from protoclip.evaluation.retrieval import best_ranks, image_to_text_ranks, text_to_image_ranks
from protoclip.evaluation.runner import evaluate
from protoclip.evaluation.subsets import all_captions
from protoclip.sources import Pairs

RNG = np.random.default_rng(0)


def unit(count: int) -> np.ndarray:
    vectors = RNG.normal(size=(count, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_any_of_five_captions_is_a_hit() -> None:
    """COCO: 5 captions a picture; the place of the best own one in the sorted list, wrong ones counted alone."""
    images, texts = unit(30), unit(150)
    pictures, numbers = np.repeat(np.arange(30), 5), RNG.permutation(150)
    expected = []
    for image in range(30):
        own = set(numbers[pictures == image].tolist())
        order = sorted(range(150), key=lambda text: -float(images[image] @ texts[text]))
        expected.append(next(place for place, text in enumerate(order) if text in own))
    assert best_ranks(images, texts, pictures, numbers, chunk=7).tolist() == expected
    # The other way each caption asks for its one picture.
    (back,) = (best_ranks(texts, images, numbers, pictures, chunk=11),)
    for text in range(150):
        own = int(pictures[numbers == text][0])
        scores = images @ texts[text]
        assert back[text] == int((scores > scores[own]).sum())


def test_with_one_text_a_group_it_is_what_it_was() -> None:
    images, texts, owners = unit(40), unit(9), RNG.integers(0, 8, 40)
    rows = np.arange(40)
    assert np.array_equal(best_ranks(images, texts, rows, owners), image_to_text_ranks(images, texts, owners))
    asked, asking = np.unique(owners, return_inverse=True)
    found = best_ranks(texts[asked], images, asking.reshape(-1), rows)
    assert np.array_equal(found, text_to_image_ranks(images, texts, owners))


def test_a_query_without_an_item_is_refused() -> None:
    with pytest.raises(ValueError, match="owns no item"):
        best_ranks(unit(2), unit(3), np.array([0, 0]), np.array([1, 2]))
    with pytest.raises(ValueError, match="asking must lie"):
        best_ranks(unit(2), unit(3), np.array([0, 2]), np.array([1, 2]))


def test_a_caption_of_two_pictures_is_right_for_both() -> None:
    pairs = Pairs(images=[b""] * 3, texts=(("a", "b"), ("b", "c", "b"), ("d",)), columns={})
    found = all_captions(pairs)
    assert found.texts == ("a", "b", "c", "d")
    owned = list(zip(found.pictures.tolist(), found.numbers.tolist(), strict=True))
    assert owned == [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3)]


def test_an_evaluation_counts_every_caption(painted_clip: Callable[..., ClipModel], painted_pairs: Pairs) -> None:
    """A second caption that says nothing is a text more, and finds nothing."""
    more = replace(
        painted_pairs, texts=tuple((texts[0], f"zzz {row}") for row, texts in enumerate(painted_pairs.texts))
    )
    train = more.select(more.columns["split"] == "train")
    options = {"group_column": "concept", "class_columns": ["kind"], "captions": "all"}
    found = evaluate(TorchModel(painted_clip()), train, {"train": train}, **options).subsets["train"]
    assert found.num_texts == 10 + 20
    assert found.retrieval.image_to_text[1].value == 1.0
    assert found.retrieval.text_to_image[1].num_items == 30
    assert found.retrieval.text_to_image[1].value < 0.5
