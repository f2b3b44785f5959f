"""The classes of a zero-shot classification with their vectors. `C` classes, `M` templates, `D` embedding."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from protoclip.contract.errors import ConfigError
from protoclip.contract.zero_shot import find_templates, normalised

from .class_bank_file import ClassBankRecord, read_class_bank, write_class_bank
from .discovery import ServedModel
from .results import Embeddings
from .transport import Array

TextStream = Callable[[Iterable[str]], Iterator[Embeddings]]


@dataclass(frozen=True, eq=False)
class ClassBank:
    """Classes whose texts one model has embedded, for `Client.classify` in place of labels.

    Attributes:
        labels: `[C]`, each once.
        templates: `[M]`, texts with one `{}` each; a class has the text of each.
        vectors: `[C, D]` float32: the mean of each class's text vectors, normalised.
        model: prefix of the model that made them, such as `emoji_ab12cd`.
        fingerprint: of its weights and preprocessing.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    vectors: Array
    model: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the bank to one file, which takes the place of an older one.

        Raises:
            ProtoclipError: it can't be written.
        """
        record = ClassBankRecord(
            model=self.model, fingerprint=self.fingerprint, labels=self.labels, templates=self.templates
        )
        write_class_bank(Path(path), record, self.vectors)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Reads what `save` wrote.

        Raises:
            ModelError: no such file, another kind of file, or a damaged one.
        """
        record, vectors = read_class_bank(Path(path))
        return cls(record.labels, record.templates, vectors, record.model, record.fingerprint)

    def check_model(self, model: ServedModel) -> None:
        """Raises ConfigError where another model than `model` made the vectors."""
        if self.fingerprint != model.fingerprint:
            raise ConfigError(
                f"the classes were embedded by {self.model} ({self.fingerprint}), and pictures would be by "
                f"{model.prefix} ({model.fingerprint}): embed them anew, with Client.class_bank or `protoclip "
                "classes build`"
            )


def embed_classes(
    labels: Sequence[str], templates: str | Sequence[str], model: ServedModel, stream: TextStream
) -> ClassBank:
    """The classes as `model` embeds them; memory holds their sums, never all texts.

    Args:
        labels: of `class_labels`.
        templates: as of `find_templates`.
        stream: embeds texts by batches, in order.

    Raises:
        ConfigError: no labels, one that can't be encoded, or invalid templates.
    """
    found = find_templates(templates)
    if not labels:
        raise ConfigError("labels is empty: give at least one class")
    sums = np.zeros((len(labels), model.embedding_dim), dtype=np.float32)
    for part in stream(template.replace("{}", label) for label in labels for template in found):
        if part.errors:
            error = part.errors[0]
            raise ConfigError(f"label {labels[error.position // len(found)]!r} can't be encoded: {error.reason}")
        owners = (part.start + np.arange(len(part.vectors))) // len(found)
        np.add.at(sums, owners, part.vectors)
    return ClassBank(tuple(labels), found, normalised(sums), model.prefix, model.fingerprint)
