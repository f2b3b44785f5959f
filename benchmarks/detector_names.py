"""How well names alone tell a category that was held out from those that are known, beside detectors from
pictures.

    python benchmarks/detector_names.py runs/demo/emoji.index runs/demo/artifact --result FILE

Each category of the index is a stranger in turn, all others are known. A detector from names is given those of the
known, by category, by subcategory or each picture's own, and no picture; one from pictures learns from half of the
known. The other half is compared with the strangers. Intervals: 1,000 times known pictures and strangers are drawn
with replacement, each time of one of five splits, the same for all detectors.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protoclip import Client, Detector
from protoclip.contract.files import write_text
from protoclip.detection.fitting import fit_detector, fit_from_names
from protoclip.detection.measures import auroc, false_positive_rate
from protoclip.detection.vocabulary import bundled_words, without_names
from protoclip.search import Index

PICTURES = ("neighbours", "mahalanobis", "mixture", "max_softmax")
BASELINE = "pictures: neighbours"
FIELDS = ("category", "subcategory", "label")
TEMPLATES = ("plain", "icon")
NEGATIVES = (0, 100, 1000, 5000)
SEEDS = (0, 1, 2, 3, 4)
UNCALIBRATED = 0.5

NOTES = """\
One model, so no interval over seeds of training. It is the demo's: the things that these pictures show, those
of strangers too, were in its training data in other styles, with these very names among their texts. So each
picture's own name is the best case of names, and strangers are near: categories of the same corpus. A
detector from names is given all names of the known, one from pictures half of their pictures with categories
as classes."""

Scores = NDArray[np.float64]
Fit = Callable[[NDArray[np.int64], int], Detector]


@dataclass(frozen=True)
class Pictures:
    """Attributes:
    vectors: `[N, D]`.
    fields: `[N]` values of each field.
    """

    vectors: NDArray[np.float32]
    fields: dict[str, NDArray[np.str_]]


@dataclass(frozen=True)
class Compared:
    """Scores of known pictures and of strangers, of one stranger and split."""

    known: Scores
    strangers: Scores


def read_pictures(path: Path) -> Pictures:
    with Index.open(path) as index:
        entries = list(index.iterate())
    fields = {field: np.array([str(entry.metadata[field]) for entry in entries]) for field in FIELDS}
    return Pictures(np.stack([entry.vector for entry in entries]), fields)


def arms(pictures: Pictures, client: Client) -> Iterator[tuple[str, Fit]]:
    """What makes each detector from the rows of the known that it may learn from, and a seed."""
    for kind in PICTURES:
        yield f"pictures: {kind}", partial(_from_pictures, pictures, kind)
    for templates in TEMPLATES:
        vocabulary = without_names(bundled_words(), [])
        words = client.class_bank(vocabulary, templates).vectors
        for field in FIELDS:
            names = np.unique(pictures.fields[field])
            bank = client.class_bank(names.tolist(), templates).vectors
            for count in NEGATIVES:
                kind = f"{count:,} negatives" if count else "MCM"
                make = partial(
                    _from_names, pictures.fields[field], names, bank, np.array(vocabulary), words, count
                )
                yield f"names by {field}, {templates}: {kind}", make


def _from_pictures(pictures: Pictures, kind: str, rows: NDArray[np.int64], seed: int) -> Detector:
    return fit_detector(pictures.vectors[rows], pictures.fields["category"][rows].tolist(), kind=kind, seed=seed)


def _from_names(
    values: NDArray[np.str_],
    names: NDArray[np.str_],
    bank: NDArray[np.float32],
    vocabulary: NDArray[np.str_],
    words: NDArray[np.float32],
    count: int,
    rows: NDArray[np.int64],
    seed: int,
) -> Detector:
    known = np.isin(names, values[rows])
    usable = np.isin(vocabulary, without_names(vocabulary, names[known].tolist()))
    return fit_from_names(
        bank[known],
        labels=names[known].tolist(),
        words=words[usable] if count else None,
        num_negatives=max(count, 1),
    )


def compared(pictures: Pictures, fit: Fit, stranger: str, seed: int, *, by_names: bool) -> Compared:
    """Names are those of all known pictures: whoever lists them lists all."""
    categories = pictures.fields["category"]
    known = np.random.default_rng(seed).permutation(np.flatnonzero(categories != stranger))
    learned, unseen = known[: len(known) // 2], known[len(known) // 2 :]
    detector = fit(known if by_names else learned, seed)
    others = np.flatnonzero(categories == stranger)
    return Compared(detector.score(pictures.vectors[unseen]), detector.score(pictures.vectors[others]))


def drawn_means(found: list[list[Compared]], num_resamples: int) -> Scores:
    """The mean AUROC over strangers of each draw, `[num_resamples]`; all detectors have the same draws."""
    random = np.random.default_rng(0)
    means = np.zeros(num_resamples)
    for draw in range(num_resamples):
        areas = []
        for one in found[draw % len(found)]:
            known = random.integers(len(one.known), size=len(one.known))
            strangers = random.integers(len(one.strangers), size=len(one.strangers))
            areas.append(auroc(one.known[known], one.strangers[strangers]))
        means[draw] = np.mean(areas)
    return means


def report(command: str, size: str, results: dict[str, list[list[Compared]]], num_resamples: int) -> str:
    """The table, best first."""
    drawn = {name: drawn_means(found, num_resamples) for name, found in results.items()}
    lines = [
        "# What names alone tell of strangers, beside pictures",
        "",
        f"`{command}`, Python {platform.python_version()}: {size}, {len(SEEDS)} splits of the known, "
        f"{num_resamples:,} draws. Percent; intervals of 95 %.",
        "",
        f"| detector | AUROC, mean | minus {BASELINE.removeprefix('pictures: ')} | FPR at 95 % | at a score of "
        f"{UNCALIBRATED}: known, strangers accepted |",
        "|---|---|---|---:|---|",
    ]
    areas = {
        name: 100 * np.mean([auroc(c.known, c.strangers) for run in f for c in run]) for name, f in results.items()
    }
    for name in sorted(results, key=lambda name: -areas[name]):
        pairs = [one for run in results[name] for one in run]
        missed = 100 * np.mean([false_positive_rate(one.known, one.strangers) for one in pairs])
        shares = [[float((scores >= UNCALIBRATED).mean()) for scores in (c.known, c.strangers)] for c in pairs]
        known, strangers = 100 * np.mean(shares, axis=0)
        cut = f"{known:.0f}, {strangers:.0f}" if "negatives" in name else ""
        less = (
            ""
            if name == BASELINE
            else f"{areas[name] - areas[BASELINE]:.1f} ({_interval(drawn[name] - drawn[BASELINE])})"
        )
        lines.append(f"| {name} | {areas[name]:.1f} ({_interval(drawn[name])}) | {less} | {missed:.1f} | {cut} |")
    return "\n".join([*lines, "", NOTES, ""])


def _interval(values: Scores) -> str:
    low, high = 100 * np.quantile(values, [0.025, 0.975])
    return f"{low:.1f} to {high:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("artifact", type=Path, help="the model of the index")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    pictures = read_pictures(given.index)
    strangers = np.unique(pictures.fields["category"]).tolist()
    with Client(str(given.artifact)) as client:
        results = {
            name: [
                [compared(pictures, fit, one, seed, by_names=name.startswith("names")) for one in strangers]
                for seed in SEEDS
            ]
            for name, fit in arms(pictures, client)
        }
    counts = ", ".join(f"{len(np.unique(pictures.fields[field])):,} of {field}" for field in FIELDS)
    held_out = f"each of {len(strangers)} categories held out in turn"
    size = f"{len(pictures.vectors):,} pictures, {held_out}; names: {counts}"
    command = f"python benchmarks/detector_names.py {given.index} {given.artifact}"
    text = report(command, size, results, given.resamples)
    print(text)
    if given.result is not None:
        write_text(given.result, text)


if __name__ == "__main__":
    main()
