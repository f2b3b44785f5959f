"""Which files of a folder are tables or shards to read, told by their names alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from protoclip.contract.errors import ConfigError
from protoclip.contract.picture_folders import ALL_EXTENSIONS, Skipped

from .names import split_of_file, split_of_folder
from .options import ReadOptions

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
_CAPTIONS = tuple(f"{stem}{suffix}" for stem in ("captions", "metadata") for suffix in TABLES)
# img2dataset's 00000.parquet and 00000_stats.json about its 00000.tar, folder 00000 or the table 00000.parquet.
_ABOUT_SHARD = re.compile(r"(\d+)(?:\.parquet|_stats\.json)")
_SHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z")
_COMPRESSED_TARS = (".tgz", ".txz")
_DATABASES = (".arrow", ".feather", ".orc", ".avro", ".db", ".sqlite", ".pkl")
_WAYS_OUT = {
    ".txt": "call it .csv, or .tsv where tabs part its fields and nothing is quoted",
    ".json": "write it as .jsonl, an object a line, or name it alone",
    **dict.fromkeys(_SHEETS, "save the sheet as .csv in UTF-8"),
    **dict.fromkeys(_COMPRESSED, "unpack it first"),
    **dict.fromkeys(_COMPRESSED_TARS, "unpack it, and name the .tar or its folder"),
    **dict.fromkeys(_DATABASES, "save it as .parquet or .csv"),
}


def way_out(name: str) -> str | None:
    """What to do about a file that may hold pairs and is of no kind that is read; None for any other."""
    suffix = Path(name).suffix.lower()
    if suffix in ALL_EXTENSIONS:
        return "a picture alone: name its folder, or a table that names it"
    return _WAYS_OUT.get(suffix)


@dataclass(frozen=True)
class FolderFiles:
    """The names of the files below a folder, from there on."""

    folder: str
    names: tuple[str, ...]

    @cached_property
    def about_shards(self) -> frozenset[str]:
        """What img2dataset writes about its shards: it repeats what is in them."""
        shards = {name.removesuffix(".tar") for name in self.names if name.endswith(".tar")}
        shards |= {name.rpartition("/")[0] for name in self.names}
        tables = {name.removesuffix(".parquet") for name in self.names if name.endswith(".parquet")}
        found = set()
        for name in self.names:
            folder, slash, last = name.rpartition("/")
            match = _ABOUT_SHARD.fullmatch(last)
            if match and f"{folder}{slash}{match[1]}" in (
                shards if name.endswith(".parquet") else shards | tables
            ):
                found.add(name)
        return frozenset(found)

    def pictures_first(self, options: ReadOptions) -> bool:
        """Where no captions are needed, a folder with pictures is these; tables in it are named as left out."""
        captions = any(name in _CAPTIONS for name in self.names)
        return not (options.texts or options.layout or captions) and any(
            name.lower().endswith(tuple(ALL_EXTENSIONS)) for name in self.names
        )

    def tables(self, layout: str | None) -> list[str]:
        """The names of the tables or shards that the folder is made of; none where it is made of pictures.

        Raises:
            ConfigError: it holds both, several tables of captions, one table in two formats, or splits beside
                others.
        """
        captions = self._captions()
        shards = [name for name in self.names if name.lower().endswith(".tar")]
        found = {"webdataset": shards, "table": captions or self._own_tables()}
        if layout in found:
            return self._checked(found[layout])
        if shards and found["table"]:
            raise ConfigError(
                f"data.path: {self.folder}: holds shards ({shards[0]}) and tables ({found['table'][0]}): say "
                "which with data.layout=webdataset or data.layout=table"
            )
        return self._checked(found["table"] or shards)

    def unread(self, chosen: Sequence[str]) -> list[Skipped]:
        """The files that may hold pairs too and are not among those `chosen`."""
        taken = {*chosen, *self.about_shards}
        data = (*TABLES, ".tar", *_COMPRESSED, *_COMPRESSED_TARS, *_SHEETS)
        unread = [name for name in self.names if name not in taken and name.lower().endswith(data)]
        return [Skipped(f"{self.folder}/{name}", f"not read: {chosen[0]} is") for name in unread]

    def nothing_known(self, kinds: Sequence[str], *, texts: bool) -> str:
        """Why there is nothing to read, with the way out for the first file that may hold pairs."""
        found = next((f"; {name}: {way}" for name in self.names if (way := way_out(name))), "")
        if texts:
            return f"holds no {', '.join(kinds)} file and no class folders with pictures{found}"
        return f"holds no picture, and none of {', '.join(kinds)}{found}"

    def _captions(self) -> list[str]:
        captions = [name for name in self.names if name in _CAPTIONS]
        if len(captions) > 1:
            raise ConfigError(
                f"data.path: {self.folder}: holds {' and '.join(captions)}: name the one that is wanted, such as "
                f"{self.folder}/{captions[0]}"
            )
        in_splits = [n for n in self.names if n.count("/") == 1 and n.partition("/")[2] in _CAPTIONS]
        if not captions and in_splits and all(split_of_folder(name.partition("/")[0]) for name in in_splits):
            return in_splits
        return captions

    def _own_tables(self) -> list[str]:
        """Tables at the top; else those in folders called `data` or like a split; else all Parquet files."""
        tables = [n for n in self.names if n.lower().endswith(TABLES) and n not in self.about_shards]
        in_data = [n for n in tables if all(part == "data" or split_of_folder(part) for part in n.split("/")[:-1])]
        return (
            [n for n in tables if "/" not in n] or in_data or [n for n in tables if n.lower().endswith(".parquet")]
        )

    def _checked(self, names: list[str]) -> list[str]:
        suffixes: dict[str, str] = {}
        for name in names:
            stem, _, suffix = name.rpartition(".")
            if suffixes.setdefault(stem, suffix) != suffix:
                first = f"{stem}.{suffixes[stem]}"
                raise ConfigError(
                    f"data.path: {self.folder}: {first} and {name} could be the same pairs: name the one that is "
                    f"wanted, such as {self.folder}/{first}, or both as a list in data.path"
                )
        without = [name for name in names if split_of_file(name) is None]
        if without and len(without) < len(names):
            with_split = next(name for name in names if split_of_file(name) is not None)
            raise ConfigError(
                f"data.path: {self.folder}: {with_split} is called like a split and {without[0]} is not: name "
                f"those that are wanted, such as {self.folder}/{with_split}, or a list of them"
            )
        return names
