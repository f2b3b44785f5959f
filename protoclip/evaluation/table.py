"""An evaluation as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from .measure import KS
from .scores import Cell, Evaluation, Score


def evaluation_tables(evaluation: Evaluation) -> Iterator[Table]:
    """Retrieval; then one table a class column; then the prototypes, where there are any. All in percent."""
    yield _retrieval_table(evaluation)
    for column in evaluation.probes:
        yield _classification_table(evaluation, column)
    if evaluation.clusters:
        yield _cluster_table(evaluation)


def percent(score: Score | float | None) -> str:
    """`0.405` → `40.5`; a dash for none."""
    if score is None:
        return "–"
    return f"{100 * (score.value if isinstance(score, Score) else score):.1f}"


def _retrieval_table(evaluation: Evaluation) -> Table:
    headers = [f"{direction} R@{k}" for direction in ("i→t", "t→i") for k in KS]
    table = _table("Retrieval, %", ["cell", "pictures", "texts", *headers, "gap"])
    for name, cell in evaluation.cells.items():
        both = (cell.retrieval.image_to_text, cell.retrieval.text_to_image)
        recalls = [percent(scores[k]) for scores in both for k in KS]
        table.add_row(name, _pictures(cell), str(cell.num_texts), *recalls, f"{cell.geometry.gap:.2f}")
    return table


def _classification_table(evaluation: Evaluation, column: str) -> Table:
    known = {
        name: cell.classification[column]
        for name, cell in evaluation.cells.items()
        if column in cell.classification
    }
    ways = list(dict.fromkeys(way for found in known.values() for way in found.zero_shot))
    num_classes = next((found.num_classes for found in known.values()), 0)
    title = f"Classification by {column} ({num_classes} classes), % right"
    table = _table(title, ["cell", *(f"zero-shot {way}" for way in ways), "linear probe", "k-NN", "majority"])
    for name, found in known.items():
        scores = [
            *(found.zero_shot.get(way) for way in ways),
            found.linear_probe,
            found.neighbours,
            found.majority,
        ]
        table.add_row(name, *map(percent, scores))
    return table


def _cluster_table(evaluation: Evaluation) -> Table:
    table = _table("Prototypes", ["side", "column", "clusters", "items", "NMI", "ARI", "purity", "size entropy"])
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


def _table(title: str, headers: list[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="")
    for number, header in enumerate(headers):
        table.add_column(header, justify="left" if number == 0 or header == "column" else "right")
    return table


def _pictures(cell: Cell) -> str:
    return f"{cell.num_images}" + (f" (−{cell.num_skipped} unreadable)" if cell.num_skipped else "")
