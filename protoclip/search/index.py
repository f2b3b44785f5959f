"""A search index: vectors of one model, each with id and metadata. What is in its folder: `places`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from protoclip.sources import read_pairs

from .building import BuildProgress, build_index, index_contents
from .copied_facts import read_copied, write_copied
from .opening import first_facts, new_database, opened
from .pictures import table_states
from .places import check_model_facts, check_place
from .source_record import record_of_reading, written
from .tended import TendedIndex

if TYPE_CHECKING:
    from protoclip.client import Client
    from protoclip.client.inputs import ImageItem
    from protoclip.sources import ReadOptions

    from .sources import Metadata


class Index(TendedIndex):
    """Vectors made by one model, with exact search by cosine. Made by `build`, `create` or `open`.

    What `add`, `upsert` and `remove` did is on the disk when they return: all of a call, or after an error
    nothing. One process writes at a time, and others wait for up to 5 seconds; any number read meanwhile, and each
    call sees the state of one moment, the last that was committed. May be shared between threads.

    Attributes:
        path: its folder.
        model: name of the model.
        fingerprint: of the model; only vectors of the same model can be compared.
        dim: D.
        artifact: folder of the artifact that made the vectors in the client's own process; None: a server did.
    """

    @classmethod
    def create(
        cls,
        path: str | Path,
        fingerprint: str,
        dim: int,
        *,
        model: str = "",
        artifact: str | None = None,
        pictures: ReadOptions | None = None,
        replace: bool = False,
    ) -> Index:
        """Makes an empty index for vectors of the model with `fingerprint`; `replace`: where another one is.

        `pictures`: where those lie that the vectors will be of, whose ids are those that `build` gives them; so
        `migrate` finds them, and `IndexPictures`.

        Raises:
            ConfigError: no fingerprint, or a `dim` below 1.
            DataError: `pictures` can't be read.
            IndexFileError: at `path` there is an index, or something else.
            ProtoclipError: `path` can't be written.
        """
        check_model_facts(fingerprint, dim)
        check_place(Path(path))
        facts = first_facts(model, fingerprint, dim, artifact)
        if pictures is not None:
            record = record_of_reading(pictures, table_states(read_pairs(pictures)))
            facts["sources"] = written([] if record is None else [record])
        new_database(Path(path), facts, replace=replace)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, client: Client | None = None) -> Index:
        """Opens an index, at any size in milliseconds; with `client`, checks that its server has the model.

        An index of the first format is read whole, and converted by the first call that writes.

        Raises:
            IndexFileError: no index, one whose build isn't finished, a damaged one, or one made with a model
                that the server does not have.
            ConfigError: an index of the first format, and faiss isn't installed.
        """
        database, facts = opened(Path(path))
        index = cls(Path(path), database, facts)
        if client is not None:
            index.check_served(client)
        return index

    @classmethod
    def build(
        cls,
        path: str | Path,
        client: Client,
        images: str | Path | ReadOptions | Iterable[ImageItem] | None = None,
        metadata: Metadata | None = None,
        *,
        texts: Iterable[str] | None = None,
        progress: Callable[[BuildProgress], None] | None = None,
        resume: bool = True,
    ) -> Index:
        """Embeds pictures, or texts, into an index at `path`. One that is there is replaced at the end, at once.

        Each batch is on the disk before the next one is stored. A build that was interrupted, by whatever, goes
        on when it is called again: what has been embedded isn't again, with metadata as they are now. An item that
        has changed under its id is embedded again, and so is one that can't be told from another without reading
        it: an open file, a PIL image, a single object in a store. What is no longer among the items is dropped.
        Until it is finished, `open` says so, or opens the index that was there.

        Bad items, files that are not pictures, items whose id came before, and metadata without a picture are
        left out; they are listed in `skipped`, and a SkippedWarning gives their count.

        Args:
            images: a folder, whose pictures get their path below it as id; a table, WebDataset shards, an
                address of an object store, or `ReadOptions` for these, whose other columns are metadata and
                whose pictures have the name that stands there as id; or several of what `Client.embed_images`
                takes, with the path, or else the position, as id.
            metadata: a table whose column of pictures holds ids, or a mapping from ids. Pictures that aren't
                in it have none.
            texts: instead of `images`; the position is the id, and the text is stored as metadata `text`.
            progress: called after each batch.
            resume: False starts anew, as where a file was changed and kept its size and time.

        Raises:
            ConfigError: not exactly one of `images` and `texts`, or another wrong argument.
            DataError: no good item, a missing file or column, or metadata that match no picture.
            ServerError: as the client raises it.
            IndexFileError: at `path` there is something else; IndexBusyError: another process writes to it.
            ProtoclipError: the disk is full, or `path` can't be written.
        """
        check_place(Path(path))
        contents = index_contents(images, texts, metadata)
        build_index(Path(path), client, contents, progress, resume=resume)
        index = cls.open(path)
        with index._holding_the_lock():
            index._make_segments()
        index.settle()
        return index

    def take_over(self, source: Index) -> None:
        """Has it know what `source`, whose entries it holds, knows beside them: for copies. Errors as `add`.

        That is what they were made of, which of them an adapter mapped and what was measured of it, what a build
        left out, and queries to tune with.
        """
        with source._reading() as (connection, facts):
            queries = source._snapshots.kept_queries(connection, facts, source._database)
            copied = read_copied(connection, queries)
        with self._writing() as connection:
            write_copied(connection, copied)

    def save(self) -> None:
        """Does nothing: everything is on the disk already. Here for programs of the first format's time."""

    def _mend(self) -> None:
        with Index.open(self.path) as index:
            index.settle()
