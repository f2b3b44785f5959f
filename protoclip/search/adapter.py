"""An adapter: a map that stands in for embedding again, and how much of what a search finds is lost by it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from protoclip.contract.errors import ConfigError, IndexFileError, VerdictError

from .adapter_fit import LinearMap, choices, fit_best
from .adapter_recall import Recall, measure_recall
from .vectors import Array

NUM_QUERIES = 1000
"""How many of the entries are asked for; more make the interval no narrower than it need be."""


@dataclass(frozen=True)
class AdapterOptions:
    """Which entries are mapped instead of embedded, and how good the map has to be.

    Attributes:
        mode: "missing": those that can't be embedded; "all": all but those that the map is fitted on.
        fit_on: how many entries that are embedded the map is fitted on, at most.
        min_recall: the least recall with which the index goes over to the new model.
        rank: of the map; None: full.
        captions: the field of the metadata that holds a text for an entry, by which searches by text are measured;
            None: the one that is called like a caption, if there is one.
    """

    mode: Literal["missing", "all"]
    fit_on: int = 5000
    min_recall: float = 0.95
    rank: int | None = None
    captions: str | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for another value."""
        if self.mode not in ("missing", "all"):
            raise ConfigError(f"adapter={self.mode!r} (--adapter) must be 'missing' or 'all'")
        if self.fit_on < 1:
            raise ConfigError(f"fit_on={self.fit_on} (--fit-on) must be at least 1")
        if not 0 <= self.min_recall <= 1:
            raise ConfigError(f"min_recall={self.min_recall} (--min-recall) must be between 0 and 1")


@dataclass(frozen=True)
class AdapterReport:
    """What the vectors of mapped entries are worth.

    Attributes:
        method: how the map was fitted.
        of_model: fingerprint of the model whose vectors were mapped.
        fitted_on: number of entries with both vectors.
        error: mean of 1 - cosine between an entry's mapped vector and its embedded one, of entries that the map
            was not fitted on.
        by_entry: searches by an entry, such as a picture.
        by_text: searches by captions; None: there were none.
    """

    method: str
    of_model: str
    fitted_on: int
    error: float
    by_entry: Recall
    by_text: Recall | None

    @property
    def recall(self) -> float:
        """The lower of both."""
        return min(one.mean for one in (self.by_entry, self.by_text) if one is not None)

    def to_json(self) -> str:
        """As the index holds it."""
        return json.dumps(asdict(self))


class LowRecall(VerdictError):
    """Searches among mapped vectors would find too little, so that the index stays with its model.

    Attributes:
        report: what was measured.
    """

    def __init__(self, message: str, report: AdapterReport) -> None:
        super().__init__(message)
        self.report = report


def read_report(written: Any, place: object) -> AdapterReport | None:
    """The reverse of `to_json`; None for None.

    Raises:
        IndexFileError: it is something else; `place` is the index.
    """
    if written is None:
        return None
    try:
        values = json.loads(str(written))
        recalls = {name: values[name] and Recall(**values[name]) for name in ("by_entry", "by_text")}
        return AdapterReport(**{**values, **recalls})
    except (ValueError, TypeError, KeyError) as error:
        raise IndexFileError(f"{place}: what it says of its adapter is damaged, or of a later version") from error


def make_adapter(
    old: Array, new: Array, texts: Array | None, of_model: str, options: AdapterOptions, seed: int = 0
) -> tuple[LinearMap, AdapterReport]:
    """Fits maps of `old` `[n, D]` to `new` `[n, E]`, takes the best, and measures it on entries it doesn't know.

    Every entry is mapped by a map that was fitted on others alone, and the searches are among all of them.

    Args:
        texts: `[Q, E]`, the new model's vectors of texts to search by.

    Raises:
        ConfigError: too few entries, NaN, or a rank that doesn't fit.
    """
    dim = min(old.shape[1], new.shape[1])
    found = fit_best(old, new, choices(dim, options.rank), seed)
    asked = np.sort(np.random.default_rng(seed).permutation(len(new))[:NUM_QUERIES])
    by_entry = measure_recall(new[asked], new, found.held_out, asked, seed)
    by_text = None if texts is None or not len(texts) else measure_recall(texts, new, found.held_out, seed=seed)
    return found.map, AdapterReport(str(found.choice), of_model, len(old), found.error, by_entry, by_text)


def check_recall(report: AdapterReport, min_recall: float, place: object) -> None:
    """Raises LowRecall where a search by an entry or by a text finds less than that; `place` is the index."""
    for what, recall in (("an entry", report.by_entry), ("a text", report.by_text)):
        if recall is not None and recall.mean < min_recall:
            raise LowRecall(
                f"{place}: among mapped vectors a search by {what} finds {recall} of what it finds among embedded "
                f"ones, less than min_recall={min_recall:g} (--min-recall), so it stays with its model: embed all "
                "(without --adapter), fit on more (--fit-on), or ask for less",
                report,
            )
