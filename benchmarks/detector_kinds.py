"""Which kind of detector tells a category that was held out from those that are known, on an index of pictures.

    python benchmarks/detector_kinds.py runs/demo/emoji.index --label category

Each value of the label is a stranger in turn, all others are known: half of their pictures are learned from and
set the threshold, the other half are compared with the strangers by AUROC.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.files import write_text
from protoclip.detection.fitting import fit_detector
from protoclip.detection.measures import auroc, false_positive_rate
from protoclip.search import Index

KINDS = ("mixture", "mixture_posterior", "mahalanobis", "neighbours", "energy", "max_softmax")
ARMS = (
    *(
        (f"{kind}, {'' if centre else 'not '}centred", {"kind": kind, "centre": centre})
        for kind in KINDS
        for centre in (True, False)
    ),
    *((f"mixture of {count}, not centred", {"kind": "mixture", "per_class": count}) for count in (1, 2, 4, 8)),
    *((f"neighbours, k = {k}, not centred", {"kind": "neighbours", "k": k}) for k in (1, 2, 10, 20)),
)
SEEDS = (0, 1, 2, 3, 4)


def measured(
    vectors: NDArray[np.float32], labels: NDArray[np.str_], classes: NDArray[np.str_], stranger: str, seed: int
) -> dict[str, tuple[float, float]]:
    """AUROC and FPR at 95 % of every arm, with `stranger` held out and one split of the known."""
    known = np.random.default_rng(seed).permutation(np.flatnonzero(labels != stranger))
    learned, unseen = known[: len(known) // 2], known[len(known) // 2 :]
    others = np.flatnonzero(labels == stranger)
    found = {}
    for name, settings in ARMS:
        detector = fit_detector(vectors[learned], classes[learned].tolist(), seed=seed, **settings)  # type: ignore[arg-type]
        scores = detector.score(vectors[unseen]), detector.score(vectors[others])
        found[name] = auroc(*scores), false_positive_rate(*scores)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--label", required=True, help="field whose values are strangers in turn")
    parser.add_argument("--classes", help="field with the classes of the known; default: that of --label")
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    with Index.open(given.index) as index:
        entries = list(index.iterate())
    vectors = np.stack([entry.vector for entry in entries])
    labels = np.array([str(entry.metadata[given.label]) for entry in entries])
    classes = np.array([str(entry.metadata[given.classes or given.label]) for entry in entries])
    runs = [
        [measured(vectors, labels, classes, stranger, seed) for stranger in np.unique(labels).tolist()]
        for seed in SEEDS
    ]
    text = report(given, len(entries), len(np.unique(labels)), len(np.unique(classes)), runs)
    print(text)
    if given.result is not None:
        write_text(given.result, text)


def report(
    given: argparse.Namespace,
    count: int,
    held_out: int,
    classes: int,
    runs: list[list[dict[str, tuple[float, float]]]],
) -> str:
    """The table, best first."""
    values = {name: np.array([[one[name] for one in run] for run in runs]) for name, _ in ARMS}
    rows = sorted(values.items(), key=lambda item: -float(item[1][..., 0].mean()))
    lines = [
        "# Which detector tells a category that was held out",
        "",
        f"`python benchmarks/detector_kinds.py {given.index} --label {given.label}"
        + (f" --classes {given.classes}" if given.classes else "")
        + f"`, Python {platform.python_version()}: {count:,} pictures, each of {held_out} values held out in "
        f"turn, {classes} classes, {len(SEEDS)} splits of the known into learned and compared. Percent.",
        "",
        "| detector | AUROC, mean | least and largest over splits | hardest and easiest held out | FPR at 95 % |",
        "|---|---:|---|---|---:|",
    ]
    for name, found in rows:
        area = 100 * found[..., 0]
        splits, kinds = area.mean(axis=1), area.mean(axis=0)
        lines.append(
            f"| {name} | {area.mean():.1f} | {splits.min():.1f} to {splits.max():.1f} | "
            f"{kinds.min():.1f} to {kinds.max():.1f} | {100 * found[..., 1].mean():.1f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
