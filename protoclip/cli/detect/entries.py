"""The embeddings that `protoclip detect` works on: entries of an index. `N` entries, `D` embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.cli.app import console
from protoclip.contract.errors import ConfigError, DataError


@dataclass(frozen=True)
class Entries:
    """Attributes:
    source: where they are from.
    ids: `[N]`.
    vectors: `[N, D]` float32.
    labels: `[N]` values of the asked field, as text; "" where an entry has none, or no field was asked for.
    groups: `[N]`, as the labels, of another field.
    model: prefix of the model that made the vectors.
    fingerprint: of that model.
    """

    source: str
    ids: tuple[str, ...]
    vectors: NDArray[np.float32]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    model: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.ids)

    def with_label(self) -> Entries:
        """Those that have a label."""
        rows = [row for row, label in enumerate(self.labels) if label]
        return Entries(
            self.source,
            tuple(self.ids[row] for row in rows),
            self.vectors[rows],
            tuple(self.labels[row] for row in rows),
            tuple(self.groups[row] for row in rows),
            self.model,
            self.fingerprint,
        )


def read_entries(
    source: str, where: Sequence[str], field: str | None = None, group_by: str | None = None
) -> Entries:
    """The entries of an index that fit all conditions.

    Args:
        source: its folder or address.
        where: conditions as of `protoclip search`.
        field: whose values are the labels.
        group_by: whose values are the groups.

    Raises:
        ConfigError: a condition that is none, or a field that no entry has.
        DataError: no entry fits.
        IndexFileError: there is no index, or it is damaged.
    """
    from protoclip.cli.client.conditions import where_of
    from protoclip.search import open_index

    ids, vectors, labels, groups, num_mapped = [], [], [], [], 0
    with open_index(source) as index:
        for entry in index.iterate(where_of(where)):
            ids.append(entry.id)
            vectors.append(entry.vector)
            num_mapped += entry.mapped
            labels.append(_text(entry.metadata, field))
            groups.append(_text(entry.metadata, group_by))
        model, fingerprint = index.model, index.fingerprint
    if not ids:
        raise DataError(f"{source}: no entry fits" if where else f"{source}: the index is empty")
    for option, name, values in (("--label", field, labels), ("--group-by", group_by, groups)):
        if name is not None and not any(values):
            raise ConfigError(f"{option} {name}: no entry of {source} has it: name a field of its metadata")
    if num_mapped:
        console.print(
            f"{source}: {num_mapped} vectors are an adapter's, and none of the model itself", markup=False
        )
    return Entries(source, tuple(ids), np.stack(vectors), tuple(labels), tuple(groups), model, fingerprint)


def _text(metadata: Mapping[str, Any], field: str | None) -> str:
    value = metadata.get(field) if field is not None else None
    return "" if value is None else str(value)
