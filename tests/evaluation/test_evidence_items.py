"""The study's measures picture by picture are those of `protoclip evaluate`, and concepts are counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from protoclip.encoders.model import ClipModel
from protoclip.evaluation.features import TorchModel
from protoclip.evaluation.runner import evaluate
from protoclip.sources import Pairs
from scripts import load_script


@pytest.mark.parametrize("way", ["plain", "members"])
def test_the_measures_are_those_of_the_evaluation(
    painted_pairs: Pairs, painted_clip: Callable[..., ClipModel], way: str
) -> None:
    """Some words stand for other colours, so that some pictures of each part are wrong."""
    items = load_script("benchmarks/evidence_items.py")
    split = painted_pairs.column("split").astype(str)
    train, concepts, styles = (
        painted_pairs.select(np.isin(split, part))
        for part in (["train"], ["unseen_concept", "unseen_both", "train"], ["unseen_style"])
    )
    model = TorchModel(painted_clip(scarlet="azure", red="blue", warm="teal"))
    found = items.measure_parts(
        model, items.Parts(train, concepts, styles), group_column="concept", class_column="kind", way=way
    )
    subsets = evaluate(
        model,
        train,
        {"concepts": concepts, "styles": styles},
        group_column="concept",
        class_columns=["kind"],
        templates=["plain"],
    ).subsets
    by_class = subsets["styles"].classification["kind"]
    recall = subsets["concepts"].retrieval.image_to_text
    assert by_class.linear_probe is not None
    wanted = [recall[1], recall[5], by_class.zero_shot[way], by_class.linear_probe]
    assert [one.percent for one in found.items] == [pytest.approx(100 * score.value) for score in wanted]
    assert [len(one.hits) for one in found.items] == [score.num_items for score in wanted]
    assert found.num_texts == subsets["concepts"].num_texts
    assert 0 < recall[1].value < 1
    right, pictures = found.items[0].by_concept()
    assert sum(pictures) == len(concepts)
    assert sum(right) == found.items[0].hits.sum()
    names = sorted(set(concepts.column("concept").astype(str)))
    shown = concepts.column("concept").astype(str)
    assert right == tuple(int(found.items[0].hits[shown == name].sum()) for name in names)
