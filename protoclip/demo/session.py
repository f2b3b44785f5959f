"""The demo's requests to the served model: an index, searches, classifications, latencies."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from protoclip import Client, Index
from protoclip.client import Embeddings, Hit
from protoclip.config.schema import RunConfig
from protoclip.data.random_numbers import generator
from protoclip.data.table import read_options
from protoclip.evaluation.subsets import label_texts
from protoclip.run_report.embedded import Embedded, Vectors
from protoclip.search.pictures import picture_names
from protoclip.sources import Pairs

from .report_contents import ClassificationPanel, Latency, SearchHit, SearchPanel

SEARCHED_SPLIT = "unseen_style"
ASKED_SPLIT = "unseen_both"
_SHOWN_HITS = 8
_SHOWN_CLASSES = 3
_NUM_CLASSIFICATIONS = 9
_NUM_REQUESTS = 50
_BATCH = 32


@dataclass(frozen=True)
class ServedAnswers:
    """The answers, ready for the report."""

    searches: tuple[SearchPanel, ...]
    classifications: tuple[ClassificationPanel, ...]
    latencies: tuple[Latency, ...]
    embedded: Embedded


def ask_served_model(
    url: str, pairs: Pairs, config: RunConfig, index_path: Path, artifact: Path, bars: Progress
) -> ServedAnswers:
    """Embeds everything, indexes the pictures of the style that was never trained on, searches by texts and by a
    picture, and classifies.

    Args:
        pairs: all that `config.data` reads.
        artifact: that is served; the index names it.

    Raises:
        ProtoclipError: the server or the index failed.
    """
    with Client(url) as client:
        embedded = _embed(client, pairs, config.data.group_column, bars)
        is_searched = pairs.column("split") == SEARCHED_SPLIT
        searched = embedded.select(is_searched)
        shown = searched.pairs
        pictures = [shown.read_image(row) for row in range(len(shown))]
        ids = [name for name, chosen in zip(picture_names(pairs), is_searched, strict=True) if chosen]
        index = _build_index(client, searched, ids, config, index_path, artifact)
        by_id = dict(zip(ids, pictures, strict=True))
        queries = corpus_queries(shown)
        searches = [_search(client, index, by_id, query) for query in queries]
        searches.append(_search_by_picture(client, index, by_id, shown))
        classifications = _classify(client, shown, pictures, config.train.seed)
        latencies = _measure(client, pictures, queries, bars)
    return ServedAnswers(tuple(searches), classifications, latencies, embedded)


def corpus_queries(shown: Pairs) -> list[str]:
    """What the report searches for: of each category the concept whose code has the smallest MD5, by its label.

    A function of the corpus alone, so that nobody could choose those that a model finds.
    """
    smallest: dict[str, tuple[str, str]] = {}
    rows = zip(shown.column("category"), shown.column("concept"), shown.texts, strict=True)
    for category, concept, texts in rows:
        drawn = hashlib.md5(str(concept).encode()).hexdigest(), texts[0]
        smallest[str(category)] = min(drawn, smallest.get(str(category), drawn))
    return [smallest[category][1] for category in sorted(smallest)]


def _embed(client: Client, pairs: Pairs, group_column: str | None, bars: Progress) -> Embedded:
    labels = label_texts(pairs, group_column)
    pictures = (pairs.read_image(row) for row in range(len(pairs)))
    image_vectors = _vectors(client.stream_images(pictures), "embed pictures", len(pairs), bars)
    text_vectors = _vectors(client.stream_texts(labels.texts), "embed texts", len(labels.texts), bars)
    return Embedded(pairs, image_vectors, labels, text_vectors)


def _vectors(parts: Iterable[Embeddings], what: str, total: int, bars: Progress) -> Vectors:
    task = bars.add_task(what, total=total)
    found = []
    for part in parts:
        if part.errors:
            raise part.errors[0]
        found.append(part.vectors)
        bars.advance(task, len(part.vectors))
    return np.concatenate(found)


def _build_index(
    client: Client, searched: Embedded, ids: Sequence[str], config: RunConfig, path: Path, artifact: Path
) -> Index:
    model = client.model
    index = Index.create(
        path,
        model.fingerprint,
        model.embedding_dim,
        model=model.prefix,
        artifact=str(artifact.resolve()),
        pictures=read_options(config.data),
        replace=True,
    )
    names = ("concept", *config.evaluation.class_columns)
    columns = {name: searched.pairs.column(name).astype(str).tolist() for name in names}
    metadata = [
        {"label": searched.label(row), **{name: values[row] for name, values in columns.items()}}
        for row in range(len(searched))
    ]
    index.add(searched.image_vectors, ids, metadata)
    return index


def _search(client: Client, index: Index, pictures: Mapping[str, bytes], query: str) -> SearchPanel:
    return _panel(query, client.search(index, text=query, k=_SHOWN_HITS), pictures)


def _search_by_picture(client: Client, index: Index, pictures: Mapping[str, bytes], shown: Pairs) -> SearchPanel:
    name, picture = next(
        one for one, texts in zip(pictures.items(), shown.texts, strict=True) if texts[0] == "dolphin"
    )
    hits = client.search(index, image=picture, k=_SHOWN_HITS + 1)
    others = [hit for hit in hits if hit.id != name][:_SHOWN_HITS]
    return SearchPanel("pictures like this", _panel("", others, pictures).hits, picture)


def _panel(query: str, hits: Sequence[Hit], pictures: Mapping[str, bytes]) -> SearchPanel:
    found = tuple(SearchHit(pictures[hit.id], hit.metadata["label"], hit.score) for hit in hits)
    return SearchPanel(query, found)


def _classify(
    client: Client, shown: Pairs, pictures: Sequence[bytes], seed: int
) -> tuple[ClassificationPanel, ...]:
    """Pictures drawn by the run's seed, each among the labels of all."""
    truths = [texts[0] for texts in shown.texts]
    labels = sorted(set(truths))
    rows = generator(seed, "shown classifications").choice(len(shown), _NUM_CLASSIFICATIONS, replace=False)
    answers = client.classify([pictures[row] for row in rows], labels, templates="plain")
    panels = []
    for row, answer in zip(rows, answers, strict=True):
        best = sorted(answer.scores.items(), key=lambda item: -item[1])[:_SHOWN_CLASSES]
        panels.append(ClassificationPanel(pictures[row], truths[row], tuple(best)))
    return tuple(panels)


def _measure(
    client: Client, pictures: Sequence[bytes], texts: Sequence[str], bars: Progress
) -> tuple[Latency, ...]:
    kinds: list[tuple[str, int, Callable[[int], object]]] = [
        ("one picture", 1, lambda i: client.embed_images(pictures[i % len(pictures)])),
        (f"{_BATCH} pictures", _BATCH, lambda i: client.embed_images(pictures[i * _BATCH :][:_BATCH])),
        ("one text", 1, lambda i: client.embed_texts(texts[i % len(texts)])),
    ]
    task = bars.add_task("measure latencies", total=len(kinds))
    found = []
    for name, items, request in kinds:
        found.append(_latency(name, items, request))
        bars.advance(task)
    return tuple(found)


def _latency(name: str, items: int, request: Callable[[int], object]) -> Latency:
    request(0)
    seconds = []
    for number in range(_NUM_REQUESTS):
        started = time.perf_counter()
        request(number)
        seconds.append(time.perf_counter() - started)
    p50, p95 = np.percentile(seconds, [50, 95])
    return Latency(name, p50 * 1000, p95 * 1000, _NUM_REQUESTS, items * _NUM_REQUESTS / sum(seconds))
