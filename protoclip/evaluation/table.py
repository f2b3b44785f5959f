"""An evaluation as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from protoclip.reports.tables import narrow_table

from .measure import KS
from .scores import Evaluation, Score, Subset


def evaluation_tables(evaluation: Evaluation) -> Iterator[Table]:
    """Retrieval; then one table per class column; then the prototypes, where there are any. All in percent."""
    yield _retrieval_table(evaluation)
    columns = dict.fromkeys(name for subset in evaluation.subsets.values() for name in subset.classification)
    for column in columns:
        yield _classification_table(evaluation, column)
        yield _more_of_classes_table(evaluation, column)
    if evaluation.clusters:
        yield _cluster_table(evaluation)


def percent(score: Score | float | None) -> str:
    """`0.405` → `40.5`; a dash for none."""
    if score is None:
        return "–"
    return f"{100 * (score.value if isinstance(score, Score) else score):.1f}"


def _retrieval_table(evaluation: Evaluation) -> Table:
    headers = [f"{direction}\nR@{k}" for direction in ("i→t", "t→i") for k in KS]
    table = narrow_table(["subset", "pictures", "texts", *headers, "gap"], title="Retrieval, %")
    for name, subset in evaluation.subsets.items():
        both = (subset.retrieval.image_to_text, subset.retrieval.text_to_image)
        recalls = [percent(scores[k]) for scores in both for k in KS]
        table.add_row(name, _pictures(subset), str(subset.num_texts), *recalls, f"{subset.geometry.gap:.2f}")
    return table


def _classification_table(evaluation: Evaluation, column: str) -> Table:
    known = {
        name: subset.classification[column]
        for name, subset in evaluation.subsets.items()
        if column in subset.classification
    }
    ways = list(dict.fromkeys(way for found in known.values() for way in found.zero_shot))
    num_classes = next((found.num_classes for found in known.values()), 0)
    title = f"Classification by {column} ({num_classes} classes), % right"
    headers = ["subset", *(f"zero-shot\n{way}" for way in ways), "linear\nprobe", "k-NN", "majority"]
    table = narrow_table(headers, title=title)
    for name, found in known.items():
        scores = [
            *(found.zero_shot.get(way) for way in ways),
            found.linear_probe,
            found.neighbours,
            found.majority,
        ]
        table.add_row(name, *map(percent, scores))
    return table


def _more_of_classes_table(evaluation: Evaluation, column: str) -> Table:
    """Mean per class, calibration, and few-shot probes."""
    known = {
        name: subset.classification[column]
        for name, subset in evaluation.subsets.items()
        if column in subset.classification
    }
    names = {name: name.replace("_", " ") for found in known.values() for name in found.mean_per_class}
    ways = list(dict.fromkeys(way for found in known.values() for way in found.calibration_error))
    shots = sorted({count for found in known.values() for count in found.few_shot})
    headers = [f"per class\n{spoken}" for spoken in names.values()]
    headers += [f"calib. error\n{way}" for way in ways] + [f"{count}-shot\nprobe" for count in shots]
    table = narrow_table(
        ["subset", *headers], title=f"By {column}: mean per class, calibration error, few shots, %"
    )
    for subset, found in known.items():
        scores = [*(found.mean_per_class.get(name) for name in names), *map(found.calibration_error.get, ways)]
        table.add_row(subset, *map(percent, [*scores, *map(found.few_shot.get, shots)]))
    return table


def _cluster_table(evaluation: Evaluation) -> Table:
    headers = ["side", "column", "clusters", "items", "NMI", "ARI", "purity", "size\nentropy"]
    table = narrow_table(headers, title="Prototypes", texts=("column",))
    for found in evaluation.clusters:
        numbers = (
            found.normalized_mutual_information,
            found.adjusted_rand_index,
            found.purity,
            found.size_entropy,
        )
        counts = (str(found.num_clusters), str(found.num_items))
        table.add_row(found.side, found.column, *counts, *(f"{number:.3f}" for number in numbers))
    return table


def _pictures(subset: Subset) -> str:
    return f"{subset.num_images}" + (f" (−{subset.num_skipped} unreadable)" if subset.num_skipped else "")
