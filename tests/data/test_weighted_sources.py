"""Weights of sources: exact counts in each turn, a pure function, and no pair that meets itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protoclip.config.load import build_config
from protoclip.config.schema import DataConfig
from protoclip.contract.errors import ConfigError
from protoclip.data.episodes import Order, Plan
from protoclip.data.table import load_pairs
from protoclip.data.weighted_sources import WeightedSources
from protoclip.sources import Pairs
from protoclip.training.session import build_session

ORDERS: tuple[Order, ...] = ("shuffled", "keyed")
SOURCES = np.repeat([0, 1, 2], [10, 7, 20])


def turns(weights: tuple[float, ...], order: Order, count: int, seed: int = 0) -> list[np.ndarray]:
    """The pairs of whole turns, episode after episode, and their visits: `[L, 2]` each."""
    weighted = WeightedSources(SOURCES, weights, seed)
    plan = Plan(len(SOURCES), weighted.length, 1, seed, order=order, weighted=weighted)
    episodes = [plan.episode(number) for number in range(count)]
    return [np.stack([episode.indices, episode.visits], axis=1) for episode in episodes]


@pytest.mark.parametrize("order", ORDERS)
def test_counts_of_a_turn_are_exact(order: Order) -> None:
    seen = []
    for turn in turns((2, 0.5, 1.25), order, count=8):
        counts = np.bincount(turn[:, 0], minlength=37)
        assert set(counts[:10]) == {2}
        assert counts[10:17].sum() == round(0.5 * 7)
        assert counts[17:].sum() == 25
        assert counts[17:].min() == 1
        seen.append(counts)
    total = np.sum(seen, axis=0)
    assert total[10:17].max() - total[10:17].min() <= 1
    assert set(total[17:]) == {10}
    assert any(not np.array_equal(seen[0], other) for other in seen[1:])


@given(
    weights=st.tuples(*[st.floats(0.05, 4)] * 3),
    order=st.sampled_from(ORDERS),
    seed=st.integers(0, 20),
)
@settings(max_examples=40, deadline=None)
def test_no_pair_has_one_visit_twice(weights: tuple[float, ...], order: Order, seed: int) -> None:
    visits = np.concatenate(turns(weights, order, 5, seed))
    assert len(np.unique(visits, axis=0)) == len(visits)
    assert set(np.bincount(visits[:, 0], minlength=37) > 0) == {True} or min(weights) < 0.5


def test_weights_of_one_are_the_order_without_weights() -> None:
    weighted = Plan(37, 20, 4, 5, weighted=WeightedSources(SOURCES, (1, 1, 1), 5))
    plain = Plan(37, 20, 4, 5)
    for number in range(5):
        assert weighted.episode(number).indices.tolist() == plain.episode(number).indices.tolist()
        assert weighted.episode(number).visits.tolist() == plain.episode(number).visits.tolist()


@given(
    weights=st.tuples(*[st.floats(0.05, 3)] * 3),
    size=st.integers(30, 90),
    batch=st.integers(2, 5),
    order=st.sampled_from(ORDERS),
    grouped=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_pair_meets_itself(
    weights: tuple[float, ...], size: int, batch: int, order: Order, grouped: bool
) -> None:
    weighted = WeightedSources(SOURCES, weights, 3)
    groups = np.arange(37) // 2 if grouped else None
    try:
        plan = Plan(37, size, batch, 3, groups, order=order, weighted=weighted)
    except ConfigError:
        return
    for number in range(4):
        episode = plan.episode(number)
        rows = plan.batches(episode)
        assert sorted(rows.ravel()) == list(range(plan.size))
        for row in rows:
            assert len(set(episode.indices[row])) == batch


def test_a_place_does_not_depend_on_the_others_that_are_asked_for() -> None:
    weighted = WeightedSources(SOURCES, (1.5, 0.3, 2.25), 9)
    places = np.arange(weighted.length)
    pairs, visits = weighted.at(7, places)
    for part in np.array_split(np.random.default_rng(0).permutation(places), 5):
        own, own_visits = weighted.at(7, part)
        assert own.tolist() == pairs[part].tolist()
        assert own_visits.tolist() == visits[part].tolist()
    assert weighted.length == 15 + 2 + 45


def test_sources_need_not_lie_side_by_side() -> None:
    mixed = np.random.default_rng(1).permutation(SOURCES)
    weighted = WeightedSources(mixed, (3, 1, 0.05), 0)
    pairs, _ = weighted.at(0, np.arange(weighted.length))
    assert np.bincount(mixed[pairs]).tolist() == [30, 7, 1]


def test_a_turn_that_begins_a_lap_may_draw_a_pair_twice() -> None:
    """Two of five in each turn: the third turn ends one lap and begins the next."""
    weighted = WeightedSources(np.zeros(5, np.int64), (0.4,), 0)
    assert weighted.most_in_turn == 2
    drawn = np.concatenate([weighted.at(turn, np.arange(2))[0] for turn in range(5)])
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == list(range(5))
    assert any(
        len(set(WeightedSources(np.zeros(5, np.int64), (0.4,), seed).at(2, np.arange(2))[0])) == 1
        for seed in range(40)
    )
    assert WeightedSources(np.zeros(6, np.int64), (0.5,), 0).most_in_turn == 1
    assert WeightedSources(np.zeros(5, np.int64), (2.0,), 0).most_in_turn == 2


def test_too_large_a_weight_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.weights: a pair of weight 9 comes up to 18 times in an episode of 7"
    ):
        Plan(37, 10**6, 16, 0, weighted=WeightedSources(SOURCES, (9, 1, 1), 0))


def test_one_weight_for_each_path() -> None:
    with pytest.raises(
        ValueError, match=r"data\.weights has 1 numbers and data\.path 2 entries: give one for each"
    ):
        DataConfig(path=("a", "b"), weights=(1.0,))
    with pytest.raises(ValueError, match="greater than 0"):
        DataConfig(path=("a", "b"), weights=(1.0, 0.0))


def test_sources_are_the_entries_of_the_path(tmp_path: Path) -> None:
    for name, rows in (("a", [1, 2]), ("b", [3]), ("c", [4, 1])):
        (tmp_path / f"{name}.csv").write_text("image,text\n" + "".join(f"{row}.png,{name}\n" for row in rows))
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.csv").rename(tmp_path / "folder" / "a.csv")
    (tmp_path / "b.csv").rename(tmp_path / "folder" / "b.csv")
    paths = (str(tmp_path / "folder"), str(tmp_path / "c.csv"))
    pairs = load_pairs(DataConfig(path=paths))
    assert [own[0] for own in pairs.texts] == ["a", "a", "b", "c", "c"]
    assert pairs.images.sources.tolist() == [0, 0, 0, 1, 1]  # type: ignore[union-attr]
    assert pairs.select(np.array([4, 0])).images.sources.tolist() == [1, 0]  # type: ignore[union-attr]


def test_a_run_has_the_weights_of_its_configuration(shapes_config: dict[str, Any], shapes_file: Path) -> None:
    shapes_config["data"] = {"path": [str(shapes_file)] * 2, "text_columns": ["texts"], "weights": [2, 0.5]}
    shapes_config["train"]["batch_size"] = 18
    config = build_config(shapes_config, "test")
    data = build_session(config, lambda items, _: items).data
    counts = np.bincount(data.plan.episode(0).indices, minlength=144)
    assert (counts[:72] == 2).all()
    assert counts[72:].sum() == 36
    with pytest.raises(ConfigError, match=r"data\.weights are of what data\.path names, .* leave it out"):
        build_session(config, lambda items, _: items, made_in_python(data.pairs))


def made_in_python(pairs: Pairs) -> Pairs:
    return Pairs([pairs.read_image(row) for row in range(len(pairs))], tuple(pairs.texts), {})
