"""The embeddings that `protoclip detect` works on, of an index or of pictures. `N` entries, `D` embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.cli.app import console
from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.picture_folders import Skipped

Picture = Callable[[str], bytes]


def no_picture(name: str) -> bytes:
    """Raises DataError: of these entries no pictures are known."""
    raise DataError(f"{name!r}: where its picture is, is not known")


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
    picture: the encoded bytes of the picture with an id; DataError where it can't be read, or isn't known.
    left_out: pictures that could not be embedded, and other files.
    """

    source: str
    ids: tuple[str, ...]
    vectors: NDArray[np.float32]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    model: str
    fingerprint: str
    picture: Picture = no_picture
    left_out: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def with_label(self) -> Entries:
        """Those that have a label."""
        rows = [row for row, label in enumerate(self.labels) if label]
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            vectors=self.vectors[rows],
            labels=tuple(self.labels[row] for row in rows),
            groups=tuple(self.groups[row] for row in rows),
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
    picture = _pictures_of_index(source)
    return Entries(
        source, tuple(ids), np.stack(vectors), tuple(labels), tuple(groups), model, fingerprint, picture
    )


def _pictures_of_index(source: str) -> Picture:
    """Reads pictures of a local index from where it was built, which is looked up at the first one."""
    from protoclip.search import Index, IndexPictures
    from protoclip.search.stores.addresses import is_store_address

    @cache
    def listed() -> IndexPictures | None:
        with Index.open(source) as index:
            try:
                return IndexPictures(index.pictures)
            except (ConfigError, DataError):
                return None

    def read(name: str) -> bytes:
        pictures = listed()
        with Index.open(source) as index:
            if pictures is None or not index.has_known_picture(name):
                return no_picture(name)
        return pictures.read(name)

    return no_picture if is_store_address(source) else read


def _text(metadata: Mapping[str, Any], field: str | None) -> str:
    value = metadata.get(field) if field is not None else None
    return "" if value is None else str(value)
