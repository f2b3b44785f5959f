"""The whole evaluation on painted pictures, where every score is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress

from protoclip.contract.errors import ConfigError, DataError, ModelError
from protoclip.encoders.model import ClipModel
from protoclip.evaluation.features import TorchModel, embed_texts, extract_images
from protoclip.evaluation.runner import evaluate
from protoclip.evaluation.scores import Evaluation
from protoclip.evaluation.subsets import split_subsets
from protoclip.evaluation.table import evaluation_tables, percent
from protoclip.sources import Pairs

UNIONS = {
    "train": ["train"],
    "unseen_style": ["unseen_style"],
    "unseen_concept": ["unseen_concept"],
    "unseen_both": ["unseen_both"],
    "any": ["unseen_concept", "unseen_both"],
}


def subsets_of(pairs: Pairs, unions: Mapping[str, list[str]] = UNIONS) -> tuple[Pairs, dict[str, Pairs]]:
    train = pairs.select(pairs.columns["split"] == "train")
    return train, split_subsets(pairs, "split", train, "train", unions)


def measure(clip: ClipModel, pairs: Pairs, **options: Any) -> Evaluation:
    train, subsets = subsets_of(pairs)
    options = {"group_column": "concept", "class_columns": ["kind"], "batch_size": 7, **options}
    return evaluate(TorchModel(clip), train, subsets, **options)


def test_a_perfect_model_scores_everything(painted_clip: Callable[..., ClipModel], painted_pairs: Pairs) -> None:
    found = measure(painted_clip(), painted_pairs)
    counts = {name: (subset.num_images, subset.num_texts) for name, subset in found.subsets.items()}
    assert counts == {
        "train": (20, 10),
        "unseen_style": (10, 10),
        "unseen_concept": (4, 2),
        "unseen_both": (2, 2),
        "any": (6, 2),
    }
    assert found.num_train == 20
    for name, subset in found.subsets.items():
        assert subset.retrieval.image_to_text[1].value == 1.0
        assert subset.retrieval.text_to_image[1].value == 1.0
        kinds = subset.classification["kind"]
        assert {way: score.value for way, score in kinds.zero_shot.items()} == {
            "plain": 1.0,
            "icon": 1.0,
            "members": 1.0,
        }
        assert kinds.majority == 0.5
        assert (kinds.linear_probe is None) == (kinds.neighbours is None) == (name == "train")
        if kinds.linear_probe is not None and kinds.neighbours is not None:
            assert kinds.linear_probe.value == kinds.neighbours.value == 1.0
        assert subset.geometry.gap < 0.01
        assert subset.geometry.alignment < 1e-3


def test_two_names_swapped_cost_exactly_their_pictures(
    painted_clip: Callable[..., ClipModel], painted_pairs: Pairs
) -> None:
    found = measure(painted_clip(red="blue", blue="red"), painted_pairs)
    for name in ("train", "unseen_style"):
        retrieval = found.subsets[name].retrieval
        assert retrieval.image_to_text[1].value == pytest.approx(0.8)
        assert retrieval.text_to_image[1].value == pytest.approx(0.8)
        assert retrieval.image_to_text[1].low < 0.8 < retrieval.image_to_text[1].high
        # Probes look at pictures alone.
    assert found.subsets["unseen_style"].classification["kind"].linear_probe.value == 1.0  # type: ignore[union-attr]
    assert found.subsets["unseen_both"].retrieval.image_to_text[1].value == 1.0


def test_a_class_named_wrongly_fails_by_name_but_not_by_members(
    painted_clip: Callable[..., ClipModel], painted_pairs: Pairs
) -> None:
    columns = dict(painted_pairs.columns)
    columns["kind"] = np.where(columns["kind"] == "warm", "cold", "warm").astype(object)
    found = measure(painted_clip(), replace(painted_pairs, columns=columns))
    zero_shot = found.subsets["unseen_style"].classification["kind"].zero_shot
    assert (zero_shot["plain"].value, zero_shot["members"].value) == (0.0, 1.0)


def test_held_out_classes_do_not_reach_members_or_probes(
    painted_clip: Callable[..., ClipModel], painted_pairs: Pairs
) -> None:
    """The unseen concepts are a class of their own: its name finds it, what was learnt in training can't."""
    columns = dict(painted_pairs.columns)
    unseen = np.isin(columns["split"].astype(str), ["unseen_concept", "unseen_both"])
    columns["kind"] = np.where(unseen & (columns["kind"] == "cold"), "azure", columns["kind"]).astype(object)
    kinds = measure(painted_clip(), replace(painted_pairs, columns=columns)).subsets["any"].classification["kind"]
    assert kinds.num_classes == 3
    assert kinds.zero_shot["plain"].value == 1.0
    assert kinds.zero_shot["members"].value == 0.5
    assert kinds.linear_probe is not None
    assert kinds.linear_probe.value == 0.5


