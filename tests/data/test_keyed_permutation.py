"""A permutation of which single places are computed, against a loop and by its statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from protoclip.data import keyed_permutation
from protoclip.data.keyed_permutation import permuted
from protoclip.data.random_numbers import generator

WORD = 2**64


def mixed(value: int) -> int:
    """SplitMix64's finaliser on Python's integers."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % WORD
    return value ^ (value >> 31)


def one(place: int, length: int, keys: list[int]) -> int:
    """`permuted`, one place at a time."""
    rows = next(side for side in range(length + 1) if side * side >= length)
    columns = math.ceil(length / rows)
    while True:
        row, column = divmod(place, columns)
        for number, key in enumerate(keys):
            if number % 2 == 0:
                row = (row + mixed((column + key) % WORD) % rows) % rows
            else:
                column = (column + mixed((row + key) % WORD) % columns) % columns
        place = row * columns + column
        if place < length:
            return place


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 101, 1000])
def test_each_place_is_that_of_a_loop(length: int) -> None:
    keys = [int(key) for key in generator(5, "a test", 3).integers(2**64, size=8, dtype=np.uint64)]
    found = permuted(np.arange(length), length, 5, "a test", 3)
    assert found.dtype == np.int64
    assert found.tolist() == [one(place, length, keys) for place in range(length)]


@pytest.mark.parametrize("length", [*range(1, 40), 997, 1024, 4095, 99_999, 1_000_003])
def test_each_index_comes_once(length: int) -> None:
    found = permuted(np.arange(length), length, 0, "a test")
    assert np.array_equal(np.sort(found), np.arange(length))


def test_a_place_does_not_depend_on_what_else_is_asked_for() -> None:
    whole = permuted(np.arange(5000), 5000, 1, "a test")
    some = np.array([4999, 3, 3, 70])
    assert np.array_equal(permuted(some, 5000, 1, "a test"), whole[some])
    assert permuted(np.zeros(0, dtype=np.int64), 5000, 1, "a test").tolist() == []


def test_the_work_is_that_of_the_places_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10^15 places, which nothing could hold."""
    hashed = 0

    def counted(value: np.ndarray) -> np.ndarray:
        nonlocal hashed
        hashed += value.size
        return mixed_of_the_code(value)

    mixed_of_the_code = keyed_permutation.mixed
    monkeypatch.setattr(keyed_permutation, "mixed", counted)
    places = np.arange(10**14, 10**14 + 1000)
    found = permuted(places, 10**15, 0, "a test")
    assert len(set(found.tolist())) == 1000
    assert found.min() >= 0
    assert found.max() < 10**15
    assert hashed <= 1.1 * 8 * 1000


def test_seeds_streams_and_numbers_give_other_permutations() -> None:
    places = np.arange(10_000)
    known = [
        permuted(places, 10_000, *key)
        for key in ((0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), (0, "a", 2), (WORD, "a", 0))
    ]
    for number, first in enumerate(known):
        for second in known[:number]:
            # Of two independent permutations one place is the same on average.
            assert (first == second).sum() < 10


def test_every_index_is_equally_likely_at_every_place() -> None:
    """Chi-square over 6,000 permutations of 13: 144 degrees of freedom, below 204 in 999 of 1,000."""
    length, trials = 13, 6000
    counts = np.zeros((length, length))
    for number in range(trials):
        counts[np.arange(length), permuted(np.arange(length), length, 0, "a test", number)] += 1
    assert _chi_square(counts, trials / length) < 204


def test_every_pair_of_indices_is_equally_likely_at_two_places() -> None:
    """Of neighbours, which too few rounds would keep together: 90 pairs, below 136 in 999 of 1,000."""
    length, trials = 10, 9000
    counts = np.zeros((length, length))
    for number in range(trials):
        first, second = permuted(np.array([4, 5]), length, 0, "a test", number)
        counts[first, second] += 1
    assert counts.trace() == 0
    expected = trials / (length * (length - 1))
    assert _chi_square(counts[~np.eye(length, dtype=bool)], expected) < 136


def test_an_index_says_nothing_about_its_place() -> None:
    """Correlations of 100,003 independent numbers lie within 0.0165 in more than 999,999 of 1,000,000 cases."""
    length = 100_003
    places = np.arange(length)
    for number in range(5):
        found = permuted(places, length, 0, "a test", number)
        assert abs(np.corrcoef(places, found)[0, 1]) < 0.0165
        assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.0165
        # Runs of neighbours: in a random permutation, two of all places on average, upwards and downwards.
        assert (np.abs(np.diff(found)) == 1).sum() < 14
        # Parts of the data come evenly over the turn: 16 × 16 fields, 225 degrees of freedom.
        counts = np.histogram2d(places, found, bins=16, range=[[0, length], [0, length]])[0]
        assert _chi_square(counts, length / 256) < 300


def test_the_mean_place_of_every_index_is_the_middle() -> None:
    """Over 400 permutations of 301: the mean of uniform places has a standard deviation of 4.34."""
    length, trials = 301, 400
    total = np.zeros(length)
    for number in range(trials):
        total[permuted(np.arange(length), length, 0, "a test", number)] += np.arange(length)
    deviations = (total / trials - (length - 1) / 2) / 4.34
    assert np.abs(deviations).max() < 4.5
    assert deviations.std() == pytest.approx(1, abs=0.15)


def _chi_square(counts: np.ndarray, expected: float) -> float:
    return float(((counts - expected) ** 2 / expected).sum())
