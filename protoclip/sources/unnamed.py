"""Pictures in the folder of a table that no row names: left out by name, as rows without a picture are."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from protoclip.contract.addresses import AddressError
from protoclip.contract.picture_folders import ALL_EXTENSIONS, Skipped

from .files import DataFile, is_address, join, resolved, text_to_name
from .part import Part

NOT_NAMED = "no row names it"


def expect_pictures(parts: Sequence[Part], folder: str, files: Sequence[DataFile]) -> None:
    """Gives each table of a folder the pictures that lie in its own folder or below; archives have none.

    Pictures that lie below no table's folder are those of all tables.
    """
    pictures = [file for file in files if file.suffix in ALL_EXTENSIONS]
    folders = tuple({f"{part.folder}/" if part.folder != folder else "" for part in parts})
    elsewhere = tuple(file for file in pictures if not file.address.startswith(folders))
    for part in parts:
        if not part.archive:
            below = f"{part.folder}/" if part.folder != folder else ""
            own = [file for file in pictures if file.address.startswith(below)]
            part.pictures = (*own, *elsewhere) if own else elsewhere


class UnnamedPictures:
    """The pictures that rows are to name, less those that were."""

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        self._left = {_key(file.address): file.address for part in parts for file in part.pictures}

    def strike_out(self, part: Part, names: Any) -> None:
        """Takes off what the rows with these names, an Arrow array of the part, lead to."""
        from pyarrow import types

        if not part.pictures or not self._left:
            return
        if types.is_struct(names.type):
            if "path" not in [names.type.field(place).name for place in range(names.type.num_fields)]:
                return
            names = names.field("path")
        for name in names.to_pylist():
            if isinstance(name, str) and name:
                self._strike_out(part.folder, text_to_name(name))

    def pass_over(self, part: Part) -> None:
        """Takes off all pictures of a part that is not read."""
        for file in part.pictures:
            self._left.pop(_key(file.address), None)

    def left_out(self) -> list[Skipped]:
        """Those that are left, in their order."""
        return [Skipped(address, NOT_NAMED) for address in self._left.values()]

    def _strike_out(self, folder: str, name: str) -> None:
        try:
            place = join(folder, resolved(name) if ":" in name else name)
        except AddressError:
            return
        self._left.pop(_key(place), None)


def _key(address: str) -> str:
    """The same for all ways to write a place: with `./`, `\\`, links to folders, composed letters or not."""
    if is_address(address):
        return unicodedata.normalize("NFC", address)
    folder, _, name = address.replace("\\", "/").rpartition("/")
    return f"{_real(folder)}/{unicodedata.normalize('NFC', name)}"


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return unicodedata.normalize("NFC", os.path.realpath(folder or "."))
