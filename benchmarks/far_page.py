"""The page of the study of far strangers: tables over seeds, and the differences between kinds of detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from protoclip.evaluation.paired import estimate, paired_difference, verdict

DEFAULT, NEAR, FAR, KNOWN = "neighbours", "near", "far, mean", "known"
MIXTURE, HEAD = "mixture of 6 a class", "PALM head, 6 a class"
SINGLE, GAUSSIAN = "one centre a class", "mahalanobis, one Gaussian"
BASELINES = (SINGLE, "energy", "max_softmax")
CHOSEN = (
    "How the far ones were chosen: textures and noise are computed (`far_made.py`). Line icons are drawn by lot "
    "from six sets in lines of one width, black on white; photographs are square crops of those free ones that "
    "scikit-image and scikit-learn carry (`far_taken.py`). Both are strangers by how they are made: some show "
    "things of which the corpus has emoji (a cat, a cup, a rocket, a clock), so that to take one for known is not "
    "wrong about the thing. Hundreds of crops of 13 photographs are no hundreds of independent pictures, and all "
    "far ones are the same for every seed: intervals over seeds say nothing of other icons or photographs."
)


class Value(NamedTuple):
    """Percent; `accepted` by the detector's own threshold."""

    auroc: float
    fpr95: float
    accepted: float


Found = dict[str, dict[str, Value]]
"""By detector, and by kind of strangers."""


def report(made: str, counts: Mapping[str, int], runs: Sequence[tuple[Found, Sequence[str]]]) -> str:
    """Three tables over the seeds, and whether what keeps several prototypes is better than what keeps one.

    Args:
        made: command, versions and model.
        counts: of far strangers, by kind.
        runs: what each seed found, with the categories that it held out.
    """
    found = [one for one, _ in runs]
    kinds = [NEAR, *counts, FAR]
    held_out = "; ".join(", ".join(names) for _, names in runs)
    far = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    lines = [
        "# Near and far strangers, by every kind of detector",
        "",
        f"{made}. {len(runs)} seeds; each holds two categories of the bundled corpus out, which are the near "
        f"strangers ({held_out}). Far: {far}, the same for all seeds. Percent; mean ± half-width of the 95 % "
        "interval over seeds.",
        "",
        CHOSEN,
        *_table("AUROC", "higher is better", found, kinds, lambda value: value.auroc),
        *_table("FPR at 95 %", "lower is better", found, kinds, lambda value: value.fpr95),
        *_table(
            "Accepted by the detector's own threshold, made for 95 % of the known",
            "of strangers lower is better; of the known 95 is wanted",
            found,
            [KNOWN, *kinds],
            lambda value: value.accepted,
        ),
        *_differences(found),
    ]
    return "\n".join([*lines, ""])


def _table(
    title: str, note: str, found: Sequence[Found], kinds: Sequence[str], pick: Callable[[Value], float]
) -> list[str]:
    lines = ["", f"## {title}", "", f"Best first by near strangers; {note}.", ""]
    lines += [f"| detector | {' | '.join(kinds).replace('_', ' ')} |", "|---|" + "---:|" * len(kinds)]
    order = sorted(found[0], key=lambda name: -float(np.mean([one[name][NEAR].auroc for one in found])))
    for name in order:
        cells = [_cell([pick(one[name][kind]) for one in found]) for kind in kinds]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell(values: Sequence[float]) -> str:
    found = estimate(values)
    return f"{found.mean:.1f}" + ("" if found.half_width is None else f" ± {found.half_width:.1f}")


def _differences(found: Sequence[Found]) -> list[str]:
    """Paired by seed, corrected for the number of comparisons of the table."""
    pairs = [(one, other) for one in (DEFAULT, MIXTURE, HEAD) for other in BASELINES]
    pairs.append((GAUSSIAN, DEFAULT))
    lines = ["", "## Differences of AUROC", "", "| what | near | | far, mean | |", "|---|---:|---|---:|---|"]
    for one, other in pairs:
        cells = []
        for kind in (NEAR, FAR):
            values = [[by_name[name][kind].auroc for by_name in found] for name in (one, other)]
            difference = paired_difference(*values, 2 * len(pairs))
            half = "" if difference.half_width is None else f" ± {difference.half_width:.1f}"
            cells += [f"{difference.mean:+.1f}{half}", str(verdict(difference))]
        lines.append(f"| {one} against {other} | {' | '.join(cells)} |")
    return [*lines, "", "The last row was chosen after a first look at the tables; the others were not."]
