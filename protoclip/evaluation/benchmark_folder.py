"""Data sets in clip_benchmark's layout: shards in a folder for each split, class names and templates beside them.

A folder holds `SPLIT/0.tar`, `SPLIT/1.tar`, … with `SPLIT/nshards.txt`. Of a data set for classification a sample
is a picture with a `.cls`, the number of its class; `classnames.txt` and `zeroshot_classification_templates.txt`,
with `{c}` for the name, lie beside. Where `dataset_type.txt` says `retrieval`, it is a picture with a `.txt`, a
caption a line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from protoclip.contract.errors import ConfigError, DataError
from protoclip.sources import Pairs, ReadOptions, read_pairs

from .classify import Classes, ClassTexts, vectors_of
from .features import MeasuredModel
from .scores import Evaluation
from .subsets import label_texts
from .unfitted import Embed, evaluate_unfitted

SHARDS_FILE = "nshards.txt"
TYPE_FILE = "dataset_type.txt"
NAMES_FILE = "classnames.txt"
TEMPLATES_FILE = "zeroshot_classification_templates.txt"
WAY = "its templates"
CLASS = "class"


@dataclass(frozen=True)
class BenchmarkData:
    """A split of such a data set.

    Attributes:
        name: the folder's.
        split: which part.
        pairs: of classification with the class's name as text, and its number in the column `class`; of retrieval
            with all captions.
        class_names: by number; none of retrieval.
        templates: with `{c}`; none of retrieval.
    """

    name: str
    split: str
    pairs: Pairs
    class_names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()

    def class_texts(self) -> ClassTexts:
        """Every class name in every template, as it is written."""
        texts = tuple(template.replace("{c}", name) for name in self.class_names for template in self.templates)
        return ClassTexts(texts, np.repeat(np.arange(len(self.class_names)), len(self.templates)))


def is_benchmark_folder(path: str, split: str) -> bool:
    """Whether `path` is a folder in this layout with such a split."""
    return (Path(path) / split / SHARDS_FILE).is_file()


def read_benchmark_folder(folder: Path, split: str = "test", *, max_left_out: float = 0.5) -> BenchmarkData:
    """Reads one split.

    Raises:
        DataError: a file is missing or can't be used; names it.
        ConfigError: a data set with several classes a picture.
    """
    kind = _lines(folder / TYPE_FILE)[0].lower() if (folder / TYPE_FILE).is_file() else "classification"
    if kind not in ("classification", "retrieval"):
        raise ConfigError(f"{folder / TYPE_FILE}: {kind}: classification and retrieval are read, not this")
    (count,) = _lines(folder / split / SHARDS_FILE)[:1]
    if not count.isdecimal() or not int(count):
        raise DataError(f"{folder / split / SHARDS_FILE}: {count!r} is no number of shards")
    shards = tuple(str(folder / split / f"{number}.tar") for number in range(int(count)))
    pairs = read_pairs(ReadOptions(shards, texts=kind == "retrieval", max_left_out=max_left_out))
    if kind == "retrieval":
        captions = tuple(
            tuple(line.strip() for text in texts for line in text.splitlines() if line.strip())
            for texts in pairs.texts
        )
        return BenchmarkData(folder.name, split, replace(pairs, texts=captions))
    names, templates = _lines(folder / NAMES_FILE), _lines(folder / TEMPLATES_FILE)
    bad = next((template for template in templates if "{c}" not in template), None)
    if bad is not None:
        raise DataError(f"{folder / TEMPLATES_FILE}: {bad!r} has no {{c}} where the class's name goes")
    return BenchmarkData(folder.name, split, _with_classes(pairs, names, folder), names, templates)


def _with_classes(pairs: Pairs, names: tuple[str, ...], folder: Path) -> Pairs:
    numbers = [str(value) for value in pairs.column("cls").tolist()]
    for place, number in enumerate(numbers):
        if not number.isdecimal() or int(number) >= len(names):
            known = f"the {len(names)} of {folder / NAMES_FILE}"
            raise DataError(f"{pairs.picture_place(place)}: class {number!r} is none of {known}")
    texts = tuple((names[int(number)],) for number in numbers)
    column = np.array([str(int(number)) for number in numbers], dtype=object)
    return replace(pairs, texts=texts, columns={CLASS: column})


def _lines(path: Path) -> tuple[str, ...]:
    try:
        found = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read: {error}") from error
    if found == ("",):
        raise DataError(f"{path}: is empty")
    if "" in found:
        # Left out, it would give all classes behind it the number of another.
        raise DataError(f"{path}: line {found.index('') + 1} is empty: remove it, or say what it stands for")
    return found


def evaluate_benchmark(
    model: MeasuredModel,
    data: BenchmarkData,
    *,
    batch_size: int = 256,
    seed: int = 0,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Zero-shot classification with the data set's own names and templates, or retrieval among all captions.

    The one subset is called after folder and split. Nothing is fitted, so there are no probes; every picture is a
    group of its own in the intervals.

    Raises:
        DataError: no picture can be read, or a text can't be used.
        ModelError: embeddings that are not finite.
    """

    def classes(embed: Embed) -> list[Classes]:
        if not data.class_names:
            return []
        texts = data.class_texts()
        vectors = vectors_of(texts, embed(texts.texts), len(data.class_names))
        return [Classes(CLASS, tuple(map(str, range(len(data.class_names)))), {WAY: vectors})]

    return evaluate_unfitted(
        model,
        f"{data.name} {data.split}",
        data.pairs,
        labels=lambda good: replace(label_texts(good, None), groups=np.arange(len(good))),
        classes=classes,
        captions="label" if data.class_names else "all",
        batch_size=batch_size,
        seed=seed,
        on_batch=on_batch,
    )
