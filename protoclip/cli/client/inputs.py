"""What the arguments of `embed`, `classify` and `search` stand for: texts by name, one query, and labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protoclip.client.errors import BadItem
from protoclip.client.inputs import class_labels
from protoclip.client.reading import read_up_to_limit
from protoclip.contract.addresses import AddressError, local_path, shown
from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.picture_folders import Skipped
from protoclip.sources.files import DataFile
from protoclip.sources.stored import PictureStream, RowPicture, StoredPicture

from .lines import Line, read_lines
from .standard_input import STANDARD_INPUT, StandardInput


@dataclass
class Inputs:
    """Items for the client with the names that people gave them, and those that are bad already.

    Pictures that lie in tables, archives and object stores are read when `opened` comes to them. As `Items` of a
    corpus, the bad ones stand behind the others.

    Attributes:
        items: as they are given; None for a picture whose path is its name, of which there may be millions.
        settings: what decided what is read.
        read_files: tables and archives that were read, as they were before.
        stores: addresses of pictures, or of folders of them.
    """

    names: list[str] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    failed: list[Skipped] = field(default_factory=list)
    settings: dict[str, str | None] = field(default_factory=dict)
    read_files: list[DataFile] = field(default_factory=list)
    stores: list[str] = field(default_factory=list)

    def add(self, name: str, item: object) -> None:
        """Appends an item."""
        self.names.append(name)
        self.items.append(item)

    def __len__(self) -> int:
        return len(self.names) + len(self.failed)

    def name(self, row: int) -> str:
        """What people call an item."""
        return self.names[row] if row < len(self.names) else self.failed[row - len(self.names)].name

    def item(self, row: int) -> Any:
        """One of the items, as the client takes it."""
        return _opened(self.items[row], self.names[row])

    def reason(self, row: int) -> str | None:
        """Why one of those behind the items is bad."""
        return None if row < len(self.names) else self.failed[row - len(self.names)].reason

    def opened(self, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        """The items from `start` to before `stop`, as the client takes them."""
        for item, name in zip(self.items[start:stop], self.names[start:stop], strict=True):
            yield _opened(item, name)


def _opened(item: Any, name: str) -> Any:
    if item is None:
        return Path(name)
    return PictureStream(item) if isinstance(item, StoredPicture | RowPicture) else item


def text_inputs(
    texts: Iterable[str], file: str | None, stdin: StandardInput, option: str = "--texts-file"
) -> Inputs:
    """Texts, the lines of standard input where one is `-`, and those of `file`. A bad line is a bad item.

    Args:
        option: which one named the file, for messages.

    Raises:
        ConfigError, DataError: as `read_lines`.
    """
    inputs = Inputs()
    for text in texts:
        if text == STANDARD_INPUT:
            _add_lines(inputs, read_lines(STANDARD_INPUT, "--text", "texts, one a line,", stdin))
        else:
            inputs.add(text, text)
    if file is not None:
        _add_lines(inputs, read_lines(file, option, "texts, one a line,", stdin))
    return inputs


@dataclass(frozen=True)
class Question:
    """What to search by: any of a text, a picture and an entry's id, and a text to subtract."""

    text: str | None
    image: Path | bytes | None
    like: str | None
    minus: str | None

    @property
    def needs_model(self) -> bool:
        """Whether something has to be embedded."""
        return (self.text, self.image, self.minus) != (None, None, None)


def question_of(
    text: str | None, image: str | None, like: str | None, minus: str | None, stdin: StandardInput
) -> Question:
    """The options of `search`.

    Raises:
        ConfigError: nothing to look for, or standard input is closed.
        DataError: the picture is a URL, or the picture or the text in standard input can't be read.
    """
    if text is None and image is None and like is None:
        raise ConfigError("search takes one or several of --text, --image and --like")
    picture = None
    if image is not None:
        try:
            picture = one_picture(image, stdin)
        except (AddressError, BadItem) as error:
            raise DataError(f"--image: {error}") from error
    return Question(None if text is None else _one_text(text, stdin), picture, like, minus)


def _one_text(text: str, stdin: StandardInput) -> str:
    if text != STANDARD_INPUT:
        return text
    lines = [line for line in read_lines(STANDARD_INPUT, "--text", "one line of text", stdin) if not line.is_blank]
    if len(lines) != 1:
        raise DataError(f"--text -: standard input holds {len(lines)} texts: search takes one line")
    if lines[0].reason is not None:
        raise DataError(f"{lines[0].place}: {lines[0].reason}")
    return lines[0].text


def labels_of(
    groups: Sequence[str], single: Sequence[str], file: str | None, stdin: StandardInput
) -> tuple[str, ...]:
    """The classes: those parted by commas, those as they stand, and the lines of a file, in this order.

    Raises:
        ConfigError: no labels, one twice, an empty one, or a file given where labels belong.
        DataError: the file can't be read, a line is bad, or a label is in it twice. Empty lines are passed over.
    """
    if not groups and not single and file is None:
        raise ConfigError(
            "classes are needed: --labels cat,dog, or --label 'red, blue' --label green, or --labels-file FILE"
        )
    found = [label.strip() for group in groups for label in _parted(group)]
    found += [label.strip() for label in single]
    if file is not None:
        found += _labels_of_lines(read_lines(file, "--labels-file", "labels, one a line,", stdin), file)
    return class_labels(found)


def one_picture(argument: str, stdin: StandardInput) -> Path | bytes:
    """A picture's path, or the bytes in standard input for `-`; AddressError for a URL, BadItem as it is read."""
    if argument != STANDARD_INPUT:
        return Path(local_path(argument))
    return read_up_to_limit(stdin.open(STANDARD_INPUT, "a picture file"), "standard input")


def _add_lines(inputs: Inputs, lines: Iterable[Line]) -> None:
    for line in lines:
        if line.reason is None:
            inputs.add(line.text, line.text)
        else:
            inputs.failed.append(Skipped(line.place, line.reason))


def _labels_of_lines(lines: Iterable[Line], file: str) -> list[str]:
    places: dict[str, str] = {}
    for line in lines:
        if line.is_blank:
            continue
        if line.reason is not None:
            raise DataError(f"{line.place}: {line.reason}")
        label = line.text.strip()
        if label in places:
            raise DataError(f"{line.place}: {label!r} is there twice, first in {places[label]}: keep one")
        places[label] = line.place.removeprefix(f"{file}: ")
    if not places:
        raise DataError(f"--labels-file {file}: holds no label: give one a line")
    return list(places)


def _parted(group: str) -> list[str]:
    """A file's name is refused: as a label it would be the one class, and every picture's."""
    parts = group.split(",")
    named = next((name for name in (group, *parts) if _names_file(name.strip(), whole=name == group)), None)
    if named is not None:
        file = named.strip().removeprefix("@")
        raise ConfigError(
            f"--labels {shown(group)}: for the lines of a file use --labels-file {file}; a class of this name is "
            f"--label {named.strip()}"
        )
    return parts


def _names_file(name: str, *, whole: bool) -> bool:
    if name.startswith("@") or name == STANDARD_INPUT:
        return True
    return os.path.isfile(name) and (whole or bool(Path(name).suffix))  # noqa: PTH113 - as above
