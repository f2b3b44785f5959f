from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protoclip.contract.errors import ConfigError
from protoclip.data import episodes
from protoclip.data.episodes import Order, Plan
from protoclip.data.random_numbers import generator

ORDERS: tuple[Order, ...] = ("shuffled", "keyed")


@given(
    num_pairs=st.integers(8, 200),
    size=st.integers(8, 250),
    batch=st.integers(2, 8),
    seed=st.integers(0, 9),
    order=st.sampled_from(ORDERS),
)
@settings(max_examples=80, deadline=None)
def test_no_pair_comes_again_before_all_came_once(
    num_pairs: int, size: int, batch: int, seed: int, order: Order
) -> None:
    plan = Plan(num_pairs, size, batch, seed, order=order)
    assert plan.size % batch == 0
    stream = np.concatenate([plan.episode(number).indices for number in range(6)])
    for turn in range(len(stream) // num_pairs):
        assert sorted(stream[turn * num_pairs : (turn + 1) * num_pairs]) == list(range(num_pairs))


def test_small_data_keep_the_order_of_earlier_versions() -> None:
    """Runs that they began are resumed, and the weights of the demo are known."""
    plan = Plan(50, 40, 8, seed=7)
    assert plan.order == "shuffled"
    turns = [generator(7, "permutation", turn).permutation(50) for turn in range(3)]
    for number in range(3):
        expected = np.concatenate(turns)[40 * number : 40 * (number + 1)]
        np.testing.assert_array_equal(plan.episode(number).indices, expected)


def test_a_million_pairs_are_keyed() -> None:
    assert Plan(999_999, 64, 8, seed=0).order == "shuffled"
    assert Plan(1_000_000, 64, 8, seed=0).order == "keyed"
    assert Plan(1_000_000, 64, 8, seed=0, order="shuffled").order == "shuffled"


def test_an_episode_of_a_trillion_pairs_costs_what_it_holds() -> None:
    """Nothing of that length could be permuted."""
    plan = Plan(10**12, 1000, 10, seed=0)
    episode = plan.episode(10**9 - 1)
    assert len(set(episode.indices.tolist())) == 1000
    assert set(episode.visits.tolist()) == {0}
    assert episode.indices.std() > 10**11
    assert set(plan.episode(10**9).visits.tolist()) == {1}


def test_a_keyed_order_is_another_in_every_turn_and_with_every_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "SMALLEST_KEYED", 64)
    plans = [Plan(64, 64, 8, seed=seed) for seed in (0, 1)]
    orders = {tuple(plan.episode(number).indices.tolist()) for plan in plans for number in range(3)}
    assert len(orders) == 6
    assert Plan(64, 64, 8, seed=1).episode(2).indices.tolist() == plans[1].episode(2).indices.tolist()


@pytest.mark.parametrize("order", ORDERS)
def test_visits_count_the_permutations_before(order: Order) -> None:
    plan = Plan(10, 8, 4, seed=3, order=order)
    seen: dict[int, int] = {}
    for number in range(7):
        episode = plan.episode(number)
        for index, visit in zip(episode.indices, episode.visits, strict=True):
            assert visit == seen.get(int(index), 0)
            seen[int(index)] = visit + 1


def test_each_position_stands_in_one_batch() -> None:
    plan = Plan(100, 64, 8, seed=1)
    batches = plan.batches(plan.episode(2))
    assert batches.shape == (8, 8)
    assert sorted(batches.ravel()) == list(range(64))


@given(seed=st.integers(0, 50), number=st.integers(0, 5), repeat=st.integers(0, 3), order=st.sampled_from(ORDERS))
@settings(max_examples=60, deadline=None)
def test_a_batch_holds_each_group_at_most_once(seed: int, number: int, repeat: int, order: Order) -> None:
    groups = np.repeat(np.arange(50), np.arange(50) % 6 + 1)
    plan = Plan(len(groups), 10_000, 10, seed, groups, order=order)
    episode = plan.episode(number)
    batches = plan.batches(episode, repeat)
    assert sorted(batches.ravel()) == list(range(plan.size))
    for row in groups[episode.indices[batches]]:
        assert len(set(row)) == len(row)


def test_the_plan_is_a_pure_function_of_seed_and_episode() -> None:
    np.random.seed(0)  # noqa: NPY002 - to show that the global state has no say
    first = Plan(50, 40, 8, seed=7)
    expected = (first.episode(3).indices, first.batches(first.episode(3)))
    np.random.random(100)  # noqa: NPY002
    second = Plan(50, 40, 8, seed=7)
    assert np.array_equal(second.episode(3).indices, expected[0])
    assert np.array_equal(second.batches(second.episode(3)), expected[1])
    other = Plan(50, 40, 8, seed=8)
    assert not np.array_equal(other.episode(3).indices, expected[0])


def test_repeats_and_episodes_are_shuffled_anew() -> None:
    plan = Plan(64, 64, 8, seed=0)
    episode = plan.episode(0)
    assert not np.array_equal(plan.batches(episode, 0), plan.batches(episode, 1))
    assert not np.array_equal(plan.episode(0).indices, plan.episode(1).indices)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size=16 is more than the pairs in an episode"):
        Plan(10, 100, 16, seed=0)


def test_a_group_too_common_to_keep_apart_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.group_column: .* has 30 pairs"):
        Plan(40, 40, 8, seed=0, groups=np.array([0] * 30 + list(range(1, 11))))


def test_a_group_larger_than_an_episode_has_batches_can_be_kept_apart() -> None:
    """An episode draws a tenth of the data, and about a tenth of the group."""
    groups = np.concatenate([np.zeros(40, dtype=np.int64), np.arange(1, 3961)])
    plan = Plan(4000, 400, 16, seed=0, groups=groups)
    for number in range(10):
        episode = plan.episode(number)
        rows = groups[episode.indices][plan.batches(episode)]
        assert all(len(set(row)) == 16 for row in rows.tolist())