def test_unreadable_pictures_are_left_out_counted_and_named(
    painted_clip: Callable[..., ClipModel], painted_pairs: Pairs
) -> None:
    images = list(painted_pairs.images)
    images[0], images[25] = b"no picture", b""
    found = measure(painted_clip(), replace(painted_pairs, images=images))
    assert {name: subset.num_skipped for name, subset in found.subsets.items()} == {
        "train": 1,
        "unseen_style": 1,
        "unseen_concept": 0,
        "unseen_both": 0,
        "any": 0,
    }
    assert (found.num_train, found.subsets["train"].num_images) == (19, 19)
    assert [reason.split(": ")[:2] for reason in found.skipped] == [["train", "row 0"], ["unseen_style", "row 25"]]
    assert [subset.retrieval.image_to_text[1].value for subset in found.subsets.values()] == [1.0] * 5
    # The orange picture went with its text: its text is not asked for any more.
    assert found.subsets["unseen_style"].num_texts == 9


def test_a_subset_without_readable_pictures_is_an_error(
    painted_clip: Callable[..., ClipModel], painted_pairs: Pairs
) -> None:
    images = [
        b"" if split == "unseen_both" else image
        for image, split in zip(painted_pairs.images, painted_pairs.columns["split"], strict=True)
    ]
    with pytest.raises(DataError, match=r"subset 'unseen_both': no picture of 2 could be read: row 34: "):
        measure(painted_clip(), replace(painted_pairs, images=images))


def test_pictures_without_a_class_are_not_classified(
    painted_clip: Callable[..., ClipModel], painted_pairs: Pairs
) -> None:
    columns = dict(painted_pairs.columns)
    columns["kind"] = columns["kind"].copy()
    columns["kind"][np.isin(columns["split"].astype(str), ["unseen_both"])] = ""
    columns["kind"][[24, 25, 26]] = ""
    found = measure(painted_clip(), replace(painted_pairs, columns=columns))
    assert found.subsets["unseen_both"].classification == {}
    style = found.subsets["unseen_style"]
    assert style.num_images == 10
    assert style.classification["kind"].zero_shot["plain"].num_items == 7


def test_errors_name_what_is_wrong(painted_clip: Callable[..., ClipModel], painted_pairs: Pairs) -> None:
    with pytest.raises(DataError, match="'mood'"):
        measure(painted_clip(), painted_pairs, class_columns=["mood"])
    with pytest.raises(ConfigError, match="haiku"):
        measure(painted_clip(), painted_pairs, templates=["haiku"])
    constant = dict(painted_pairs.columns, kind=np.full(len(painted_pairs), "same", dtype=object))
    with pytest.raises(DataError, match="column 'kind'"):
        measure(painted_clip(), replace(painted_pairs, columns=constant))


def test_embeddings_that_are_not_finite_are_an_error(
    painted_clip: Callable[..., ClipModel], painted_pairs: Pairs
) -> None:
    clip = painted_clip()
    clip.module.table[4] = float("nan")  # type: ignore[index, operator]
    with pytest.raises(ModelError, match="texts have embeddings that are not finite"):
        embed_texts(TorchModel(clip), ["red", "blue"])
    broken = replace(clip, mean=(float("nan"), 0.0, 0.0))
    with pytest.raises(ModelError, match="36 of 36 pictures"):
        extract_images(TorchModel(broken), painted_pairs)


def test_batches_do_not_change_features_and_progress_counts_rows(
    painted_clip: Callable[..., ClipModel], painted_pairs: Pairs
) -> None:
    clip = painted_clip()
    counted: list[int] = []
    small = extract_images(TorchModel(clip), painted_pairs, batch_size=5, on_batch=counted.append)
    assert np.allclose(small.vectors, extract_images(TorchModel(clip), painted_pairs).vectors, atol=1e-6)
    assert counted == [5] * 7 + [1]
    assert embed_texts(TorchModel(clip), []).shape == (0, 3)
    with Progress(disable=True) as progress:
        measure(clip, painted_pairs, progress=progress)
        assert (progress.tasks[0].completed, progress.tasks[0].total) == (42, 42)


def test_the_result_survives_json_and_the_table_shows_it(
    painted_clip: Callable[..., ClipModel], painted_pairs: Pairs
) -> None:
    found = measure(painted_clip(red="blue", blue="red"), painted_pairs)
    assert Evaluation.model_validate_json(found.to_json()) == found
    retrieval, kinds, more = evaluation_tables(found)
    assert list(retrieval.columns[3].cells) == ["80.0", "80.0", "100.0", "100.0", "100.0"]
    assert list(kinds.columns[4].cells) == ["–", "100.0", "100.0", "100.0", "100.0"]
    # Five pictures of each kind: per class it is the same, and a calibration error is in the last column.
    assert list(more.columns[1].cells) == list(kinds.columns[1].cells)
    assert [header.header for header in more.columns][-1] == "calib. error\nmembers"
    assert percent(0.40549) == "40.5"


def test_the_same_seed_gives_the_same_result(painted_clip: Callable[..., ClipModel], painted_pairs: Pairs) -> None:
    first, second = (measure(painted_clip(red="pink"), painted_pairs) for _ in range(2))
    assert first.model_copy(update={"seconds": 0, "created_at": ""}) == second.model_copy(
        update={"seconds": 0, "created_at": ""}
    )
