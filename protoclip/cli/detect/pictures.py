"""What `protoclip detect` is given: indexes, or pictures to embed by the detector's model. `D` embedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from protoclip.cli.app import console
from protoclip.cli.client.connection import new_progress, tell_left_out
from protoclip.cli.client.exported import ToExport
from protoclip.cli.client.server_options import DEFAULT_URL, Server
from protoclip.cli.reading import ReadingOptions, errors_as_options
from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.contract.picture_folders import Skipped
from protoclip.detection.detector import Detector

from .entries import Entries, read_entries

if TYPE_CHECKING:
    from protoclip.client import Client
    from protoclip.sources import Pairs

CLASS = "class"


def is_index(source: str) -> bool:
    """Whether it is an index, in a folder or elsewhere, and not pictures.

    Raises:
        IndexFileError: one whose build isn't finished.
    """
    from protoclip.search.places import BUILDING_FILE, check_is_index
    from protoclip.search.stores.addresses import is_store_address

    if is_store_address(source):
        return True
    try:
        check_is_index(Path(source))
    except IndexFileError:
        if (Path(source) / BUILDING_FILE).exists():
            raise
        return False
    return True


@dataclass
class Reader:
    """Reads indexes as they are, and embeds pictures by the detector's model, which is asked when it is needed.

    To be used as a context, which ends the connection.

    Attributes:
        detector: whose model all embeddings have to be of.
        server: where its model is.
        export: the model to export and use here, in place of a server.
        reading: how pictures are read.
        sources: all that is going to be read. Where no server is named, the artifact is used that an index among
            them was built with.
    """

    detector: Detector
    server: Server
    export: ToExport | None
    reading: ReadingOptions
    sources: Sequence[str]
    _stack: ExitStack = field(default_factory=ExitStack)
    _client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def read(self, source: str, where: Sequence[str] = (), label: str | None = None) -> Entries:
        """The entries of an index, or the pictures of a folder, a table, shards or an address, embedded.

        Args:
            where: conditions, of an index alone.
            label: the field of the metadata, or column of the data, that holds the class.

        Raises:
            ConfigError: another model than the detector's, a label that is nowhere, or conditions on pictures.
            DataError: no entry fits, or there is no picture that can be embedded.
            IndexFileError, ServerError: as the index and the client raise them.
        """
        if is_index(source):
            found = read_entries(source, where, label)
            self.detector.check_model(found.fingerprint, found.model)
            return found
        if where:
            raise ConfigError(f"{source}: a condition is on metadata of an index, and this is none: leave it out")
        return self._embedded(source, label)

    def _embedded(self, source: str, label: str | None) -> Entries:
        from protoclip.search.pictures import picture_names
        from protoclip.sources import read_pairs

        with errors_as_options():
            pairs = read_pairs(self.reading.of(source, texts=False))
            names = list(picture_names(pairs))
            labels = _labels(pairs, names, label)
        client = self._connected()
        rows, vectors, failed = _embed(client, pairs, names)
        tell_left_out([*pairs.left_out, *failed], len(rows), f"left out of {source}")
        places = {names[row]: row for row in rows}
        return Entries(
            source,
            tuple(names[row] for row in rows),
            np.stack(vectors),
            tuple(labels[row] for row in rows),
            ("",) * len(rows),
            client.model.prefix,
            client.model.fingerprint,
            lambda name: pairs.read_image(places[name]),
            (*pairs.left_out, *failed),
        )

    def _connected(self) -> Client:
        """The client, whose model is the detector's."""
        if self._client is None:
            fingerprint = self.detector.fingerprint
            url = str(self.export.artifact()) if self.export is not None else self._url()
            with self.server.connected(url, fingerprint) as client:
                model = client.model_with(fingerprint) or client.model
                self.detector.check_model(model.fingerprint, model.prefix)
            server = replace(self.server, model=model.prefix)
            self._client = self._stack.enter_context(server.connected(url))
        return self._client

    def _url(self) -> str:
        from protoclip.search import open_index

        if self.server.url is not None:
            return self.server.url
        for source in self.sources:
            if is_index(source):
                with open_index(source) as index:
                    artifact, is_same = index.artifact, index.fingerprint == self.detector.fingerprint
                if is_same and artifact is not None and Path(artifact).is_dir():
                    return artifact
        console.print(
            f"pictures are embedded by the server at {DEFAULT_URL}: --url names another, or an artifact's folder",
            highlight=False,
        )
        return DEFAULT_URL


def _embed(
    client: Client, pairs: Pairs, names: Sequence[str]
) -> tuple[list[int], list[np.ndarray[Any, Any]], list[Skipped]]:
    """Rows of the pictures that could be embedded, their vectors `[D]`, and the others."""
    rows, vectors, failed = [], [], []
    with new_progress() as progress:
        task = progress.add_task("embedding", total=len(pairs))
        for part in client.stream_images(_items(pairs)):
            bad = {error.position: error.reason for error in part.errors}
            failed += [Skipped(names[row], reason) for row, reason in bad.items()]
            for row, vector in enumerate(np.asarray(part.vectors), start=part.start):
                if row not in bad:
                    rows.append(row)
                    vectors.append(vector)
            progress.advance(task, len(part.vectors))
    return rows, vectors, failed


def _items(pairs: Pairs) -> Iterator[Any]:
    from protoclip.sources.stored import PictureStream, StoredPicture

    for image in pairs.images:
        yield PictureStream(image) if isinstance(image, StoredPicture) else image


def _labels(pairs: Pairs, names: Sequence[str], label: str | None) -> list[str]:
    """Values of a column as text; `class` is the folder of each picture where there is no such column."""
    if label is None:
        return [""] * len(pairs)
    if label == CLASS and label not in pairs.columns and all("/" in name for name in names):
        return [name.partition("/")[0] for name in names]
    return ["" if value is None else str(value) for value in pairs.column(label)]
