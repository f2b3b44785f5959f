"""The plan: the order of the pairs. `N` pairs, `m` in an episode, `B` in a global batch.

A position is a pair's place in an episode, an index its place in the data. Episode e is the slice
[e·m, (e+1)·m) of concatenated permutations of the data, the turns, so no pair is repeated before all came once.
With weights a pair comes in a turn as often as `WeightedSources` says.
Where a run went on with more pairs, a section begins, in which episodes and turns are counted anew.
The plan is a pure function of (seed, episode, order, sections): the same on every rank and any number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError

from .batches import Requests
from .keyed_permutation import permuted
from .random_numbers import generator
from .sections import Section, section_number
from .weighted_sources import WeightedSources

Order = Literal["shuffled", "keyed"]
"""How a turn is permuted. shuffled: by NumPy, all N at once; keyed: by `permuted`, only the places asked for."""

SMALLEST_KEYED = 1_000_000


@dataclass(frozen=True)
class Episode:
    """One episode's pairs.

    Attributes:
        number: from 0.
        indices: [m], places in the data.
        visits: [m], how many permutations were begun before; of one section: how often each pair came in them.
    """

    number: int
    indices: NDArray[np.int64]
    visits: NDArray[np.int64]


def requests_for(
    episode: Episode, positions: NDArray[np.int64], repeat: int, repeats: int, views: int = 1
) -> Requests:
    """What to load for the `positions` [B] of an episode that is trained on `repeats` times.

    Args:
        views: each pair comes so often in a row, cropped differently: [B · views].
    """
    positions, view = np.repeat(positions, views), np.tile(np.arange(views), len(positions))
    visits = (episode.visits[positions] * repeats + repeat) * views + view
    return Requests(positions, episode.indices[positions], visits)


class Plan:
    """All episodes of a run.

    Args:
        num_pairs: N, in the last section.
        size: m as requested; the plan takes the smaller of it and the length of its first turns, rounded down to
            whole batches.
        batch_size: B.
        seed: of the run.
        groups: [N] group of each pair, small numbers from 0 on, or None; a batch holds each group at most once.
            The batches of a section depend on the order of its groups: see `group_numbers_in_sections`.
        num_left_out: pairs that could not be read; a group may have up to this many pairs more than an episode
            has batches, and then a batch can hold it twice.
        order: by default keyed for `SMALLEST_KEYED` pairs or more, and shuffled for fewer.
        weighted: how often each pair comes in a turn; None: once. No batch holds a pair twice then.
        sections: of a run that went on with more pairs, without weights; by default one of all pairs.

    Raises:
        ConfigError: a batch is larger than the data, or a group, or with weights a pair, may come in an episode
            more often than there are batches.
    """

    def __init__(
        self,
        num_pairs: int,
        size: int,
        batch_size: int,
        seed: int,
        groups: NDArray[np.int64] | None = None,
        num_left_out: int = 0,
        order: Order | None = None,
        weighted: WeightedSources | None = None,
        sections: Sequence[Section] | None = None,
    ) -> None:
        self.turn_length = num_pairs if weighted is None else weighted.length
        self.sections = tuple(sections or (Section(0, self.turn_length),))
        assert self.sections[-1].turn_length == self.turn_length
        longest = min(self.sections[0].turn_length, size)
        if batch_size > longest:
            raise ConfigError(
                f"train.batch_size={batch_size} is more than the pairs in an episode "
                f"({longest}): lower it, or give more pairs"
            )
        self.num_pairs, self.batch_size, self.seed, self.groups = num_pairs, batch_size, seed, groups
        self.order: Order = order or ("keyed" if num_pairs >= SMALLEST_KEYED else "shuffled")
        self.weighted = weighted
        self.size = longest // batch_size * batch_size
        self.num_batches = self.size // batch_size
        self._recent: dict[int, Episode] = {}
        if groups is not None:
            self._check_groups(groups, num_left_out)
        if weighted is not None:
            self._check_weights(weighted)

    def episode(self, number: int) -> Episode:
        """The pairs of an episode, O(m) in a keyed order and O(N) in a shuffled one; the last two are cached."""
        if number not in self._recent:
            self._recent = dict([*self._recent.items(), (number, self._draw(number))][-2:])
        return self._recent[number]

    def _draw(self, number: int) -> Episode:
        own = section_number(self.sections, number)
        section = self.sections[own]
        start = (number - section.first_episode) * self.size
        positions = np.arange(start, start + self.size)
        turns = positions // section.turn_length
        indices = np.empty(self.size, dtype=np.int64)
        visits = turns.astype(np.int64) + self._turns_before(own)
        for turn in range(int(turns[0]), int(turns[-1]) + 1):
            here = turns == turn
            indices[here] = self._permuted(own, turn, positions[here] % section.turn_length)
            if self.weighted is not None:
                indices[here], visits[here] = self.weighted.at(turn, indices[here])
        return Episode(number, indices, visits)

    def _permuted(self, section: int, turn: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        length = self.sections[section].turn_length
        stream = "permutation" if section == 0 else f"permutation of section {section}"
        if self.order == "keyed":
            return permuted(places, length, self.seed, f"keyed {stream}", turn)
        return generator(self.seed, stream, turn).permutation(length)[places]

    def _turns_before(self, section: int) -> int:
        """How many turns were begun in earlier sections: no pair comes with the crop of an earlier visit."""
        return sum(
            -(-(later.first_episode - own.first_episode) * self.size // own.turn_length)
            for own, later in pairwise(self.sections[: section + 1])
        )

    def batches(self, episode: Episode, repeat: int = 0) -> NDArray[np.int64]:
        """Positions in the episode, `[m/B, B]`; each position once, each group at most once in a row.

        In an episode that spans two permutations a group's pairs can occur twice; only if the group then has
        more pairs than the episode has batches, a row holds it twice.
        """
        rng = generator(self.seed, f"batches of repeat {repeat}", episode.number)
        if self.groups is None and self.weighted is None:
            return rng.permutation(self.size).reshape(self.num_batches, self.batch_size)
        groups = episode.indices if self.groups is None else self.groups[episode.indices]
        order = self._group_by_group(groups, rng)
        # A group's members are adjacent in `order`: assigning them to consecutive batches keeps them apart.
        dealt = order.reshape(self.batch_size, self.num_batches).T
        return rng.permuted(dealt[rng.permutation(self.num_batches)], axis=1)

    @staticmethod
    def _group_by_group(groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        _, inverse = np.unique(groups, return_inverse=True)
        rank = rng.permutation(inverse.max() + 1)[inverse]
        return np.lexsort((rng.random(len(groups)), rank))

    def _check_groups(self, groups: NDArray[np.int64], num_left_out: int) -> None:
        counts = np.bincount(groups)
        most, often = counts, counts
        if self.weighted is not None:
            often = np.bincount(groups, weights=self.weighted.pair_weights)
            most = np.bincount(groups, weights=np.ceil(self.weighted.pair_weights)).astype(np.int64)
        largest = int(most.max())
        expected = float(often.max()) * self.size / self.turn_length
        # A group's number of pairs in an episode is hypergeometric: four standard deviations is a safe bound.
        in_episode = min(largest, math.ceil(expected + 4 * math.sqrt(expected)))
        if in_episode > self.num_batches + num_left_out:
            way_out = "lower train.batch_size or leave data.group_column out"
            if len(self.sections) > 1:
                way_out = "let fewer of the rows that were added be of that group"
            raise ConfigError(
                f"data.group_column: group number {counts.argmax()} has {largest} pairs, up to "
                f"{in_episode} in an episode of {self.num_batches} batches, and a batch holds each group at most "
                f"once: {way_out}"
            )

    def _check_weights(self, weighted: WeightedSources) -> None:
        in_episode = weighted.most_in_turn * (2 if self.turn_length % self.size else 1)
        if in_episode > self.num_batches:
            raise ConfigError(
                f"data.weights: a pair of weight {max(weighted.weights):g} comes up to {in_episode} times in an "
                f"episode of {self.num_batches} batches, and a batch holds each pair at most once: lower the "
                "weight or train.batch_size"
            )
