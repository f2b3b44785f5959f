"""Searches for what isn't there: how many find nothing, and how many answers that costs, on the bundled corpus.

    python benchmarks/nothing_matches.py runs/demo/artifact

Of the concepts' groups half are learned from, the other half asked for: half of these groups are not in the index.
No text of what is asked for is known to the calibration: its entries have no caption.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protoclip import Client, Index
from protoclip.contract.files import write_text
from protoclip.data.table import load_pairs
from protoclip.demo.run import demo_config
from protoclip.reports.charts import Frame, Line, line_chart
from protoclip.search import Calibration, Hit, RelevanceWarning
from protoclip.search.relevance.calibrating import most_relevant
from protoclip.search.relevance.reliability import Judged, bins_of, calibration_error, cut_at, cut_that_keeps

SEEDS = (0, 1, 2, 3, 4)
LEAST_EMPTY, MOST_ERROR = 0.8, 0.05
GROUPS = {"subcategory": "whole kinds", "concept": "single concepts"}
COLUMNS = (
    "index; what is missing",
    "an answer is among ten",
    "**nothing found, at 90 % of answers kept**",
    "the same by the cosine, at its best",
    "kept at the advised value",
    "nothing found there",
    "calibration error",
    "of each query's most relevant hit",
    "`calibrate` said: nothing found",
    "`calibrate` said: error",
)
STYLE = """<style>
svg { background: #fff; font-family: sans-serif } .grid { stroke: #ddd } .tick { fill: #555; font-size: 12px }
.line { fill: none; stroke-width: 2 } .c0 { stroke: #999; stroke-dasharray: 4 4 } .c1 { stroke: #1769aa }
.c2 { stroke: #c0392b }
</style>"""


@dataclass(frozen=True)
class Corpus:
    """Pictures `[N, D]` with their columns `[N]`, and the texts `[C, D]` of the concepts by their order."""

    images: NDArray[np.float32]
    columns: dict[str, NDArray[np.str_]]
    concepts: NDArray[np.str_]
    labels: list[str]
    texts: NDArray[np.float32]


@dataclass(frozen=True)
class Run:
    """One seed: what the nearest ten of each query are by relevance and by cosine, and what was said before."""

    relevance: list[Judged]
    cosine: list[Judged]
    calibration: Calibration


def read_corpus(client: Client) -> Corpus:
    pairs = load_pairs(demo_config().data)
    columns = {name: np.array(pairs.column(name)) for name in ("concept", "subcategory", "split")}
    columns["label"] = np.array([pairs.texts[row][0] for row in range(len(pairs))])
    images = np.asarray(client.embed_images([pairs.read_image(row) for row in range(len(pairs))]))
    concepts, first = np.unique(columns["concept"], return_index=True)
    labels = columns["label"][first].tolist()
    return Corpus(images, columns, concepts, labels, np.asarray(client.embed_texts(labels)))


def one_run(client: Client, corpus: Corpus, shown: NDArray[np.bool_], group: str, seed: int, folder: Path) -> Run:
    """An index of the pictures `shown`, less those of the groups that are taken out."""
    rng = np.random.default_rng(seed)
    groups = np.unique(corpus.columns[group][shown])
    asked = groups[rng.random(len(groups)) < 0.5]
    gone = asked[rng.random(len(asked)) < 0.5]
    rows = np.flatnonzero(shown & ~np.isin(corpus.columns[group], gone))
    facts = [
        {
            "concept": str(corpus.columns["concept"][row]),
            "group": str(corpus.columns[group][row]),
            **({} if corpus.columns[group][row] in asked else {"label": str(corpus.columns["label"][row])}),
        }
        for row in rows
    ]
    with Index.create(folder / f"{seed}", client.model.fingerprint, corpus.images.shape[1], replace=True) as index:
        index.add(corpus.images[rows], [str(row) for row in rows], facts)
        calibration = index.calibrate(client, "label", group="group")
        of_concept = dict(zip(corpus.columns["concept"], corpus.columns[group], strict=True))
        there = set(corpus.columns["concept"][shown])
        queries = [row for row, name in enumerate(corpus.concepts) if name in there and of_concept[name] in asked]
        found = index.search(corpus.texts[queries], 10, min_relevance=0.0, query_kind="text")
    is_gone = {name for name, one in of_concept.items() if one in gone}
    names = [str(corpus.concepts[row]) for row in queries]
    return Run(
        *(
            [judged(hits, name, name not in is_gone, value) for hits, name in zip(found, names, strict=True)]
            for value in (lambda hit: hit.relevance, lambda hit: hit.score)
        ),
        calibration,
    )


def judged(hits: Sequence[Hit], concept: str, has_answer: bool, value: Callable[[Hit], float]) -> Judged:
    truth = np.array([hit.metadata["concept"] == concept for hit in hits], dtype=np.bool_)
    return Judged(np.array([value(hit) for hit in hits], dtype=np.float64), truth, has_answer)


def found_share(run: Run) -> float:
    """Of the queries with an answer, those that have one among the ten nearest."""
    return float(np.mean([one.truth.any() for one in run.relevance if one.has_answer]))


def row_of(name: str, runs: Sequence[Run]) -> str:
    best = [cut_that_keeps(run.relevance) for run in runs]
    cosine = [cut_that_keeps(run.cosine) for run in runs]
    advised = [cut_at(run.relevance, run.calibration.text.advised.value) for run in runs]
    bins = [bins_of(run.relevance) for run in runs]
    told = [run.calibration.text for run in runs]
    values = [
        [found_share(run) for run in runs],
        [cut.empty for cut in best],
        [cut.empty for cut in cosine],
        [cut.kept for cut in advised],
        [cut.empty for cut in advised],
        [calibration_error(one) for one in bins],
        [calibration_error(bins_of([most_relevant(one) for one in run.relevance])) for run in runs],
        [one.advised.empty for one in told],
        [one.error for one in told],
    ]
    return "| " + " | ".join([name, *map(_spread, values)]) + " |"


def verdict(name: str, runs: Sequence[Run]) -> str:
    """Whether what was asked for was reached, by the means over seeds."""
    empty = np.mean([cut_that_keeps(run.relevance).empty for run in runs])
    errors = [
        np.mean([calibration_error(bins_of(run.relevance)) for run in runs]),
        np.mean([run.calibration.text.error for run in runs]),
    ]
    told = [f"{'' if error <= MOST_ERROR else 'not '}reached, {100 * error:.1f}" for error in errors]
    return (
        f"- {name}: {'' if empty >= LEAST_EMPTY else 'not '}reached, {100 * empty:.1f} %; the error where nothing "
        f"of what is asked for was known, {told[0]}, and where captions of its like are references, as "
        f"`calibrate` measures it, {told[1]}"
    )


def _spread(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.1f} ({100 * min(values):.0f} to {100 * max(values):.0f})"


def diagram(series: Sequence[tuple[str, Sequence[Run]]]) -> str:
    """The reliability of all seeds together, as SVG by itself."""
    lines = [Line("as probable as said", 0, (0.0, 1.0), (0.0, 1.0))]
    for style, (name, runs) in enumerate(series, start=1):
        bins = bins_of([one for run in runs for one in run.relevance])
        lines.append(Line(name, style, [one.relevance for one in bins], [one.share for one in bins]))
    svg = str(line_chart(lines, Frame(520, 380, "relevance", "share of answers")))
    head, _, rest = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{STYLE}{rest}\n'


def report(given: argparse.Namespace, series: Sequence[tuple[str, Sequence[Run]]], picture: str) -> str:
    count = sum(len(one.truth) > 0 for one in series[0][1][0].relevance)
    lines = [
        "# Searches for what isn't there",
        "",
        f"`python benchmarks/nothing_matches.py {given.artifact}`, Python {platform.python_version()}, NumPy "
        f"{np.__version__}: the bundled corpus, {len(SEEDS)} seeds, about {count} queries each, which are labels "
        "of concepts that the calibration knew nothing of; half of their groups were taken out of the index. "
        "Percent, mean and range over seeds. A hit is an answer where it is of the very concept.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|---|{'---:|' * (len(COLUMNS) - 1)}",
        *(row_of(name, runs) for name, runs in series),
        "",
        "Asked for were 80 % of the empty queries that find nothing at 90 % of the answers kept, and an error of "
        "at most 5 points:",
        "",
        *(verdict(name, runs) for name, runs in series),
        "",
        f"![Reliability]({picture})",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--result", type=Path, help="FILE.md, with its diagram in FILE.svg")
    given = parser.parse_args()
    warnings.simplefilter("ignore", RelevanceWarning)
    with Client(str(given.artifact)) as client, tempfile.TemporaryDirectory() as folder:
        corpus = read_corpus(client)
        split = corpus.columns["split"]
        places = {
            "all styles of the concepts that the model was trained on": np.isin(split, ["train", "unseen_style"]),
            "one unseen style of these": split == "unseen_style",
        }
        series = [
            (f"{place}; {said}", [one_run(client, corpus, shown, group, seed, Path(folder)) for seed in SEEDS])
            for group, said in GROUPS.items()
            for place, shown in places.items()
        ]
    picture = "nothing_matches.svg" if given.result is None else given.result.with_suffix(".svg").name
    text = report(given, series, picture)
    print(text)
    if given.result is not None:
        write_text(given.result, text)
        write_text(given.result.with_suffix(".svg"), diagram(series[::2]))


if __name__ == "__main__":
    main()
