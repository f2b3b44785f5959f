"""What the arguments of `embed` and `classify` stand for: pictures, and all that holds pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from protoclip.cli.reading import ReadingOptions, errors_as_options
from protoclip.client.errors import BadItem
from protoclip.contract.addresses import AddressError, shown
from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped
from protoclip.sources import Pairs, read_pairs
from protoclip.sources.files import is_address, join, resolved
from protoclip.sources.layouts import KINDS, files_of_pattern, folder_of_pictures
from protoclip.sources.listing import find_file, is_folder
from protoclip.sources.stored import ImageColumn, RowPicture, StoredPicture

from .inputs import Inputs, one_picture
from .standard_input import STANDARD_INPUT, StandardInput


def picture_inputs(arguments: Iterable[str], reading: ReadingOptions, stdin: StandardInput) -> Inputs:
    """The pictures that are named, and those of folders, tables, shards and patterns, in this order.

    A file of no such kind is taken for a picture whatever its name. What can't be read (a URL, a missing file, a
    damaged table) is a bad item.

    Raises:
        ConfigError: data can be read in two ways, a column can't be told, or standard input is closed or taken.
    """
    inputs = Inputs()
    for argument in arguments:
        try:
            if argument == STANDARD_INPUT:
                inputs.add(argument, one_picture(argument, stdin))
            else:
                with errors_as_options():
                    _add(inputs, resolved(argument), reading)
        except (AddressError, BadItem, DataError) as error:
            inputs.failed.append(Skipped(shown(argument) or "''", str(error)))
    return inputs


def _add(inputs: Inputs, path: str, reading: ReadingOptions) -> None:
    files = files_of_pattern(path)
    if files is not None and any(fitting.suffix not in KINDS for fitting in files):
        for fitting in files:
            _add(inputs, str(fitting), reading)
        return
    file = find_file(path)
    if file is not None and file.suffix not in KINDS:
        _add_picture(inputs, path)
    elif files is not None or file is not None or is_address(path) or is_folder(path):
        _add_source(inputs, path, reading)
    else:
        # A pipe, a device, or nothing: the client says which.
        _add_picture(inputs, path)


def _add_picture(inputs: Inputs, path: str) -> None:
    if is_address(path):
        inputs.add(path, StoredPicture(path, path))
    else:
        inputs.add(str(Path(path)), Path(path))


def _add_source(inputs: Inputs, path: str, reading: ReadingOptions) -> None:
    options = reading.of(path, texts=False)
    # Without Arrow, which a client need not have installed.
    tree = folder_of_pictures(options)
    if tree is None:
        _add_rows(inputs, path, read_pairs(options))
        return
    for name in tree.pictures:
        _add_picture(inputs, join(tree.folder, name))
    inputs.failed += tree.others


def _add_rows(inputs: Inputs, path: str, pairs: Pairs) -> None:
    images = pairs.images
    assert isinstance(images, ImageColumn)
    for row in range(len(images)):
        if images.are_in_table:
            name = images.name(row)
            inputs.add(f"{path}: {f'row {pairs.places[row]}' if name is None else name}", RowPicture(images, row))
        else:
            inputs.add(str(images[row]), images[row])
    inputs.failed += pairs.left_out
