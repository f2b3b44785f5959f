"""Parts of the study's page beside the main table: other concepts, equal time, steps for equal quality."""

from __future__ import annotations

from evidence_arms import BASELINE, LONG
from evidence_curves import at_equal_time, steps_needed
from evidence_measures import MEASURES
from evidence_study import Ends, Study
from evidence_tables import ends, interval, row, rule, signed

from protoclip.evaluation.paired import Verdict, estimate, paired_difference, verdict, verdict_of


def concepts(study: Study) -> list[str]:
    """The table of intervals over concepts; nothing where runs kept no hits by concept."""
    if not study.concepts:
        return []
    lines = [
        "",
        "## With other concepts",
        "The difference averaged over the seeds, and its interval by a bootstrap that draws whole concepts, the",
        "same ones for both arms and all seeds, corrected as above. It says what other concepts would give these",
        "runs. *Better* or *worse* only where this interval and the one over seeds exclude 0.",
        "",
        row(["arm", *MEASURES]),
        rule(len(MEASURES) + 1),
    ]
    for arm, found in study.concepts.items():
        cells = [_over_concepts(study, arm, measure, found[measure]) for measure in MEASURES]
        lines.append(row([arm, *cells]))
    return lines


def _over_concepts(study: Study, arm: str, measure: str, found: Ends) -> str:
    mean, low, high = found
    values = study.values(arm, measure), study.values(BASELINE, measure)
    words = {verdict_of(low, high), verdict(paired_difference(*values, study.num_comparisons))}
    word = words.pop() if len(words) == 1 else Verdict.UNCLEAR
    return f"{signed(mean)} ({ends(low, high)}): {word}"


def equal_time(study: Study) -> list[str]:
    """What each arm has when the shorter one of a seed's pair ended; nothing where no time was taken."""
    lines = []
    for arm in study.compared if study.has_curves else []:
        pairs = zip(study.of_seeds(arm), study.of_seeds(BASELINE), strict=True)
        found = [at_equal_time(*pair) for pair in pairs]
        known = [one for one in found if one is not None]
        if known and len(known) == len(found):
            ratio = sum(one.ratio for one in known) / len(known)
            difference = estimate([one.value - one.baseline for one in known], study.num_comparisons)
            lines.append(row([arm, f"{ratio:.2f}", f"{interval(difference)}: {verdict(difference)}"]))
    if not lines:
        return []
    return [
        "",
        "## At equal time",
        "Recall at 5 of unseen concepts on the learning curve, by linear interpolation, when the shorter run of a",
        "seed's pair ended: secondary. Time is the processor's, validation included, since other work on the",
        "machine counts least in it; it is no benchmark.",
        "",
        row(["arm", "time a step by plain CLIP's", "difference to plain CLIP, R@5"]),
        rule(3),
        *lines,
    ]


def equal_quality(study: Study) -> list[str]:
    """After how many steps plain CLIP has what each arm ends with."""
    if not study.has_curves:
        return []
    reference = LONG if LONG in study.runs else BASELINE
    lines = []
    for arm in study.compared:
        pairs = zip(study.of_seeds(arm), study.of_seeds(reference), strict=True)
        found = [steps_needed(*pair) for pair in pairs]
        lines.append(
            row([arm, ", ".join("more" if one is None else f"{one:.2f}" for one in found), _mean(found, study)])
        )
    trained = "three times the steps" if reference == LONG else "as many steps, so that more than 1 can't be read"
    return [
        "",
        "## Steps for equal quality",
        f"Steps after which plain CLIP, trained for {trained}, has the recall at 5 that the arm",
        "ends with, by the arm's steps, from the learning curves: more than 1 speaks for the arm. Secondary.",
        "",
        row(["arm", "each seed", f"mean ± half the interval of {100 * study.level:.2f} %"]),
        rule(3),
        *lines,
    ]


def _mean(found: list[float | None], study: Study) -> str:
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return f"none: {len(found) - len(known)} of {len(found)} were not reached"
    if len(known) < 2:
        return "one seed"
    mean = estimate(known, study.num_comparisons)
    return f"{mean.mean:.2f} ± {mean.half_width:.2f}"
