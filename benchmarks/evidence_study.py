"""What was run: the JSON file from which pages, tables and charts are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from evidence_arms import BASELINE, LONG
from evidence_concepts import over_concepts
from evidence_measures import MEASURES, Measured
from pydantic import BaseModel, ConfigDict

from protoclip.evaluation.paired import CONFIDENCE

Ends = tuple[float, float, float]
"""A mean and its interval's ends, in percent."""


class Study(BaseModel):
    """What was run: by arm and seed. Seeds that an arm lacks were not finished.

    Attributes:
        concepts: by arm and measure, the difference to plain CLIP with its interval over concepts, made from the
            runs when the study is written; none where a run kept no hits by concept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    part: str
    date: str
    machine: str
    command: str
    model: str
    steps: int
    pairs_seen: int
    episode: int
    prototypes: int
    planned_seeds: list[int]
    runs: Mapping[str, Mapping[int, Measured]]
    corpus: Literal["icons", "bundled"] = "icons"
    digests: dict[str, str] = {}
    concepts: dict[str, dict[str, Ends]] = {}

    @property
    def seeds(self) -> list[int]:
        """Those that all arms have finished, in the planned order, up to the first that one lacks."""
        complete: list[int] = []
        for seed in self.planned_seeds:
            if not all(seed in runs for runs in self.runs.values()):
                break
            complete.append(seed)
        return complete

    def values(self, arm: str, measure: str) -> list[float]:
        """In the order of `seeds`."""
        return [self.runs[arm][seed].values[measure] for seed in self.seeds]

    @property
    def num_comparisons(self) -> int:
        """Of this table, and never fewer than the family of the main comparison: its measures on two corpora."""
        return max(2, len(self.compared)) * len(MEASURES)

    @property
    def level(self) -> float:
        """Of each interval of the table, in [0, 1]."""
        return 1 - (1 - CONFIDENCE) / self.num_comparisons

    @property
    def compared(self) -> list[str]:
        """The arms that are held against plain CLIP, at equal steps."""
        return [arm for arm in self.runs if arm not in (BASELINE, LONG)]

    def of_seeds(self, arm: str) -> list[Measured]:
        """The arm's runs, in the order of `seeds`."""
        return [self.runs[arm][seed] for seed in self.seeds]

    @property
    def has_curves(self) -> bool:
        """Whether every run measured validation parts while it was trained."""
        return all(run.curve for arm in self.runs for run in self.of_seeds(arm))

    def with_concepts(self) -> Study:
        """The study with `concepts` made anew."""
        found: dict[str, dict[str, Ends]] = {}
        for arm in self.compared:
            for measure in MEASURES:
                runs, baseline = self.of_seeds(arm), self.of_seeds(BASELINE)
                interval = over_concepts(runs, baseline, measure, self.num_comparisons)
                if interval is not None:
                    found.setdefault(arm, {})[measure] = (interval.mean, interval.low, interval.high)
        return self.model_copy(update={"concepts": found})
