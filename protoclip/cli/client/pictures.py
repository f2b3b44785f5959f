"""What the arguments of `embed` and `classify` stand for: pictures, and all that holds pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from protoclip.cli.reading import ReadingOptions, as_options, errors_as_options
from protoclip.client.errors import BadItem
from protoclip.contract.addresses import AddressError, shown
from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped
from protoclip.sources import Pairs, read_pairs
from protoclip.sources.files import is_address, join, resolved
from protoclip.sources.layouts import NAMED_KINDS, files_of_pattern, folder_of_pictures
from protoclip.sources.listing import find_file, is_folder
from protoclip.sources.stored import ImageColumn, RowPicture, StoredPicture

from .input_files import files_at, reading_settings
from .inputs import Inputs, one_picture
from .standard_input import STANDARD_INPUT, StandardInput


def picture_inputs(arguments: Iterable[str], reading: ReadingOptions, stdin: StandardInput) -> Inputs:
    """The pictures that are named, and those of folders, tables, shards and patterns, in this order.

    A file of no such kind is taken for a picture whatever its name. A URL, a missing file and a folder without
    pictures are bad items.

    Raises:
        DataError: a table or an archive can't be read; as `read_pairs`.
        ConfigError: data can be read in two ways, a column can't be told, or standard input is closed or taken.
    """
    arguments = list(arguments)
    inputs = Inputs(settings=reading_settings(arguments, reading))
    for argument in arguments:
        try:
            if argument == STANDARD_INPUT:
                inputs.add(argument, one_picture(argument, stdin))
                continue
            paths = _paths(resolved(argument))
        except (AddressError, BadItem, DataError) as error:
            inputs.failed.append(Skipped(shown(argument) or "''", as_options(str(error))))
            continue
        with errors_as_options():
            for path in paths:
                _add(inputs, path, reading)
    return inputs


def _paths(path: str) -> list[str]:
    """The files that fit a pattern of pictures; anything else as it is."""
    files = files_of_pattern(path)
    if files is None or all(file.suffix in NAMED_KINDS for file in files):
        return [path]
    return [str(file) for file in files]


def _add(inputs: Inputs, path: str, reading: ReadingOptions) -> None:
    file = find_file(path)
    is_source = files_of_pattern(path) is not None if file is None else file.suffix in NAMED_KINDS
    if is_source or (file is None and (is_address(path) or is_folder(path))):
        _add_source(inputs, path, reading)
    else:
        if is_address(path):
            inputs.stores.append(path)
        # A pipe, a device, or nothing: the client says which.
        _add_picture(inputs, path)


def _add_picture(inputs: Inputs, path: str) -> None:
    if is_address(path):
        inputs.add(path, StoredPicture(path, path))
    else:
        inputs.add(str(Path(path)), None)


def _add_source(inputs: Inputs, path: str, reading: ReadingOptions) -> None:
    options = reading.of(path, texts=False)
    try:
        # Without Arrow, which a client need not have installed.
        tree = folder_of_pictures(options)
    except DataError as error:
        inputs.failed.append(Skipped(path, as_options(str(error))))
        return
    if tree is None:
        inputs.read_files += files_at(path)
        _add_rows(inputs, read_pairs(options))
        return
    if is_address(path):
        inputs.stores.append(path)
    for name in tree.pictures:
        _add_picture(inputs, join(tree.folder, name))
    inputs.failed += tree.others


def _add_rows(inputs: Inputs, pairs: Pairs) -> None:
    images = pairs.images
    assert isinstance(images, ImageColumn)
    for row in range(len(images)):
        if images.are_in_table:
            origin, name = images.origin(row), images.name(row)
            shown_name = f"row {pairs.places[row] - origin.first_place}" if name is None else name
            inputs.add(f"{origin.table}: {shown_name}", RowPicture(images, row))
        else:
            image = images[row]
            inputs.add(str(image), None if isinstance(image, Path) else image)
    inputs.failed += pairs.left_out
