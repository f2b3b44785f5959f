"""The plan of a run that went on with more pairs."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protoclip.data.episodes import Order, Plan
from protoclip.data.groups import group_numbers, group_numbers_in_sections
from protoclip.data.rows_before import RowsAtFirst, RowsBefore, sections_now
from protoclip.data.sections import Section, passes_of, section_number, steps_of, with_more_pairs

ORDERS: tuple[Order, ...] = ("shuffled", "keyed")
SECTIONS = (Section(0, 50), Section(3, 70), Section(5, 71))


def grown(order: Order, sections: tuple[Section, ...] = SECTIONS, groups: np.ndarray | None = None) -> Plan:
    return Plan(sections[-1].turn_length, 40, 8, 7, groups, order=order, sections=sections)


@pytest.mark.parametrize("order", ORDERS)
def test_episodes_before_a_section_stay_as_they_were(order: Order) -> None:
    first, second, plan = grown(order, SECTIONS[:1]), grown(order, SECTIONS[:2]), grown(order)
    for number in range(5):
        before = first if number < 3 else second
        np.testing.assert_array_equal(plan.episode(number).indices, before.episode(number).indices)
        np.testing.assert_array_equal(plan.episode(number).visits, before.episode(number).visits)
    assert {plan.size, first.size, second.size} == {40}
    assert {plan.num_batches, first.num_batches} == {5}
    assert plan.num_pairs == 71


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    lengths=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    seed=st.integers(0, 9),
    order=st.sampled_from(ORDERS),
)
@settings(max_examples=60, deadline=None)
def test_a_section_goes_through_all_its_pairs_before_one_comes_again(
    counts: list[int], lengths: list[int], seed: int, order: Order
) -> None:
    sections = [Section(0, 24)]
    for count, length in zip(counts, lengths, strict=False):
        sections.append(Section(sections[-1].first_episode + length, sections[-1].turn_length + count))
    plan = Plan(sections[-1].turn_length, 20, 4, seed, order=order, sections=sections)
    visited: dict[int, set[int]] = defaultdict(set)
    ends = [section.first_episode for section in sections[1:]] + [sections[-1].first_episode + 9]
    for section, end in zip(sections, ends, strict=True):
        episodes = [plan.episode(number) for number in range(section.first_episode, end)]
        stream = np.concatenate([episode.indices for episode in episodes])
        for start in range(0, len(stream), section.turn_length):
            turn = stream[start : start + section.turn_length].tolist()
            assert len(set(turn)) == len(turn)
            assert set(turn) <= set(range(section.turn_length))
        for episode in episodes:
            for index, visit in zip(episode.indices.tolist(), episode.visits.tolist(), strict=True):
                assert visit not in visited[index], "a crop of an earlier visit"
                visited[index].add(visit)
    assert set(visited) == set(range(sections[-1].turn_length))


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_a_section_is_another(order: Order) -> None:
    """Of as many pairs in the same turn: else a section would begin as the run did."""
    again = grown(order, (Section(0, 50), Section(4, 50)))
    assert again.episode(4).indices.tolist() != again.episode(0).indices.tolist()
    assert again.episode(4).visits.min() == 4
    assert grown(order).episode(4).indices.tolist() == grown(order).episode(4).indices.tolist()


def test_groups_of_the_rows_before_keep_their_batches() -> None:
    """New values change the order of all values: numbers before, and now texts."""
    before = np.array([str(number % 25) for number in range(50)], dtype=object)
    after = np.concatenate([before, np.array(["7b", "", "15", "8b", "9b", "1c", "2c"] * 3, dtype=object)])
    ends = [section.turn_length for section in SECTIONS]
    numbers = group_numbers_in_sections(after, ends)
    assert group_numbers(after)[:50].tolist() != group_numbers(before).tolist()
    assert numbers[:50].tolist() == group_numbers(before).tolist()
    assert numbers[:70].tolist() == group_numbers_in_sections(after, ends[:2]).tolist()
    same = group_numbers(after)
    assert all((numbers == numbers[row]).tolist() == (same == same[row]).tolist() for row in range(71))
    assert sorted(set(numbers.tolist())) == list(range(numbers.max() + 1))
    first, plan = grown("shuffled", SECTIONS[:1], numbers[:50]), grown("shuffled", SECTIONS, numbers)
    for number in range(3):
        episode = plan.episode(number)
        np.testing.assert_array_equal(plan.batches(episode), first.batches(first.episode(number)))


def test_steps_and_passes_of_sections() -> None:
    """Three episodes of 10 steps of 8 pairs go 4.8 times through 50 pairs, two 2.286 times through 70."""
    assert passes_of(SECTIONS, 30, 10, 8) == pytest.approx(4.8)
    assert passes_of(SECTIONS, 50, 10, 8) == pytest.approx(4.8 + 160 / 70)
    assert passes_of(SECTIONS, 60, 10, 8) == pytest.approx(4.8 + 160 / 70 + 80 / 71)
    assert steps_of(SECTIONS, 4.8, 10, 8) == 30
    assert steps_of(SECTIONS, 4.9, 10, 8) == 31
    assert steps_of(SECTIONS, 10, 10, 8) == 50 + int(np.ceil((10 - 4.8 - 160 / 70) * 71 / 8))
    assert steps_of(SECTIONS, 1e-9, 10, 8) == 1
    for passes in (0.3, 1, 7, 33):
        assert steps_of(SECTIONS[:1], passes, 10, 8) == max(1, int(np.ceil(passes * 50 / 8)))
        assert passes_of(SECTIONS[:1], 17, 10, 8) == 17 * 8 / 50


def test_a_section_that_was_not_reached_is_replaced() -> None:
    assert with_more_pairs(SECTIONS, 5, 80) == (*SECTIONS[:2], Section(5, 80))
    assert with_more_pairs(SECTIONS, 2, 80) == (SECTIONS[0], Section(2, 80))
    assert [section_number(SECTIONS, episode) for episode in (0, 2, 3, 4, 5, 99)] == [0, 0, 1, 1, 2, 2]


def test_only_more_pairs_make_a_section() -> None:
    before = RowsBefore(RowsAtFirst(50, None), 71, (), SECTIONS, 6)
    assert sections_now(None, 9) == (Section(0, 9),)
    assert sections_now(before, 71) == SECTIONS
    assert sections_now(before, 70) == (Section(0, 70),)
    assert sections_now(before, 72) == (*SECTIONS, Section(6, 72))
