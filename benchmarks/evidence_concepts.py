"""What other concepts would have given: a bootstrap over concepts of the difference averaged over seeds.

The same concepts are drawn for both arms and all seeds. It stands beside Student's interval over seeds, which says
what other seeds would give on these concepts; the protocol quotes the wider one where they disagree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from evidence_measures import Measured

from protoclip.evaluation.bootstrap import Interval
from protoclip.evaluation.paired import picture_difference


def over_concepts(
    runs: Sequence[Measured], baseline: Sequence[Measured], measure: str, num_comparisons: int
) -> Interval | None:
    """The mean over seeds of the difference, in percent, with the interval over concepts.

    Args:
        runs, baseline: of the same seeds in the same order.
        num_comparisons: of the whole table (Bonferroni).

    Returns:
        None where a run kept no hits by concept, or other concepts than the first: they can't be drawn.
    """
    kept = [*runs, *baseline]
    if not kept or not all(run.sizes.get(measure) for run in kept):
        return None
    sizes = kept[0].sizes[measure]
    if any(run.sizes[measure] != sizes for run in kept):
        return None
    ours, theirs = (np.mean([run.hits[measure] for run in arm], axis=0) / sizes for arm in (runs, baseline))
    # A concept's pictures are drawn together: each has the concept's mean.
    concepts = np.repeat(np.arange(len(sizes)), sizes)
    found = picture_difference(100 * ours[concepts], 100 * theirs[concepts], concepts, num_comparisons)
    return Interval(*(round(value, 3) for value in (found.mean, found.low, found.high)))
